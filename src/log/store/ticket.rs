//! What an appender waits for.

use crate::base::ids::Offset;
use crate::base::time::Timestamp;

/// Names the moment at which something appended is written, or flushed. Plain data; the default
/// one is over already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// Index of the journal on this shard, counted from 1; 0 is over.
    pub(crate) journal: u32,
    /// One more than the partition's slot if the mark is its end, else 0: the mark is a group.
    pub(crate) slot: u32,
    pub(crate) mark: u64,
}

/// A batch in the log, or the one that it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its last offset.
    pub last_offset: Offset,
    /// The broker's time in its records; [`Timestamp::NONE`] under CreateTime.
    pub log_append_time: Timestamp,
    /// Where the log starts.
    pub log_start_offset: Offset,
    /// When it is written, and flushed.
    pub ticket: Ticket,
    /// It was in the log already: the idempotent producer sent it twice.
    pub duplicate: bool,
}
