//! `corelane bench`: a load for any broker that speaks Kafka's protocol.
//!
//! One thread on a ring of its own drives all connections ([`drive`]). In an open loop each record
//! has a time at which it is to be sent, whatever the answers do, and its latency counts from that
//! time, so that a broker that stalls is charged for all that it held up (no coordinated omission).
//! Each value begins with the name of its record ([`value`]); whoever reads checks that each is
//! there once and in order ([`ledger`]): a loss or a duplicate fails the run. What the load itself
//! can do is measured against a server that answers at once ([`ceiling`]) and told beside every
//! result.
//!
//! [`ping`] sends requests that carry no record. [`regress`] is another thing: it starts brokers of
//! its own, to tell whether they became slower.

pub mod args;
mod batches;
mod ceiling;
mod client;
mod consumer;
mod cost;
mod drive;
mod ledger;
mod measure;
mod ping;
mod plot;
mod producer;
pub mod regress;
mod report;
mod setup;
mod topics;
mod value;
mod view;
mod world;

use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use crate::cli::args::Acks;
use crate::cli::output::Output;
use crate::cli::run::Usage;
use crate::ring::affinity;
use crate::ring::process::{block_signals, raise_open_files};
use args::{BenchAction, Load, Run};
use report::Outcome;
use view::View;
use world::Pace;

/// Of `--max`: steps of the search down and up, how long each takes at most, and the part of the offered rate
/// that must be reached.
const STEPS: usize = 6;
const DOUBLINGS: usize = 5;
const STEP: Duration = Duration::from_secs(3);
const WARMUP: Duration = Duration::from_secs(1);
const REACHED: f64 = 0.98;

const OPEN_FILES: u64 = 1 << 16;
/// They end a run, which takes its topic away.
const INTERRUPTS: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Produce,
    Consume,
    E2e,
    Backlog,
    Mixed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Produce => "produce",
            Kind::Consume => "consume",
            Kind::E2e => "e2e",
            Kind::Backlog => "backlog",
            Kind::Mixed => "mixed",
        }
    }

    fn fills(self) -> bool {
        matches!(self, Kind::Consume | Kind::Backlog | Kind::Mixed)
    }

    fn produces(self) -> bool {
        self != Kind::Consume
    }

    fn consumes(self) -> bool {
        self != Kind::Produce
    }

    /// Whether readers wait for what is written, so that it says something when they get it.
    fn reads_live(self) -> bool {
        matches!(self, Kind::E2e | Kind::Mixed)
    }
}

/// Runs a load and tells what it found.
pub fn run(action: BenchAction, output: &Output) -> anyhow::Result<()> {
    let (kind, load) = match action {
        BenchAction::Produce(load) => (Kind::Produce, load),
        BenchAction::Consume(load) => (Kind::Consume, load),
        BenchAction::E2e(load) => (Kind::E2e, load),
        BenchAction::Backlog(load) => (Kind::Backlog, load),
        BenchAction::Mixed(load) => (Kind::Mixed, load),
        BenchAction::Ping(ping) => {
            raise_open_files(OPEN_FILES).context("the limit of open files can't be read")?;
            let pinged = on_core(ping.run.core, || ping::measure(&ping))?;
            return Ok(pinged.tell(&ping, output)?);
        }
        BenchAction::Regress(options) => return regress::run(&options, output),
    };
    check(kind, &load)?;
    // each connection to a server of our own has both ends here
    raise_open_files(OPEN_FILES).context("the limit of open files can't be read")?;
    block_signals(&INTERRUPTS).context("signals can't be blocked")?;
    let ceiling = match load.no_ceiling {
        true => None,
        false => {
            let other = |core: &usize| load.run.core.is_some_and(|its| its != *core);
            let core = affinity::allowed_cores()?.into_iter().find(other);
            Some(on_core(load.run.core, || {
                drive::ceiling(kind, &load, core)
            })?)
        }
    };
    if load.ceiling {
        let ceiling = ceiling.context("--ceiling asks for it")?;
        return Ok(report::ceiling(output, &ceiling)?);
    }
    let mut outcome = on_core(load.run.core, || match load.max {
        true => highest(kind, &load, output),
        false => {
            let mut view = View::new(output, kind.name(), load.run.duration);
            drive::once(kind, &load, drive::pace(&load), output, &mut view)
        }
    })?;
    outcome.ceiling = ceiling;
    let setup = setup::describe(&load);
    report::summary(output, &outcome, &setup)?;
    if let Some(dir) = &load.out {
        report::write(dir, &outcome, &setup)
            .with_context(|| format!("can't write to {}", dir.display()))?;
    }
    Ok(())
}

