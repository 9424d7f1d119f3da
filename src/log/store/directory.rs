//! A log directory as all shards of the machine see it: plain shared state, touched by the data
//! path only through one flag.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use crate::base::ids::Uuid;
use crate::base::time::Monotonic;
use crate::log::append::StorageError;
use crate::log::journal::properties::{DirectoryProperties, FILE_NAME};
use crate::log::journal::table::Record;
use crate::ring::Ring;

/// How often those who find no space may look for it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BUSY_RETRY: Duration = Duration::from_millis(1);

/// A journal that no shard uses yet: an empty ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeJournal {
    /// Its id.
    pub id: Uuid,
    /// One past the ring's last byte.
    pub ring_end: u64,
    /// Where the next entry goes.
    pub position: u64,
    /// The next entry's sequence.
    pub sequence: u64,
    /// CRC of the header before it.
    pub previous_crc: u32,
    /// Count of the superblock's writes.
    pub update: u64,
}

#[derive(Debug, Default)]
struct Stopping {
    shards: usize,
    stopped: usize,
    records: Vec<Record>,
    unclean: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    id: Uuid,
    incarnation: u64,
    /// Nothing new is taken: it is offline, or the log stops.
    closed: AtomicBool,
    offline: AtomicBool,
    reason: OnceLock<String>,
    full: AtomicBool,
    available_bytes: AtomicU64,
    /// Space that segments will take and have not taken yet.
    claimed_bytes: AtomicU64,
    looked: AtomicU64,
    partitions: AtomicUsize,
    listed: Mutex<Vec<Uuid>>,
    free: Mutex<Vec<FreeJournal>>,
    rewriting: AtomicBool,
    stopping: Mutex<Stopping>,
    locks: Mutex<Vec<i32>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic elsewhere leaves plain data behind that is still whole
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Directory {
    /// A directory with its recovered, empty journals.
    pub fn new(path: PathBuf, id: Uuid, incarnation: u64, free: Vec<FreeJournal>) -> Directory {
        Directory {
            path,
            id,
            incarnation,
            closed: AtomicBool::new(false),
            offline: AtomicBool::new(false),
            reason: OnceLock::new(),
            full: AtomicBool::new(false),
            available_bytes: AtomicU64::new(u64::MAX),
            claimed_bytes: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            partitions: AtomicUsize::new(0),
            listed: Mutex::new(free.iter().map(|journal| journal.id).collect()),
            free: Mutex::new(free),
            rewriting: AtomicBool::new(false),
            stopping: Mutex::new(Stopping::default()),
            locks: Mutex::new(Vec::new()),
        }
    }

    /// Its path, as configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id, as in `meta.properties`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The run that this broker is in.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Nothing is written here any more, on any shard. The first reason stays.
    pub fn take_offline(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            tracing::error!(dir = %self.path.display(), reason, "log directory goes offline");
        }
        self.offline.store(true, Ordering::Release);
        self.close();
    }

    /// The log stops: nothing new is taken here, on any shard; what was taken goes on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether nothing new is taken here.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether it is offline.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Why nothing can be appended here, if so.
    ///
    /// # Errors
    /// Offline, stopping, or nearly full.
    pub fn check(&self) -> Result<(), StorageError> {
        self.check_open()?;
        match self.is_full() {
            true => Err(self.no_space()),
            false => Ok(()),
        }
    }

    /// As [`Directory::check`], for what needs no space.
    ///
    /// # Errors
    /// Offline, or stopping.
    pub fn check_open(&self) -> Result<(), StorageError> {
        match self.is_closed() {
            false => Ok(()),
            true if self.is_offline() => Err(self.offline_error()),
            true => Err(self.stopping_error()),
        }
    }

    /// What those are told who need space here.
    pub fn no_space(&self) -> StorageError {
        StorageError::NoSpace {
            dir: self.path.display().to_string(),
            available_bytes: self.available_bytes.load(Ordering::Relaxed),
        }
    }

    /// What those are told who wait for something here.
    pub fn offline_error(&self) -> StorageError {
        StorageError::Offline {
            dir: self.path.display().to_string(),
            reason: self.reason.get().cloned().unwrap_or_default(),
        }
    }

    /// What those are told who come when the log stops.
    pub fn stopping_error(&self) -> StorageError {
        StorageError::Offline {
            dir: self.path.display().to_string(),
            reason: "the log stops".into(),
        }
    }

    /// Keeps space for a segment that grows; false if there is none. A byte enters the journal only
    /// when its segment has a claim that covers it. So as long as others than segments (other
    /// programs, journals that grow, side files) take no more than `reserve` bytes between two
    /// looks, every byte that was admitted finds its place in its segment: a full disk is an error
    /// of the producer, never of a drain.
    ///
    /// The claims of all shards and what the file system had at the last look are compared; a look
    /// follows whenever a file took what was claimed for it. Where the file system cannot reserve
    /// space for files, only the watermark `reserve` holds.
    pub fn claim(&self, bytes: u64, reserve: u64) -> bool {
        let before = self.claimed_bytes.fetch_add(bytes, Ordering::Relaxed);
        let wanted = before.saturating_add(bytes).saturating_add(reserve);
        let there = wanted <= self.available_bytes.load(Ordering::Relaxed);
        if !there {
            self.give_claim_back(bytes);
        }
        there
    }

