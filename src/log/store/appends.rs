//! Appending: synchronous, from a checked batch to the open group and the partition's pages.

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Timestamp;
use crate::log::append::{AppendError, Origin, StorageError};
use crate::log::commit::group::Touched;
use crate::log::commit::space::SlotId;
use crate::log::commit::stamp::stamped;
use crate::log::journal::entry::{BATCH_HEADER_BYTES, Item, ItemKind};
use crate::log::partition::Admit;
use crate::log::segment::{BatchHeader, Place};
use crate::log::store::journal::{Journal, State};
use crate::log::store::slot::{Bypassed, Slot, pointer_bytes};
use crate::log::store::ticket::{Appended, Ticket};
use crate::wire::batch::BatchView;

/// What becomes of a batch besides its place in the log.
pub(crate) struct Outcome {
    pub appended: Appended,
    /// The caller must see to it that somebody takes the partition past the journal.
    pub begin_bypass: bool,
}

impl Journal {
    /// Appends a batch whose CRC was checked. Never waits.
    pub fn append(
        &self,
        id: SlotId,
        batch: &BatchView<'_>,
        origin: Origin,
    ) -> Result<Outcome, AppendError> {
        self.check_space()?;
        let bytes = batch.bytes();
        let header = BatchHeader::parse(bytes)
            .ok_or_else(|| AppendError::Corrupt("no header of magic 2".into()))?;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let number = state.open.number;
        let slot = slot(state, id)?;
        let in_group = match slot.group == number {
            true => slot.group_bytes,
            false => 0,
        };
        let bypass = !slot.bypass.is_empty()
            || slot.bypassing
            || in_group + bytes.len() >= self.limits.bypass_bytes;
        let waiting = slot.bypass.len();
        let pointers = match bypass {
            true => pointer_bytes(waiting + 1) - pointer_bytes(waiting),
            false => 0,
        };
        let data = if bypass { 0 } else { bytes.len() };
        if !self.admits(state, bytes.len(), data, pointers) {
            self.drain.notify_all();
            return Err(AppendError::Busy);
        }
        let slot = state.slots[id as usize]
            .as_mut()
            .ok_or(StorageError::Deleted)?;
        let place = match slot.partition.prepare(&header, origin)? {
            Admit::Append(place) => place,
            Admit::Duplicate(original) => return Ok(self.duplicate(id, slot, original)),
        };
        if place.space > 0 {
            self.claim(place.space)?;
            slot.claimed += place.space;
            slot.partition.claim(place.space);
        }
        let append_time = slot.append_time.then(|| self.ring.wall());
        let head = stamped(bytes, place.base_offset, place.leader_epoch, append_time);
        let records = &bytes[BATCH_HEADER_BYTES..];
        let at = slot.partition.push(&head, records);
        let last_offset = place.base_offset.plus(i64::from(header.last_offset_delta));
        slot.changed = true;
        state.last_append = self.ring.now();
        let mut begin_bypass = false;
        let ticket = if bypass {
            slot.bypass.push_back(Bypassed {
                place: at,
                head,
                last_offset,
                len: bytes.len() as u32,
            });
            state.pointers += pointers;
            begin_bypass = !std::mem::replace(&mut slot.bypassing, true);
            Ticket {
                journal: self.index,
                slot: id + 1,
                mark: last_offset.0 as u64 + 1,
            }
        } else {
            let item = Item {
                kind: ItemKind::Data,
                key: slot.key,
                generation: slot.generation,
                epoch: place.leader_epoch,
                segment: at.segment,
                position: at.position,
                base_offset: place.base_offset,
                last_offset,
                durable_position: 0,
                len: bytes.len() as u32,
                crc: u32::from_be_bytes([head[17], head[18], head[19], head[20]]),
            };
            state
                .open
                .push(&|bytes| self.buffer(bytes), &item, &[&head, records]);
            slot.group_bytes = in_group + bytes.len();
            let end = at.plus(bytes.len() as u64);
            touch(&mut state.open, slot, id, last_offset.plus(1), end, false);
            Ticket {
                journal: self.index,
                slot: 0,
                mark: number,
            }
        };
        let log_start_offset = slot.partition.log_start();
        if !bypass {
            self.work.notify_all();
        }
        Ok(Outcome {
            appended: Appended {
                base_offset: place.base_offset,
                last_offset,
                log_append_time: append_time.unwrap_or(Timestamp::NONE),
                log_start_offset,
                ticket,
                duplicate: false,
            },
            begin_bypass,
        })
    }