/// Runs on that core, in a thread of its own that leaves this one where it is.
fn on_core<T: Send>(
    core: Option<usize>,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let Some(core) = core else {
        return work();
    };
    std::thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            affinity::pin(core).with_context(|| format!("can't run on core {core}"))?;
            work()
        });
        pinned
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn check(kind: Kind, load: &Load) -> anyhow::Result<()> {
    let usage = |text: &str| Err(Usage(text.to_owned()).into());
    if kind.consumes() && load.acks == Acks::None {
        return usage("what is read cannot be checked against what was sent with acks 0");
    }
    if load.idempotent && load.acks != Acks::All {
        return usage("idempotent producers wait for all acks");
    }
    if load.topic.is_some() && (kind.fills() || load.max) {
        return usage("this needs a topic of its own: leave --topic out");
    }
    if load.cold && !kind.fills() {
        return usage("--cold is for what is read after the topic was filled");
    }
    if load.max && kind == Kind::Consume {
        return usage("nothing is produced at a rate here: leave --max out");
    }
    if load.max && load.acks == Acks::None {
        return usage("--max needs acks to measure");
    }
    if load.idempotent && load.in_flight.max(load.depth.unwrap_or(0)) > 5 {
        return usage("idempotent producers have at most 5 requests in flight");
    }
    Ok(())
}

/// The highest rate at which p99 stays below the bound: up from what a closed loop reaches by
/// doubling, then down by halves.
fn highest(kind: Kind, load: &Load, output: &Output) -> anyhow::Result<Outcome> {
    let short = Load {
        run: Run {
            duration: STEP.min(load.run.duration),
            warmup: WARMUP.min(load.run.warmup),
            ..load.run.clone()
        },
        ..load.clone()
    };
    let run = |pace| drive::once(kind, &short, pace, output, &mut View::none());
    let reached = |outcome: &Outcome| outcome.sides[0].sum.records as f64 / outcome.seconds;
    let holds = |outcome: &Outcome, rate: f64| {
        let timed = outcome.sides.iter().rfind(|side| side.timed);
        let p99 = timed.and_then(|side| side.sum.quantile_ms(0.99));
        let p99 = p99.unwrap_or(f64::INFINITY);
        (
            p99,
            p99 <= load.p99_ms && reached(outcome) >= REACHED * rate,
        )
    };
    let tried = |rate: f64| {
        let (p99, held) = holds(&run(Pace::Open(rate))?, rate);
        if !output.json {
            let word = if held { "holds" } else { "too much" };
            output.line(&format!("{rate:>10.0} records/s: p99 {p99:.3} ms, {word}"))?;
        }
        Ok::<bool, anyhow::Error>(held)
    };
    let (mut low, mut high) = (0.0, reached(&run(drive::closed(load))?) * 1.1);
    // where an open loop can put more into a request than a closed one
    for _ in 0..DOUBLINGS {
        if !tried(high)? {
            break;
        }
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..STEPS {
        let rate = (low + high) / 2.0;
        match tried(rate)? {
            true => low = rate,
            false => high = rate,
        }
    }
    if low == 0.0 {
        bail!("no rate keeps p99 below {} ms", load.p99_ms);
    }
    let mut view = View::new(output, kind.name(), load.run.duration);
    let mut outcome = drive::once(kind, load, Pace::Open(low), output, &mut view)?;
    outcome.held = Some(holds(&outcome, low).1);
    Ok(outcome)
}
