//! Pictures of a run.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::cli::bench::report::{Interval, Outcome, Side, Told};

const SIZE: (u32, u32) = (900, 520);
const COLOURS: [RGBColor; 3] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 86, 39),
    RGBColor(44, 140, 60),
];
/// Where the axis of percentiles is labelled: 1/(1-p).
const NINES: [(f64, &str); 6] = [
    (1.0, "0"),
    (10.0, "90"),
    (100.0, "99"),
    (1e3, "99.9"),
    (1e4, "99.99"),
    (1e5, "99.999"),
];

/// Writes `latency.svg` (by percentile) and `time.svg` (latency and throughput by second).
pub fn write(dir: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let failed = |error: Box<dyn std::error::Error>| anyhow!("a picture: {error}");
    let timed = || outcome.sides.iter().filter(|side| side.timed);
    if timed().any(|side| !side.sum.latency.is_empty()) {
        percentiles(&dir.join("latency.svg"), timed().collect()).map_err(failed)?;
    }
    if outcome.intervals.len() > 1 {
        over_time(&dir.join("time.svg"), outcome).map_err(failed)?;
    }
    Ok(())
}

/// Points in time; none where nothing was answered.
type Curve = Vec<(f64, Option<f64>)>;

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn percentiles(path: &Path, sides: Vec<&Side>) -> Drawn {
    let curve = |side: &Side| -> Vec<(f64, f64)> {
        let latency = &side.sum.latency;
        let points = latency.iter_quantiles(10).map(|step| {
            // the last of n is at (n - 1)/n
            let left = 1.0 - step.quantile_iterated_to();
            let left = left.max(1.0 / latency.len() as f64);
            (1.0 / left, step.value_iterated_to() as f64 / 1e6)
        });
        points.collect()
    };
    let curves: Vec<_> = sides.iter().map(|side| (side.name, curve(side))).collect();
    let points = || curves.iter().flat_map(|(_, curve)| curve);
    let right = points().map(|point| point.0).fold(10.0, f64::max);
    let most = points().map(|point| point.1).fold(0.001, f64::max);
    let least = points().map(|point| point.1).fold(most, f64::min);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("latency by percentile", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (1.0..right).log_scale(),
            (least.max(1e-3) * 0.8..most * 1.2).log_scale(),
        )?;
    let label = |at: &f64| {
        let found = NINES
            .iter()
            .find(|(nines, _)| (nines - at).abs() < at * 1e-6);
        found.map_or(String::new(), |(_, label)| (*label).to_owned())
    };
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("ms")
        .x_label_formatter(&label)
        .draw()?;
    for ((name, curve), colour) in curves.into_iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(curve, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    root.present()?;
    Ok(())
}

fn over_time(path: &Path, outcome: &Outcome) -> Drawn {
    let root = SVGBackend::new(path, (SIZE.0, SIZE.1 + 200)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1 - 160);
    let end = outcome.intervals.last().map_or(1.0, |last| last.to_s);
    // a second without an ack has no latency: there is a gap, as there was
    let by_second = |side: usize, value: &dyn Fn(&Interval, &Told) -> Option<f64>| {
        let points = outcome.intervals.iter();
        let points = points.map(|i| (i.to_s, value(i, &i.ways[side])));
        points.collect::<Curve>()
    };
    let mut latencies = Vec::new();
    let mut rates = Vec::new();
    for (n, side) in outcome.sides.iter().enumerate() {
        let rate = |i: &Interval, told: &Told| {
            let seconds = i.to_s - i.from_s;
            (seconds > 0.5).then(|| told.bytes as f64 / 1e6 / seconds)
        };
        rates.push((side.name.to_owned(), by_second(n, &rate)));
        if side.timed {
            for name in ["p50", "p99", "max"] {
                let points = by_second(n, &|_, told| told.quantile_ms(name));
                latencies.push((format!("{} {name}", side.name), points));
            }
        }
    }
    lines(&above, "ms", end, latencies)?;
    lines(&below, "MB/s", end, rates)?;
    root.present()?;
    Ok(())
}

fn lines(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    unit: &str,
    end: f64,
    curves: Vec<(String, Curve)>,
) -> Drawn {
    let most = curves.iter().flat_map(|(_, curve)| curve);
    let most = most.filter_map(|point| point.1).fold(0.001, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(1.0..end, 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc("s").y_desc(unit).draw()?;
    for (n, (name, curve)) in curves.into_iter().enumerate() {
        let colour = Palette99::pick(n).to_rgba();
        for part in curve.split(|point| point.1.is_none()) {
            let points = part.iter().filter_map(|point| Some((point.0, point.1?)));
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(2))?;
        }
        // the legend has it once, however many parts it has
        chart
            .draw_series(LineSeries::new(None::<(f64, f64)>, colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}