    /// A full directory is looked at again, now and then: nothing else might.
    fn check_space(&self) -> Result<(), StorageError> {
        match self.directory.check() {
            Err(StorageError::NoSpace { .. }) => {
                self.look_again();
                self.directory.check()
            }
            other => other,
        }
    }

    fn claim(&self, bytes: u64) -> Result<(), StorageError> {
        let reserve = self.limits.reserved_disk_bytes;
        self.look_again();
        match self.directory.claim(bytes, reserve) {
            true => Ok(()),
            false => Err(self.directory.no_space()),
        }
    }

    fn look_again(&self) {
        let reserve = self.limits.reserved_disk_bytes;
        self.directory.look_again(&self.ring, reserve);
    }

    fn duplicate(
        &self,
        id: SlotId,
        slot: &Slot,
        original: crate::log::producers::BatchMark,
    ) -> Outcome {
        Outcome {
            appended: Appended {
                base_offset: original.first_offset(),
                last_offset: original.last_offset,
                log_append_time: match slot.append_time {
                    true => Timestamp(original.timestamp),
                    false => Timestamp::NONE,
                },
                log_start_offset: slot.partition.log_start(),
                ticket: Ticket {
                    journal: self.index,
                    slot: id + 1,
                    mark: original.last_offset.0 as u64 + 1,
                },
                duplicate: true,
            },
            begin_bypass: false,
        }
    }

    /// Adds an item that is no batch, whatever the reserve; `None` if the ring is full, or the
    /// group, until something is freed.
    pub fn control(
        &self,
        state: &mut State,
        kind: ItemKind,
        id: SlotId,
        offset: Offset,
        data: &[u8],
    ) -> Option<Ticket> {
        if !self.room(state, data.len(), 0) {
            return None;
        }
        let slot = state.slots[id as usize].as_mut()?;
        slot.dropping |= kind == ItemKind::Drop;
        let end = slot.partition.end_place();
        let item = Item {
            kind,
            key: slot.key,
            generation: slot.generation,
            epoch: LeaderEpoch::NONE,
            segment: end.segment,
            position: end.position,
            base_offset: offset,
            last_offset: offset,
            durable_position: 0,
            len: data.len() as u32,
            crc: crc32c(data),
        };
        Some(self.put_control(state, &item, data))
    }

    pub(crate) fn put_control(&self, state: &mut State, item: &Item, data: &[u8]) -> Ticket {
        state.open.push(&|bytes| self.buffer(bytes), item, &[data]);
        state.open.control = true;
        self.work.notify_all();
        Ticket {
            journal: self.index,
            slot: 0,
            mark: state.open.number,
        }
    }
}

/// Notes in the group that fills what it does to a partition.
pub(crate) fn touch(
    open: &mut crate::log::commit::group::Group,
    slot: &mut Slot,
    id: SlotId,
    end: Offset,
    place: Place,
    carried: bool,
) {
    let line = slot.line_in(open.number);
    if line.is_none() && carried {
        slot.group_bytes = 0;
    }
    slot.line = open.touch(
        line,
        Touched {
            slot: id,
            end,
            place,
            carried,
        },
    );
    slot.group = open.number;
}

fn slot(state: &State, id: SlotId) -> Result<&Slot, StorageError> {
    state
        .slots
        .get(id as usize)
        .and_then(Option::as_ref)
        .ok_or(StorageError::Deleted)
}
