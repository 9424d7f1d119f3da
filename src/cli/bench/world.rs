//! What all tasks of a run share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::ProducerId;
use crate::base::ids::Uuid;
use crate::base::time::Monotonic;
use crate::cli::bench::args::Load;
use crate::cli::bench::client;
use crate::cli::bench::ledger::{Ledger, Reads};
use crate::cli::bench::measure::Measure;
use crate::ring::Ring;
use crate::ring::sync::Event;

/// Buffers of the load at least, and at most.
const ARENA_BYTES: std::ops::RangeInclusive<usize> = 1 << 30..=16 << 30;
/// What Kafka's clients ask for.
const FETCH_BYTES_MAX: usize = 50 << 20;

/// Where a partition is.
#[derive(Clone, Debug)]
pub struct Place {
    pub partition: i32,
    pub leader: SocketAddr,
    /// Where records of this run begin.
    pub start: i64,
}

/// The topic of a run.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub id: Uuid,
    /// From when it was asked for until all its partitions served.
    pub ready: Option<Duration>,
    pub places: Vec<Place>,
    /// Versions of Produce and Fetch that both sides speak.
    pub produce: i16,
    pub fetch: i16,
    /// An id for each producer, where they are idempotent.
    pub ids: Vec<(ProducerId, i16)>,
}

/// Buffers that a load needs: each producer makes one request at a time, whose batches wait for
/// each other's memory.
pub fn arena_bytes(load: &Load) -> anyhow::Result<usize> {
    let batch = load.batch_bytes.max(*load.record_bytes.end() + 4096);
    let request = load.request_bytes.max(batch).next_power_of_two() * 2;
    let bytes = *ARENA_BYTES.start() + load.producers as usize * request;
    if bytes > *ARENA_BYTES.end() {
        anyhow::bail!(
            "{} producers with requests of {} bytes need {} GiB of buffers: lower --producers, \
             --request-bytes or --batch-bytes",
            load.producers,
            load.request_bytes.max(batch),
            bytes >> 30
        );
    }
    Ok(bytes)
}

/// When records leave.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many requests of each producer are always in flight.
    Closed(usize),
    /// So many records a second over all producers.
    Open(f64),
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// All, to the end.
    Once,
    /// From the start to the end, and again from the start.
    Again,
}

/// See the module.
pub struct World {
    pub ring: Ring,
    pub load: Load,
    /// What a connection receives at a time, at least.
    pub read_bytes: usize,
    /// What a fetch asks for at most.
    pub fetch_bytes: usize,
    pub target: Target,
    pub pace: Cell<Pace>,
    pub ledger: RefCell<Ledger>,
    /// What consumers got that read each record once.
    pub reads: RefCell<Reads>,
    pub measure: RefCell<Measure>,
    /// When the first record of an open loop is due.
    pub since: Cell<Monotonic>,
    /// Producers stop after this time, or after so many records.
    pub until: Cell<Monotonic>,
    pub left: Cell<Option<u64>>,
    /// Whether consumers have begun.
    pub reading: Cell<bool>,
    /// Producers that have not ended.
    pub producing: Cell<usize>,
    /// Consumers may end when they have read all that was acked.
    pub drain: Cell<bool>,
    /// Where readers of a partition begin that do not read what was there before.
    pub starts: RefCell<BTreeMap<i32, i64>>,
    /// Latency of what is read counts from when it was to be sent; else it was there before.
    pub reads_live: Cell<bool>,
    pub changed: Event,
    failure: RefCell<Option<String>>,
}

impl World {
    pub fn new(ring: &Ring, load: &Load, target: Target, pace: Pace) -> Rc<World> {
        let connections = load.producers + load.consumers + load.replayers;
        let consumers = (load.consumers + load.replayers) as usize;
        Rc::new(World {
            ring: ring.clone(),
            read_bytes: client::read_bytes(connections as usize),
            fetch_bytes: (*ARENA_BYTES.start() / 8 / consumers).clamp(1, FETCH_BYTES_MAX),
            load: load.clone(),
            target,
            pace: Cell::new(pace),
            ledger: RefCell::default(),
            reads: RefCell::default(),
            measure: RefCell::new(Measure::default()),
            since: Cell::new(Monotonic(0)),
            until: Cell::new(Monotonic::MAX),
            left: Cell::new(None),
            reading: Cell::new(false),
            producing: Cell::new(0),
            drain: Cell::new(false),
            starts: RefCell::default(),
            reads_live: Cell::new(true),
            changed: Event::new(),
            failure: RefCell::new(None),
        })
    }

