//! One run of a load.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::base::time::Monotonic;
use crate::cli::args::Acks;
use crate::cli::bench::args::{Load, Run};
use crate::cli::bench::ceiling::{BATCH_OVERHEAD, KEPT_BYTES, Server};
use crate::cli::bench::cost::{Cost, Snapshot};
use crate::cli::bench::measure::{Measure, Sum};
use crate::cli::bench::report::{Ceiling, Interval, Outcome, Side};
use crate::cli::bench::view::View;
use crate::cli::bench::world::{Pace, Reader, Share, Target, World, arena_bytes, spread};
use crate::cli::bench::{INTERRUPTS, Kind, consumer, producer, topics};
use crate::cli::client::Cluster;
use crate::cli::on_ring::on_ring;
use crate::cli::output::Output;
use crate::cli::rig::machine::drop_page_cache;
use crate::ring::JoinHandle;
use crate::ring::process::Signals;

/// In flight in a closed loop, where nothing else is said: as Kafka's clients.
const DEPTH: usize = 5;
const FILL_BYTES: u64 = 1 << 30;
/// While acks or records are missing, one comes in this time, or the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Where a run may end before its time, its end is looked for so often.
const LOOK: Duration = Duration::from_millis(1);

/// How records leave, as the load says.
pub fn pace(load: &Load) -> Pace {
    match load.rate {
        Some(rate) => Pace::Open(rate),
        None => closed(load),
    }
}

/// So many requests in flight as the load says.
pub fn closed(load: &Load) -> Pace {
    Pace::Closed(load.depth.map_or(DEPTH, |depth| depth as usize))
}

/// A run on the load's topic, or on one that is made and removed.
pub fn once(
    kind: Kind,
    load: &Load,
    pace: Pace,
    output: &Output,
    view: &mut View<'_>,
) -> anyhow::Result<Outcome> {
    let open = || Cluster::open(&load.broker.bootstrap, load.broker.timeout);
    let mut cluster = open()?;
    let topic = topics::find(&mut cluster, load)?;
    let mut run = |view| {
        let target = topics::prepare(&mut cluster, load, &topic)?;
        let outcome = drive(kind, load, target.clone(), pace, None, view)?;
        // connections that did nothing for the time of a run may be closed
        if load.acks != Acks::None {
            topics::check_ends(&mut open()?, &target, &outcome.acked, load.broker.timeout)?;
        }
        Ok(outcome)
    };
    let outcome = run(view);
    view.end();
    if load.topic.is_none() {
        let removed = open().map_err(anyhow::Error::from);
        let removed = removed.and_then(|mut c| topics::remove(&mut c, load, &topic.name));
        if let Err(error) = removed {
            output.note(&format!("topic {} is left: {error:#}", topic.name));
        }
    }
    outcome
}

/// What the load reaches against a server that answers at once: in a closed loop, and at the pace
/// of the run where that is another. The server runs on `core`.
pub fn ceiling(kind: Kind, load: &Load, core: Option<usize>) -> anyhow::Result<Ceiling> {
    let record = *load.record_bytes.end() as u64;
    // what is kept to be read has its place in memory
    let most = (KEPT_BYTES / (record + BATCH_OVERHEAD) / 2).max(1);
    let short = Load {
        run: Run {
            duration: SECOND,
            warmup: Duration::from_millis(100),
            broker_pid: None,
            ..load.run.clone()
        },
        fill: Some(load.fill.unwrap_or(FILL_BYTES / record).min(most)),
        cold: false,
        ..load.clone()
    };
    let run = |pace| {
        let server = Server::start(core, kind.consumes(), load)?;
        let target = server.target(load.partitions, load.producers);
        let most = kind.consumes().then_some(most);
        drive(kind, &short, target, pace, most, &mut View::none())
    };
    let closed = run(closed(load))?;
    let quantiles = |outcome: &Outcome| {
        let side = outcome.sides.iter().rfind(|side| side.timed)?;
        Some((side.sum.quantile_ms(0.5)?, side.sum.quantile_ms(0.99)?))
    };
    let latency_ms = match pace(load) {
        Pace::Open(rate) => quantiles(&run(Pace::Open(rate))?),
        Pace::Closed(_) => quantiles(&closed),
    };
    let side = closed.sides.first().map(|side| side.sum.clone());
    let sum = side.unwrap_or_default();
    Ok(Ceiling {
        records_per_s: sum.records as f64 / closed.seconds,
        mb_per_s: sum.bytes as f64 / 1e6 / closed.seconds,
        latency_ms,
    })
}

