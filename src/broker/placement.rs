//! Which shard of this machine owns a partition.
//!
//! The answer is a function of the topic's ordinal, the partition's number and the number of shards
//! alone, so every shard knows it without asking, and nothing about it is ever stored: with
//! another number of cores a start simply computes another answer.

use crate::base::ids::{PartitionId, ShardId};

/// The table of owners, the same on every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    shards: u16,
}

impl Placement {
    /// A table for so many shards; at least one.
    pub fn new(shards: u16) -> Placement {
        assert!(shards > 0, "a machine has at least one shard");
        Placement { shards }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that owns a partition. `ordinal` is how many partitions had been made before its
    /// topic, so that partitions go round robin in the order in which they were made, within a
    /// topic as well as from one topic to the next.
    pub fn owner(&self, ordinal: u64, partition: PartitionId) -> ShardId {
        let shards = u64::from(self.shards);
        let turn = partition.0.max(0) as u64;
        ShardId(((ordinal % shards + turn % shards) % shards) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_spread_evenly() {
        for shards in 1..=7u16 {
            let table = Placement::new(shards);
            let mut owned = vec![0; usize::from(shards)];
            for p in 0..i32::from(shards) * 5 {
                owned[usize::from(table.owner(3, PartitionId(p)).0)] += 1;
            }
            assert!(owned.iter().all(|n| *n == 5), "{shards} shards: {owned:?}");
        }
    }

    #[test]
    fn topics_of_one_partition_spread_too() {
        let table = Placement::new(4);
        let owners: Vec<u16> = (0..8).map(|n| table.owner(n, PartitionId(0)).0).collect();
        assert_eq!(owners, [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}
