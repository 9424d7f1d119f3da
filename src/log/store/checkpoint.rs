//! Bringing bytes to the segments, and the ring's space back: drain, flush, carry or settle what is
//! left, table, superblock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::append::StorageError;
use crate::log::commit::space::SlotId;
use crate::log::journal::entry::EntryKind;
use crate::log::journal::properties::table_file;
use crate::log::journal::superblock::{JournalKind, TableRef};
use crate::log::journal::table::BlockBuilder;
use crate::log::partition::{DrainLimit, LogError, Partition};
use crate::log::store::appends::touch;
use crate::log::store::bypass::carry;
use crate::log::store::journal::{Journal, State};
use crate::ring::Ring;
use crate::ring::driver::OpenOptions;

/// One drain's write.
const WRITE_BYTES: u64 = 256 << 10;
/// Files that are drained at once.
const DRAINS: usize = 4;
/// Files that are flushed at once: each occupies a kernel worker.
const FLUSHES: usize = 8;
/// After so long without an append the newest entry is sealed.
const SEAL_AFTER: Duration = Duration::from_secs(1);
/// After so long everything goes to its files, and the ring is empty.
const SETTLE_AFTER: Duration = Duration::from_secs(10);
/// How often a full file system is looked at again.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// A tail that was carried so often unchanged is settled.
const CARRIES: u32 = 2;

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

impl DrainError {
    fn is_full(&self) -> bool {
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
    Drain,
    Seal,
    Wait(Option<Duration>),
}

impl Journal {
    /// Drains and checkpoints until the journal stops.
    pub async fn run_drains(self: Rc<Self>) {
        loop {
            let wait = self.drain.wait();
            let done = match self.next() {
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
                Next::Drain => self.drain_ready().await,
                Next::Checkpoint(all) => self.checkpoint(all).await,
            };
            match done {
                Ok(()) => {}
                Err(error) if error.is_full() => {
                    self.directory.mark_full();
                    tracing::warn!(dir = %self.directory.path().display(), %error, "draining waits for space");
                    self.ring.sleep(FULL_RETRY).await;
                    self.directory
                        .look_at_space(&self.ring, self.limits.reserved_disk_bytes);
                }
                Err(error) => {
                    if !self.directory.is_offline() {
                        self.fail("draining", &io::Error::other(error.to_string()));
                    }
                    break;
                }
            }
        }
        self.state.borrow_mut().stopped_drains = true;
        self.progress.notify_all();
    }

