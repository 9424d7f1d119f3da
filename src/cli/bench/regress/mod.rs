//! `corelane bench regress`: is this build slower than it was?
//!
//! A fixed set of workloads ([`workload`]) is run on a broker that is started here and on a floor
//! program that does only the unavoidable work, in turn ([`pairs`]). What is compared with the kept
//! baseline is the ratio of the two ([`noise`]): a machine that is slow today is slow for both. On
//! another machine than the baseline's only CPU is compared: how long a flush takes is the disk's.

mod baseline;
mod noise;
mod options;
mod pairs;
mod scratch;
mod show;
mod surroundings;
mod workload;

use std::io::{self, IsTerminal};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::bench::OPEN_FILES;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::run::Usage;
use crate::ring::affinity;
use crate::ring::process::raise_open_files;
use baseline::{Baseline, Ratios};
use noise::{Judged, MOST, RUNS_LEAST, Verdict, judge};
pub use options::Regress;
use pairs::{Figures, Rig, floor_beside};
use scratch::{Scratch, watch_for_interrupts};
use surroundings::{Difference, Kind};
use workload::Workload;

/// A row of the result.
struct Row {
    figures: Figures,
    judged: Judged,
}

/// What rows are judged by.
struct Judge<'a> {
    kept: Option<&'a Baseline>,
    /// The baseline is of another machine.
    elsewhere: bool,
}

pub fn run(options: &Regress, output: &Output) -> anyhow::Result<()> {
    let loads = asked(options)?;
    let scratch = Scratch::new(&options.dir)?;
    let kept = Baseline::read(&options.baseline)?;
    let keeps = options.update || options.add;
    if kept.is_none() && !keeps {
        let what = format!(
            "no baseline {}: write one with --update, on a build that is known to be good",
            options.baseline.display()
        );
        return Err(Usage(what).into());
    }
    let setup = surroundings::here(options);
    let differs = differences(options, kept.as_ref(), &setup)?;
    let rig = rig(options, &scratch)?;
    watch_for_interrupts()?;
    // connections of the load
    raise_open_files(OPEN_FILES).context("the limit of open files can't be read")?;
    if cfg!(debug_assertions) {
        output.note("this build is not optimized: its ratios say nothing of one that is");
    }
    if !differs.is_empty() {
        output.note(&format!(
            "the baseline is of another machine, so only CPU is judged: {}",
            surroundings::told(&differs)
        ));
    }
    affinity::pin(rig.load_core).with_context(|| format!("can't run on core {}", rig.load_core))?;
    let pairs = (loads.len() * rig.pairs) as u64;
    let talks = !output.json && io::stderr().is_terminal();
    let mut progress = talks.then(|| Progress::new(Some(pairs), "{bar:30} {pos}/{len} pairs"));
    let judge = Judge {
        kept: kept.as_ref(),
        elsewhere: !differs.is_empty(),
    };
    let mut rows = Vec::new();
    for load in &loads {
        let mut done = || {
            if let Some(progress) = &mut progress {
                progress.add(1);
            }
        };
        let first = judge.all(rig.measure(load, &mut done)?);
        let in_doubt = |row: &Row| matches!(row.judged.verdict, Verdict::Lost | Verdict::TooNoisy);
        // what is lost by chance is not lost twice, and more pairs have less noise
        rows.extend(match first.iter().any(in_doubt) && !keeps {
            true => judge.all(joined(first, rig.measure(load, &mut || ())?)),
            false => first,
        });
    }
    if let Some(progress) = progress {
        progress.end();
    }
    match output.json {
        true => output.object(&show::object(&rows, &setup, &differs))?,
        false => show::table(output, &rows, keeps)?,
    }
    if keeps {
        return keep(options, output, kept, setup, &rows);
    }
    match show::failure(&rows) {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

/// The workloads that are to run.
fn asked(options: &Regress) -> anyhow::Result<Vec<&'static Workload>> {
    let asked = |load: &&Workload| {
        let names = &options.workloads;
        names.is_empty() || names.iter().any(|name| load.name.contains(&**name))
    };
    let loads: Vec<&Workload> = workload::ALL.iter().filter(asked).collect();
    if loads.is_empty() {
        let names: Vec<&str> = workload::ALL.iter().map(|load| load.name).collect();
        return Err(Usage(format!("no such workload; there are: {}", names.join("; "))).into());
    }
    Ok(loads)
}

/// What differs from the baseline's setup, where ratios can be compared all the same.
fn differences(
    options: &Regress,
    kept: Option<&Baseline>,
    setup: &Value,
) -> anyhow::Result<Vec<Difference>> {
    // a baseline that is written anew as a whole leaves nothing to compare with
    let Some(kept) = kept.filter(|_| !(options.update && options.workloads.is_empty())) else {
        return Ok(Vec::new());
    };
    let differs = surroundings::differences(&kept.setup, setup);
    let keeps = options.update || options.add;
    let file = options.baseline.display();
    if keeps && !differs.is_empty() {
        let what = format!(
            "{file} was measured otherwise, and one file is of one setup: {}; write all of it anew \
             with --update",
            surroundings::told(&differs)
        );
        return Err(Usage(what).into());
    }
    let method = |difference: &&Difference| difference.kind == Kind::Method;
    let method: Vec<Difference> = differs.iter().filter(method).cloned().collect();
    if !method.is_empty() {
        let what = format!(
            "{file} was measured otherwise: {}; measure as it was, or write it anew with --update",
            surroundings::told(&method)
        );
        return Err(Usage(what).into());
    }
    Ok(differs)
}

impl Judge<'_> {
    fn all(&self, measured: Vec<Figures>) -> Vec<Row> {
        measured
            .into_iter()
            .map(|figures| self.one(figures))
            .collect()
    }

    fn one(&self, figures: Figures) -> Row {
        let runs = self.kept.and_then(|kept| kept.rows.get(&figures.row));
        let mut judged = judge(&figures.ratios(), runs.map(Vec::as_slice));
        let left_out = self.kept.is_some_and(|k| k.left_out.contains(&figures.row));
        if self.elsewhere && !figures.metric.is_cpu() && runs.is_some() {
            judged.verdict = Verdict::Elsewhere;
        } else if left_out {
            judged.verdict = Verdict::LeftOut;
        }
        Row { judged, figures }
    }
}

