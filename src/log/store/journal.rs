//! One journal of one shard: the thin shell around its ring file. Appends fill the open group; one
//! task writes group after group (`commits`), another one brings bytes to the segments and frees
//! the ring (`checkpoint`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{PartitionKey, Uuid};
use crate::base::limits::PAGE_BYTES;
use crate::base::time::Monotonic;
use crate::log::append::StorageError;
use crate::log::commit::group::{Address, Group};
use crate::log::commit::pace::Pace;
use crate::log::commit::space::{RingSpace, SlotId};
use crate::log::journal::properties::ring_file;
use crate::log::journal::superblock::{JournalKind, RING_START, Superblock, TableRef};
use crate::log::partition::Undrained;
use crate::log::store::commits::Sealed;
use crate::log::store::config::{JournalSize, LogConfig};
use crate::log::store::counts::Counts;
use crate::log::store::directory::{Directory, FreeJournal};
use crate::log::store::drains::{DrainError, flush_failed};
use crate::log::store::growth::{Growth, write_zeros};
use crate::log::store::slot::Slot;
use crate::log::store::table::Unnamed;
use crate::ring::buf::BufMut;
use crate::ring::driver::{Chain, OpenOptions};
use crate::ring::sync::Event;
use crate::ring::{File, Ring};

/// No entry is larger, whatever the ring: a larger one delays those who wait for it.
const MAX_ENTRY_BYTES: u64 = 2 << 20;
/// The smallest ring: an eighth of it is an entry, which must take a batch below the bypass.
pub(crate) const MIN_RING_BYTES: u64 = 1 << 20;
/// The largest ring that grows by itself.
pub const MAX_AUTO_BYTES: u64 = 1 << 30;

/// What the journal must know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub bypass_bytes: usize,
    pub undrained_bytes: u64,
    pub reserved_disk_bytes: u64,
    pub flush_interval: Duration,
    /// The ring may grow up to so many bytes.
    pub max_ring_bytes: u64,
}

/// See the module.
pub(crate) struct Journal {
    pub ring: Ring,
    /// Counted from 1 on this shard.
    pub index: u32,
    pub directory: Arc<Directory>,
    pub id: Uuid,
    pub kind: JournalKind,
    pub file: File,
    pub limits: Limits,
    pub state: RefCell<State>,
    /// The open group has something to write.
    pub work: Event,
    /// A group was written; by its number modulo 4.
    pub group_written: [Event; 4],
    /// A group was flushed; as `group_written`.
    pub group_flushed: [Event; 4],
    /// Space, marks of partitions, or who is busy with a file changed.
    pub progress: Event,
    /// Something may want to be drained.
    pub drain: Event,
    pub counts: Counts,
}

/// All that changes, never borrowed across an await.
pub(crate) struct State {
    pub space: RingSpace,
    pub open: Group,
    pub spare: Vec<Group>,
    /// Written, oldest first, and not known to be durable.
    pub unflushed: VecDeque<Sealed>,
    /// Numbers of the newest group written, and flushed.
    pub written: u64,
    pub flushed: u64,
    /// Sequence of the newest durable entry.
    pub durable: u64,
    pub slots: Vec<Option<Slot>>,
    pub superblock: Superblock,
    pub table: TableRef,
    /// Table files whose names are durable, as far as this run knows.
    pub named_tables: [bool; 2],
    /// Bytes of the table file's first, full part.
    pub table_full: u64,
    /// The table file has space up to here.
    pub table_space: u64,
    /// Deleted partitions that the table does not say so of yet.
    pub dropped: Vec<(PartitionKey, u32)>,
    /// All partitions deleted in this run, and how many of them the table has.
    pub gone: Vec<(PartitionKey, u32)>,
    pub gone_tabled: usize,
    /// Partitions made and deleted that a power cut would undo.
    pub unnamed: Unnamed,
    /// Directories of deleted partitions: they may go once a durable table says so.
    pub doomed: Vec<PathBuf>,
    /// Since when the first of them waits.
    pub doomed_since: Monotonic,
    /// Partitions with enough whole pages to drain.
    pub ready: VecDeque<SlotId>,
    /// Partitions whose files wait for a flush.
    pub dirty: Vec<SlotId>,
    /// Names in the log directory wait for its flush.
    pub names: NewNames,
    /// Bytes carried in this lap, which began at this count of placed bytes.
    pub carried: (u64, u64),
    /// Bytes of its partitions that are in no segment.
    pub undrained: Undrained,
    /// Rounds of the bypass between their first write and their flush; none begins while a
    /// checkpoint takes its picture.
    pub bypassing: usize,
    /// Bytes of the ring that are kept for pointers to batches which are on the way.
    pub pointers: u64,
    /// Partitions whose bypass waits for space on the disk.
    pub parked: usize,
    pub holding: bool,
    /// Newest sequence that was written.
    pub last_sealed: u64,
    pub last_checkpoint: Monotonic,
    pub pace: Pace,
    pub last_append: Monotonic,
    pub sealed: bool,
    /// The drains' task sleeps without a timer.
    pub drains_asleep: bool,
    /// How far a longer ring is.
    pub growth: Growth,
    pub stopping: bool,
    pub stopped_drains: bool,
}

