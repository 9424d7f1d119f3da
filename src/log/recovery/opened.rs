//! The log directories, ready to be served: plain data that goes to the shards.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::ids::{LeaderEpoch, PartitionKey, ShardId};
use crate::log::partition::PartitionFacts;
use crate::log::store::Directory;

/// One partition that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedPartition {
    /// Its topic's id and its number.
    pub key: PartitionKey,
    /// Its topic's name, which its directory carries.
    pub topic: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Counts its moves between journals.
    pub generation: u32,
    /// Its state; all bytes are in its files.
    pub facts: PartitionFacts,
    /// The epoch of the next append.
    pub leader_epoch: LeaderEpoch,
    /// Why it cannot be served, if so: nothing of it was touched.
    pub damaged: Option<String>,
}

/// A log directory with its partitions.
#[derive(Debug)]
pub struct OpenedDirectory {
    /// Shared by all shards.
    pub directory: Arc<Directory>,
    /// What it holds.
    pub partitions: Vec<OpenedPartition>,
}

/// All log directories.
#[derive(Debug)]
pub struct Opened {
    /// `cluster.id` of every directory.
    pub cluster_id: String,
    /// Number of the run that begins; the largest of all directories'.
    pub incarnation: u64,
    /// The last run stopped cleanly, or there was none.
    pub clean: bool,
    /// In the order of the configuration; offline ones among them.
    pub directories: Vec<OpenedDirectory>,
}

/// What one shard gets.
#[derive(Debug)]
pub struct OpenedShard {
    /// Number of the run.
    pub incarnation: u64,
    /// All directories, as every shard sees them.
    pub directories: Vec<Arc<Directory>>,
    /// This shard's partitions, with the index of their directory.
    pub partitions: Vec<(usize, OpenedPartition)>,
}

impl Opened {
    /// Deals the partitions to `shards` shards; `owner` says whose each is, also for one that no
    /// topic knows (its shard sets it aside).
    ///
    /// # Panics
    /// If an owner is not below `shards`.
    pub fn split(self, shards: u16, owner: impl Fn(&PartitionKey) -> ShardId) -> Vec<OpenedShard> {
        let directories: Vec<Arc<Directory>> = self
            .directories
            .iter()
            .map(|opened| opened.directory.clone())
            .collect();
        let mut parts: Vec<OpenedShard> = (0..shards)
            .map(|_| OpenedShard {
                incarnation: self.incarnation,
                directories: directories.clone(),
                partitions: Vec::new(),
            })
            .collect();
        for (index, opened) in self.directories.into_iter().enumerate() {
            for partition in opened.partitions {
                let shard = owner(&partition.key);
                parts[usize::from(shard.0)]
                    .partitions
                    .push((index, partition));
            }
        }
        parts
    }
}
