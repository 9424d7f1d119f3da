//! What shards say to each other. Everything here can cross threads.
//!
//! Calls form a DAG, so that shards cannot wait for each other in a circle: a connection's shard
//! calls owners of partitions and shard 0; serving `Produce`, `Fetch`, `Offsets` and `Apply` calls
//! nobody; serving `Control` (on shard 0 alone) calls only with `Apply`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{PartitionKey, TopicId};
use crate::base::limits::{ERROR_WORDS_PER_REQUEST, RECORD_ERRORS_PER_REQUEST};
use crate::base::time::Monotonic;
use crate::broker::calls::CallId;
use crate::broker::control;
use crate::broker::session::{Session, Wanted};
use crate::broker::start::Begin;
use crate::metadata::Image;
use crate::ring::SocketParcel;

/// One message from shard to shard.
pub enum Message {
    /// Shard 0 to the others, once: what was found at start.
    Begin(Box<Begin>),
    /// Shard 0 to the others: it cannot start.
    Abort,
    /// To shard 0, once: this shard serves.
    Ready,
    /// A connection, with all that belongs to it.
    Connection(Box<ConnectionParcel>),
    /// To the acceptors: a connection from this address is gone.
    ConnectionClosed(IpAddr),
    /// A question, answered by a `Reply` with its id.
    Call(CallId, Call),
    /// The answer.
    Reply(CallId, Reply),
    /// So many bytes that the other lent with its replies are not in use any more.
    Returned(u64),
    /// A call need not wait any longer: answer it with what there is.
    Hurry(CallId),
    /// Shard 0 to the others: take no new requests, finish those in flight, answer `Drained`.
    Stop,
    /// To shard 0: no connection is left here.
    Drained,
    /// Shard 0 to the others: no shard will call any more; close the log, answer `Closed`.
    Close,
    /// To shard 0: the log is closed.
    Closed,
}

/// A question to the owner of partitions, or to shard 0.
pub enum Call {
    /// Append batches.
    Produce(ProduceCall),
    /// Read records, waiting for them.
    Fetch(FetchCall),
    /// Look up offsets by time.
    Offsets(Vec<OffsetQuery>),
    /// Look up ends of leader epochs.
    Epochs(Vec<EpochQuery>),
    /// Change or ask what the control task on shard 0 keeps.
    Control(control::Request),
    /// Take a new image: open and drop partitions, then answer.
    Apply(Arc<Image>),
}

/// Its answer.
pub enum Reply {
    /// By batch, in the order asked.
    Produce(Vec<ProduceOutcome>),
    /// By partition, in the order asked; and how many bytes are lent with it.
    Fetch(Vec<FetchOutcome>, u64),
    /// By query.
    Offsets(Vec<OffsetOutcome>),
    /// By query.
    Epochs(Vec<EpochOutcome>),
    /// From the control task.
    Control(control::Reply),
    /// The partitions of the image are served; or the first error.
    Applied(Result<(), String>),
}

/// Batches for partitions of one shard.
pub struct ProduceCall {
    /// Durability asked for: 0, 1 or -1.
    pub acks: i16,
    /// Version of the request: decides what may be in a batch.
    pub version: i16,
    /// When the client's patience ends.
    pub deadline: Monotonic,
    /// Partition and batch.
    pub batches: Vec<(PartitionKey, Box<[u8]>)>,
}

/// What became of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceOutcome {
    /// Its error.
    pub error: ErrorCode,
    /// Offset of its first record, -1 with an error.
    pub base_offset: i64,
    /// When the broker stamped it, -1 where the producer's time stands.
    pub log_append_time_ms: i64,
    /// First offset of the partition, -1 where unknown.
    pub log_start_offset: i64,
    /// Words for the error.
    pub message: Option<String>,
    /// The records to blame: their place in the batch, and why.
    pub bad_records: Vec<(i32, String)>,
}

/// What the outcomes of one request may still say in words.
#[derive(Debug)]
pub struct Words {
    records: usize,
    bytes: usize,
}

