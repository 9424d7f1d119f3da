//! Large batches: first into their segment and flushed there, then named by a POINTER in the next
//! ordinary entry. The journal never names bytes that are not durable.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::base::checksum::{crc32c, crc32c_append};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::commit::space::SlotId;
use crate::log::journal::entry::{BATCH_HEADER_BYTES, ITEM_BYTES, Item, ItemKind};
use crate::log::partition::{DrainLimit, Partition};
use crate::log::segment::Place;
use crate::log::store::appends::touch;
use crate::log::store::drains::DrainError;
use crate::log::store::journal::{Journal, State};
use crate::log::store::slot::pointer_bytes;
use crate::ring::buf::Buf;

/// Batches of one round: their pointers must fit one entry beside others.
const ROUND_BATCHES: usize = 256;
/// Written at once.
const WRITE_BYTES: u64 = 2 << 20;

impl Journal {
    /// Takes a partition's batches past the journal until there are none.
    pub async fn run_bypass(self: Rc<Self>, id: SlotId) {
        while let Some((partition, count, target)) = self.next_round(id).await {
            let written = self.write_round(id, &partition, target).await;
            self.count_claims(id);
            {
                let mut state = self.state.borrow_mut();
                state.bypassing -= 1;
            }
            self.progress.notify_all();
            match written {
                Ok(()) => {}
                Err(error) if error.is_full() && !partition.is_gone() => {
                    self.park(&error).await;
                    continue; // the same round again
                }
                Err(error) => return self.drain_failed(&partition, &error),
            }
            self.counts.bypass();
            if !self.point(id, &partition, count, target).await {
                return;
            }
        }
    }

    async fn park(&self, error: &DrainError) {
        self.state.borrow_mut().parked += 1;
        self.progress.notify_all();
        self.wait_for_space(error).await;
        self.state.borrow_mut().parked -= 1;
    }

    /// The batches of one segment that wait now; none ends the partition's bypass.
    async fn next_round(&self, id: SlotId) -> Option<(Rc<Partition>, usize, Place)> {
        loop {
            let wait = self.progress.wait();
            let before = {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                let slot = state.slots[id as usize].as_mut()?;
                if self.directory.is_offline() {
                    return None;
                }
                let Some(first) = slot.bypass.front() else {
                    slot.bypassing = false;
                    self.progress.notify_all();
                    return None;
                };
                let segment = first.place.segment;
                let round = slot.bypass.iter().take(ROUND_BATCHES);
                let round = round.take_while(|batch| batch.place.segment == segment);
                let (count, last) = round.enumerate().last()?;
                let target = last.place.plus(u64::from(last.len));
                let partition = slot.partition.clone();
                let older = partition.drained_place().segment < segment;
                if !state.holding && !older {
                    state.bypassing += 1;
                    return Some((partition, count + 1, target));
                }
                older.then(|| (partition, base_of(&first.head)))
            };
            match before {
                Some((partition, first)) => self.finish_older(id, &partition, first).await?,
                None => wait.await, // a checkpoint takes its picture
            }
        }
    }

    /// A segment ends before the round's: its last page must be in its file, so that the pointers
    /// stand for everything before them.
    async fn finish_older(
        &self,
        id: SlotId,
        partition: &Rc<Partition>,
        first: Offset,
    ) -> Option<()> {
        partition.until_durable(first).await;
        if partition.is_gone() {
            return None;
        }
        loop {
            let wait = self.progress.wait();
            {
                let mut state = self.state.borrow_mut();
                if !state.holding {
                    state.bypassing += 1;
                    break;
                }
            }
            wait.await;
        }
        let settled = match partition.settle_sealed().await {
            Ok(()) => self.flush_slot_and_names(id).await,
            Err(error) => Err(error.into()),
        };
        self.state.borrow_mut().bypassing -= 1;
        self.progress.notify_all();
        match settled {
            Ok(()) => {}
            Err(error) if error.is_full() && !partition.is_gone() => self.park(&error).await,
            Err(error) => {
                self.drain_failed(partition, &error);
                return None;
            }
        }
        Some(())
    }

