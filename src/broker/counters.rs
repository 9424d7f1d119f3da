//! What a shard counts. One writer, its own thread; anyone may read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only its shard changes and that others may read: no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Takes `n` away: for gauges.
    pub fn sub(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(n),
            Ordering::Relaxed,
        );
    }

    /// Its value.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The stages of a request, each timed from the end of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// It is here whole, since its first byte came.
    Received,
    /// It was its turn: earlier requests of its connection are answered, its header is read.
    Decoded,
    /// Its records lie in the journal's group; for other requests: it was worked on, waiting for
    /// data included.
    Appended,
    /// Its journal entry is written.
    Written,
    /// Its journal entry is flushed.
    Flushed,
    /// All in-sync replicas have it: no time while a partition has one.
    Replicated,
    /// The last byte of the answer was handed to the socket.
    Sent,
}

/// How many stages there are.
pub const STAGES: usize = 7;

/// Requests whose API key is not below this are counted together in the last place.
pub const APIS: usize = 96;

/// Times of one API, added up.
#[derive(Debug, Default)]
pub struct ApiCounters {
    /// Requests answered (or taken, with acks=0).
    pub requests: Counter,
    /// Answers with an error on top.
    pub errors: Counter,
    /// Nanoseconds spent in each [`Stage`].
    pub stage_ns: [Counter; STAGES],
}

impl ApiCounters {
    /// Adds the time of a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_ns[stage as usize].add(took.as_nanos() as u64);
    }
}

/// All counters of a shard.
#[derive(Debug)]
pub struct Counters {
    /// Connections open on this shard now.
    pub connections: Counter,
    /// Connections that it was ever given.
    pub connections_opened: Counter,
    /// Closed because nothing came for `connections.max.idle.ms`.
    pub connections_expired: Counter,
    /// Closed because the client did not take its answers.
    pub connections_slow: Counter,
    /// Closed because of a malformed or unsupported request.
    pub connections_malformed: Counter,
    /// Refused by a limit.
    pub connections_refused: Counter,
    /// Connections handed to the shard that owns what they ask for.
    pub handed_off: Counter,
    /// Requests of which at least a part was forwarded to another shard.
    pub forwarded_requests: Counter,
    /// Calls served for other shards.
    pub served_calls: Counter,
    /// Bytes received from clients.
    pub bytes_received: Counter,
    /// Bytes of record batches appended.
    pub bytes_in: Counter,
    /// Bytes of record batches handed out.
    pub bytes_out: Counter,
    /// Bytes of record batches refused as too large or broken.
    pub bytes_rejected: Counter,
    /// Records appended.
    pub records_in: Counter,
    /// Fetches waiting for data now.
    pub parked_fetches: Counter,
    /// Fetch sessions now.
    pub fetch_sessions: Counter,
    /// Fetch sessions given up for others.
    pub fetch_sessions_evicted: Counter,
    /// Answers cut off because their records could not be read after their length had been sent.
    pub broken_answers: Counter,
    /// By API key.
    pub apis: Box<[ApiCounters]>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            connections: Counter::default(),
            connections_opened: Counter::default(),
            connections_expired: Counter::default(),
            connections_slow: Counter::default(),
            connections_malformed: Counter::default(),
            connections_refused: Counter::default(),
            handed_off: Counter::default(),
            forwarded_requests: Counter::default(),
            served_calls: Counter::default(),
            bytes_received: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            bytes_rejected: Counter::default(),
            records_in: Counter::default(),
            parked_fetches: Counter::default(),
            fetch_sessions: Counter::default(),
            fetch_sessions_evicted: Counter::default(),
            broken_answers: Counter::default(),
            apis: (0..APIS).map(|_| ApiCounters::default()).collect(),
        }
    }
}

impl Counters {
    /// The counters of one API.
    pub fn api(&self, key: i16) -> &ApiCounters {
        let place = usize::try_from(key).unwrap_or(APIS).min(APIS - 1);
        &self.apis[place]
    }
}
