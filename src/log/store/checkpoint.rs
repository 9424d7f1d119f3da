//! The ring's space comes back: the oldest entries' bytes are drained and flushed, what is left of
//! them carried or settled; then table, superblock.

use std::io;
use std::rc::Rc;

use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::commit::space::SlotId;
use crate::log::journal::superblock::{JournalKind, TableRef};
use crate::log::journal::table::BlockBuilder;
use crate::log::partition::{Partition, PartitionFacts};
use crate::log::store::appends::touch;
use crate::log::store::bypass::carry;
use crate::log::store::drains::{
    DRAINS, DrainError, DrainPace, flush_failed, for_each, take_ready, unless_full, unless_gone,
};
use crate::log::store::growth::{Growth, is_half_full};
use crate::log::store::journal::{Journal, State};
use crate::log::store::table::{Mark, gone_into};

/// The state of all that changed, at one moment.
struct Picture {
    /// The newest entry that it covers.
    captured: u64,
    /// Batches that it covers and that are not durable yet.
    waits: Vec<(Rc<Partition>, Offset)>,
    block: Option<BlockBuilder>,
    /// Where the block goes.
    part: TableRef,
    /// Partitions that it says something new of, and how many deleted ones were said before.
    taken: Vec<SlotId>,
    gone_tabled: usize,
    /// Partitions that changed and are not in it: their batches wait for space on the disk.
    left_out: Vec<SlotId>,
    unnamed: Mark,
    /// Directories of deleted partitions that may go then.
    doomed: usize,
}

/// A tail that was carried so often unchanged is settled.
const CARRIES: u32 = 2;

