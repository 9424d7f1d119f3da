//! Configuration as Kafka names it.

mod topic;

pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};