    fn next(&self) -> Next {
        let state = self.state.borrow();
        if state.stopping || self.directory.is_offline() {
            return Next::Stop;
        }
        let (used, capacity) = (state.space.used(), state.space.capacity());
        let idle = self.ring.now().since(state.last_append);
        let since = self.ring.now().since(state.last_checkpoint);
        if used * 2 > capacity || state.undrained * 2 > self.limits.undrained_bytes {
            return Next::Checkpoint(false);
        }
        if self.kind == JournalKind::Interval
            && !state.space.is_idle()
            && since >= self.limits.flush_interval
        {
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
        if self.kind == JournalKind::Interval {
            wait = wait.min(self.limits.flush_interval.saturating_sub(since));
        }
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

    async fn drain_ready(self: &Rc<Self>) -> Result<(), DrainError> {
        let ready: Vec<SlotId> = {
            let mut state = self.state.borrow_mut();
            state.ready.drain(..).collect()
        };
        self.drain_pages(ready).await
    }

    /// Whole pages of these partitions into their segments.
    async fn drain_pages(self: &Rc<Self>, ids: Vec<SlotId>) -> Result<(), DrainError> {
        let this = self.clone();
        for_each(&self.ring, DRAINS, ids, move |id| {
            let this = this.clone();
            async move { this.drain_slot(id).await }
        })
        .await?;
        self.count_undrained();
        Ok(())
    }

    async fn drain_slot(&self, id: SlotId) -> Result<(), DrainError> {
        let Some(partition) = self.unqueue(id) else {
            return Ok(());
        };
        unless_gone(&partition, self.drain_partition(id, &partition).await)
    }

    async fn drain_partition(
        &self,
        id: SlotId,
        partition: &Rc<Partition>,
    ) -> Result<(), DrainError> {
        while !partition.is_gone() {
            let bytes = partition.drain(DrainLimit::Durable, WRITE_BYTES).await?;
            if bytes == 0 {
                break;
            }
            self.counts.segment(bytes);
            self.mark_dirty(id);
        }
        if partition.needs_settle() && !partition.is_gone() {
            partition.settle_sealed().await?;
            self.counts.flush();
            self.mark_dirty(id);
        }
        Ok(())
    }

    fn unqueue(&self, id: SlotId) -> Option<Rc<Partition>> {
        let mut state = self.state.borrow_mut();
        let slot = state.slots[id as usize].as_mut()?;
        slot.queued = false;
        Some(slot.partition.clone())
    }

    fn mark_dirty(&self, id: SlotId) {
        let mut state = self.state.borrow_mut();
        if let Some(slot) = &mut state.slots[id as usize] {
            slot.changed = true;
            if !std::mem::replace(&mut slot.dirty, true) {
                state.dirty.push(id);
            }
        }
    }

    fn count_undrained(&self) {
        let mut state = self.state.borrow_mut();
        state.undrained = state
            .slots
            .iter()
            .flatten()
            .map(|slot| slot.partition.undrained_bytes())
            .sum();
        drop(state);
        self.progress.notify_all();
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
            file.sync_data().await?;
            self.counts.flush();
        }
        if let Some(dir) = &dirty.dir {
            self.ring.sync_dir(dir).await?;
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
        Ok(flushed?)
    }

    async fn flush_all_dirty(self: &Rc<Self>) -> Result<(), DrainError> {
        let dirty: Vec<SlotId> = std::mem::take(&mut self.state.borrow_mut().dirty);
        let this = self.clone();
        for_each(&self.ring, FLUSHES, dirty, move |id| {
            let this = this.clone();
            async move { this.flush_slot(id).await }
        })
        .await?;
        self.flush_names().await
    }

    /// Frees the oldest half of what the ring holds, or with `all` everything.
    pub(crate) async fn checkpoint(self: &Rc<Self>, all: bool) -> Result<(), DrainError> {
        let (goal, ids) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let bytes = match all {
                true => u64::MAX,
                false => state.space.used() / 2,
            };
            let goal = state.space.sequence_at(bytes);
            let mut ids: Vec<SlotId> = state.space.oldest(bytes).collect();
            if all || state.undrained * 2 > self.limits.undrained_bytes {
                ids.extend(state.ready.drain(..));
            }
            ids.sort_unstable();
            ids.dedup();
            (goal, ids)
        };
        self.drain_pages(ids.clone()).await?;
        self.flush_all_dirty().await?;
        self.tails(ids, goal, all).await?;
        self.count_undrained();
        self.publish().await?;
        self.grow().await?;
        self.unlink_doomed();
        self.directory
            .look_at_space(&self.ring, self.limits.reserved_disk_bytes);
        Ok(())
    }

    /// What still holds entries up to `goal` is less than a page each: carried or settled.
    async fn tails(
        self: &Rc<Self>,
        ids: Vec<SlotId>,
        goal: u64,
        all: bool,
    ) -> Result<(), DrainError> {
        let mut settle = Vec::new();
        let mut carried = false;
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            for id in ids {
                let held = state.slots[id as usize]
                    .as_ref()
                    .is_some_and(|slot| slot.pins.oldest().is_some_and(|oldest| oldest <= goal));
                if !held {
                    continue;
                }
                if !all && self.try_carry(state, id) {
                    carried = true;
                } else {
                    settle.push(id);
                }
            }
        }
        if carried {
            self.work.notify_all();
        }
        let this = self.clone();
        for_each(&self.ring, DRAINS, settle, move |id| {
            let this = this.clone();
            async move { this.settle_slot(id).await }
        })
        .await?;
        self.flush_names().await
    }

