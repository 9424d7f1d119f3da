//! What a run found: lines while it goes on, a summary, and files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde_json::{Value, json};

use crate::cli::bench::cost::Cost;
use crate::cli::bench::measure::Sum;
use crate::cli::bench::plot;
use crate::cli::output::Output;

/// The quantiles that are told; p99.99 only of a million records.
const QUANTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];
const MANY: u64 = 1_000_000;

/// One way that records went in a finished run.
pub struct Side {
    /// `acked`, `read` or `replayed`.
    pub name: &'static str,
    pub sum: Sum,
    /// Whether its latencies say something.
    pub timed: bool,
}

/// What came about in a second or so, small enough to keep of a long run.
pub struct Interval {
    pub from_s: f64,
    pub to_s: f64,
    pub ways: Vec<Told>,
}

/// One way of it.
pub struct Told {
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    pub quantiles: Vec<(&'static str, f64)>,
    /// The histogram in its compressed form.
    histogram: Vec<u8>,
}

impl Interval {
    pub fn new(from_s: f64, to_s: f64, sums: &[(&'static str, Sum)]) -> Interval {
        let told = |(_, sum): &(&'static str, Sum)| {
            let mut histogram = Vec::new();
            // into memory that grows
            let _ = V2DeflateSerializer::new().serialize(&sum.latency, &mut histogram);
            Told {
                records: sum.records,
                bytes: sum.bytes,
                requests: sum.requests,
                quantiles: quantiles(sum).collect(),
                histogram,
            }
        };
        Interval {
            from_s,
            to_s,
            ways: sums.iter().map(told).collect(),
        }
    }
}

impl Told {
    /// In ms; none where nothing was measured.
    pub fn quantile_ms(&self, name: &str) -> Option<f64> {
        let found = self.quantiles.iter().find(|(its, _)| *its == name);
        found.map(|(_, ms)| *ms)
    }
}

/// A finished run.
pub struct Outcome {
    pub kind: &'static str,
    pub seconds: f64,
    pub partitions: usize,
    /// From when the topic was asked for until it could be used.
    pub topic_ready: Option<Duration>,
    /// Records a second that were to be sent; none in a closed loop.
    pub offered: Option<f64>,
    pub sides: Vec<Side>,
    pub intervals: Vec<Interval>,
    /// Of a backlog: the seconds until readers had caught up, and the bytes that they read.
    pub drained: Option<(f64, u64)>,
    pub verified: u64,
    /// All that was acked, by partition.
    pub acked: BTreeMap<i32, u64>,
    /// Records that were due and never sent, because too many were in flight.
    pub unsent: u64,
    pub cost: Option<Cost>,
    pub ceiling: Option<Ceiling>,
    /// Of `--max`: whether the bound held in the run itself.
    pub held: Option<bool>,
}

/// What the load reaches against a server that answers at once.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    pub records_per_s: f64,
    pub mb_per_s: f64,
    /// p50 and p99, at the rate of the run or else in a closed loop.
    pub latency_ms: Option<(f64, f64)>,
}

impl Ceiling {
    fn json(&self) -> Value {
        json!({
            "records_per_s": self.records_per_s,
            "mb_per_s": self.mb_per_s,
            "p50_ms": self.latency_ms.map(|(p50, _)| p50),
            "p99_ms": self.latency_ms.map(|(_, p99)| p99),
        })
    }

