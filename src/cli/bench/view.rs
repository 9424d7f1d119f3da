//! What is seen of a run while it goes on: a line for each second, on a terminal a view that stays
//! in its place.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::bench::measure::Sum;
use crate::cli::bench::report::line;
use crate::cli::output::Output;

/// Seconds whose p99 is drawn.
const DRAWN: usize = 40;
const STALL: char = '!';
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// See the module.
pub struct View<'a> {
    lines: Option<&'a Output>,
    bar: Option<ProgressBar>,
    /// p99 of each second in ms, of the last way that has one; none where nothing was answered.
    p99: Vec<Option<f64>>,
}

impl<'a> View<'a> {
    /// Shows nothing.
    pub fn none() -> View<'a> {
        View {
            lines: None,
            bar: None,
            p99: Vec::new(),
        }
    }

    /// Shows a run of so many seconds.
    pub fn new(output: &'a Output, title: &'static str, duration: Duration) -> View<'a> {
        if output.json {
            return View::none();
        }
        if !io::stdout().is_terminal() || !io::stderr().is_terminal() {
            return View {
                lines: Some(output),
                ..View::none()
            };
        }
        let seconds = duration.as_secs().max(1);
        let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {bar:40} {pos} of {len} s\n{msg}");
        bar.set_style(style.unwrap_or(ProgressStyle::default_bar()));
        bar.set_prefix(title);
        View {
            bar: Some(bar),
            ..View::none()
        }
    }

    /// What goes on when nothing is measured.
    pub fn says(&self, what: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// A second is over.
    pub fn second(&mut self, from: f64, to: f64, sums: &[(&'static str, Sum)]) -> io::Result<()> {
        let told = |(name, sum): &(&'static str, Sum)| line(name, sum, to - from);
        if let Some(output) = self.lines {
            for told in sums.iter().map(told) {
                output.line(&format!("{to:>5.0} s  {told}"))?;
            }
        }
        if let Some(bar) = &self.bar {
            let p99 = sums.iter().rev().find_map(|(_, sum)| sum.quantile_ms(0.99));
            self.p99.push(p99);
            let told: Vec<String> = sums.iter().map(told).collect();
            bar.set_position(to as u64);
            bar.set_message(format!("{}\np99 {}", told.join("\n"), sparks(&self.p99)));
        }
        Ok(())
    }

    /// Takes the view away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The last values as a row of bars, the highest of them as high as a line.
fn sparks(values: &[Option<f64>]) -> String {
    let drawn = &values[values.len().saturating_sub(DRAWN)..];
    let most = drawn.iter().flatten().copied().fold(0.0, f64::max);
    let level = |value: &Option<f64>| {
        let Some(value) = value else {
            return STALL;
        };
        let part = if most > 0.0 { value / most } else { 0.0 };
        LEVELS[((part * LEVELS.len() as f64) as usize).min(LEVELS.len() - 1)]
    };
    let bars: String = drawn.iter().map(level).collect();
    format!("{bars} (at most {most:.3} ms)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let seconds = [Some(0.0), Some(4.0), None, Some(8.0)];
        assert_eq!(sparks(&seconds), "▁▅!█ (at most 8.000 ms)");
        assert_eq!(sparks(&[Some(0.0)]), "▁ (at most 0.000 ms)");
        let many = sparks(&[Some(1.0); 100]);
        assert_eq!(many.chars().filter(|c| *c == '█').count(), DRAWN);
    }
}
