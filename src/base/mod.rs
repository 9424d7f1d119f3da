//! Words that every layer shares: ids, time, Kafka's error codes, bounds, configuration, checksums.
//!
//! Owns no state and does no IO.

pub mod checksum;
pub mod config;
pub mod error_code;
pub mod ids;
pub mod limits;
pub mod map;
pub mod time;
pub mod topic_name;