    fn line(&self) -> String {
        let latency = self
            .latency_ms
            .map(|(p50, p99)| format!("; alone, its latency is p50 {p50:.3}, p99 {p99:.3} ms"));
        format!(
            "the load itself could reach {:.0} records/s, {:.1} MB/s{}",
            self.records_per_s,
            self.mb_per_s,
            latency.unwrap_or_default()
        )
    }
}

/// Tells of the ceiling alone.
pub fn ceiling(output: &Output, ceiling: &Ceiling) -> std::io::Result<()> {
    output.item(&ceiling.line(), || ceiling.json())
}

fn rates(sum: &Sum, seconds: f64) -> String {
    format!(
        "{:>10.0} records/s {:>8.1} MB/s",
        sum.records as f64 / seconds,
        sum.bytes as f64 / 1e6 / seconds
    )
}

/// What went one way in so many seconds.
pub fn line(name: &str, sum: &Sum, seconds: f64) -> String {
    let mut line = format!("{name:<8} {}", rates(sum, seconds));
    let quantile = |q| sum.quantile_ms(q);
    if let (Some(p50), Some(p99), Some(max)) = (quantile(0.5), quantile(0.99), quantile(1.0)) {
        line.push_str(&format!("  p50 {p50:.3} p99 {p99:.3} max {max:.3} ms"));
    }
    line
}

/// The latencies of a sum.
pub fn quantiles_line(sum: &Sum) -> String {
    let quantiles: Vec<String> = quantiles(sum)
        .map(|(name, ms)| format!("{name} {ms:.3}"))
        .collect();
    format!("         {} ms", quantiles.join("  "))
}

/// The summary.
pub fn summary(output: &Output, outcome: &Outcome, setup: &Value) -> std::io::Result<()> {
    if output.json {
        return output.object(&to_json(outcome, setup));
    }
    output.line("")?;
    for side in &outcome.sides {
        let mut line = format!(
            "{:<8} {}  {} requests",
            side.name,
            rates(&side.sum, outcome.seconds),
            side.sum.requests
        );
        if let Some(offered) = outcome.offered
            && side.timed
        {
            let reached = side.sum.records as f64 / outcome.seconds;
            line.push_str(&format!(
                "  ({:.1}% of {offered:.0}/s)",
                100.0 * reached / offered
            ));
        }
        output.line(&output.strong(&line))?;
        if side.timed {
            output.line(&quantiles_line(&side.sum))?;
        }
    }
    if let Some((seconds, bytes)) = outcome.drained {
        output.line(&format!(
            "caught up with the writing after {seconds:.2} s: {:.1} MB/s until then",
            bytes as f64 / 1e6 / seconds
        ))?;
    } else if outcome.kind == "backlog" {
        output.line("never caught up with the writing: read for longer, or write less")?;
    }
    if outcome.held == Some(false) {
        output.line("the bound of --p99-ms did not hold for so long: a little less would")?;
    }
    if outcome.unsent > 0 {
        output.line(&format!(
            "{} records were due and could not be sent: too many requests were in flight",
            outcome.unsent
        ))?;
    }
    if outcome.verified > 0 {
        let line = format!(
            "{} records read back: each once, in order",
            outcome.verified
        );
        output.line(&line)?;
    }
    let gigabytes = gigabytes(outcome);
    if let Some(cost) = &outcome.cost {
        if let Some((user, system)) = cost.machine_cpu_s {
            output.line(&format!(
                "machine without the load: {:.2} CPU-s/GB (user {:.2}, system {:.2}); the load: {:.2}",
                (user + system) / gigabytes,
                user / gigabytes,
                system / gigabytes,
                cost.load_cpu_s.unwrap_or(0.0) / gigabytes
            ))?;
        }
        if let Some((user, system)) = cost.broker_cpu_s {
            let resident = cost.broker_resident_bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
            let written = cost.broker_written_bytes.unwrap_or(0) as f64 / 1e9 / gigabytes;
            output.line(&format!(
                "broker's process: {:.2} CPU-s/GB, {resident:.0} MiB resident, {written:.2} bytes written \
                 for each",
                (user + system) / gigabytes
            ))?;
        }
        if let Some(device) = cost.device {
            output.line(&format!(
                "its disk: {:.2} bytes written for each, {} writes, {} flushes",
                device.written_bytes as f64 / 1e9 / gigabytes,
                device.writes,
                device
                    .flushes
                    .map_or("unknown".to_owned(), |n| n.to_string())
            ))?;
        }
    }
    if let Some(ceiling) = &outcome.ceiling {
        output.line(&ceiling.line())?;
    }
    Ok(())
}

/// Of all that went over the wire.
fn gigabytes(outcome: &Outcome) -> f64 {
    let bytes: u64 = outcome.sides.iter().map(|side| side.sum.bytes).sum();
    (bytes as f64 / 1e9).max(1e-9)
}

/// All that were answered.
fn requests(outcome: &Outcome) -> u64 {
    outcome.sides.iter().map(|side| side.sum.requests).sum()
}

fn quantiles(sum: &Sum) -> impl Iterator<Item = (&'static str, f64)> + '_ {
    QUANTILES
        .into_iter()
        .filter(|(name, _)| *name != "p99.99" || sum.latency.len() >= MANY)
        .filter_map(|(name, q)| Some((name, sum.quantile_ms(q)?)))
}

fn latencies(quantiles: impl Iterator<Item = (&'static str, f64)>) -> Value {
    quantiles
        .map(|(name, ms)| (name.to_owned(), json!(ms)))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

/// What went one way in so many seconds; with latencies where they say something.
pub fn sum_json(sum: &Sum, seconds: f64, timed: bool) -> Value {
    let mut object = json!({
        "records": sum.records,
        "bytes": sum.bytes,
        "requests": sum.requests,
        "records_per_s": sum.records as f64 / seconds,
        "mb_per_s": sum.bytes as f64 / 1e6 / seconds,
    });
    if timed {
        object["latency_ms"] = latencies(quantiles(sum));
        object["latency_records"] = json!(sum.latency.len());
    }
    object
}

fn interval_json(interval: &Interval, sides: &[Side]) -> Value {
    let mut object = json!({ "from_s": interval.from_s, "to_s": interval.to_s });
    for (side, told) in sides.iter().zip(&interval.ways) {
        let mut way = json!({
            "records": told.records,
            "bytes": told.bytes,
            "requests": told.requests,
        });
        if side.timed {
            way["latency_ms"] = latencies(told.quantiles.iter().copied());
        }
        object[side.name] = way;
    }
    object
}

/// All of it, with the set-up that it was found with.
pub fn to_json(outcome: &Outcome, setup: &Value) -> Value {
    let sides: serde_json::Map<String, Value> = outcome
        .sides
        .iter()
        .map(|side| {
            let sum = sum_json(&side.sum, outcome.seconds, side.timed);
            (side.name.to_owned(), sum)
        })
        .collect();
    let intervals = outcome.intervals.iter();
    let intervals: Vec<Value> = intervals
        .map(|interval| interval_json(interval, &outcome.sides))
        .collect();
    let drained = outcome.drained.map(
        |(seconds, bytes)| json!({ "seconds": seconds, "mb_per_s": bytes as f64 / 1e6 / seconds }),
    );
    json!({
        "kind": outcome.kind,
        "seconds": outcome.seconds,
        "partitions": outcome.partitions,
        "topic_ready_s": outcome.topic_ready.map(|time| time.as_secs_f64()),
        "offered_records_per_s": outcome.offered,
        "results": sides,
        "drained": drained,
        "verified_records": outcome.verified,
        "unsent_records": outcome.unsent,
        "cost": outcome.cost.as_ref().map(|cost| cost.json(gigabytes(outcome), requests(outcome))),
        "p99_held": outcome.held,
        "ceiling": outcome.ceiling.as_ref().map(Ceiling::json),
        "intervals": intervals,
        "setup": setup,
    })
}

/// Writes `result.json`, pictures, and for each timed side a histogram and a log of histograms by
/// second, as HdrHistogram's tools read them.
pub fn write(dir: &Path, outcome: &Outcome, setup: &Value) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let json = serde_json::to_string_pretty(&to_json(outcome, setup))?;
    fs::write(dir.join("result.json"), json + "\n")?;
    for (n, side) in outcome.sides.iter().enumerate() {
        if side.timed {
            let mut out = Vec::new();
            percentiles(&side.sum.latency, &mut out)?;
            fs::write(dir.join(format!("{}.hgrm", side.name)), out)?;
            let log = interval_log(outcome, n)?;
            fs::write(dir.join(format!("{}.hlog", side.name)), log)?;
        }
    }
    plot::write(dir, outcome)
}

/// The log of one side; values in ns, as in memory.
fn interval_log(outcome: &Outcome, side: usize) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut out, &mut serializer)?;
    for interval in &outcome.intervals {
        let mut bytes = interval.ways[side].histogram.as_slice();
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes)?;
        let start = Duration::from_secs_f64(interval.from_s);
        let time = Duration::from_secs_f64(interval.to_s - interval.from_s);
        log.write_histogram(&histogram, start, time, None)
            .map_err(|error| anyhow::anyhow!("a histogram: {error:?}"))?;
    }
    Ok(out)
}

/// The text that HdrHistogram calls a percentile distribution; values in ms.
fn percentiles(histogram: &Histogram<u64>, out: &mut Vec<u8>) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / 1e6;
        let quantile = step.quantile_iterated_to();
        write!(out, "{value:>12.3} {quantile:>14.12} {count:>10}")?;
        match quantile < 1.0 {
            true => writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6
    )?;
    writeln!(
        out,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.max() as f64 / 1e6,
        histogram.len()
    )?;
    writeln!(
        out,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.buckets(),
        2048
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_ends_with_all_of_it() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for n in 1..=1000u64 {
            histogram.record(n * 1_000_000).unwrap();
        }
        let mut out = Vec::new();
        percentiles(&histogram, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("       Value"));
        let last = text
            .lines()
            .rev()
            .find(|line| !line.starts_with('#'))
            .unwrap();
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(fields[1..3], ["1.000000000000", "1000"]);
        assert!(text.contains("Total count    =         1000"));
    }
}