impl Journal {
    /// Frees the oldest half of what the ring holds, or with `all` everything.
    pub(crate) async fn checkpoint(self: &Rc<Self>, all: bool) -> Result<(), DrainError> {
        let begun = self.ring.now();
        let (goal, ids, since, was_half_full) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let since = begun.since(state.last_checkpoint);
            let bytes = match all {
                true => u64::MAX,
                false => state.space.used() / 2,
            };
            let goal = state.space.sequence_at(bytes);
            let mut ids: Vec<SlotId> = state.space.oldest(bytes).collect();
            if all || state.undrained.bytes() * 2 > self.limits.undrained_bytes {
                ids.extend(take_ready(state));
            }
            ids.sort_unstable();
            ids.dedup();
            (goal, ids, since, is_half_full(state))
        };
        // what finds no space keeps its part of the ring; the rest is freed all the same, and so are
        // the files of deleted partitions, which may be the space that is missing
        let mut full = Ok(());
        let drained = self.drain_pages(&ids, DrainPace::PRESSED).await;
        unless_full(drained, &mut full)?;
        self.flush_all_dirty().await?;
        unless_full(self.tails(ids, goal, all).await, &mut full)?;
        self.progress.notify_all();
        let freed = self.publish(&mut full).await?;
        let took = self.ring.now().since(begun);
        self.state.borrow_mut().pace.freed(freed, took);
        full?;
        if !all {
            self.grow(since, was_half_full);
        }
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
        let settled = for_each(DRAINS, &settle, |id| self.settle_slot(id)).await;
        self.flush_names().await?;
        settled
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
        self.count_claims(id);
        unless_gone(&partition, settled)?;
        self.counts.flush();
        self.mark_dirty(id);
        self.flush_slot(id).await
    }

    /// Table, then superblock, then the ring's space, whose bytes it answers, and the files of
    /// deleted partitions.
    async fn publish(
        self: &Rc<Self>,
        full: &mut Result<(), DrainError>,
    ) -> Result<u64, DrainError> {
        let picture = self.durable_picture().await?;
        let table = match picture.block {
            Some(block) => self.write_table(block, picture.part).await?,
            None => self.state.borrow().table,
        };
        if self.kind == JournalKind::Interval {
            let through = {
                let state = self.state.borrow();
                state.last_sealed
            };
            self.file.sync_data().await.map_err(flush_failed)?;
            self.counts.flush();
            self.state.borrow_mut().durable = through;
        }
        let (first, superblock) = {
            let state = self.state.borrow();
            // what the table lacks of a partition that was left out stays in the ring
            let left_out = picture.left_out.iter();
            let tabled = left_out.filter_map(|id| state.slots[*id as usize].as_ref());
            let through = tabled.map(|slot| slot.tabled_through).min();
            let through = through.unwrap_or(u64::MAX).min(picture.captured);
            let first = state.space.first_needed(through, state.durable);
            let mut superblock = state.superblock.clone();
            superblock.position = first.position;
            superblock.sequence = first.sequence;
            superblock.previous_crc = first.previous_crc;
            superblock.first_crc = first.crc;
            superblock.durable_through = state.durable;
            superblock.table = table;
            if let Growth::Written(end) = state.growth {
                superblock.ring_end = end;
            }
            (first, superblock)
        };
        let said = superblock.ring_end;
        self.write_superblock(superblock).await?;
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if state.growth == Growth::Written(said) {
            state.growth = Growth::Said(said);
        }
        let before = state.space.used();
        state.table = table;
        for (id, slot) in state.slots.iter_mut().enumerate() {
            if let Some(slot) = slot
                && !picture.left_out.contains(&(id as SlotId))
            {
                slot.tabled_through = picture.captured;
            }
        }
        state.space.free_before(first.sequence);
        state.last_checkpoint = self.ring.now();
        state.unnamed.tabled(picture.unnamed);
        let freed = before - state.space.used().min(before);
        drop(guard);
        self.unlink_doomed(picture.doomed);
        self.progress.notify_all();
        if !picture.left_out.is_empty() {
            *full = Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        Ok(freed)
    }

    /// The picture, once all that it shows is durable: the table says nothing of other batches.
    /// One that waits for space on the disk is left out, for it may wait for the space that the
    /// deletions in this very picture make.
    async fn durable_picture(&self) -> Result<Picture, DrainError> {
        let mut leave_out = self.state.borrow().parked > 0;
        loop {
            let picture = self.picture(leave_out).await;
            if self.is_durable(&picture.waits, leave_out).await? {
                return Ok(picture);
            }
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            for id in picture.taken {
                if let Some(slot) = &mut state.slots[id as usize] {
                    slot.changed = true;
                }
            }
            state.gone_tabled = picture.gone_tabled;
            leave_out = true;
        }
    }

    /// Waits for these batches; false if a bypass found no space meanwhile and may be among them.
    async fn is_durable(
        &self,
        waits: &[(Rc<Partition>, Offset)],
        left_out: bool,
    ) -> Result<bool, DrainError> {
        for (partition, end) in waits {
            loop {
                let wait = self.progress.wait();
                if partition.durable_end() >= *end || partition.is_gone() {
                    break;
                }
                if !left_out && self.state.borrow().parked > 0 {
                    return Ok(false);
                }
                wait.await;
            }
            if partition.is_gone() && self.directory.is_offline() {
                return Err(self.directory.offline_error().into());
            }
        }
        Ok(true)
    }

    /// The state of all that changed, at one moment at which no bypass is half way; with
    /// `leave_out` not of those whose bypass has something to write.
    async fn picture(&self, leave_out: bool) -> Picture {
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
        let full = state.table.len > 2 * state.table_full
            && state.table.len > (1 << 20)
            && !self.directory.is_full()
            && !leave_out;
        let mut block = BlockBuilder::new();
        let mut waits = Vec::new();
        let (mut taken, mut left_out) = (Vec::new(), Vec::new());
        for (id, slot) in state.slots.iter_mut().enumerate() {
            let Some(slot) = slot else {
                continue;
            };
            if slot.dropping {
                block.push(slot.key, slot.generation, "", None, None);
                continue;
            }
            let id = id as SlotId;
            let end = slot.partition.log_end();
            let durable = slot.partition.durable_end() >= end;
            if leave_out && slot.bypassing && !durable {
                left_out.push(id);
                if state.unnamed.has(id) {
                    slot.tabled = true;
                    let born = PartitionFacts::empty(Offset(0), self.ring.wall().0);
                    let topic = slot.partition.topic();
                    block.push(slot.key, slot.generation, topic, Some(&born), None);
                }
                continue;
            }
            if std::mem::take(&mut slot.changed) {
                slot.tabled = true;
                taken.push(id);
            } else if !full || !slot.tabled {
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
            if !durable {
                waits.push((slot.partition.clone(), end));
            }
        }
        let gone_tabled = state.gone_tabled;
        gone_into(state, full, &mut block);
        let part = match full {
            true => TableRef {
                file: state.table.file ^ 1,
                len: 0,
                crc: 0,
            },
            false => state.table,
        };
        self.progress.notify_all();
        Picture {
            captured,
            waits,
            block: (!block.is_empty()).then_some(block),
            part,
            taken,
            gone_tabled,
            left_out,
            unnamed: state.unnamed.mark(),
            doomed: state.doomed.len(),
        }
    }

    /// Removes the directories of the partitions that the durable table says are deleted: a replay
    /// skips what the ring still holds of them.
    fn unlink_doomed(self: &Rc<Self>, count: usize) {
        let gone: Vec<_> = {
            let mut state = self.state.borrow_mut();
            state.doomed_since = self.ring.now();
            state.doomed.drain(..count).collect()
        };
        for path in gone {
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
