//! `corelane bench regress`: is this build slower than it was?
//!
//! A fixed set of workloads ([`workload`]) is run on a broker that is started here and on a floor
//! program that does only the unavoidable work, in turn ([`pairs`]). What is compared with the kept
//! baseline is the ratio of the two ([`noise`]): a machine that is slow today is slow for both.

mod baseline;
mod noise;
mod pairs;
mod workload;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::SigSet;
use serde_json::{Value, json};

use crate::cli::bench::{INTERRUPTS, OPEN_FILES, setup};
use crate::cli::disk::Disk;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::rig::machine;
use crate::cli::run::Usage;
use crate::ring::affinity;
use crate::ring::process::{block_signals, raise_open_files};
use baseline::{Baseline, Ratios};
use noise::{Judged, Verdict, judge, median};
use pairs::{Figures, INTERRUPTED, Rig, floor_beside};
use workload::Workload;

#[derive(Clone, Debug, Args)]
pub struct Regress {
    /// Only the workloads whose names contain one of these [default: all]
    pub workloads: Vec<String>,
    /// Where broker and floor keep their files while it runs; on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub dir: PathBuf,
    /// The kept ratios
    #[arg(long, value_name = "FILE", default_value = "benches/baseline.json")]
    pub baseline: PathBuf,
    /// Keep what is measured in the place of what is kept
    #[arg(long)]
    pub update: bool,
    /// Keep it beside what is kept: what differs from run to run becomes noise
    #[arg(long, conflicts_with = "update")]
    pub add: bool,
    /// Pairs of a run of the floor and one of the broker, for each workload
    #[arg(long, default_value_t = 7, value_parser = pairs_of)]
    pub pairs: usize,
    /// How long each run is measured; a part of it goes before, unmeasured
    #[arg(short, long, value_name = "SECONDS", default_value = "2.5", value_parser = crate::cli::args::seconds)]
    pub seconds: Duration,
    /// The broker's core and the load's
    #[arg(long, value_name = "BROKER,LOAD", default_value = "0,1", value_parser = cores)]
    pub cores: (usize, usize),
}

fn pairs_of(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pairs) if (noise::PAIRS_LEAST..=1000).contains(&pairs) => Ok(pairs),
        _ => Err(format!("{} pairs at least", noise::PAIRS_LEAST)),
    }
}

fn cores(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(',');
    let pair = pair.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match pair {
        Some((broker, load)) if broker != load => Ok((broker, load)),
        _ => Err("two numbers of cores, as in 0,1".into()),
    }
}

/// A row of the result.
struct Row {
    figures: Figures,
    judged: Judged,
}

pub fn run(options: &Regress, output: &Output) -> anyhow::Result<()> {
    let asked = |load: &&Workload| {
        let names = &options.workloads;
        names.is_empty() || names.iter().any(|name| load.name.contains(&**name))
    };
    let loads: Vec<&Workload> = workload::ALL.iter().filter(asked).collect();
    if loads.is_empty() {
        let names: Vec<&str> = workload::ALL.iter().map(|load| load.name).collect();
        return Err(Usage(format!("no such workload; there are: {}", names.join("; "))).into());
    }
    let kept = Baseline::read(&options.baseline)?;
    let keeps = options.update || options.add;
    if kept.is_none() && !keeps {
        let what = format!(
            "no baseline {}: write one with --update, on a build that is known to be good",
            options.baseline.display()
        );
        return Err(Usage(what).into());
    }
    let scratch = Scratch::new(&options.dir)?;
    let rig = rig(options, &scratch)?;
    watch_for_interrupts()?;
    // connections of the load
    raise_open_files(OPEN_FILES).context("the limit of open files can't be read")?;
    let setup = described(options);
    if !output.json {
        tell_of_the_setup(options, output, &setup, kept.as_ref());
    }
    machine::unpinned(rig.load_core, || ());
    let pairs = (loads.len() * rig.pairs) as u64;
    let talks = !output.json && io::stderr().is_terminal();
    let mut progress = talks.then(|| Progress::new(Some(pairs), "{bar:30} {pos}/{len} pairs"));
    let mut rows = Vec::new();
    for load in &loads {
        let mut done = || {
            if let Some(progress) = &mut progress {
                progress.add(1);
            }
        };
        let measured = rig.measure(load, &mut done)?;
        let judged = judged(measured, kept.as_ref());
        let lost = judged.iter().any(|row| row.judged.verdict == Verdict::Lost);
        // what is lost by chance is not lost twice
        rows.extend(match lost && !keeps {
            true => again(&rig, load, judged, kept.as_ref())?,
            false => judged,
        });
    }
    if let Some(progress) = progress {
        progress.end();
    }
    if keeps {
        keep(options, kept, setup.clone(), &rows)?;
    }
    match output.json {
        true => output.object(&object(&rows, &setup))?,
        false => table(output, &rows, keeps)?,
    }
    let failed: Vec<&str> = rows
        .iter()
        .filter(|row| row.judged.verdict.fails())
        .map(|row| row.figures.row.as_str())
        .collect();
    if !keeps && !failed.is_empty() {
        bail!("lost, or not kept: {}", failed.join("; "));
    }
    Ok(())
}