    fn try_carry(&self, state: &mut State, id: SlotId) -> bool {
        let capacity = state.space.capacity();
        if state.space.placed() - state.carried.0 >= capacity {
            state.carried = (state.space.placed(), 0);
        }
        let Some(slot) = &state.slots[id as usize] else {
            return true;
        };
        let partition = slot.partition.clone();
        let (from, end) = (slot.synced, partition.end_place());
        if !slot.bypass.is_empty() || slot.bypassing || from.segment != end.segment {
            return false;
        }
        let len = end.position - from.position;
        let again = match slot.carried.0 == end {
            true => slot.carried.1 + 1,
            false => 1,
        };
        let allowed = from == partition.drained_place()
            && len <= PAGE_BYTES as u64
            && again <= CARRIES
            && state.carried.1 + len <= capacity / 4
            && self.room(state, len as usize, self.reserve(state) / 2);
        if !allowed {
            return false;
        }
        let parts = partition.bytes_from(from);
        if parts.iter().map(|part| part.len() as u64).sum::<u64>() != len {
            return false;
        }
        carry(self, state, id, from, &parts, len);
        state.carried.1 += len;
        let log_end = partition.log_end();
        if let Some(slot) = &mut state.slots[id as usize] {
            slot.carried = (end, again);
            touch(&mut state.open, slot, id, log_end, end, true);
        }
        true
    }

    async fn settle_slot(&self, id: SlotId) -> Result<(), DrainError> {
        let Some(partition) = self.unqueue(id) else {
            return Ok(());
        };
        let settled = partition.settle().await.map_err(DrainError::from);
        unless_gone(&partition, settled)?;
        self.counts.flush();
        self.mark_dirty(id);
        self.flush_slot(id).await
    }

    /// Table, then superblock, then the ring's space.
    async fn publish(self: &Rc<Self>) -> Result<(), DrainError> {
        let (captured, waits, block, part) = self.picture().await;
        let table = match block {
            Some(block) => self.write_table(block, part).await?,
            None => self.state.borrow().table,
        };
        // the table says nothing of batches that are not durable
        for (partition, end) in waits {
            partition.until_durable(end).await;
            if partition.is_gone() && self.directory.is_offline() {
                return Err(self.directory.offline_error().into());
            }
        }
        if self.kind == JournalKind::Interval {
            let through = {
                let state = self.state.borrow();
                state.last_sealed
            };
            self.file.sync_data().await?;
            self.counts.flush();
            self.state.borrow_mut().durable = through;
        }
        let (first, superblock) = {
            let state = self.state.borrow();
            let first = state.space.first_needed(captured, state.durable);
            let mut superblock = state.superblock.clone();
            superblock.position = first.position;
            superblock.sequence = first.sequence;
            superblock.previous_crc = first.previous_crc;
            superblock.first_crc = first.crc;
            superblock.durable_through = state.durable;
            superblock.table = table;
            (first, superblock)
        };
        self.write_superblock(superblock).await?;
        let mut state = self.state.borrow_mut();
        state.table = table;
        state.space.free_before(first.sequence);
        state.last_checkpoint = self.ring.now();
        drop(state);
        self.progress.notify_all();
        Ok(())
    }