/// `most` bounds what is produced while measuring.
fn drive(
    kind: Kind,
    load: &Load,
    target: Target,
    pace: Pace,
    most: Option<u64>,
    view: &mut View<'_>,
) -> anyhow::Result<Outcome> {
    on_ring(arena_bytes(load)?, async |ring| {
        let world = World::new(&ring, load, target, pace);
        let signals = Signals::new(&ring, &INTERRUPTS)?;
        let guards = [
            ring.spawn(until_interrupted(world.clone(), signals)),
            ring.spawn(until_stuck(world.clone(), kind)),
        ];
        let driven = unless_failed(&world, measured(&world, kind, pace, most, view)).await;
        drop(guards);
        driven
    })
}

/// What comes of a future, or the failure of the run, which no wait for a broker may outlive.
async fn unless_failed<T>(
    world: &World,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let failed = async {
        loop {
            let wait = world.changed.wait();
            if let Some(failure) = world.failure() {
                return failure;
            }
            wait.await;
        }
    };
    let (mut future, mut failed) = (pin!(future), pin!(failed));
    poll_fn(|cx| match failed.as_mut().poll(cx) {
        Poll::Ready(failure) => Poll::Ready(Err(anyhow!(failure))),
        Poll::Pending => future.as_mut().poll(cx),
    })
    .await
}

async fn measured(
    world: &Rc<World>,
    kind: Kind,
    pace: Pace,
    most: Option<u64>,
    view: &mut View<'_>,
) -> anyhow::Result<Outcome> {
    let load = &world.load;
    if kind.fills() {
        let fill = load
            .fill
            .unwrap_or(FILL_BYTES / *load.record_bytes.end() as u64);
        world.pace.set(Pace::Closed(DEPTH));
        world.left.set(Some(fill.max(1)));
        view.says("filling the topic");
        start_producers(world)?;
        until_produced(world).await;
        if load.cold {
            drop_page_cache().context("the page cache can't be dropped")?;
        }
        world.pace.set(pace);
    }
    world.left.set(most);
    if kind == Kind::Mixed {
        world.begin_behind();
    }
    let warmup = match kind {
        Kind::Consume => Duration::ZERO,
        _ => load.run.warmup,
    };
    world.since.set(world.now());
    let begin = world.since.get() + warmup;
    let end = match kind {
        Kind::Consume => Monotonic::MAX,
        _ => begin + load.run.duration,
    };
    world.until.set(end);
    world.reads_live.set(kind.reads_live());
    world.drain.set(kind == Kind::Consume);
    world.measure.borrow_mut().begin(begin, end);
    let mut consumers = Vec::new();
    if matches!(kind, Kind::Consume | Kind::E2e | Kind::Mixed) {
        consumers.extend(start_consumers(world, Reader::Once, load.consumers)?);
    }
    if kind == Kind::Mixed {
        consumers.extend(start_consumers(world, Reader::Again, load.replayers)?);
    }
    if kind.produces() {
        start_producers(world)?;
    }
    view.says("warming up");
    world.wait_until(begin).await;
    if kind == Kind::Backlog {
        // what they have to catch up with is not read while warming up
        consumers.extend(start_consumers(world, Reader::Once, load.consumers)?);
    }
    let mut watched = watch(world, kind, begin, end, view).await?;
    let seconds = world.now().min(end).since(begin).as_secs_f64();
    world.drain.set(true);
    world.changed.notify_all();
    view.says("waiting for the last acks and reads");
    until_produced(world).await;
    for consumer in consumers {
        consumer.await;
    }
    // what came late
    watched.take(world, kind, begin);
    let mut measure = world.measure.borrow_mut();
    let unsent = measure.unsent;
    let sides = ways(kind, &mut measure).map(|(name, way)| Side {
        name,
        sum: way.total.clone(),
        timed: match name {
            ACKED => load.acks != Acks::None,
            READ => kind.reads_live(),
            _ => false,
        },
    });
    Ok(Outcome {
        kind: kind.name(),
        seconds,
        topic_ready: world.target.ready,
        offered: match pace {
            Pace::Open(rate) => Some(rate),
            Pace::Closed(_) => None,
        },
        sides: sides.collect(),
        intervals: watched.intervals,
        drained: watched.drained,
        partitions: world.target.places.len(),
        verified: world.reads.borrow().records,
        acked: world.ledger.borrow().acked_by_partition(),
        unsent,
        cost: watched.cost,
        ceiling: None,
        held: None,
    })
}

async fn until_interrupted(world: Rc<World>, signals: Signals) {
    if signals.next().await.is_ok() {
        world.fail("interrupted");
    }
}

/// Fails a run in which nothing goes on for long that is waited for.
async fn until_stuck(world: Rc<World>, kind: Kind) {
    let mut last = (0, 0, world.now());
    loop {
        world.ring.sleep(SECOND).await;
        let (ledger, reads) = (world.ledger.borrow(), world.reads.borrow());
        let (acked, read) = (ledger.acked_in_all(), reads.records);
        let reading = kind.consumes() && world.reading.get() && !reads.is_level(&ledger);
        let awaited = ledger.unacked() > 0 && world.load.acks != Acks::None;
        if (acked, read) != (last.0, last.1) || !(reading || awaited) {
            last = (acked, read, world.now());
        } else if world.now().since(last.2) >= PATIENCE {
            let missing = match awaited {
                true => Some(format!("{} acks are missing", ledger.unacked())),
                false => reads.missing(&ledger),
            };
            let missing = missing.unwrap_or_default();
            drop((ledger, reads));
            world.fail(format!("nothing goes on for {PATIENCE:?}: {missing}"));
            return;
        }
    }
}

