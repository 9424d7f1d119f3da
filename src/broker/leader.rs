//! Partitions of this shard as [`replica`] sees them: it decides what consumers may see and which
//! leadership a request means; the log knows only what is flushed.
//!
//! [`replica`]: crate::replica

use crate::log::partition::Partition;
use crate::replica::Leader;

/// The leader of a partition that has one replica, which is here. Plain numbers: made where it is
/// asked, kept nowhere.
pub fn of(partition: &Partition) -> Leader {
    Leader::alone(partition.leader_epoch(), partition.durable_end())
}