    /// The clock as it is, not as it stood when this turn began.
    pub fn now(&self) -> Monotonic {
        self.ring.driver().now()
    }

    /// Whether all that was acked was read.
    pub fn is_level(&self) -> bool {
        self.reads.borrow().is_level(&self.ledger.borrow())
    }

    /// Where a reader of what comes begins.
    pub fn start_of(&self, place: &Place) -> i64 {
        let starts = self.starts.borrow();
        starts.get(&place.partition).copied().unwrap_or(place.start)
    }

    /// What was acked so far is old: consumers begin behind it.
    pub fn begin_behind(&self) {
        let ledger = self.ledger.borrow();
        self.reads.borrow_mut().skip(&ledger);
        let places = self.target.places.iter();
        let starts = places.map(|place| {
            let acked = ledger.acked(place.partition as u32) as i64;
            (place.partition, place.start + acked)
        });
        *self.starts.borrow_mut() = starts.collect();
    }

    /// Ends the run: the first failure is told.
    pub fn fail(&self, error: impl Into<String>) {
        self.failure.borrow_mut().get_or_insert(error.into());
        self.changed.notify_all();
    }

    pub fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until a moment, to the microsecond: no system wakes a thread so exactly, so the last of
    /// it is spent looking at the clock. Only the last: on a machine with few cores the kernel's own
    /// threads, which write and flush for the broker, have no other core than the load's.
    pub async fn wait_until(&self, when: Monotonic) {
        const COARSE: Duration = Duration::from_micros(150);
        while !self.has_failed() {
            let now = self.now();
            let left = when.since(now);
            if left.is_zero() {
                return;
            }
            match left > COARSE {
                true => self.ring.wake_at(now + (left - COARSE)).await,
                false => self.ring.yield_now().await,
            }
        }
    }
}

/// Whether connections may have the same partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Yes,
    /// Where a leader has more connections than partitions, some get none.
    No,
}

/// Spreads partitions over connections so that each connection has partitions of one leader only.
pub fn spread(
    places: &[Place],
    connections: usize,
    share: Share,
) -> anyhow::Result<Vec<Vec<Place>>> {
    let mut leaders: Vec<SocketAddr> = places.iter().map(|place| place.leader).collect();
    leaders.sort();
    leaders.dedup();
    if connections < leaders.len() {
        anyhow::bail!(
            "partitions are led by {} brokers, so at least so many connections are needed",
            leaders.len()
        );
    }
    let mut parts: Vec<Vec<Place>> = vec![Vec::new(); connections];
    for (n, leader) in leaders.iter().enumerate() {
        let theirs: Vec<&Place> = places.iter().filter(|p| p.leader == *leader).collect();
        let mut mine: Vec<usize> = (n..connections).step_by(leaders.len()).collect();
        if share == Share::No {
            mine.truncate(theirs.len());
        }
        for i in 0..mine.len().max(theirs.len()) {
            let (connection, place) = (mine[i % mine.len()], theirs[i % theirs.len()]);
            parts[connection].push(place.clone());
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32, port: u16) -> Place {
        Place {
            partition,
            leader: SocketAddr::from(([127, 0, 0, 1], port)),
            start: 0,
        }
    }

    #[test]
    fn every_partition_has_a_connection_and_every_connection_a_partition_of_one_leader() {
        for partitions in [1, 2, 7, 100] {
            for leaders in [1, 2, 3] {
                let places: Vec<Place> = (0..partitions)
                    .map(|p| place(p, (p % leaders) as u16))
                    .collect();
                for connections in [3, 4, 16, 101] {
                    let parts = spread(&places, connections, Share::Yes).unwrap();
                    assert_eq!(parts.len(), connections);
                    let mut seen: Vec<i32> = parts.iter().flatten().map(|p| p.partition).collect();
                    seen.sort();
                    seen.dedup();
                    assert_eq!(seen.len(), partitions as usize);
                    for part in &parts {
                        assert!(!part.is_empty());
                        assert!(part.iter().all(|p| p.leader == part[0].leader));
                    }
                }
            }
        }
        assert!(spread(&[place(0, 1), place(1, 2)], 1, Share::Yes).is_err());
    }

    #[test]
    fn a_partition_that_is_not_shared_has_one_connection() {
        let places = [place(0, 1), place(1, 2), place(2, 2)];
        for connections in 2..7 {
            let parts = spread(&places, connections, Share::No).unwrap();
            let mut seen: Vec<i32> = parts.iter().flatten().map(|p| p.partition).collect();
            seen.sort();
            assert_eq!(seen, [0, 1, 2]);
        }
    }
}