/// Names in the log directory that are not known to be durable, counted.
#[derive(Debug, Default)]
pub(crate) struct NewNames {
    pub wanted: u64,
    pub flushed: u64,
    pub flushing: bool,
}

impl Journal {
    /// Takes an empty journal of an earlier run over, or makes one: ring pre-written and flushed,
    /// then listed, then used.
    pub async fn begin(
        ring: &Ring,
        index: u32,
        directory: &Arc<Directory>,
        kind: JournalKind,
        config: &LogConfig,
    ) -> io::Result<Rc<Journal>> {
        let size = match config.journal_size {
            JournalSize::Auto => config.journal_first_bytes,
            JournalSize::Bytes(bytes) => bytes,
        }
        .max(MIN_RING_BYTES)
        .next_multiple_of(PAGE_BYTES as u64);
        let free = directory.take_free_journal();
        let known = free.is_some();
        let mut journal = free.unwrap_or_else(|| FreeJournal {
            id: Uuid::from_random(ring.random(), ring.random()),
            ring_end: RING_START,
            position: RING_START,
            sequence: 1,
            previous_crc: 0,
            update: 0,
        });
        let path = directory.path().join(ring_file(journal.id));
        let file = ring.open(
            &path,
            OpenOptions {
                write: true,
                create: true,
                direct: kind == JournalKind::Group,
                ..OpenOptions::default()
            },
        )?;
        file.try_lock()?;
        let wanted = RING_START + size;
        if journal.ring_end < wanted {
            if let Err(error) = zero(ring, &file, journal.ring_end, wanted).await {
                if error.kind() == io::ErrorKind::StorageFull {
                    match known {
                        true => {
                            file.set_len(journal.ring_end)?;
                            directory.give_back(journal);
                        }
                        false => ring.remove_file(&path)?,
                    }
                }
                return Err(error);
            }
            journal.ring_end = wanted;
        }
        if file.len()? > journal.ring_end {
            // a ring that was to become longer when its broker died
            file.set_len(journal.ring_end)?;
        }
        let superblock = Superblock {
            journal: journal.id,
            kind,
            update: journal.update,
            incarnation: directory.incarnation(),
            ring_end: journal.ring_end,
            position: RING_START,
            sequence: journal.sequence,
            previous_crc: journal.previous_crc,
            first_crc: None,
            durable_through: journal.sequence - 1,
            table: TableRef::default(),
            boot_id: ring.boot_id(),
        };
        directory.look_at_space(ring, config.reserved_disk_bytes);
        let max_ring_bytes = match config.journal_size {
            JournalSize::Auto => auto_limit(ring, directory),
            JournalSize::Bytes(_) => 0,
        };
        let made = Rc::new(Journal {
            ring: ring.clone(),
            index,
            directory: directory.clone(),
            id: journal.id,
            kind,
            file,
            limits: Limits {
                bypass_bytes: config.bypass_bytes.min(size as usize / 16),
                undrained_bytes: config.undrained_bytes,
                reserved_disk_bytes: config.reserved_disk_bytes,
                flush_interval: config.flush_interval,
                max_ring_bytes,
            },
            state: RefCell::new(State {
                space: RingSpace::new(
                    RING_START,
                    journal.ring_end,
                    RING_START,
                    journal.sequence,
                    journal.previous_crc,
                ),
                open: Group::opening(),
                spare: Vec::new(),
                unflushed: VecDeque::new(),
                written: 0,
                flushed: 0,
                durable: journal.sequence - 1,
                slots: Vec::new(),
                superblock: superblock.clone(),
                table: TableRef::default(),
                named_tables: [false; 2],
                table_full: 0,
                table_space: 0,
                dropped: Vec::new(),
                gone: Vec::new(),
                gone_tabled: 0,
                unnamed: Unnamed::default(),
                doomed: Vec::new(),
                doomed_since: Monotonic::default(),
                ready: VecDeque::new(),
                dirty: Vec::new(),
                names: NewNames::default(),
                carried: (0, 0),
                undrained: Undrained::default(),
                bypassing: 0,
                pointers: 0,
                parked: 0,
                holding: false,
                last_sealed: journal.sequence - 1,
                last_checkpoint: ring.now(),
                pace: Pace::default(),
                last_append: ring.now(),
                sealed: false,
                drains_asleep: false,
                growth: Growth::None,
                stopping: false,
                stopped_drains: false,
            }),
            work: Event::new(),
            group_written: Default::default(),
            group_flushed: Default::default(),
            progress: Event::new(),
            drain: Event::new(),
            counts: Counts::default(),
        });
        let written = made.write_superblock(superblock).await;
        written.map_err(|error| io::Error::other(error.to_string()))?;
        if !known {
            ring.sync_dir(directory.path()).await?;
            directory.list_journal(ring, made.id).await?;
        }
        Ok(made)
    }

