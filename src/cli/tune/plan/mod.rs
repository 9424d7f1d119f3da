//! `corelane tune plan`: what a deployment takes.

mod load;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::base::config::{Status, properties};
use crate::cli::output::Output;
use crate::cli::run::Usage;
use crate::cli::tune::disk;
use crate::cli::tune::level::Level;
use crate::cli::tune::plan::load::{COST_SOURCE, Plan, Rate, plan};

/// A disk that is busier has long tails.
const DISK_BUSY_MAX: f64 = 0.7;

#[derive(Debug, Args)]
pub struct TunePlan {
    /// What producers send on average: records (50000/s) or bytes before compression (200MB/s)
    #[arg(long, value_parser = load::rate)]
    pub rate: Rate,
    /// Bytes of a record with its key, before compression; for a rate in records
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub size: u64,
    /// Days that records are kept
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = load::days)]
    pub retention: f64,
    /// Machines that hold each partition
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub copies: u32,
    /// Machines in all [default: one for each copy]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub machines: Option<u32>,
    /// How many times smaller producers make their batches
    #[arg(long, value_name = "RATIO", default_value = "1", value_parser = load::factor)]
    pub compression: f64,
    /// How many times the average the busiest minutes are
    #[arg(long, value_name = "FACTOR", default_value = "2", value_parser = load::factor)]
    pub peak: f64,
    /// How often each record is read
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub readers: u32,
    /// Bytes of a batch as it is sent
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub batch: u64,
    /// How far behind readers may be who are still served from memory
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = load::seconds)]
    pub lag: f64,
    /// A directory that `tune disk` measured: the plan is held against it
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// What the measured disk says to the plan.
struct OnDisk {
    level: Level,
    text: String,
    measured: Value,
}

pub fn run(options: &TunePlan, output: &Output) -> anyhow::Result<()> {
    let machines = options.machines.unwrap_or(options.copies);
    if machines < options.copies {
        let what = format!(
            "{} copies need as many machines, not {machines}: raise --machines",
            options.copies
        );
        return Err(Usage(what).into());
    }
    let plan = plan(options, machines);
    let on_disk = options
        .dir
        .as_deref()
        .map(|dir| on_disk(dir, &plan))
        .transpose()?;
    let notes = notes(options);
    match output.json {
        true => output.object(&object(machines, &plan, on_disk.as_ref(), &notes))?,
        false => tell(output, machines, &plan, on_disk.as_ref(), &notes)?,
    }
    match on_disk {
        Some(OnDisk {
            level: Level::Must, ..
        }) => bail!(
            "the measured disk does not carry the plan: more machines or directories, or a faster one"
        ),
        _ => Ok(()),
    }
}

fn on_disk(dir: &Path, plan: &Plan) -> anyhow::Result<OnDisk> {
    let measured = disk::kept_figures(dir);
    let rate = measured
        .as_ref()
        .and_then(|found| found["sustained_mb_per_s"].as_f64());
    let Some((measured, rate)) = measured.zip(rate).filter(|(_, rate)| *rate > 0.0) else {
        let dir = dir.display();
        let what = format!("nothing was measured in {dir}: run `corelane tune disk {dir}` first");
        return Err(Usage(what).into());
    };
    Ok(weigh(plan.device_mb_per_s, rate, measured))
}

fn weigh(needed: f64, rate: f64, measured: Value) -> OnDisk {
    let part = needed / rate;
    let level = match part {
        _ if part > 1.0 => Level::Must,
        _ if part > DISK_BUSY_MAX => Level::Should,
        _ => Level::Ok,
    };
    let text = format!(
        "{needed:.0} of the {rate:.0} MB/s that it takes for long: {:.0} % (at most {:.0} % for short tails)",
        part * 100.0,
        DISK_BUSY_MAX * 100.0
    );
    OnDisk {
        level,
        text,
        measured,
    }
}

/// What the figures do not say.
fn notes(options: &TunePlan) -> Vec<String> {
    let mut notes = vec![format!("costs of cores: {COST_SOURCE}")];
    if options.copies > 1 {
        notes.push(
            "this version serves one copy: what more of them take is worked out, not measured"
                .into(),
        );
    }
    let retention = properties().find(|property| property.name == "log.retention.ms");
    if retention.is_some_and(|property| property.status == Status::Later) {
        notes.push(
            "this version keeps records until their topic is deleted: --retention is what you \
             delete by"
                .into(),
        );
    }
    if options.dir.is_none() {
        notes.push(
            "--dir DIR holds the plan against a disk that `corelane tune disk DIR` measured".into(),
        );
    }
    notes
}

fn shown(value: f64, unit: &str) -> String {
    let number = match value {
        v if v == v.trunc() => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    };
    let text = format!("{number} {unit}");
    text.trim_end().to_owned()
}

fn tell(
    output: &Output,
    machines: u32,
    plan: &Plan,
    on_disk: Option<&OnDisk>,
    notes: &[String],
) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = plan
        .lines
        .iter()
        .map(|line| {
            vec![
                line.name.to_owned(),
                shown(line.value, line.unit),
                line.formula.clone(),
            ]
        })
        .collect();
    let each = match machines {
        1 => "on one machine".to_owned(),
        n => format!("on each of {n} machines"),
    };
    output.table(&[each.as_str(), "", "from"], &rows)?;
    if let Some(on_disk) = on_disk {
        let word = on_disk.level.name();
        let word = match on_disk.level {
            Level::Ok => word.to_owned(),
            _ => output.strong(word),
        };
        output.line(&format!("{word}: {}", on_disk.text))?;
        let small = &on_disk.measured["commits"][0];
        if let Some((p50, p99)) = small["p50_ms"].as_f64().zip(small["p99_ms"].as_f64()) {
            let text = format!(
                "no durable ack is faster than its flush: p50 {p50:.2} ms, p99 {p99:.2} ms"
            );
            output.line(&text)?;
        }
    }
    for note in notes {
        output.line(&format!("note: {note}"))?;
    }
    Ok(())
}

fn object(machines: u32, plan: &Plan, on_disk: Option<&OnDisk>, notes: &[String]) -> Value {
    let lines = plan.lines.iter();
    let lines: Vec<Value> = lines
        .map(|line| {
            json!({
                "name": line.name,
                "value": line.value,
                "unit": line.unit,
                "formula": line.formula,
            })
        })
        .collect();
    let disk = on_disk.map(|disk| json!({ "level": disk.level.name(), "text": disk.text }));
    json!({ "machines": machines, "lines": lines, "measured_disk": disk, "notes": notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_carries_the_plan_or_does_not() {
        let level = |needed| weigh(needed, 100.0, Value::Null).level;
        assert_eq!(level(70.0), Level::Ok);
        assert_eq!(level(71.0), Level::Should);
        assert_eq!(level(101.0), Level::Must);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(shown(3.0, ""), "3");
        assert_eq!(shown(1234.5, "MB/s"), "1234 MB/s");
        assert_eq!(shown(1.239, "GiB"), "1.24 GiB");
    }
}