    /// Claims that files took, or that nobody needs any more.
    pub fn give_claim_back(&self, bytes: u64) {
        self.claimed_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// As [`Directory::look_at_space`], unless that was just done: for those who were refused.
    pub fn look_again(&self, ring: &Ring, reserve: u64) {
        let now = ring.now();
        let last = Monotonic(self.looked.load(Ordering::Relaxed));
        if now.since(last) >= LOOK_AGAIN {
            self.looked.store(now.0, Ordering::Relaxed);
            self.look_at_space(ring, reserve);
        }
    }

    /// Looks at the file system's space; below `reserve` bytes produce is refused.
    pub fn look_at_space(&self, ring: &Ring, reserve: u64) {
        let Ok(space) = ring.space(&self.path) else {
            return;
        };
        self.available_bytes
            .store(space.available_bytes, Ordering::Relaxed);
        let full = space.available_bytes < reserve;
        if self.full.swap(full, Ordering::Relaxed) != full {
            let available = space.available_bytes;
            let dir = self.path.display();
            match full {
                true => {
                    tracing::error!(%dir, available, reserve, "too little space: produce is refused")
                }
                false => tracing::info!(%dir, available, "there is space again"),
            }
        }
    }

    /// A write said that there is no space: refuse produce until there is.
    pub fn mark_full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Whether produce is refused for want of space.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// How many partitions live here, over all shards.
    pub fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Counts a partition in.
    pub fn add_partition(&self) {
        self.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a partition out.
    pub fn remove_partition(&self) {
        self.partitions.fetch_sub(1, Ordering::Relaxed);
    }

    /// An empty journal of an earlier run.
    pub fn take_free_journal(&self) -> Option<FreeJournal> {
        lock(&self.free).pop()
    }

    /// A journal of [`Directory::take_free_journal`] that could not be used.
    pub fn give_back(&self, journal: FreeJournal) {
        lock(&self.free).push(journal);
    }

    /// Lists a journal in `corelane.properties`, durably, before its first entry. Shards take
    /// turns.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn list_journal(&self, ring: &Ring, id: Uuid) -> std::io::Result<()> {
        while self.rewriting.swap(true, Ordering::Acquire) {
            ring.sleep(BUSY_RETRY).await;
        }
        let journals = {
            let mut listed = lock(&self.listed);
            listed.push(id);
            listed.clone()
        };
        let file = DirectoryProperties {
            directory: self.id,
            journals,
        };
        let written = ring
            .write_atomic(&self.path.join(FILE_NAME), &file.encode())
            .await;
        self.rewriting.store(false, Ordering::Release);
        written
    }

    /// Descriptors whose locks the broker holds as long as it runs.
    pub fn keep_locks(&self, raw: Vec<i32>) {
        lock(&self.locks).extend(raw);
    }

    /// The descriptors of [`Directory::keep_locks`], for the shard that closes them.
    pub fn take_locks(&self) -> Vec<i32> {
        std::mem::take(&mut *lock(&self.locks))
    }

    /// A shard works here.
    pub fn shard_started(&self) {
        lock(&self.stopping).shards += 1;
    }

    /// A shard has all its partitions here in their files, or failed to. The last one gets the
    /// records of all, if every shard was clean.
    pub fn shard_stopped(&self, records: Option<Vec<Record>>) -> Option<Vec<Record>> {
        let mut stopping = lock(&self.stopping);
        stopping.stopped += 1;
        match records {
            Some(records) => stopping.records.extend(records),
            None => stopping.unclean = true,
        }
        let last = stopping.stopped == stopping.shards;
        (last && !stopping.unclean && !self.is_offline())
            .then(|| std::mem::take(&mut stopping.records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        Directory::new(PathBuf::from("d"), Uuid([1; 16]), 1, Vec::new())
    }

    #[test]
    fn an_offline_directory_keeps_its_first_reason() {
        let directory = directory();
        assert_eq!(directory.check(), Ok(()));
        directory.take_offline("EIO");
        directory.take_offline("later");
        assert!(
            matches!(directory.check(), Err(StorageError::Offline { reason, .. }) if reason == "EIO")
        );
    }

    #[test]
    fn only_the_last_shard_of_a_clean_stop_gets_the_records() {
        let clean = directory();
        clean.shard_started();
        clean.shard_started();
        assert!(clean.shard_stopped(Some(Vec::new())).is_none());
        assert!(clean.shard_stopped(Some(Vec::new())).is_some());
        let unclean = directory();
        unclean.shard_started();
        unclean.shard_started();
        assert!(unclean.shard_stopped(None).is_none());
        assert!(unclean.shard_stopped(Some(Vec::new())).is_none());
    }
}
