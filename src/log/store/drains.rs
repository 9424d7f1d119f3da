//! When bytes go to the segments: a task for each journal that drains, and decides when a checkpoint
//! is due.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::log::append::StorageError;
use crate::log::commit::space::SlotId;
use crate::log::journal::entry::EntryKind;
use crate::log::journal::superblock::JournalKind;
use crate::log::partition::{DrainLimit, LogError, Partition};
use crate::log::store::growth::is_half_full;
use crate::log::store::journal::{Journal, State};
use crate::ring::sync::join;

/// How many files are drained at once, and how much of each in one write. About as much is in
/// flight either way: more of it holds up the commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainPace {
    files: usize,
    write_bytes: u64,
    /// Less than this may stay.
    least_bytes: u64,
}

impl DrainPace {
    /// While nothing presses: few large writes. Each is handed to a kernel worker, because it makes
    /// its file longer (measured with 64 KiB batches: 256 KiB a write cost 0.80 CPU-s/GB, this 0.67).
    fn calm(least_bytes: u64) -> DrainPace {
        DrainPace {
            files: 1,
            write_bytes: DRAIN_BYTES_MAX,
            least_bytes,
        }
    }

    /// When ring or memory fills.
    pub(crate) const PRESSED: DrainPace = DrainPace {
        files: DRAINS,
        write_bytes: 256 << 10,
        least_bytes: 0,
    };
}

/// Files that are drained, settled or carried at once at most.
pub(crate) const DRAINS: usize = 4;
/// Whole pages of one partition from which they are drained though nothing presses: so many ...
const DRAIN_BYTES_MIN: u64 = 128 << 10;
/// ... to so many, where few partitions share ring and memory.
const DRAIN_BYTES_MAX: u64 = 1 << 20;
/// Files that are flushed at once. Each flush occupies a kernel worker, and the driver lets four
/// run: one is left for the commits.
const FLUSHES: usize = 3;
/// After so long without an append a seal says that all entries before it are durable. Without it the
/// newest two prove it of none but those before them.
const SEAL_AFTER: Duration = Duration::from_secs(1);
/// After so long everything goes to its files, and the ring is empty.
const SETTLE_AFTER: Duration = Duration::from_secs(10);
/// After so long the files of a deleted partition are unlinked, with those of all that were deleted
/// meanwhile: space that somebody may wait for. (Kafka's `log.segment.delete.delay.ms` is a minute.)
const UNLINK_AFTER: Duration = Duration::from_secs(2);
/// How often a full file system is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What a failed step means.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A failed flush is final whatever it says, a full disk included: what it should have made durable
/// may be gone, and a second one would answer that all is well.
pub(crate) fn flush_failed(error: io::Error) -> DrainError {
    DrainError::Io(io::Error::other(error))
}

impl DrainError {
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self,
            DrainError::Log(LogError::Io { source, .. }) | DrainError::Io(source)
                if source.kind() == io::ErrorKind::StorageFull
        )
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stop,
    /// Free the oldest part of the ring; with true settle everything.
    Checkpoint(bool),
    /// Somebody waits until what was made and deleted is durable.
    Names,
    Drain,
    Seal,
    Wait(Option<Duration>),
}

impl Journal {
    /// Drains and checkpoints until the journal stops.
    pub async fn run_drains(self: Rc<Self>) {
        let mut starved = false;
        let mut ready = Vec::new();
        loop {
            let wait = self.drain.wait();
            let next = match starved {
                false => self.next(),
                // what is held of deleted partitions may be the space that is missing
                true if self.next() != Next::Stop => Next::Checkpoint(false),
                true => Next::Stop,
            };
            let done = match next {
                Next::Stop => break,
                Next::Wait(None) => {
                    self.state.borrow_mut().drains_asleep = true;
                    wait.await;
                    self.state.borrow_mut().drains_asleep = false;
                    Ok(())
                }
                Next::Wait(Some(time)) => {
                    let _ = self.ring.timeout(time, wait).await;
                    Ok(())
                }
                Next::Seal => {
                    self.seal_idle();
                    Ok(())
                }
                Next::Drain => self.drain_ready(&mut ready).await,
                Next::Names => self.table_names().await,
                Next::Checkpoint(all) => self.checkpoint(all).await,
            };
            starved = done.as_ref().is_err_and(DrainError::is_full);
            match done {
                Ok(()) => {}
                Err(error) if error.is_full() => self.wait_for_space(&error).await,
                Err(error) => {
                    if !self.directory.is_offline() {
                        self.fail("draining", &io::Error::other(error.to_string()));
                    }
                    break;
                }
            }
        }
        self.until_not_growing().await;
        self.state.borrow_mut().stopped_drains = true;
        self.progress.notify_all();
    }

