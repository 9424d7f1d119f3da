//! What can be set for a topic, resolved: the topic's own value, else the broker's.

/// Which time a record's timestamp says (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's at append: attributes bit 3, so the batch gets a new CRC.
    LogAppendTime,
}

/// `cleanup.policy`; neither keeps records for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted.
    pub delete: bool,
    /// Older records of a key are removed.
    pub compact: bool,
}

/// `compression.type`: keep what the producer chose, or recompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CompressionType {
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A topic's effective settings. `None` where Kafka's default means without limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `segment.bytes`: roll above.
    pub segment_bytes: u64,
    /// `segment.ms`: roll when the first batch is older.
    pub segment_ms: u64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: u64,
    /// `segment.index.bytes`: roll when an index is full.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: one entry each so many bytes of log.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`: largest batch, header included.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: Option<u64>,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: Option<u64>,
    /// `compression.type`
    pub compression_type: CompressionType,
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `retention.ms`
    pub retention_ms: Option<u64>,
    /// `retention.bytes`
    pub retention_bytes: Option<u64>,
    /// `flush.messages`: set means that acks wait for the disk whatever the broker's policy.
    pub flush_messages: Option<u64>,
    /// `flush.ms`
    pub flush_ms: Option<u64>,
    /// `min.insync.replicas`
    pub min_insync_replicas: u32,
    /// `preallocate`
    pub preallocate: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        const HOUR_MS: u64 = 3_600_000;
        TopicConfig {
            segment_bytes: 1 << 30,
            segment_ms: 168 * HOUR_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: Some(HOUR_MS),
            compression_type: CompressionType::Producer,
            cleanup_policy: CleanupPolicy {
                delete: true,
                compact: false,
            },
            retention_ms: Some(168 * HOUR_MS),
            retention_bytes: None,
            flush_messages: None,
            flush_ms: None,
            min_insync_replicas: 1,
            preallocate: false,
        }
    }
}