impl Default for Words {
    fn default() -> Words {
        Words {
            records: RECORD_ERRORS_PER_REQUEST,
            bytes: ERROR_WORDS_PER_REQUEST,
        }
    }
}

impl Words {
    /// Takes from an outcome what is too much; its numbers stay.
    pub fn bound(&mut self, outcome: &mut ProduceOutcome) {
        if let Some(message) = &outcome.message
            && !self.takes(message.len())
        {
            outcome.message = None;
        }
        let most = self.records.min(outcome.bad_records.len());
        let bad = outcome.bad_records.iter().take(most);
        let kept = bad.take_while(|(_, why)| self.takes(why.len())).count();
        self.records -= kept;
        outcome.bad_records.truncate(kept);
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}

impl ProduceOutcome {
    /// An error without an offset.
    pub fn failed(error: ErrorCode) -> ProduceOutcome {
        ProduceOutcome {
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            message: None,
            bad_records: Vec::new(),
        }
    }
}

/// Records wanted from partitions of one shard.
pub struct FetchCall {
    /// Partition and what is wanted of it.
    pub wanted: Vec<(PartitionKey, Wanted)>,
    /// Wait until so many bytes are there.
    pub min_bytes: usize,
    /// Stop at so many, after at least one batch if `at_least_one`.
    pub max_bytes: usize,
    /// Whether a first batch is given even above `max_bytes`.
    pub at_least_one: bool,
    /// Wait until then at most.
    pub deadline: Monotonic,
    /// Version of the request.
    pub version: i16,
}

/// Records of one partition, copied.
pub struct FetchOutcome {
    /// Its error.
    pub error: ErrorCode,
    /// End of what may be read, -1 with an error.
    pub high_watermark: i64,
    /// End of what readers of committed records may read, -1 with an error.
    pub last_stable: i64,
    /// First offset there is, -1 with an error.
    pub log_start: i64,
    /// Where the client's history leaves ours: epoch and its end offset.
    pub diverging: Option<(i32, i64)>,
    /// The partition's leader epoch, -1 where unknown.
    pub leader_epoch: i32,
    /// Whole batches.
    pub records: Vec<u8>,
}

/// An offset asked for by time.
#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    /// Of which partition.
    pub key: PartitionKey,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// A time in ms, or one of Kafka's negative selectors.
    pub timestamp: i64,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetOutcome {
    /// Its error.
    pub error: ErrorCode,
    /// Time of the record found, -1 for none.
    pub timestamp: i64,
    /// Its offset, -1 for none.
    pub offset: i64,
    /// Its leader epoch, -1 for none.
    pub leader_epoch: i32,
}

impl OffsetOutcome {
    /// An error, or with [`ErrorCode::None`] that there is no such record.
    pub fn nothing(error: ErrorCode) -> OffsetOutcome {
        OffsetOutcome {
            error,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        }
    }
}

/// The end of a leader epoch asked for.
#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    /// Of which partition.
    pub key: PartitionKey,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// Whose end is asked for.
    pub leader_epoch: i32,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochOutcome {
    /// Its error.
    pub error: ErrorCode,
    /// The largest epoch at or below the one asked for, -1 for none.
    pub leader_epoch: i32,
    /// One past its last offset, -1 for none.
    pub end_offset: i64,
}

/// A connection on its way: from the acceptor, or to the owner of what it asks for.
pub struct ConnectionParcel {
    /// The socket. Nothing is in flight on it.
    pub socket: SocketParcel,
    /// The other end.
    pub peer: SocketAddr,
    /// Which listener it came to.
    pub listener: usize,
    /// Name and version of the client's library, from ApiVersions.
    pub software: Option<(String, String)>,
    /// Bytes received and not yet worked on.
    pub unread: Vec<u8>,
    /// Its fetch session.
    pub session: Option<Box<Session>>,
    /// It was handed over by the shard it was on: it stays where it is now.
    pub bound: bool,
    /// Not read before then.
    pub muted_until: Option<Monotonic>,
}

/// How long a shard that stops waits for clients to take their answers.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// What topics are called in calls where only the id counts.
pub type Topic = TopicId;
