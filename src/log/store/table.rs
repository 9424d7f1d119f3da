//! The journal's table: what a checkpoint adds to it, and the names that cannot wait for one.

use std::io;

use crate::base::ids::Offset;
use crate::log::append::StorageError;
use crate::log::commit::space::SlotId;
use crate::log::journal::properties::table_file;
use crate::log::journal::superblock::{JournalKind, TableRef};
use crate::log::journal::table::BlockBuilder;
use crate::log::partition::PartitionFacts;
use crate::log::store::drains::{DrainError, flush_failed};
use crate::log::store::journal::{Journal, State};
use crate::ring::File;
use crate::ring::driver::OpenOptions;

/// Space that is kept behind a table's end.
const TABLE_SPACE_BYTES: u64 = 64 << 10;

/// Partitions made and deleted under the interval policy that no durable table names: the ring,
/// which a power cut takes, is all that knows them.
#[derive(Debug, Default)]
pub(crate) struct Unnamed {
    born: Vec<SlotId>,
    wanted: u64,
    done: u64,
}

/// What a table that is being written names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    born: usize,
    wanted: u64,
}

impl Unnamed {
    pub fn add(&mut self, id: SlotId) {
        self.born.push(id);
    }

    pub fn has(&self, id: SlotId) -> bool {
        self.born.contains(&id)
    }

    /// Somebody waits for a table.
    pub fn is_wanted(&self) -> bool {
        self.wanted > self.done
    }

    /// What the table that is made now will name.
    pub fn mark(&self) -> Mark {
        Mark {
            born: self.born.len(),
            wanted: self.wanted,
        }
    }

    /// That table is durable.
    pub fn tabled(&mut self, mark: Mark) {
        self.born.drain(..mark.born);
        self.done = mark.wanted;
    }
}

impl Journal {
    /// Waits until a power cut cannot undo what was made and deleted here before this call, whose
    /// items are flushed. All who wait at a time share one table.
    ///
    /// # Errors
    /// When the directory is offline, or the journal stops.
    pub async fn until_named(&self) -> Result<(), StorageError> {
        if self.kind == JournalKind::Group {
            return Ok(());
        }
        let goal = {
            let unnamed = &mut self.state.borrow_mut().unnamed;
            unnamed.wanted += 1;
            unnamed.wanted
        };
        self.drain.notify_all();
        loop {
            let wait = self.progress.wait();
            {
                let state = self.state.borrow();
                if state.unnamed.done >= goal {
                    return Ok(());
                }
                if self.directory.is_offline() {
                    return Err(self.directory.offline_error());
                }
                if state.stopped_drains {
                    return Err(self.directory.stopping_error());
                }
            }
            wait.await;
        }
    }

    /// A table that says only which partitions are new, as if they were empty, and which are
    /// deleted. Nothing in the ring is freed by it: what is in the new ones comes from there, or
    /// after a power cut from their files.
    pub(crate) async fn table_names(&self) -> Result<(), DrainError> {
        let (mark, block, part) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let mut block = BlockBuilder::new();
            let born = PartitionFacts::empty(Offset(0), self.ring.wall().0);
            for id in &state.unnamed.born {
                if let Some(slot) = &mut state.slots[*id as usize] {
                    slot.tabled = true;
                    let topic = slot.partition.topic();
                    block.push(slot.key, slot.generation, topic, Some(&born), None);
                }
            }
            gone_into(state, false, &mut block);
            (state.unnamed.mark(), block, state.table)
        };
        if !block.is_empty() {
            let table = self.write_table(block, part).await?;
            let mut superblock = self.state.borrow().superblock.clone();
            superblock.table = table;
            self.write_superblock(superblock).await?;
            self.state.borrow_mut().table = table;
        }
        self.state.borrow_mut().unnamed.tabled(mark);
        self.progress.notify_all();
        Ok(())
    }

    /// Appends a block to the table, or begins the other file with it.
    pub(crate) async fn write_table(
        &self,
        block: BlockBuilder,
        part: TableRef,
    ) -> Result<TableRef, DrainError> {
        let written = self.try_write_table(block, part).await;
        if written.is_err() {
            self.untable();
        }
        written
    }

    /// The table that should have said what changed was not written: the next one says it.
    fn untable(&self) {
        let mut state = self.state.borrow_mut();
        for slot in state.slots.iter_mut().flatten() {
            slot.changed |= slot.tabled;
        }
        state.gone_tabled = 0;
    }

    async fn try_write_table(
        &self,
        block: BlockBuilder,
        part: TableRef,
    ) -> Result<TableRef, DrainError> {
        let (bytes, crc) = block.finish(self.id, self.directory.incarnation(), false, part.crc);
        let path = self.directory.path().join(table_file(self.id, part.file));
        let file = self.ring.open(
            &path,
            OpenOptions {
                write: true,
                create: true,
                truncate: part.len == 0,
                ..OpenOptions::default()
            },
        )?;
        self.reserve_table(&file, part, bytes.len() as u64).await?;
        file.write_now(&bytes, part.len)?;
        file.sync_all().await.map_err(flush_failed)?;
        self.counts.flush();
        let which = part.file as usize;
        if !self.state.borrow().named_tables[which] {
            // also of one that is there: whoever made it may not have come so far
            let named = self.ring.sync_dir(self.directory.path()).await;
            named.map_err(flush_failed)?;
            self.counts.flush();
            self.state.borrow_mut().named_tables[which] = true;
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
}

impl Journal {
    /// Keeps space for the next blocks too: on a full disk a table must say that partitions are
    /// deleted before their files may go.
    async fn reserve_table(&self, file: &File, part: TableRef, bytes: u64) -> io::Result<()> {
        let end = part.len + bytes;
        let reserved = match part.len {
            0 => 0,
            _ => self.state.borrow().table_space,
        };
        if end <= reserved {
            return Ok(());
        }
        let wanted = (end + TABLE_SPACE_BYTES).next_multiple_of(TABLE_SPACE_BYTES);
        let got = match file.allocate(0, wanted, true).await {
            Ok(()) => wanted,
            Err(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::Unsupported => end,
                _ => return Err(error),
            },
        };
        self.state.borrow_mut().table_space = got;
        Ok(())
    }
}

/// Deleted partitions that the table does not say so of; with `full` all of this run's.
pub(crate) fn gone_into(state: &mut State, full: bool, block: &mut BlockBuilder) {
    state.gone.append(&mut state.dropped);
    let from = match full {
        true => 0,
        false => state.gone_tabled,
    };
    for (key, generation) in &state.gone[from..] {
        block.push(*key, *generation, "", None, None);
    }
    state.gone_tabled = state.gone.len();
}