const ACKED: &str = "acked";
const READ: &str = "read";
const REPLAYED: &str = "replayed";

/// The ways that records go in this kind of run.
fn ways(
    kind: Kind,
    measure: &mut Measure,
) -> impl Iterator<Item = (&'static str, &mut crate::cli::bench::measure::Way)> {
    let acked = kind.produces().then_some((ACKED, &mut measure.acked));
    let read = kind.consumes().then_some((READ, &mut measure.read));
    let replayed = (kind == Kind::Mixed).then_some((REPLAYED, &mut measure.replayed));
    [acked, read, replayed].into_iter().flatten()
}

fn start_producers(world: &Rc<World>) -> anyhow::Result<()> {
    let parts = spread(
        &world.target.places,
        world.load.producers as usize,
        Share::Yes,
    )?;
    world.producing.set(parts.len());
    for (number, places) in parts.into_iter().enumerate() {
        let its = world.clone();
        let task = async move {
            if let Err(error) = producer::run(its.clone(), number as u32, places).await {
                its.fail(format!("{error:#}"));
            }
            its.producing.set(its.producing.get() - 1);
            its.changed.notify_all();
        };
        world.ring.spawn(task).detach();
    }
    Ok(())
}

/// Of readers of one kind each partition has one.
fn start_consumers(
    world: &Rc<World>,
    reader: Reader,
    most: u32,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let places = &world.target.places;
    let mut parts = spread(places, most as usize, Share::No)?;
    parts.retain(|part| !part.is_empty());
    world.reading.set(true);
    let start = |places| {
        let consumer = consumer::run(world.clone(), reader, places);
        world.ring.spawn(consumer)
    };
    Ok(parts.into_iter().map(start).collect())
}

async fn until_produced(world: &World) {
    loop {
        let wait = world.changed.wait();
        if world.producing.get() == 0 {
            return;
        }
        wait.await;
    }
}

/// Waits until what is measured is over, and tells of each second.
async fn watch(
    world: &Rc<World>,
    kind: Kind,
    begin: Monotonic,
    end: Monotonic,
    view: &mut View<'_>,
) -> anyhow::Result<Watched> {
    let pid = world.load.run.broker_pid;
    let before = Snapshot::take(pid);
    let mut watched = Watched {
        intervals: Vec::new(),
        told: 0.0,
        drained: None,
        cost: None,
    };
    let mut tick = begin + SECOND;
    let is_over = || match kind {
        Kind::Consume => world.is_level(),
        _ => world.now() >= end || (world.left.get() == Some(0) && world.producing.get() == 0),
    };
    while !is_over() {
        let drains = kind == Kind::Backlog && watched.drained.is_none();
        match drains || kind == Kind::Consume || world.left.get().is_some() {
            true => world.ring.sleep(LOOK).await,
            false => world.ring.sleep_until(tick.min(end)).await,
        }
        if drains && world.is_level() {
            let bytes = world.measure.borrow().read.bytes();
            watched.drained = Some((world.now().since(begin).as_secs_f64(), bytes));
        }
        if world.now() >= tick {
            tick = tick + SECOND;
            let from = watched.told;
            let sums = watched.take(world, kind, begin);
            view.second(from, watched.told, &sums)?;
        }
    }
    watched.cost = Some(Snapshot::take(pid).since(&before));
    Ok(watched)
}

/// What was seen of a run while it went on.
struct Watched {
    intervals: Vec<Interval>,
    /// Seconds of the run that these cover.
    told: f64,
    /// When readers had caught up with the writing for the first time, and with how many bytes.
    drained: Option<(f64, u64)>,
    cost: Option<Cost>,
}

impl Watched {
    /// Takes what came about since the last call.
    fn take(&mut self, world: &World, kind: Kind, begin: Monotonic) -> Vec<(&'static str, Sum)> {
        let from = self.told;
        self.told = world.now().since(begin).as_secs_f64();
        let mut measure = world.measure.borrow_mut();
        let ways = ways(kind, &mut measure);
        let sums: Vec<_> = ways
            .map(|(name, way)| (name, way.take_interval()))
            .collect();
        // a second without an answer is one too; what comes after the last may be nothing
        if self.told - from > 0.5 || sums.iter().any(|(_, sum)| !sum.is_empty()) {
            self.intervals.push(Interval::new(from, self.told, &sums));
        }
        sums
    }
}