    /// Refuses produce while the file system has no space for what is in memory, and lets it be
    /// tried again: all of it stays where it is until then.
    pub(crate) async fn wait_for_space(&self, error: &DrainError) {
        self.directory.mark_full();
        tracing::warn!(dir = %self.directory.path().display(), %error, "draining waits for space");
        self.ring.sleep(FULL_RETRY).await;
        self.directory
            .look_at_space(&self.ring, self.limits.reserved_disk_bytes);
    }

    fn next(&self) -> Next {
        let state = self.state.borrow();
        if state.stopping || self.directory.is_offline() {
            return Next::Stop;
        }
        if state.unnamed.is_wanted() {
            return Next::Names;
        }
        let idle = self.ring.now().since(state.last_append);
        let since = self.ring.now().since(state.last_checkpoint);
        if is_half_full(&state) || state.undrained.bytes() * 2 > self.limits.undrained_bytes {
            return Next::Checkpoint(false);
        }
        if self.kind == JournalKind::Interval
            && !state.space.is_idle()
            && since >= self.limits.flush_interval
        {
            return Next::Checkpoint(false);
        }
        let doomed = (!state.doomed.is_empty())
            .then(|| UNLINK_AFTER.saturating_sub(self.ring.now().since(state.doomed_since)));
        if doomed.is_some_and(|left| left.is_zero()) {
            return Next::Checkpoint(false);
        }
        if !state.ready.is_empty() {
            return Next::Drain;
        }
        if state.space.is_idle() && state.dirty.is_empty() && state.doomed.is_empty() {
            return Next::Wait(None);
        }
        if idle >= SETTLE_AFTER {
            return Next::Checkpoint(true);
        }
        let mut wait = SETTLE_AFTER - idle;
        if !state.sealed && self.kind == JournalKind::Group {
            if idle >= SEAL_AFTER {
                return Next::Seal;
            }
            wait = SEAL_AFTER - idle;
        }
        // an empty ring has nothing that a flush makes safe
        if self.kind == JournalKind::Interval && !state.space.is_idle() {
            wait = wait.min(self.limits.flush_interval.saturating_sub(since));
        }
        wait = doomed.map_or(wait, |left| wait.min(left));
        // a timer a little late is better than one a little early, twice
        Next::Wait(Some(wait + Duration::from_millis(1)))
    }

    /// Writes an entry that says that all before it is durable.
    fn seal_idle(&self) {
        let mut state = self.state.borrow_mut();
        state.sealed = true;
        if state.open.is_empty() && self.room(&state, 0, 0) {
            state.open.kind = Some(EntryKind::Seal);
            self.work.notify_all();
        }
    }

    /// A segment cannot be written; of a partition that is gone nobody minds.
    pub(crate) fn drain_failed(&self, partition: &Partition, error: &DrainError) {
        if !partition.is_gone() {
            self.fail("writing a segment", &io::Error::other(error.to_string()));
        }
    }

    /// `ready` is only lent, to be used again.
    async fn drain_ready(&self, ready: &mut Vec<SlotId>) -> Result<(), DrainError> {
        let least_bytes = {
            let mut state = self.state.borrow_mut();
            ready.clear();
            ready.extend(take_ready(&mut state));
            self.enough_to_drain(&state)
        };
        self.drain_pages(ready, DrainPace::calm(least_bytes)).await
    }

