//! From memory to the segments' files: whole pages past the page cache while a partition runs, the
//! rest at its exact length when it settles. One at a time for each partition.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::format::names::Kind;
use crate::log::format::partition_metadata;
use crate::log::partition::Partition;
use crate::log::partition::error::LogError;
use crate::log::partition::segment::{STEP_MAX, STEP_MIN, page_floor};
use crate::log::segment::{Access, Place};
use crate::ring::File;
use crate::ring::driver::{Chain, OpenOptions};

/// A write of a drain that settles, and the most that goes through the page cache at a stop.
const DRAIN_BYTES: u64 = 256 << 10;

/// How far a drain may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainLimit {
    /// What the journal has flushed.
    Durable,
    /// Up to this place, flushed or not: bytes that the journal will only point at.
    Through(Place),
}

/// Which segments are put into their files whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// Those that will not grow, flushed one by one.
    Sealed,
    /// The active one too.
    All,
    /// All, not flushed: a flush of the whole file system follows, one for all partitions.
    AtStop,
}

/// What a checkpoint must flush.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Files with bytes that no flush covers.
    pub files: SmallVec<[File; 2]>,
    /// The directory, if names in it are new; its parent too if it is new itself.
    pub dir: Option<PathBuf>,
}

/// One drain, settling or cut at a time.
pub(super) struct Busy(Rc<Partition>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.idle.notify_all();
    }
}

/// A write that is planned.
struct Write {
    base: Offset,
    from: u64,
    to: u64,
    cuts: u64,
    fresh: bool,
    allocate: Option<(u64, u64)>,
    lacks_prefix: bool,
}

impl Partition {
    pub(super) async fn acquire(self: &Rc<Self>) -> Busy {
        while self.busy.replace(true) {
            self.idle.wait().await;
        }
        Busy(self.clone())
    }

    /// Whether a drain, settling or cut is under way.
    pub fn is_draining(&self) -> bool {
        self.busy.get()
    }

    /// Bytes of whole pages that [`Partition::drain`] would write now.
    pub fn drainable_bytes(&self) -> u64 {
        let state = self.state.borrow();
        let limit = state.durable;
        let unfinished = state.segments.range(state.first_unfinished()..);
        let pages = unfinished.map(|segment| {
            let upto = if limit.segment == segment.base {
                limit.position
            } else if limit.segment > segment.base {
                segment.len()
            } else {
                0
            };
            page_floor(upto).saturating_sub(segment.drained)
        });
        pages.sum()
    }

    /// A sealed segment waits for its last partial page: [`Partition::settle_sealed`].
    pub fn needs_settle(&self) -> bool {
        let state = self.state.borrow();
        let mut unfinished = state.segments.range(state.first_unfinished()..);
        unfinished.any(|segment| {
            segment.base < state.durable.segment
                && (segment.undrained() > 0 || segment.snapshot.is_some())
        })
    }

    /// Writes whole pages of the oldest segment that has some, at most `max_bytes` of them, and
    /// answers how many bytes that were: 0 when there was nothing to write. The file is not
    /// flushed: see [`Partition::take_dirty`]. Must run to its end once begun.
    ///
    /// # Errors
    /// The system's. ENOSPC leaves everything as it was; after any other, the file's content is
    /// unknown and the directory must go offline.
    pub async fn drain(
        self: &Rc<Self>,
        limit: DrainLimit,
        max_bytes: u64,
    ) -> Result<u64, LogError> {
        let _busy = self.acquire().await;
        self.drain_once(limit, max_bytes).await
    }

    async fn drain_once(&self, limit: DrainLimit, max_bytes: u64) -> Result<u64, LogError> {
        let Some(write) = self.plan_write(limit, max_bytes) else {
            return Ok(0);
        };
        let path = || self.path(write.base, Kind::Log);
        let io = |source: io::Error| LogError::Io {
            path: path(),
            source,
        };
        let (file, opened) = self
            .context
            .files
            .open(self.id, write.base, Access::Drain, path)
            .map_err(io)?;
        if opened {
            file.lock().await.map_err(io)?;
        }
        if write.fresh {
            self.begin_file(&file, write.base).map_err(io)?;
        }
        if write.lacks_prefix && !self.read_prefix(&file, &write).await.map_err(io)? {
            return Err(LogError::Memory(path()));
        }
        if let Some((from, to)) = write.allocate {
            match file.allocate(from, to - from, true).await {
                Ok(()) => self.set_allocated(&write, to),
                Err(error) if is_unsupported(&error) => self.set_allocated(&write, u64::MAX),
                Err(error) => return Err(io(error)),
            }
        }
        let mut chain = Chain::new();
        {
            let state = self.state.borrow();
            let Some(i) = state
                .index_of(write.base)
                .filter(|_| state.cuts == write.cuts)
            else {
                return Ok(0);
            };
            state.segments[i]
                .tail
                .share_pages(write.from, write.to, |part| chain.push(part));
        }
        file.write_at(chain, write.from).await.map_err(io)?;
        self.note_drained(write.base, write.to);
        Ok(write.to - write.from)
    }

