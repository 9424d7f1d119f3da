//! `corelane tune plan`: what a deployment takes.

mod asked;
mod load;
mod shown;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::base::config::{Status, properties};
use crate::cli::args::Settings;
use crate::cli::output::Output;
use crate::cli::run::Usage;
use crate::cli::serve::settings;
use crate::cli::tune::disk;
use crate::cli::tune::level::Level;
use crate::cli::tune::plan::asked::Rate;
use crate::cli::tune::plan::load::{COST_SOURCE, Plan, plan};
use crate::cli::tune::plan::shown::shown;

/// A disk that is busier has long tails.
const DISK_BUSY_MAX: f64 = 0.7;

#[derive(Debug, Args)]
pub struct TunePlan {
    /// What producers send on average: records (50000/s) or bytes before compression (200MB/s)
    #[arg(long, value_parser = asked::rate)]
    pub rate: Rate,
    /// Bytes of a record with its key, before compression; for a rate in records
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = asked::bytes)]
    pub size: u64,
    /// How long records are kept: days, or hours as in 12h
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = asked::days)]
    pub retention: f64,
    /// Machines that hold each partition
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub copies: u32,
    /// Machines in all [default: one for each copy]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub machines: Option<u32>,
    /// How many times smaller producers make their batches
    #[arg(long, value_name = "RATIO", default_value = "1", value_parser = asked::factor)]
    pub compression: f64,
    /// How many times the average the busiest minutes are
    #[arg(long, value_name = "FACTOR", default_value = "2", value_parser = asked::factor)]
    pub peak: f64,
    /// How often each record is read
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub readers: u32,
    /// Partitions in all, for the segments that are not full
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub partitions: u32,
    /// Bytes of a batch as it is sent; a larger record is a batch of its own [producers begin at 16 KiB]
    #[arg(long, value_name = "BYTES", default_value = "16KiB", value_parser = asked::bytes)]
    pub batch: u64,
    /// How far behind readers may be who are still served from memory
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = asked::seconds)]
    pub lag: f64,
    /// A directory that `tune disk` measured: the plan is held against it; of several each takes its part
    #[arg(long, value_delimiter = ',')]
    pub dir: Vec<PathBuf>,
    /// A server.properties: its log.dirs, where no --dir is given
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
    let dirs = dirs(options)?;
    let part = plan.device_mb_per_s / dirs.len().max(1) as f64;
    let on_disks = dirs.iter().map(|dir| on_disk(dir, part));
    let on_disks = on_disks.collect::<anyhow::Result<Vec<OnDisk>>>()?;
    let notes = notes(options);
    match output.json {
        true => output.object(&object(machines, &plan, &on_disks, &notes))?,
        false => tell(output, machines, &plan, &on_disks, &notes)?,
    }
    match on_disks.iter().any(|disk| disk.level == Level::Must) {
        true => bail!(
            "a measured disk does not carry the plan: more machines or directories, or a faster one"
        ),
        false => Ok(()),
    }
}

/// The directories that share what is written.
fn dirs(options: &TunePlan) -> anyhow::Result<Vec<PathBuf>> {
    match &options.config {
        Some(file) if options.dir.is_empty() => {
            let settings = Settings {
                config: Some(file.clone()),
                ..Settings::default()
            };
            Ok(settings::load(&settings)?.config.log.dirs)
        }
        _ => Ok(options.dir.clone()),
    }
}

fn on_disk(dir: &Path, needed: f64) -> anyhow::Result<OnDisk> {
    let measured = disk::kept_figures(dir);
    let rate = measured
        .as_ref()
        .and_then(|found| found["sustained_mb_per_s"].as_f64());
    let Some((measured, rate)) = measured.zip(rate).filter(|(_, rate)| *rate > 0.0) else {
        let dir = dir.display();
        let what = format!("nothing was measured in {dir}: run `corelane tune disk {dir}` first");
        return Err(Usage(what).into());
    };
    Ok(weigh(dir, needed, rate, measured))
}

fn weigh(dir: &Path, needed: f64, rate: f64, measured: Value) -> OnDisk {
    let part = needed / rate;
    let level = match part {
        _ if part > 1.0 => Level::Must,
        _ if part > DISK_BUSY_MAX => Level::Should,
        _ => Level::Ok,
    };
    let text = format!(
        "{}: {} of the {} that it takes for long: {:.0} % (at most {:.0} % for short tails)",
        dir.display(),
        shown(needed, "MB/s"),
        shown(rate, "MB/s"),
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
    if options.dir.is_empty() && options.config.is_none() {
        notes.push(
            "--dir DIR holds the plan against a disk that `corelane tune disk DIR` measured".into(),
        );
    }
    notes
}

fn tell(
    output: &Output,
    machines: u32,
    plan: &Plan,
    on_disks: &[OnDisk],
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
    for on_disk in on_disks {
        let word = on_disk.level.shown(output, 0);
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

fn object(machines: u32, plan: &Plan, on_disks: &[OnDisk], notes: &[String]) -> Value {
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
    let disks = on_disks.iter();
    let disks: Vec<Value> = disks
        .map(|disk| json!({ "level": disk.level.name(), "text": disk.text }))
        .collect();
    json!({ "machines": machines, "lines": lines, "measured_disks": disks, "notes": notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_carries_the_plan_or_does_not() {
        let level = |needed| weigh(Path::new("/d"), needed, 100.0, Value::Null).level;
        assert_eq!(level(70.0), Level::Ok);
        assert_eq!(level(71.0), Level::Should);
        assert_eq!(level(101.0), Level::Must);
    }
}