    /// Whole pages of one partition that are worth a write of their own.
    pub(crate) fn enough_to_drain(&self, state: &State) -> u64 {
        let room = self.limits.undrained_bytes.min(state.space.capacity());
        (room / (4 * state.slots.len().max(1) as u64)).clamp(DRAIN_BYTES_MIN, DRAIN_BYTES_MAX)
    }

    /// Whole pages of these partitions into their segments.
    pub(crate) async fn drain_pages(
        &self,
        ids: &[SlotId],
        pace: DrainPace,
    ) -> Result<(), DrainError> {
        let drained = for_each(pace.files, ids, |id| self.drain_slot(id, pace)).await;
        self.progress.notify_all();
        drained
    }

    async fn drain_slot(&self, id: SlotId, pace: DrainPace) -> Result<(), DrainError> {
        let Some(partition) = self.unqueue(id) else {
            return Ok(());
        };
        let drained = self.drain_partition(id, &partition, pace).await;
        if drained.as_ref().is_err_and(DrainError::is_full) {
            self.queue(id);
        }
        self.count_claims(id);
        unless_gone(&partition, drained)
    }

    async fn drain_partition(
        &self,
        id: SlotId,
        partition: &Rc<Partition>,
        pace: DrainPace,
    ) -> Result<(), DrainError> {
        while !partition.is_gone() {
            let bytes = partition
                .drain(DrainLimit::Durable, pace.write_bytes)
                .await?;
            if bytes == 0 {
                break;
            }
            self.counts.segment(bytes);
            self.mark_dirty(id);
            if partition.undrained_bytes() < pace.least_bytes {
                break;
            }
        }
        if partition.needs_settle() && !partition.is_gone() {
            partition.settle_sealed().await?;
            self.counts.flush();
            self.mark_dirty(id);
        }
        Ok(())
    }

    /// What the partition's files took of the space that was claimed for them is no claim any more;
    /// first the directory sees that it is taken.
    pub(crate) fn count_claims(&self, id: SlotId) {
        let taken = {
            let mut state = self.state.borrow_mut();
            let Some(slot) = &mut state.slots[id as usize] else {
                return;
            };
            let left = slot.partition.unreserved_bytes().min(slot.claimed);
            std::mem::replace(&mut slot.claimed, left) - left
        };
        if taken > 0 {
            self.directory
                .look_at_space(&self.ring, self.limits.reserved_disk_bytes);
            self.directory.give_claim_back(taken);
        }
    }

    pub(crate) fn unqueue(&self, id: SlotId) -> Option<Rc<Partition>> {
        let mut state = self.state.borrow_mut();
        let slot = state.slots[id as usize].as_mut()?;
        slot.queued = false;
        Some(slot.partition.clone())
    }