    /// The state of all that changed, at one moment at which no bypass is half way.
    async fn picture(
        &self,
    ) -> (
        u64,
        Vec<(Rc<Partition>, Offset)>,
        Option<BlockBuilder>,
        TableRef,
    ) {
        self.state.borrow_mut().holding = true;
        loop {
            let wait = self.progress.wait();
            if self.state.borrow().bypassing == 0 {
                break;
            }
            wait.await;
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.holding = false;
        let captured = state.space.next_sequence() - 1;
        let full = state.table.len > 2 * state.table_full && state.table.len > (1 << 20);
        let mut block = BlockBuilder::new();
        let mut waits = Vec::new();
        for slot in state.slots.iter_mut().flatten() {
            let changed = std::mem::take(&mut slot.changed);
            slot.tabled |= changed;
            if !changed && !(full && slot.tabled) {
                continue;
            }
            let facts = slot.partition.facts();
            block.push(
                slot.key,
                slot.generation,
                slot.partition.topic(),
                Some(&facts),
                None,
            );
            if slot.partition.durable_end() < facts.end() {
                waits.push((slot.partition.clone(), facts.end()));
            }
        }
        state.gone.append(&mut state.dropped);
        let gone = match full {
            true => state.gone.clone(),
            false => state.gone.split_off(state.gone_tabled),
        };
        for (key, generation) in &gone {
            block.push(*key, *generation, "", None, None);
        }
        if !full {
            state.gone.extend(gone);
        }
        state.gone_tabled = state.gone.len();
        let part = match full {
            true => TableRef {
                file: state.table.file ^ 1,
                len: 0,
                crc: 0,
            },
            false => state.table,
        };
        let block = (!block.is_empty()).then_some(block);
        self.progress.notify_all();
        (captured, waits, block, part)
    }

    async fn write_table(
        &self,
        block: BlockBuilder,
        part: TableRef,
    ) -> Result<TableRef, DrainError> {
        let (bytes, crc) = block.finish(self.id, self.directory.incarnation(), false, part.crc);
        let path = self.directory.path().join(table_file(self.id, part.file));
        let fresh = !self.ring.exists(&path);
        let file = self.ring.open(
            &path,
            OpenOptions {
                write: true,
                create: true,
                truncate: part.len == 0,
                ..OpenOptions::default()
            },
        )?;
        file.write_now(&bytes, part.len)?;
        file.sync_all().await?;
        self.counts.flush();
        if fresh {
            self.ring.sync_dir(self.directory.path()).await?;
        }
        self.counts.checkpoint(bytes.len() as u64);
        if part.len == 0 {
            self.state.borrow_mut().table_full = bytes.len() as u64;
        }
        Ok(TableRef {
            file: part.file,
            len: part.len + bytes.len() as u64,
            crc,
        })
    }

    /// Removes directories of deleted partitions that no journal bytes belong to any more.
    fn unlink_doomed(self: &Rc<Self>) {
        let first = {
            let state = self.state.borrow();
            state.superblock.sequence
        };
        let gone: Vec<_> = {
            let mut state = self.state.borrow_mut();
            let (gone, stay) = std::mem::take(&mut state.doomed)
                .into_iter()
                .partition(|(sequence, _)| *sequence < first);
            state.doomed = stay;
            gone
        };
        for (_, path) in gone {
            let ring = self.ring.clone();
            self.ring
                .spawn_background(async move {
                    if let Err(error) = ring.remove_dir_all(&path) {
                        tracing::warn!(path = %path.display(), %error, "a deleted partition's files stay");
                    }
                })
                .detach();
        }
    }
}

/// What happens to the files of a deleted partition is no trouble of the directory's.
fn unless_gone(partition: &Partition, done: Result<(), DrainError>) -> Result<(), DrainError> {
    match partition.is_gone() {
        true => Ok(()),
        false => done,
    }
}

/// Runs `work` for each item, at most `limit` at a time; the first error stops what has not begun.
async fn for_each<F, W>(
    ring: &Ring,
    limit: usize,
    items: Vec<SlotId>,
    work: W,
) -> Result<(), DrainError>
where
    F: Future<Output = Result<(), DrainError>> + 'static,
    W: Fn(SlotId) -> F + 'static,
{
    let workers = limit.min(items.len());
    if workers <= 1 {
        for item in items {
            work(item).await?;
        }
        return Ok(());
    }
    let queue = Rc::new(RefCell::new(VecDeque::from(items)));
    let work = Rc::new(work);
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (queue, work) = (queue.clone(), work.clone());
            ring.spawn(async move {
                loop {
                    let Some(item) = queue.borrow_mut().pop_front() else {
                        return Ok(());
                    };
                    if let Err(error) = work(item).await {
                        queue.borrow_mut().clear();
                        return Err(error);
                    }
                }
            })
        })
        .collect();
    let mut first = Ok(());
    for handle in handles {
        let done = handle.await;
        if first.is_ok() {
            first = done;
        }
    }
    first
}
