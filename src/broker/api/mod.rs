//! One file for each API, and the point where they are reached.

pub mod api_versions;
mod context;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_topic_partitions;
mod dispatch;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;

pub use context::{CloseReason, RequestContext, Response};
pub use dispatch::dispatch;
