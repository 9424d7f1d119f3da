//! A small blocking client on the wire layer, for the command line.

mod cluster;
mod connection;
mod error;
mod offsets;
mod partition;
mod topics;

pub use cluster::{Cluster, PartitionInfo, TopicInfo};
pub use error::ClientError;
pub use partition::by_key;