    /// It has enough whole pages to drain.
    pub(crate) fn queue(&self, id: SlotId) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(slot) = &mut state.slots[id as usize]
            && !std::mem::replace(&mut slot.queued, true)
            && !std::mem::replace(&mut slot.in_ready, true)
        {
            state.ready.push_back(id);
        }
    }

    pub(crate) fn mark_dirty(&self, id: SlotId) {
        let mut state = self.state.borrow_mut();
        if let Some(slot) = &mut state.slots[id as usize] {
            slot.changed = true;
            if !std::mem::replace(&mut slot.dirty, true) {
                state.dirty.push(id);
            }
        }
    }

    /// Flushes what was drained of a partition until now, names included: when this returns it is
    /// durable, whoever else flushes it at the same time.
    pub(crate) async fn flush_slot(&self, id: SlotId) -> Result<(), DrainError> {
        let partition = loop {
            let wait = self.progress.wait();
            {
                let mut state = self.state.borrow_mut();
                let Some(slot) = &mut state.slots[id as usize] else {
                    return Ok(());
                };
                if !std::mem::replace(&mut slot.flushing, true) {
                    slot.dirty = false;
                    break slot.partition.clone();
                }
            }
            wait.await;
        };
        let place = partition.drained_place();
        let flushed = self.flush_files(&partition).await;
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if let Some(slot) = &mut state.slots[id as usize] {
                slot.flushing = false;
                if flushed.is_ok() {
                    slot.synced = slot.synced.max(place);
                    slot.pins.release(&mut state.space, slot.synced);
                }
            }
        }
        self.progress.notify_all();
        unless_gone(&partition, flushed)
    }

    async fn flush_files(&self, partition: &Partition) -> Result<(), DrainError> {
        let dirty = partition.take_dirty()?;
        for file in &dirty.files {
            file.sync_data().await.map_err(flush_failed)?;
            self.counts.flush();
        }
        if let Some(dir) = &dirty.dir {
            self.ring.sync_dir(dir).await.map_err(flush_failed)?;
            self.counts.flush();
            self.state.borrow_mut().names.wanted += 1;
        }
        Ok(())
    }

    /// The names of new partitions' directories, as far as they were wanted when this began; whoever
    /// else flushes them at that moment flushes them for all.
    pub(crate) async fn flush_names(&self) -> Result<(), DrainError> {
        let goal = self.state.borrow().names.wanted;
        let upto = loop {
            let wait = self.progress.wait();
            {
                let names = &mut self.state.borrow_mut().names;
                if names.flushed >= goal {
                    return Ok(());
                }
                if !std::mem::replace(&mut names.flushing, true) {
                    break names.wanted;
                }
            }
            wait.await;
        };
        let flushed = self.ring.sync_dir(self.directory.path()).await;
        {
            let names = &mut self.state.borrow_mut().names;
            names.flushing = false;
            if flushed.is_ok() {
                names.flushed = upto;
            }
        }
        self.progress.notify_all();
        self.counts.flush();
        flushed.map_err(flush_failed)
    }

    pub(crate) async fn flush_all_dirty(&self) -> Result<(), DrainError> {
        let dirty: Vec<SlotId> = std::mem::take(&mut self.state.borrow_mut().dirty);
        for_each(FLUSHES, &dirty, |id| self.flush_slot(id)).await?;
        self.flush_names().await
    }
}

/// Empties the queue of those with enough whole pages; what another drain took on is none of them.
pub(crate) fn take_ready(state: &mut State) -> impl Iterator<Item = SlotId> {
    let State { ready, slots, .. } = state;
    ready.drain(..).filter(|id| {
        slots[*id as usize].as_mut().is_some_and(|slot| {
            slot.in_ready = false;
            slot.queued
        })
    })
}

/// What happens to the files of a deleted partition is no trouble of the directory's.
pub(crate) fn unless_gone(
    partition: &Partition,
    done: Result<(), DrainError>,
) -> Result<(), DrainError> {
    match partition.is_gone() {
        true => Ok(()),
        false => done,
    }
}

/// Runs `work` for each item, at most `limit` (and [`DRAINS`]) at a time. The first error stops what
/// has not begun, but for a want of space: others may find theirs.
pub(crate) async fn for_each<F>(
    limit: usize,
    items: &[SlotId],
    work: impl Fn(SlotId) -> F,
) -> Result<(), DrainError>
where
    F: Future<Output = Result<(), DrainError>>,
{
    let next = Cell::new(0);
    let worker = async |number: usize| {
        let mut all = Ok(());
        while number < limit
            && let Some(item) = items.get(next.replace(next.get() + 1))
        {
            if let Err(error) = unless_full(work(*item).await, &mut all) {
                next.set(items.len());
                return Err(error);
            }
        }
        all
    };
    const { assert!(DRAINS == 4) };
    let (first, second) = (join(worker(0), worker(1)), join(worker(2), worker(3)));
    let ((a, b), (c, d)) = join(first, second).await;
    let mut all = Ok(());
    let mut failed = Ok(());
    for done in [a, b, c, d] {
        failed = failed.and(unless_full(done, &mut all));
    }
    failed.and(all)
}

/// Keeps a want of space for later, so that what needs none goes on.
pub(crate) fn unless_full(
    done: Result<(), DrainError>,
    later: &mut Result<(), DrainError>,
) -> Result<(), DrainError> {
    match done {
        Err(error) if error.is_full() => {
            *later = Err(error);
            Ok(())
        }
        other => other,
    }
}