/// What was measured twice, as one: the pairs of both times decide.
fn joined(first: Vec<Row>, mut second: Vec<Figures>) -> Vec<Figures> {
    for (second, first) in second.iter_mut().zip(first) {
        second.pairs.splice(0..0, first.figures.pairs);
    }
    second
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
        ring_bytes: options.ring_bytes,
    })
}

/// Takes what was measured into the baseline.
fn keep(
    options: &Regress,
    output: &Output,
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
    baseline.write(&options.baseline)?;
    let left_out: Vec<&str> = baseline.left_out.iter().map(String::as_str).collect();
    if !left_out.is_empty() {
        output.note(&format!(
            "left out, for their noise is above {:.0} %: {}",
            100.0 * MOST,
            left_out.join("; ")
        ));
    }
    let runs = baseline.runs();
    if runs < RUNS_LEAST {
        output.note(&format!(
            "kept {runs} of at least {RUNS_LEAST} runs: measure more of this build with --add"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(f64, f64)], metric: workload::Metric) -> Figures {
        Figures {
            row: "x".into(),
            metric,
            pairs: pairs.to_vec(),
        }
    }

    fn kept() -> Baseline {
        let run = vec![1.0, 1.01, 0.99, 1.0];
        Baseline {
            rows: [("x".to_owned(), vec![run; 3])].into(),
            ..Baseline::default()
        }
    }

    #[test]
    fn a_second_time_counts_with_the_first() {
        let kept = kept();
        let judge = Judge {
            kept: Some(&kept),
            elsewhere: false,
        };
        let cpu = workload::Metric::CpuEach;
        let first = judge.all(vec![figures(&[(2.0, 2.2), (2.0, 2.21), (2.0, 2.19)], cpu)]);
        assert_eq!(first[0].judged.verdict, Verdict::Lost);
        let calm = figures(&[(2.0, 2.0), (4.0, 4.0), (2.0, 2.0), (2.0, 2.0)], cpu);
        let both = joined(first, vec![calm]);
        assert_eq!(both[0].pairs.len(), 7);
        assert_eq!(both[0].pairs[0], (2.0, 2.2));
        assert_eq!(both[0].pairs[4], (4.0, 4.0));
        assert_eq!(judge.all(both)[0].judged.verdict, Verdict::Same);
    }

    #[test]
    fn elsewhere_only_cpu_is_judged_and_what_is_left_out_is_not() {
        let mut kept = kept();
        let lost = [(1.0, 2.0); 4];
        let verdict = |kept: &Baseline, elsewhere: bool, metric| {
            let judge = Judge {
                kept: Some(kept),
                elsewhere,
            };
            judge.one(figures(&lost, metric)).judged.verdict
        };
        use workload::Metric::{CpuEach, Latency};
        assert_eq!(verdict(&kept, true, Latency(0.5)), Verdict::Elsewhere);
        assert_eq!(verdict(&kept, true, CpuEach), Verdict::Lost);
        assert_eq!(verdict(&kept, false, Latency(0.5)), Verdict::Lost);
        kept.left_out.insert("x".into());
        assert_eq!(verdict(&kept, false, CpuEach), Verdict::LeftOut);
        assert_eq!(
            verdict(&Baseline::default(), true, Latency(0.5)),
            Verdict::NotKept
        );
    }
}
