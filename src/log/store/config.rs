//! What the log needs to know from the broker's configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::ids::NodeId;
use crate::base::limits::OPEN_SEGMENTS;

/// What an ack waits for (`corelane.flush.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Every group commit is flushed: an acked record survives a power cut.
    #[default]
    Group,
    /// The kernel has the bytes: an acked record survives a killed process. Flushed now and then.
    Interval,
}

/// `corelane.journal.size`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalSize {
    /// Begins at [`LogConfig::journal_first_bytes`] and grows while it stands over half full after a
    /// checkpoint, or is that again within a second.
    #[default]
    Auto,
    /// Exactly so many bytes.
    Bytes(u64),
}

/// Settings of the log on this machine; plain data for all shards.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `log.dirs`, in the configured order.
    pub dirs: Vec<PathBuf>,
    /// `node.id`, which must be the one in every directory's `meta.properties`.
    pub node_id: NodeId,
    /// The cluster that the directories must belong to; `None` takes what they say, or makes one.
    pub cluster_id: Option<String>,
    /// What an ack waits for.
    pub flush_policy: FlushPolicy,
    /// `log.flush.interval.ms`: how often the `interval` policy flushes.
    pub flush_interval: Duration,
    /// Size of each journal.
    pub journal_size: JournalSize,
    /// First size of an `Auto` journal.
    pub journal_first_bytes: u64,
    /// Bytes that one shard may hold in memory before they are in their segments.
    pub undrained_bytes: u64,
    /// A batch of a partition from this size on goes to its segment before the journal names it.
    pub bypass_bytes: usize,
    /// Produce is refused while a file system has less than this left.
    pub reserved_disk_bytes: u64,
    /// Open segment files of one shard, at most.
    pub open_segments: usize,
    /// Drained pages that one shard keeps in memory at most for consumers that are a little behind;
    /// see [`PageCache`](crate::log::cache::PageCache) for when it takes how much.
    pub cache_bytes: usize,
    /// How long a starting broker waits for the locks of one that is going.
    pub lock_timeout: Duration,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            dirs: vec![PathBuf::from("data")],
            node_id: NodeId(1),
            cluster_id: None,
            flush_policy: FlushPolicy::Group,
            flush_interval: Duration::from_secs(30),
            journal_size: JournalSize::Auto,
            journal_first_bytes: 16 << 20,
            undrained_bytes: 256 << 20,
            bypass_bytes: 256 << 10,
            reserved_disk_bytes: 64 << 20,
            open_segments: OPEN_SEGMENTS,
            cache_bytes: 128 << 20,
            lock_timeout: Duration::from_secs(10),
        }
    }
}
