//! The samples of a run: raw, as a picture, and what they say.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

/// One measured window.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Seconds from the beginning to the window's end.
    pub at: f64,
    /// Seconds since the broker was started.
    pub age: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub resident_mib: f64,
    /// What was done to the broker before this window.
    pub event: &'static str,
}

const HEAD: &str =
    "seconds,broker_age_seconds,acks_per_second,p50_us,p99_us,p99.9_us,max_us,resident_mib,event";

/// The samples as CSV.
pub fn raw(samples: &[Sample]) -> String {
    let mut text = format!("{HEAD}\n");
    for s in samples {
        // a String takes all
        let _ = writeln!(
            text,
            "{:.1},{:.1},{:.0},{:.0},{:.0},{:.0},{:.0},{:.1},{}",
            s.at,
            s.age,
            s.per_second,
            s.p50_us,
            s.p99_us,
            s.p999_us,
            s.max_us,
            s.resident_mib,
            s.event
        );
    }
    text
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The medians of a figure over the first and the last third of windows.
pub fn thirds(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> (f64, f64) {
    let third = (samples.len() / 3).max(1);
    let of = |part: &[Sample]| median(part.iter().map(&figure).collect());
    (of(&samples[..third]), of(&samples[samples.len() - third..]))
}

/// Latency above, memory below, restarts as lines.
pub fn plot(samples: &[Sample], title: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (1000, 620)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(360);
    let minutes = |s: &Sample| s.at / 60.0;
    let end = samples.last().map_or(1.0, minutes);
    let most = samples.iter().map(|s| s.max_us).fold(1000.0, f64::max) / 1000.0;
    let mut latency = ChartBuilder::on(&above)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, (0.05..most).log_scale())?;
    latency
        .configure_mesh()
        .y_desc("ms from the intended send to the ack")
        .draw()?;
    type Figure = fn(&Sample) -> f64;
    let figures: [(&str, RGBColor, Figure); 4] = [
        ("p50", GREEN, |s| s.p50_us),
        ("p99", BLUE, |s| s.p99_us),
        ("p99.9", RED, |s| s.p999_us),
        ("max", RGBColor(190, 190, 190), |s| s.max_us),
    ];
    for (name, colour, figure) in figures {
        let line = samples.iter().map(|s| (minutes(s), figure(s) / 1000.0));
        latency
            .draw_series(LineSeries::new(line, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 15, y)], colour));
    }
    latency
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    let most = samples.iter().map(|s| s.resident_mib).fold(1.0, f64::max) * 1.1;
    let mut memory = ChartBuilder::on(&below)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..most)?;
    memory
        .configure_mesh()
        .x_desc("minutes; lines are restarts, red ones SIGKILL")
        .y_desc("MiB resident")
        .draw()?;
    for s in samples.iter().filter(|s| !s.event.is_empty()) {
        let colour = if s.event == "kill" {
            RED.mix(0.5)
        } else {
            BLUE.mix(0.3)
        };
        let at = minutes(s);
        memory.draw_series(LineSeries::new([(at, 0.0), (at, most)], colour))?;
    }
    let line = samples.iter().map(|s| (minutes(s), s.resident_mib));
    memory.draw_series(LineSeries::new(line, BLACK))?;
    root.present()?;
    drop((latency, memory));
    Ok(())
}

/// Makes a directory with the raw data, the picture and the text.
pub fn write(
    dir: &Path,
    samples: &[Sample],
    title: &str,
    text: &str,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("samples.csv"), raw(samples))?;
    fs::write(dir.join("README.md"), text)?;
    plot(samples, title, &dir.join("soak.svg"))
}