fn judged(measured: Vec<Figures>, kept: Option<&Baseline>) -> Vec<Row> {
    let row = |figures: Figures| {
        let kept = kept.and_then(|kept| kept.rows.get(&figures.row));
        Row {
            judged: judge(&figures.ratios(), kept.map(Vec::as_slice)),
            figures,
        }
    };
    measured.into_iter().map(row).collect()
}

/// Measures a workload once more; the pairs of both times decide.
fn again(
    rig: &Rig,
    load: &Workload,
    first: Vec<Row>,
    kept: Option<&Baseline>,
) -> anyhow::Result<Vec<Row>> {
    let mut measured = rig.measure(load, &mut || ())?;
    for (figures, first) in measured.iter_mut().zip(first) {
        figures.pairs.splice(0..0, first.figures.pairs);
    }
    Ok(judged(measured, kept))
}

fn rig(options: &Regress, scratch: &Scratch) -> anyhow::Result<Rig> {
    let (broker_core, load_core) = options.cores;
    let allowed = affinity::allowed_cores()?;
    if let Some(core) = [broker_core, load_core]
        .iter()
        .find(|c| !allowed.contains(c))
    {
        let what = format!("core {core} is not ours: --cores names two of {allowed:?}");
        return Err(Usage(what).into());
    }
    let broker = std::env::current_exe().context("this binary can't be found")?;
    Ok(Rig {
        scratch: scratch.0.clone(),
        floor: floor_beside(&broker)?,
        broker,
        broker_core,
        load_core,
        run: options.seconds,
        warmup: options.seconds / 5,
        pairs: options.pairs,
    })
}

