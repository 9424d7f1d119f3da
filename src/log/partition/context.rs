//! What the partitions of a shard share.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::config::TopicConfig;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey};
use crate::log::cache::PageCache;
use crate::log::segment::clock::Clock;
use crate::log::segment::{SegmentFiles, SparseIndex};
use crate::ring::Ring;

/// Bytes of sealed segments' indexes that a shard keeps.
const INDEX_CACHE_BYTES: usize = 32 << 20;

/// What the partitions of a shard share: files, pages, indexes.
pub struct PartitionContext {
    pub(super) ring: Ring,
    pub(super) files: Rc<SegmentFiles>,
    pub(super) cache: PageCache,
    pub(super) indexes: RefCell<Clock<(u64, Offset), Rc<SparseIndex>>>,
    next_id: Cell<u64>,
}

impl PartitionContext {
    /// For a shard that keeps at most `open_files` segment files open and `cache_bytes` of drained
    /// pages in memory.
    pub fn new(ring: &Ring, open_files: usize, cache_bytes: usize) -> Rc<PartitionContext> {
        let files = Rc::new(SegmentFiles::new(ring, open_files));
        ring.set_hoarder(&files);
        Rc::new(PartitionContext {
            ring: ring.clone(),
            files,
            cache: PageCache::new(cache_bytes),
            indexes: RefCell::new(Clock::new(INDEX_CACHE_BYTES)),
            next_id: Cell::new(0),
        })
    }

    /// The drained pages.
    pub fn cache(&self) -> &PageCache {
        &self.cache
    }

    /// The open files.
    pub fn files(&self) -> &SegmentFiles {
        &self.files
    }

    pub(super) fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }
}

/// What a partition is.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    /// Topic id and number.
    pub key: PartitionKey,
    /// Name of the topic.
    pub topic: String,
    /// Its directory, `<topic>-<number>` in a log directory.
    pub dir: PathBuf,
    /// The topic's settings.
    pub config: Arc<TopicConfig>,
    /// Epoch of the records that are appended from now on.
    pub leader_epoch: LeaderEpoch,
}
