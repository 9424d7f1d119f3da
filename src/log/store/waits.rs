//! Waiting for a journal: for room, for a partition's end, for an item that must go in.

use std::path::PathBuf;

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey};
use crate::base::time::Monotonic;
use crate::log::append::StorageError;
use crate::log::commit::space::SlotId;
use crate::log::journal::entry::{Item, ItemKind};
use crate::log::journal::superblock::JournalKind;
use crate::log::store::journal::{Journal, State};
use crate::log::store::slot::pointer_bytes;
use crate::log::store::ticket::Ticket;

impl Journal {
    /// Whether a batch, or a first part of so many bytes, can be appended now, whichever way it
    /// goes.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let state = self.state.borrow();
        let part = bytes.min(self.max_entry(&state) as usize / 2);
        self.admits(&state, bytes, part, pointer_bytes(1))
    }

    /// Whether memory has room for a batch of so many bytes, and the ring for what it gets of it. A
    /// batch larger than a part of the memory asks for that part, which is always freed in the end:
    /// else one that is larger than all of it would never go in.
    pub fn admits(&self, state: &State, bytes: usize, data: usize, pointers: u64) -> bool {
        let limit = self.limits.undrained_bytes;
        let part = (bytes as u64).min(self.max_entry(state) / 2).min(limit / 2);
        state.undrained.bytes() + part <= limit
            && self.room(state, data, self.reserve(state) + pointers)
    }

    /// Whether ring and memory stand below half.
    pub fn is_calm(&self) -> bool {
        let state = self.state.borrow();
        state.space.used() * 2 <= state.space.capacity() - self.reserve(&state)
            && state.undrained.bytes() * 2 <= self.limits.undrained_bytes
    }

    /// When an append of so many bytes may go on, where the journal stands over half full.
    pub fn pace(&self, bytes: usize) -> Option<Monotonic> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let room = state.space.capacity() - self.reserve(state);
        let ring = state.space.used() as f64 / room as f64;
        let memory = state.undrained.bytes() as f64 / self.limits.undrained_bytes as f64;
        state.pace.admit(self.ring.now(), bytes, ring.max(memory))
    }

    /// Whether the ticket's partition is written, or durable, up to the ticket's end.
    pub fn has_passed(&self, ticket: Ticket, flushed: bool) -> bool {
        let state = self.state.borrow();
        let slot = state.slots.get(ticket.slot as usize - 1);
        slot.and_then(Option::as_ref).is_some_and(|slot| {
            let end = match flushed {
                true => slot.partition.durable_end(),
                false => slot.partition.written_end(),
            };
            end >= Offset(ticket.mark as i64)
        })
    }

    /// Waits for [`Journal::has_passed`].
    pub async fn passed(&self, ticket: Ticket, flushed: bool) -> Result<(), StorageError> {
        loop {
            let wait = self.progress.wait();
            if self.has_passed(ticket, flushed) {
                return Ok(());
            }
            if self.directory.is_offline() {
                return Err(self.directory.offline_error());
            }
            let gone = {
                let state = self.state.borrow();
                let slot = state.slots.get(ticket.slot as usize - 1);
                slot.is_none_or(Option::is_none)
            };
            if gone {
                return Err(StorageError::Deleted);
            }
            wait.await;
        }
    }

    /// Adds a control item as soon as the ring has room for it.
    pub async fn control_when_room(
        &self,
        kind: ItemKind,
        slot: SlotId,
        offset: Offset,
        data: &[u8],
    ) -> Result<Ticket, StorageError> {
        self.when_room(
            |state| match self.control(state, kind, slot, offset, data) {
                None if state.slots[slot as usize].is_none() => Err(StorageError::Deleted),
                put => Ok(put),
            },
        )
        .await
    }

    /// Adds the deletion of a partition that is not open, as soon as there is room.
    pub async fn drop_when_room(
        &self,
        key: PartitionKey,
        generation: u32,
    ) -> Result<Ticket, StorageError> {
        let item = Item {
            kind: ItemKind::Drop,
            key,
            generation,
            epoch: LeaderEpoch::NONE,
            segment: Offset(0),
            position: 0,
            base_offset: Offset(0),
            last_offset: Offset(0),
            durable_position: 0,
            len: 0,
            crc: crc32c(b""),
        };
        self.when_room(|state| {
            Ok(self.room(state, 0, 0).then(|| {
                state.dropped.push((key, generation));
                self.put_control(state, &item, b"")
            }))
        })
        .await
    }

    /// Tries again whenever something was freed.
    async fn when_room(
        &self,
        mut put: impl FnMut(&mut State) -> Result<Option<Ticket>, StorageError>,
    ) -> Result<Ticket, StorageError> {
        loop {
            let wait = self.progress.wait();
            self.directory.check_open()?;
            if let Some(ticket) = put(&mut self.state.borrow_mut())? {
                return Ok(ticket);
            }
            self.drain.notify_all();
            wait.await;
        }
    }

    /// A partition that no table knows, with names that no flush covers.
    pub fn mark_new(&self, id: SlotId) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(slot) = &mut state.slots[id as usize] {
            slot.changed = true;
            slot.dirty = true;
            state.dirty.push(id);
        }
        if self.kind == JournalKind::Interval {
            state.unnamed.add(id);
        }
    }

    /// A partition's deletion is flushed: nothing here is about it any more.
    pub fn forget(&self, id: SlotId) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(mut slot) = state.slots[id as usize].take() else {
            return;
        };
        slot.pins.clear(&mut state.space);
        self.directory.give_claim_back(slot.claimed);
        state.pointers -= pointer_bytes(slot.bypass.len());
        state.dropped.push((slot.key, slot.generation));
        self.progress.notify_all();
    }

    /// The directory of a deleted partition, under its new name, goes with the next checkpoint, which is
    /// made soon: its table says so to a replay that finds bytes of it in the ring.
    pub fn doom(&self, directory: PathBuf) {
        let mut state = self.state.borrow_mut();
        if state.doomed.is_empty() {
            state.doomed_since = self.ring.now();
        }
        state.doomed.push(directory);
        drop(state);
        self.drain.notify_all();
    }
}
