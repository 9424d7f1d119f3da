//! Group after group onto the disk: while one is flushed the next one is written, and the one after
//! that fills. A header says what was durable when it was sealed, so an entry that lies behind a
//! torn one proves nothing and is dropped with it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use crate::base::limits::PAGE_BYTES;
use crate::log::commit::group::{Group, skip_page};
use crate::log::commit::space::Pin;
use crate::log::journal::entry::EntryKind;
use crate::log::journal::superblock::JournalKind;
use crate::log::store::growth::{Growth, is_half_full};
use crate::log::store::journal::Journal;
use crate::ring::buf::Buf;
use crate::ring::driver::Chain;
use crate::ring::sync::join;

/// A group that is an entry.
pub(crate) struct Sealed {
    group: Group,
    sequence: u64,
    position: u64,
    bytes: u64,
    skip: Option<(u64, Buf)>,
}

/// Groups that may wait for a flush while another is written. Beside none, one gave 64 KiB batches
/// of one producer 1.16 times the bytes and 64 unbatched producers 1.34 times the records; two and
/// six took more CPU and gave less than one.
const UNFLUSHED: usize = 1;

impl Journal {
    /// Writes and flushes groups until the journal stops or its directory goes offline.
    pub async fn run_commits(self: Rc<Self>) {
        match self.kind {
            JournalKind::Group => {
                let over = Cell::new(false);
                let write = async {
                    self.write_groups().await;
                    over.set(true);
                };
                join(write, self.flush_groups(&over)).await;
            }
            JournalKind::Interval => self.write_groups().await,
        }
    }

    async fn write_groups(&self) {
        while self.until_work().await {
            let sealed = self.seal();
            if let Err(error) = self.write(&sealed).await {
                return self.fail("writing the journal", &error);
            }
            self.note_written(&sealed);
            match self.kind {
                JournalKind::Group => self.state.borrow_mut().unflushed.push_back(sealed),
                JournalKind::Interval => self.note_flushed(sealed),
            }
        }
    }

    async fn flush_groups(&self, over: &Cell<bool>) {
        while self.until_unflushed(over).await {
            // only what was written before a flush begins is known to be durable after it
            if let Err(error) = self.file.sync_data().await {
                return self.fail("flushing the journal", &error);
            }
            self.counts.flush();
            let (sealed, writer_waits) = {
                let mut state = self.state.borrow_mut();
                let full = state.unflushed.len() > UNFLUSHED;
                (state.unflushed.pop_front(), full || state.stopping)
            };
            self.note_flushed(sealed.expect("nothing else takes one"));
            if writer_waits {
                self.work.notify_all();
            }
        }
    }

    /// There is a group to write and nothing to wait for; false: nothing more is to be written.
    async fn until_work(&self) -> bool {
        loop {
            let wait = self.work.wait();
            if self.directory.is_offline() {
                self.fail("the directory", &io::Error::other("is offline"));
                return false;
            }
            {
                let state = self.state.borrow();
                match state.open.is_empty() {
                    // what a flush sets free may be written again
                    true if state.stopping && state.unflushed.is_empty() => return false,
                    false if state.unflushed.len() <= UNFLUSHED => return true,
                    _ => {}
                }
            }
            wait.await;
        }
    }

    /// There is a group to flush; false: none will come, for writing is over. Nobody has to wake it: only
    /// the writer brings groups, which the same task polls first.
    async fn until_unflushed(&self, over: &Cell<bool>) -> bool {
        poll_fn(|_| {
            if self.directory.is_offline() {
                self.fail("the directory", &io::Error::other("is offline"));
                return Poll::Ready(false);
            }
            match self.state.borrow().unflushed.is_empty() {
                false => Poll::Ready(true),
                true if over.get() => Poll::Ready(false),
                true => Poll::Pending,
            }
        })
        .await
    }

    fn seal(&self) -> Sealed {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Growth::Said(end) = state.growth
            && state.space.can_grow()
        {
            state.space.grow(end);
            state.growth = Growth::None;
        }
        let mut next = state.spare.pop().unwrap_or_default();
        next.number = state.open.number + 1;
        let mut group = std::mem::replace(&mut state.open, next);
        let bytes = group.entry_bytes();
        let placement = state.space.placement(bytes);
        let skip = placement.skip.map(|(position, rest)| {
            let mut page = self.buffer(PAGE_BYTES);
            let address = self.address(state, position);
            let crc = skip_page(&mut page[..PAGE_BYTES], address, rest);
            state.space.push(rest, crc, false);
            (position, page.freeze(0..PAGE_BYTES))
        });
        let address = self.address(state, placement.position);
        let crc = group.seal(&|bytes| self.buffer(bytes), address);
        let sequence = state.space.push(bytes, crc, group.control);
        for touched in &group.touched {
            if let Some(slot) = &mut state.slots[touched.slot as usize] {
                let pin = Pin {
                    sequence,
                    end: touched.place,
                };
                slot.pins.add(&mut state.space, touched.slot, pin);
            }
        }
        Sealed {
            group,
            sequence,
            position: placement.position,
            bytes,
            skip,
        }
    }

    async fn write(&self, sealed: &Sealed) -> io::Result<()> {
        if let Some((position, page)) = &sealed.skip {
            let chain = Chain::from_iter([page.clone()]);
            self.file.write_at(chain, *position).await?;
        }
        let chain: Chain = sealed.group.parts().cloned().collect();
        self.file.write_at(chain, sealed.position).await?;
        self.counts.commit(sealed.bytes);
        Ok(())
    }

    fn note_written(&self, sealed: &Sealed) {
        let number = sealed.group.number;
        let mut state = self.state.borrow_mut();
        state.written = number;
        state.last_sealed = sealed.sequence;
        for touched in &sealed.group.touched {
            if let Some(slot) = &state.slots[touched.slot as usize] {
                slot.partition.advance_written(touched.end);
            }
        }
        drop(state);
        self.group_written[number as usize & 3].notify_all();
    }

    fn note_flushed(&self, mut sealed: Sealed) {
        let number = sealed.group.number;
        let enough = self.enough_to_drain(&self.state.borrow());
        // one at a time: a partition tells its observers, who may look at the log
        for touched in &sealed.group.touched {
            let partition = {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                let Some(slot) = &mut state.slots[touched.slot as usize] else {
                    continue;
                };
                if touched.carried {
                    slot.pins.carried(&mut state.space, sealed.sequence);
                }
                slot.partition.clone()
            };
            partition.advance_durable(touched.end, touched.place);
            if partition.undrained_bytes() >= enough {
                self.queue(touched.slot);
            }
        }
        let mut state = self.state.borrow_mut();
        state.flushed = number;
        if self.kind == JournalKind::Group {
            state.durable = sealed.sequence;
        }
        let was_seal =
            sealed.group.kind == Some(EntryKind::Seal) && sealed.group.touched.is_empty();
        sealed.group.reset();
        state.spare.push(sealed.group);
        let pressed = is_half_full(&state);
        // whoever waits for the end of a sealed time must wait for the next seal instead
        let unsealed = !was_seal && std::mem::take(&mut state.sealed);
        let wants_drain = pressed || unsealed || !state.ready.is_empty() || state.drains_asleep;
        drop(state);
        self.group_flushed[number as usize & 3].notify_all();
        self.progress.notify_all();
        if wants_drain {
            self.drain.notify_all();
        }
    }
}