    fn plan_write(&self, limit: DrainLimit, max_bytes: u64) -> Option<Write> {
        let state = self.state.borrow();
        let limit = match limit {
            DrainLimit::Durable => state.durable,
            DrainLimit::Through(place) => place,
        };
        if self.is_gone() {
            return None; // its directory's name may be another's by now
        }
        for segment in state.segments.range(state.first_unfinished()..) {
            let upto = if limit.segment == segment.base {
                limit.position
            } else if limit.segment > segment.base {
                segment.len()
            } else {
                return None;
            };
            let Some((from, to)) = segment.whole_pages(upto, max_bytes.max(PAGE_BYTES as u64))
            else {
                continue;
            };
            let allocate = (to > segment.allocated).then(|| {
                let step = segment
                    .allocated
                    .next_power_of_two()
                    .clamp(STEP_MIN, STEP_MAX);
                // what was claimed, and no more: that space is there
                let upto = match segment.claimed >= to {
                    true => segment.claimed,
                    false => to.max(segment.allocated + step),
                };
                (segment.allocated, upto)
            });
            return Some(Write {
                base: segment.base,
                from,
                to,
                cuts: state.cuts,
                fresh: !segment.on_disk,
                allocate,
                lacks_prefix: from < segment.tail.start() && segment.tail.lacks_prefix(),
            });
        }
        None
    }

