//! Which shard of this machine owns a partition.
//!
//! The answer is a function of the partition's name and of the number of shards alone, so every
//! shard knows it without asking, and nothing about it is ever stored: with another number of
//! cores a start simply computes another answer.

use crate::base::ids::{PartitionId, PartitionKey, ShardId, TopicId};

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

    /// The shard that owns a partition. Partitions of one topic go round robin, beginning at a
    /// shard that the topic's (random) id names, so that topics of one partition spread as well.
    pub fn owner(&self, topic: TopicId, partition: PartitionId) -> ShardId {
        let id = u128::from_be_bytes(topic.0);
        let first = ((id >> 64) as u64 ^ id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let shards = u64::from(self.shards);
        let turn = partition.0.max(0) as u64;
        ShardId(((first % shards + turn % shards) % shards) as u16)
    }

    /// The same, by key.
    pub fn owner_of(&self, key: PartitionKey) -> ShardId {
        self.owner(key.topic, key.partition)
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
                owned[usize::from(table.owner(TopicId::from_random(7, 9), PartitionId(p)).0)] += 1;
            }
            assert!(owned.iter().all(|n| *n == 5), "{shards} shards: {owned:?}");
        }
    }

    #[test]
    fn topics_of_one_partition_spread_too() {
        let table = Placement::new(4);
        let mut owned = [0; 4];
        let mut seed = 1u64;
        for _ in 0..4000 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let topic = TopicId::from_random(seed, seed.rotate_left(17));
            owned[usize::from(table.owner(topic, PartitionId(0)).0)] += 1;
        }
        assert!(owned.iter().all(|n| (850..1150).contains(n)), "{owned:?}");
    }
}