    /// A page-aligned buffer, from the arena while that has room.
    pub fn buffer(&self, bytes: usize) -> BufMut {
        let arena = self.ring.arena();
        arena
            .try_alloc(bytes)
            .unwrap_or_else(|| BufMut::unbudgeted(bytes))
    }

    /// Where the entry after the newest one belongs.
    pub fn address(&self, state: &State, position: u64) -> Address {
        Address {
            journal: self.id,
            incarnation: self.directory.incarnation(),
            position,
            sequence: state.space.next_sequence(),
            durable_through: state.durable,
            previous_crc: state.space.last_crc(),
        }
    }

    /// Writes both pages of the superblock, one after the other. A failure is final whatever it
    /// says, a full disk included (where an overwrite takes new space): one of the pages may be there,
    /// and what it names must not be written anew.
    pub async fn write_superblock(&self, mut superblock: Superblock) -> Result<(), DrainError> {
        superblock.update += 1;
        for page in 0..2 {
            let mut buf = self.buffer(PAGE_BYTES);
            buf[..PAGE_BYTES].copy_from_slice(&superblock.encode());
            let chain = Chain::from_iter([buf.freeze(0..PAGE_BYTES)]);
            let written = self.file.write_at(chain, page * PAGE_BYTES as u64).await;
            written.map_err(flush_failed)?;
            self.file.sync_data().await.map_err(flush_failed)?;
            self.counts.superblock_page();
        }
        self.state.borrow_mut().superblock = superblock;
        Ok(())
    }

    /// The largest entry.
    pub fn max_entry(&self, state: &State) -> u64 {
        state.space.max_entry().min(MAX_ENTRY_BYTES)
    }

    /// Bytes that appends leave for what frees the ring: carried tails, pointers, deletions.
    pub fn reserve(&self, state: &State) -> u64 {
        state.space.capacity() / 8
    }

    /// Whether an item with so much data fits the open group and the ring.
    pub fn room(&self, state: &State, data: usize, reserve: u64) -> bool {
        self.fits_group(state, data, reserve + state.pointers)
    }

    /// As [`Journal::room`], for the pointers that a part of the ring is kept for.
    pub fn room_for_pointers(&self, state: &State, data: usize) -> bool {
        self.fits_group(state, data, 0)
    }

    fn fits_group(&self, state: &State, data: usize, reserve: u64) -> bool {
        let bytes = state.open.bytes_with(data);
        (bytes <= self.max_entry(state) || state.open.is_empty())
            && state.space.fits(bytes, reserve)
    }

    /// The group with this number is written, or flushed. Errors when the directory is offline.
    pub async fn reached(&self, number: u64, flushed: bool) -> Result<(), StorageError> {
        let events = match flushed {
            true => &self.group_flushed,
            false => &self.group_written,
        };
        loop {
            let wait = events[number as usize & 3].wait();
            if self.has_reached(number, flushed) {
                return Ok(());
            }
            if self.directory.is_offline() {
                return Err(self.directory.offline_error());
            }
            wait.await;
        }
    }

    /// See [`Journal::reached`].
    pub fn has_reached(&self, number: u64, flushed: bool) -> bool {
        let state = self.state.borrow();
        let reached = if flushed {
            state.flushed
        } else {
            state.written
        };
        number <= reached
    }

    /// Wakes everybody who waits for anything here.
    pub fn wake_all(&self) {
        for event in self.group_written.iter().chain(&self.group_flushed) {
            event.notify_all();
        }
        self.progress.notify_all();
        self.drain.notify_all();
        self.work.notify_all();
    }

    /// A write or flush failed: nothing more is written in this directory.
    pub fn fail(&self, what: &str, error: &io::Error) {
        self.directory.take_offline(&format!("{what}: {error}"));
        let partitions: Vec<_> = {
            let state = self.state.borrow();
            state
                .slots
                .iter()
                .flatten()
                .map(|slot| slot.partition.clone())
                .collect()
        };
        for partition in partitions {
            partition.set_gone();
        }
        self.wake_all();
    }
}

fn auto_limit(ring: &Ring, directory: &Directory) -> u64 {
    let share = ring
        .space(directory.path())
        .map_or(u64::MAX, |space| space.total_bytes / 64);
    share.min(MAX_AUTO_BYTES) / PAGE_BYTES as u64 * PAGE_BYTES as u64
}

/// Writes zeros, so that later writes overwrite: a write into space that was only reserved makes
/// the file system commit too.
async fn zero(ring: &Ring, file: &File, from: u64, to: u64) -> io::Result<()> {
    write_zeros(ring, file, from, to, Duration::ZERO).await?;
    file.sync_all().await
}