/// A directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> anyhow::Result<Scratch> {
        let disk = Disk::of(parent);
        if disk.is_memory() {
            let what = format!("{} is in memory ({})", parent.display(), disk.file_system);
            return Err(Usage(format!("{what}: name a directory on a disk with --dir")).into());
        }
        let dir = parent.join(format!("corelane-regress-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An interrupt ends the load that runs, so that servers and files go, too.
fn watch_for_interrupts() -> anyhow::Result<()> {
    block_signals(&INTERRUPTS).context("signals can't be blocked")?;
    thread::spawn(|| {
        let signals: SigSet = INTERRUPTS.into_iter().collect();
        if signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// What ratios were measured on; the same words where they can be compared best.
fn described(options: &Regress) -> Value {
    let disk = Disk::of(&options.dir);
    let mut setup = setup::machine();
    setup["file_system"] = json!(disk.file_system);
    setup["ext4_journal"] = json!(disk.ext4_journal());
    setup["optimized"] = json!(!cfg!(debug_assertions));
    setup["seconds"] = json!(options.seconds.as_secs_f64());
    setup["pairs"] = json!(options.pairs);
    setup
}

fn tell_of_the_setup(options: &Regress, output: &Output, setup: &Value, kept: Option<&Baseline>) {
    if cfg!(debug_assertions) {
        output.note("this build is not optimized: its ratios say nothing of one that is");
    }
    let Some(kept) = kept.filter(|_| !options.update) else {
        return;
    };
    let differs = |name: &&&str| kept.setup[**name] != setup[**name];
    let names = [
        "cpu",
        "cpus",
        "kernel",
        "file_system",
        "ext4_journal",
        "optimized",
    ];
    let other: Vec<String> = names
        .iter()
        .filter(differs)
        .map(|name| format!("{name} {} (here {})", kept.setup[*name], setup[*name]))
        .collect();
    if !other.is_empty() {
        output.note(&format!(
            "the baseline is of another machine: {}",
            other.join(", ")
        ));
    }
}

fn keep(
    options: &Regress,
    kept: Option<Baseline>,
    setup: Value,
    rows: &[Row],
) -> anyhow::Result<()> {
    let measured: Ratios = rows
        .iter()
        .map(|row| (row.figures.row.clone(), row.figures.ratios()))
        .collect();
    // rows that were not measured stay only where some were left out
    let all = options.workloads.is_empty() && options.update;
    let mut baseline = kept.filter(|_| !all).unwrap_or_default();
    baseline.setup = setup;
    baseline.take(&measured, options.add);
    baseline.write(&options.baseline)
}

fn table(output: &Output, rows: &[Row], keeps: bool) -> io::Result<()> {
    let percent =
        |part: Option<f64>| part.map_or("-".to_owned(), |p| format!("{:.1} %", 100.0 * p));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let side = |side: fn(&(f64, f64)) -> f64| {
                let values: Vec<f64> = row.figures.pairs.iter().map(side).collect();
                format!("{:.3}", median(&values))
            };
            let judged = &row.judged;
            let word = match judged.verdict {
                Verdict::NotKept if keeps => "kept",
                verdict => verdict.word(),
            };
            vec![
                row.figures.row.clone(),
                side(|pair| pair.0),
                side(|pair| pair.1),
                format!("{:.3}", judged.ratio),
                judged
                    .baseline
                    .map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
                judged
                    .change
                    .map_or("-".to_owned(), |c| format!("{:+.1} %", 100.0 * c)),
                percent(judged.noise),
                match judged.verdict.fails() && !keeps {
                    true => output.strong(word),
                    false => word.to_owned(),
                },
            ]
        })
        .collect();
    let head = [
        "row", "floor", "broker", "ratio", "baseline", "change", "noise", "",
    ];
    output.table(&head, &cells)
}

fn object(rows: &[Row], setup: &Value) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let judged = &row.judged;
            json!({
                "row": row.figures.row,
                "unit": row.figures.metric.unit(),
                "pairs": row.figures.pairs.iter().map(|pair| json!({
                    "floor": pair.0,
                    "broker": pair.1,
                })).collect::<Vec<_>>(),
                "ratio": judged.ratio,
                "baseline": judged.baseline,
                "change": judged.change,
                "noise": judged.noise,
                "verdict": judged.verdict.word(),
            })
        })
        .collect();
    json!({ "setup": setup, "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_that_differ_are_wanted() {
        assert_eq!(cores("2, 5"), Ok((2, 5)));
        for wrong in ["", "1", "1,1", "a,b", "1,2,3"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
        assert!(pairs_of("2").is_err() && pairs_of("3").is_ok());
    }

    #[test]
    fn a_second_time_counts_with_the_first() {
        let figures = |pairs: &[(f64, f64)]| Figures {
            row: "x".into(),
            metric: workload::Metric::CpuEach,
            pairs: pairs.to_vec(),
        };
        let kept = Baseline {
            rows: [("x".to_owned(), vec![1.0, 1.01, 0.99, 1.0])].into(),
            ..Baseline::default()
        };
        let found = judged(vec![figures(&[(2.0, 4.0); 4])], Some(&kept));
        assert_eq!(found[0].judged.verdict, Verdict::Lost);
        assert_eq!(found[0].judged.ratio, 2.0);
        let found = judged(vec![figures(&[(2.0, 2.0); 4])], None);
        assert_eq!(found[0].judged.verdict, Verdict::NotKept);
    }
}