    async fn write_round(
        &self,
        id: SlotId,
        partition: &Rc<Partition>,
        target: Place,
    ) -> Result<(), DrainError> {
        loop {
            let bytes = partition
                .drain(DrainLimit::Through(target), WRITE_BYTES)
                .await?;
            if bytes == 0 {
                break;
            }
            self.counts.segment(bytes);
        }
        self.flush_slot_and_names(id).await
    }

    /// A pointer stands for bytes of a file: its name must be durable too, and its directory's.
    async fn flush_slot_and_names(&self, id: SlotId) -> Result<(), DrainError> {
        self.flush_slot(id).await?;
        self.flush_names().await
    }

    /// Puts the round's pointers, and what of its last page is in no file, into the open group.
    async fn point(
        &self,
        id: SlotId,
        partition: &Rc<Partition>,
        count: usize,
        target: Place,
    ) -> bool {
        loop {
            let wait = self.progress.wait();
            if self.directory.is_offline() {
                return false;
            }
            {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                let drained = partition.drained_place();
                let rest = target.position.saturating_sub(drained.position);
                let data = count * (BATCH_HEADER_BYTES + ITEM_BYTES) + rest as usize;
                if self.room_for_pointers(state, data) {
                    let Some(slot) = state.slots[id as usize].as_mut() else {
                        return false;
                    };
                    let buffers = |bytes| self.buffer(bytes);
                    let waiting = slot.bypass.len();
                    state.pointers -= pointer_bytes(waiting) - pointer_bytes(waiting - count);
                    let mut end = partition.durable_end();
                    for batch in slot.bypass.drain(..count) {
                        end = batch.last_offset.plus(1);
                        let item = Item {
                            kind: ItemKind::Pointer,
                            key: slot.key,
                            generation: slot.generation,
                            epoch: epoch_of(&batch.head),
                            segment: batch.place.segment,
                            position: batch.place.position,
                            base_offset: base_of(&batch.head),
                            last_offset: batch.last_offset,
                            durable_position: drained.position.min(target.position),
                            len: BATCH_HEADER_BYTES as u32,
                            crc: crc32c(&batch.head),
                        };
                        state.open.push(&buffers, &item, &[&batch.head]);
                    }
                    if rest > 0 {
                        let parts = partition.bytes_from(drained);
                        carry(self, state, id, drained, &parts, rest);
                    }
                    let Some(slot) = state.slots[id as usize].as_mut() else {
                        return false;
                    };
                    touch(&mut state.open, slot, id, end, target, true);
                    self.work.notify_all();
                    return true;
                }
            }
            self.drain.notify_all();
            wait.await;
        }
    }
}

/// Adds the first `len` of these bytes as a CARRY.
pub(crate) fn carry(
    journal: &Journal,
    state: &mut State,
    id: SlotId,
    at: Place,
    parts: &[Buf],
    len: u64,
) {
    let Some(slot) = state.slots[id as usize].as_ref() else {
        return;
    };
    let mut left = len as usize;
    let mut crc = 0;
    let mut slices: SmallVec<[&[u8]; 2]> = SmallVec::new();
    for part in parts {
        let n = left.min(part.len());
        if n > 0 {
            slices.push(&part[..n]);
            crc = crc32c_append(crc, &part[..n]);
            left -= n;
        }
    }
    debug_assert_eq!(left, 0, "the tail is in memory");
    let item = Item {
        kind: ItemKind::Carry,
        key: slot.key,
        generation: slot.generation,
        epoch: LeaderEpoch::NONE,
        segment: at.segment,
        position: at.position,
        base_offset: slot.partition.durable_end(),
        last_offset: slot.partition.durable_end(),
        durable_position: 0,
        len: len as u32 - left as u32,
        crc,
    };
    state
        .open
        .push(&|bytes| journal.buffer(bytes), &item, &slices);
    journal.counts.carry(len);
}

fn base_of(head: &[u8; BATCH_HEADER_BYTES]) -> Offset {
    let bytes = head.first_chunk::<8>().expect("61 bytes have 8");
    Offset(i64::from_be_bytes(*bytes))
}

fn epoch_of(head: &[u8; BATCH_HEADER_BYTES]) -> LeaderEpoch {
    LeaderEpoch(i32::from_be_bytes([head[12], head[13], head[14], head[15]]))
}
