//! How far a command is, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Who waits longer than this wants to know.
const AFTER: Duration = Duration::from_secs(2);

/// A line on a terminal, shown once the command took over two seconds.
pub struct Progress {
    bar: ProgressBar,
    template: &'static str,
    since: Instant,
    shown: bool,
}

impl Progress {
    /// Counts up to `total` where that is known; `template` is [`ProgressStyle`]'s.
    pub fn new(total: Option<u64>, template: &'static str) -> Progress {
        Progress {
            bar: ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()),
            template,
            since: Instant::now(),
            shown: false,
        }
    }

    /// So many more are done.
    pub fn add(&mut self, n: u64) {
        self.bar.inc(n);
        if !self.shown && self.since.elapsed() > AFTER {
            self.shown = true;
            if let Ok(style) = ProgressStyle::with_template(self.template) {
                self.bar.set_style(style);
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the line away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}