    /// The first write of a segment: whatever was left under its name goes.
    pub(super) fn begin_file(&self, file: &File, base: Offset) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if let Some(segment) = state.by_base(base)
            && !segment.on_disk
        {
            file.set_len(0)?;
            segment.on_disk = true;
            state.new_names = true;
        }
        Ok(())
    }

    fn set_allocated(&self, write: &Write, to: u64) {
        if let Some(segment) = self.state.borrow_mut().by_base(write.base) {
            segment.allocated = to;
            segment.claimed = segment.claimed.max(to);
        }
        self.count_unreserved();
    }

    /// The first page begins with bytes that only the file has: reads them in.
    async fn read_prefix(&self, file: &File, write: &Write) -> io::Result<bool> {
        let arena = self.context.ring.arena();
        let page = arena.alloc(PAGE_BYTES).await;
        let (read, page) = file.read_at(page, 0, PAGE_BYTES, write.from).await;
        let read = read?;
        let mut state = self.state.borrow_mut();
        Ok(state
            .by_base(write.base)
            .is_none_or(|segment| segment.tail.set_prefix(&page[..read], arena)))
    }

    fn note_drained(&self, base: Offset, to: u64) {
        let mut state = self.state.borrow_mut();
        let Some(segment) = state.by_base(base) else {
            return;
        };
        let before = segment.drained;
        let freeable = segment.drained_to(to);
        let gained = segment.drained - before;
        drop(state);
        self.set_undrained(self.undrained.get() - gained);
        if let Some((position, bytes)) = freeable {
            self.context.cache.add(self.weak(), base, position, bytes);
        }
    }

    /// What must be flushed so that everything drained until now is durable. Clears the marks: an
    /// error of those flushes is final.
    ///
    /// # Errors
    /// The system's, where a file cannot be opened again.
    pub fn take_dirty(&self) -> Result<Dirty, LogError> {
        let mut dirty = Dirty::default();
        let mut state = self.state.borrow_mut();
        let mut bases: SmallVec<[Offset; 2]> = SmallVec::new();
        let first = state.first_unfinished();
        for segment in state.segments.range_mut(first..) {
            if std::mem::take(&mut segment.dirty) {
                bases.push(segment.base);
            }
        }
        if std::mem::take(&mut state.new_names) {
            dirty.dir = Some(self.dir());
        }
        let new_metadata = std::mem::take(&mut state.new_metadata);
        drop(state);
        if new_metadata {
            // whose the directory is must be known as long as it has its name: a power cut may
            // take the renaming of a deleted one back
            let path = self.dir().join(partition_metadata::FILE_NAME);
            let file = self.context.ring.open(&path, OpenOptions::default());
            dirty
                .files
                .push(file.map_err(|source| LogError::Io { path, source })?);
        }
        for base in bases {
            // the one that was written, if it is still open: it hears of errors
            let files = &self.context.files;
            let file = match files.get(self.id, base, Access::Drain) {
                Some(file) => file,
                None => self.open_file(base, Access::Read)?,
            };
            dirty.files.push(file);
        }
        Ok(dirty)
    }

    /// Puts everything that is durable in the journal into the files at its exact length, and
    /// flushes them: for idle partitions and checkpoints. Appends may go on meanwhile; they are not
    /// waited for. Finishes sealed segments.
    ///
    /// # Errors
    /// As [`Partition::drain`].
    pub async fn settle(self: &Rc<Self>) -> Result<(), LogError> {
        let _busy = self.acquire().await;
        self.settle_while_busy(Settle::All).await
    }

    /// As [`Partition::settle`], but only for sealed segments: writes their last partial page, side
    /// files, and gives back the space that was reserved behind their end.
    ///
    /// # Errors
    /// As [`Partition::drain`].
    pub async fn settle_sealed(self: &Rc<Self>) -> Result<(), LogError> {
        let _busy = self.acquire().await;
        self.settle_while_busy(Settle::Sealed).await
    }

    pub(super) async fn settle_while_busy(&self, what: Settle) -> Result<(), LogError> {
        // what is little goes through the page cache with the last page, in fewer system calls
        let through_cache = what == Settle::AtStop && self.undrained_bytes() <= DRAIN_BYTES;
        while !through_cache && self.drain_once(DrainLimit::Durable, DRAIN_BYTES).await? > 0 {}
        let (limit, bases): (Place, SmallVec<[Offset; 2]>) = {
            let state = self.state.borrow();
            let active = state.active().base;
            let bases = state
                .segments
                .range(state.first_unfinished()..)
                .filter(|segment| !segment.is_finished())
                .map(|segment| segment.base)
                .filter(|base| what != Settle::Sealed || *base != active)
                .collect();
            (state.durable, bases)
        };
        for base in bases {
            if base > limit.segment || self.is_gone() {
                break;
            }
            self.settle_segment(base, limit, what != Settle::AtStop)
                .await?;
            let sealed = base < limit.segment && self.state.borrow().active().base != base;
            if sealed {
                self.finish_sealed(base).await?;
            }
        }
        Ok(())
    }

    async fn settle_segment(
        &self,
        base: Offset,
        limit: Place,
        flush: bool,
    ) -> Result<(), LogError> {
        let path = || self.path(base, Kind::Log);
        let io = |source: io::Error| LogError::Io {
            path: path(),
            source,
        };
        let mut chain = Chain::new();
        let (from, to) = {
            let state = self.state.borrow();
            let Some(i) = state.index_of(base) else {
                return Ok(());
            };
            let segment = &state.segments[i];
            let to = match limit.segment == base {
                true => limit.position.min(segment.len()),
                false => segment.len(),
            };
            if to <= segment.drained && !(flush && segment.dirty) {
                return Ok(());
            }
            if to > segment.drained {
                let share = &mut |part| chain.push(part);
                segment.tail.share(segment.drained, to, share);
            }
            (segment.drained, to)
        };
        let (file, _) = self
            .context
            .files
            .open(self.id, base, Access::Settle, path)
            .map_err(io)?;
        self.begin_file(&file, base).map_err(io)?;
        file.write_at(chain, from).await.map_err(io)?;
        if flush {
            // final whatever it says, a full disk included: not to be tried again
            let flushed = file.sync_data().await;
            flushed.map_err(|error| io(io::Error::other(error)))?;
        }
        self.note_drained(base, to);
        if let Some(segment) = self.state.borrow_mut().by_base(base) {
            segment.dirty = !flush;
        }
        Ok(())
    }

    /// Gives back reserved space and writes the side files of a segment that will not grow. They
    /// are hints and are not flushed here.
    async fn finish_sealed(&self, base: Offset) -> Result<(), LogError> {
        let (len, next, snapshot) = {
            let state = self.state.borrow();
            let Some(i) = state.index_of(base) else {
                return Ok(());
            };
            let next = state.segments.get(i + 1).map(|next| next.base);
            let segment = &state.segments[i];
            (segment.len(), next, segment.snapshot.clone())
        };
        self.trim(base, len)?;
        self.write_indexes(base).await?;
        if let (Some(snapshot), Some(next)) = (snapshot, next) {
            self.write_side_file(self.path(next, Kind::Snapshot), &snapshot)?;
        }
        self.write_epochs()?;
        if let Some(segment) = self.state.borrow_mut().by_base(base) {
            segment.snapshot = None; // with it the segment is finished
        }
        // its last chunk is not full, so the cache did not get it yet
        let (position, bytes) = {
            let state = self.state.borrow();
            state.index_of(base).map_or((0, 0), |i| {
                let segment = &state.segments[i];
                let counted = segment.tail.full_chunks(0, segment.cached).1;
                (segment.len(), segment.tail.capacity() - counted)
            })
        };
        self.context.cache.add(self.weak(), base, position, bytes);
        Ok(())
    }

    /// Gives back the space reserved behind a segment's end.
    pub(super) fn trim(&self, base: Offset, len: u64) -> Result<(), LogError> {
        let path = || self.path(base, Kind::Log);
        let (file, _) = self
            .context
            .files
            .open(self.id, base, Access::Settle, path)
            .map_err(|source| LogError::Io {
                path: path(),
                source,
            })?;
        file.set_len(len).map_err(|source| LogError::Io {
            path: path(),
            source,
        })?;
        if let Some(segment) = self.state.borrow_mut().by_base(base) {
            segment.allocated = len;
            segment.claimed = segment.len().max(len);
        }
        self.count_unreserved();
        Ok(())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}
