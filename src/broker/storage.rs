//! The log as the broker uses it, until the log's own store stands here: real partitions, but no
//! journal under them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::config::TopicConfig;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey};
use crate::base::map::Map;
use crate::base::time::Timestamp;
use crate::log::partition::{Admit, Partition, PartitionContext, PartitionSpec};
use crate::log::segment::BatchHeader;
use crate::log::{AppendError, Origin, StorageError};
use crate::ring::Ring;
use crate::wire::batch::{self, BATCH_HEADER_BYTES, BatchView};

/// A group commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// An append that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// First offset.
    pub base_offset: Offset,
    /// The broker's stamp, or none.
    pub log_append_time: Timestamp,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// Its group.
    pub ticket: Ticket,
    /// It was there already.
    pub duplicate: bool,
}

/// What a new partition is.
pub struct NewPartition {
    /// Topic id and number.
    pub key: PartitionKey,
    /// Name of the topic.
    pub topic: Arc<str>,
    /// The topic's settings.
    pub config: Arc<TopicConfig>,
}

/// All partitions of a shard.
pub struct LogStore {
    ring: Ring,
    dir: PathBuf,
    context: Rc<PartitionContext>,
    partitions: RefCell<Map<PartitionKey, Rc<Partition>>>,
}

#[allow(missing_docs)]
impl LogStore {
    pub fn start(ring: &Ring, dir: PathBuf) -> Rc<LogStore> {
        Rc::new(LogStore {
            context: PartitionContext::new(ring, 100, 64 << 20),
            ring: ring.clone(),
            dir,
            partitions: RefCell::default(),
        })
    }
    pub fn partition(&self, key: &PartitionKey) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(key).cloned()
    }
    pub async fn create_partition(
        &self,
        new: NewPartition,
    ) -> Result<Rc<Partition>, crate::log::partition::LogError> {
        let spec = PartitionSpec {
            key: new.key,
            topic: new.topic.to_string(),
            dir: self
                .dir
                .join(format!("{}-{}", new.topic, new.key.partition)),
            config: new.config,
            leader_epoch: LeaderEpoch(0),
        };
        let p = Partition::create(&self.context, spec)?;
        self.partitions.borrow_mut().insert(new.key, p.clone());
        Ok(p)
    }
    pub async fn delete_partition(&self, key: &PartitionKey) -> Result<(), StorageError> {
        self.partitions.borrow_mut().remove(key);
        Ok(())
    }
    pub fn set_topic_config(&self, _key: &PartitionKey, _config: Arc<TopicConfig>) {}
    pub async fn admit(&self, _bytes: usize) {}
    pub fn append(
        &self,
        partition: &Rc<Partition>,
        batch: &BatchView<'_>,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let bytes = batch.bytes();
        let header =
            BatchHeader::parse(bytes).ok_or_else(|| AppendError::Corrupt("no header".into()))?;
        let base_offset = match partition.prepare(&header, origin)? {
            Admit::Append(slot) => {
                let mut head = [0; BATCH_HEADER_BYTES];
                head.copy_from_slice(&bytes[..BATCH_HEADER_BYTES]);
                batch::stamp(&mut head, slot.base_offset, slot.leader_epoch);
                let place = partition.push(&head, &bytes[BATCH_HEADER_BYTES..]);
                let end = slot
                    .base_offset
                    .plus(i64::from(batch.last_offset_delta()) + 1);
                partition.advance_durable(end, place.plus(bytes.len() as u64));
                slot.base_offset
            }
            Admit::Duplicate(_) => Offset(-1),
        };
        Ok(Appended {
            base_offset,
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset(0),
            ticket: Ticket(0),
            duplicate: false,
        })
    }
    pub fn reached(&self, _ticket: Ticket, _flushed: bool) -> bool {
        true
    }
    pub async fn written(&self, _ticket: Ticket) -> Result<(), StorageError> {
        self.ring.yield_now().await;
        Ok(())
    }
    pub async fn flushed(&self, _ticket: Ticket) -> Result<(), StorageError> {
        self.ring.yield_now().await;
        Ok(())
    }
    pub async fn stop_clean(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
