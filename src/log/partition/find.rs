//! Finding a batch in a segment's file: by its index, then by walking headers in small reads.

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::format::names::Kind;
use crate::log::partition::Partition;
use crate::log::partition::error::{LogError, ReadError};
use crate::log::partition::read::{BATCH_MISSING, Found};
use crate::log::partition::state::Located;
use crate::log::segment::{Access, BatchHeader, HEADER_BYTES, Largest, Place, SparseIndex};
use crate::ring::File;
use crate::ring::buf::Buf;
use crate::ring::driver::OpenOptions;

/// Read at a time while a batch is looked for.
const WINDOW_BYTES: usize = 16 << 10;
/// Read at a time while an index is rebuilt.
const REBUILD_BYTES: usize = 256 << 10;

/// Headers of a segment's file, one after the other.
pub(super) struct Walk {
    file: File,
    base: Offset,
    window: Buf,
    /// File position of the window's first byte.
    at: u64,
    /// Where the next header stands.
    position: u64,
    end: u64,
    step: usize,
    /// The next header probably is the only one in a whole step.
    sparse: bool,
}

impl Walk {
    /// From a boundary of batches to `end`.
    pub(super) fn new(file: File, base: Offset, position: u64, end: u64, step: usize) -> Walk {
        Walk {
            file,
            base,
            window: Buf::empty(),
            at: position,
            position,
            end,
            step,
            sparse: false,
        }
    }

    /// Where a single header is looked for first.
    fn begins_sparse(mut self) -> Walk {
        self.sparse = true;
        self
    }

    /// Where the next header stands.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next header with its position; `None` at the end, or where no batch stands that the file
    /// could hold whole.
    pub(super) async fn next(
        &mut self,
        partition: &Partition,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        if self.position + HEADER_BYTES as u64 > self.end {
            return Ok(None);
        }
        let skip = self.position - self.at;
        if skip + HEADER_BYTES as u64 > self.window.len() as u64 {
            let step = if self.sparse { PAGE_BYTES } else { self.step };
            let len = step.min((self.end - self.position) as usize);
            if !self.sparse && !self.window.is_empty() {
                // it goes from window to window: the next one is read while this one is looked at
                let next = self.position + len as u64;
                let follows = (self.end - next).min(len as u64);
                self.file.read_ahead(next, follows);
            }
            self.window = partition
                .read_window(&self.file, self.base, self.position, len)
                .await?;
            self.at = self.position;
        }
        let skip = (self.position - self.at) as usize;
        let Some(header) = self.window.get(skip..).and_then(BatchHeader::parse) else {
            return Ok(None);
        };
        let position = self.position;
        let next = position + u64::from(header.len);
        if next > self.end {
            return Ok(None);
        }
        self.position = next;
        self.sparse = header.len as usize >= self.step;
        Ok(Some((position, header)))
    }
}

impl Partition {
    /// The batch that holds `offset`, or the first one after it; `None` at the log's end.
    pub(super) async fn find(&self, mut offset: Offset) -> Result<Option<Found>, ReadError> {
        loop {
            let (base, end, cuts) = {
                let state = self.state.borrow();
                match state.locate(offset) {
                    Located::End => return Ok(None),
                    Located::At {
                        segment,
                        position,
                        header,
                    } => {
                        let segment = &state.segments[segment];
                        let base = segment.base;
                        let index = segment.index.clone();
                        return Ok(Some(Found {
                            segment: base,
                            position,
                            header,
                            index: index
                                .unwrap_or_else(|| Rc::new(SparseIndex::new(base, 0, base))),
                        }));
                    }
                    Located::Cold { segment } => {
                        let segment = &state.segments[segment];
                        (segment.base, segment.end, state.cuts)
                    }
                }
            };
            let found = self.find_in(base, offset).await?;
            if self.state.borrow().cuts != cuts {
                continue; // it was cut meanwhile: look again
            }
            match found {
                Some(found) => return Ok(Some(found)),
                None => {
                    // nothing from `offset` on in this segment: the next one, if there is one
                    if end >= self.log_end() {
                        return Ok(None);
                    }
                    offset = end;
                }
            }
        }
    }

    async fn find_in(&self, base: Offset, offset: Offset) -> Result<Option<Found>, ReadError> {
        let mut index = self.index(base).await?;
        let file = self.open_file(base, Access::Read)?;
        let mut rebuilt = false;
        'again: loop {
            let Some((boundary, memory)) = ({
                let state = self.state.borrow();
                state.index_of(base).map(|i| {
                    let segment = &state.segments[i];
                    (segment.boundary, segment.tail.start())
                })
            }) else {
                return Ok(None);
            };
            let start = index.floor(offset);
            if start < boundary.position {
                // Large batches have an entry each: then the next one names the wanted batch.
                if let Some(entry) = index.entry_after(offset)
                    && u64::from(entry.position) > start + WINDOW_BYTES as u64
                    && u64::from(entry.position) < boundary.position
                {
                    let at = u64::from(entry.position);
                    let walk = Walk::new(file.clone(), base, at, boundary.position, WINDOW_BYTES);
                    let found = walk.begins_sparse().next(self).await?;
                    if let Some((position, header)) = found
                        && header.base_offset <= offset
                        && header.last_offset() == base.plus(entry.relative_offset.into())
                    {
                        return Ok(Some(Found {
                            segment: base,
                            position,
                            header,
                            index,
                        }));
                    }
                }
                let mut walk =
                    Walk::new(file.clone(), base, start, boundary.position, WINDOW_BYTES)
                        .begins_sparse();
                let mut first = true;
                let mut expected = (start == 0).then_some(base);
                let mut stuck = None;
                while let Some((position, header)) = walk.next(self).await? {
                    // the index is a hint: the batch that it names must stand there
                    let named = index
                        .floor_entry(offset)
                        .filter(|entry| first && u64::from(entry.position) == start);
                    // no log is compacted yet: offsets have no gap
                    let wrong = header.base_offset < base
                        || expected.is_some_and(|offset| offset != header.base_offset)
                        || named.is_some_and(|entry| {
                            base.plus(entry.relative_offset.into()) != header.last_offset()
                        });
                    if wrong {
                        stuck = Some(position);
                        break;
                    }
                    first = false;
                    expected = Some(header.next_offset());
                    if header.last_offset() >= offset {
                        return Ok(Some(Found {
                            segment: base,
                            position,
                            header,
                            index,
                        }));
                    }
                }
                let end = Some(walk.position()).filter(|end| *end < boundary.position);
                if let Some(at) = stuck.or(end) {
                    // not the batch that must be there
                    if rebuilt || start == 0 {
                        return Err(self.corrupt(Place::new(base, at), BATCH_MISSING));
                    }
                    index = self.rebuild_index(base).await?;
                    rebuilt = true;
                    continue 'again;
                }
            }
            // what remains is in memory, or nothing does
            let state = self.state.borrow();
            let Some(i) = state.index_of(base) else {
                return Ok(None);
            };
            let segment = &state.segments[i];
            debug_assert!(memory <= boundary.position);
            return Ok(segment.find(start.max(boundary.position), offset).map(
                |(position, header)| Found {
                    segment: base,
                    position,
                    header,
                    index: index.clone(),
                },
            ));
        }
    }

    /// The whole index of a segment: grown in this run, from its side files, or rebuilt.
    pub(super) async fn index(&self, base: Offset) -> Result<Rc<SparseIndex>, LogError> {
        let grown = {
            let state = self.state.borrow();
            let segment = state.index_of(base).map(|i| &state.segments[i]);
            segment.and_then(|segment| segment.index.clone())
        };
        if let Some(index) = &grown
            && index.known_from() == 0
        {
            return Ok(index.clone());
        }
        let key = (self.id, base);
        if grown.is_none()
            && let Some(index) = self.context.indexes.borrow_mut().get(&key)
        {
            return Ok(index.clone());
        }
        let upto = match &grown {
            Some(index) => index.known_from(),
            None => self.len_of(base),
        };
        match self.load_index(base, upto).await? {
            Some(index) => Ok(self.keep_index(base, index)),
            None => {
                let index = self.rebuild_index(base).await?;
                if self.state.borrow().active().base != base {
                    self.write_index_files(base, &index)?; // so that it is not done again
                }
                Ok(index)
            }
        }
    }

    fn keep_index(&self, base: Offset, index: SparseIndex) -> Rc<SparseIndex> {
        let mut state = self.state.borrow_mut();
        if let Some(segment) = state.by_base(base)
            && let Some(grown) = &mut segment.index
        {
            Rc::make_mut(grown).adopt_below(&index);
            return grown.clone();
        }
        drop(state);
        let index = Rc::new(index);
        let weight = index.memory_bytes();
        self.context
            .indexes
            .borrow_mut()
            .insert((self.id, base), index.clone(), weight);
        index
    }

    /// From the side files; `None` if they are missing or broken, or end long before `upto`: those
    /// of a stop before the last.
    pub(super) async fn load_index(
        &self,
        base: Offset,
        upto: u64,
    ) -> Result<Option<SparseIndex>, LogError> {
        let len = self.len_of(base);
        let index = self.read_side_file(&self.path(base, Kind::Index)).await?;
        let time = self
            .read_side_file(&self.path(base, Kind::TimeIndex))
            .await?;
        let (Some(index), Some(time)) = (index, time) else {
            return Ok(None);
        };
        match SparseIndex::from_files(base, &index, &time, len) {
            Ok(index) => Ok(match self.ends_early(base, &index, upto).await? {
                true => None,
                false => Some(index),
            }),
            Err(error) => {
                tracing::warn!(segment = %base, dir = %self.dir().display(), %error, "index is broken, it is rebuilt");
                Ok(None)
            }
        }
    }

    /// Whether an entry is missing behind the last one, below `upto`.
    async fn ends_early(
        &self,
        base: Offset,
        index: &SparseIndex,
        upto: u64,
    ) -> Result<bool, LogError> {
        let (at, distance) = index.last_entry(self.config().index_interval_bytes);
        if upto <= at + distance {
            return Ok(false);
        }
        let file = self.open_file(base, Access::Read)?;
        let mut walk = Walk::new(file, base, at, upto, WINDOW_BYTES);
        while let Some((position, _)) = walk.next(self).await? {
            if position - at > distance {
                return Ok(true);
            }
        }
        Ok(walk.position() < upto)
    }

    pub(super) fn len_of(&self, base: Offset) -> u64 {
        let state = self.state.borrow();
        let segment = state.index_of(base).map(|i| &state.segments[i]);
        segment.map_or(0, |segment| segment.boundary.position)
    }

    /// Reads all headers that are in the file and makes the index anew.
    pub(super) async fn rebuild_index(&self, base: Offset) -> Result<Rc<SparseIndex>, LogError> {
        let interval = self.config().index_interval_bytes;
        let end = self.len_of(base);
        let mut index = SparseIndex::new(base, 0, base);
        let mut largest: Option<Largest> = None;
        if end > 0 {
            let file = self.open_file(base, Access::Read)?;
            let mut walk = Walk::new(file, base, 0, end, REBUILD_BYTES);
            while let Some((position, header)) = walk.next(self).await? {
                if largest.is_none_or(|largest| largest.timestamp < header.max_timestamp) {
                    largest = Some(Largest {
                        timestamp: header.max_timestamp,
                        offset: header.last_offset(),
                    });
                }
                index.note(&header, position, interval, largest);
            }
        }
        if let Some(largest) = largest {
            index.note_time(largest);
        }
        Ok(self.keep_index(base, index))
    }

    /// A small file as a whole; `None` if it is not there.
    pub(super) async fn read_side_file(&self, path: &Path) -> Result<Option<Vec<u8>>, LogError> {
        let ring = &self.context.ring;
        let io = |source: io::Error| LogError::Io {
            path: path.to_owned(),
            source,
        };
        let file = match ring.open(path, OpenOptions::default()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let len = file.len().map_err(io)? as usize;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let step = (len - bytes.len()).min(REBUILD_BYTES);
            let read = self.read_range(&file, bytes.len() as u64, step).await;
            let part = read.map_err(io)?;
            bytes.extend_from_slice(&part);
            if part.len() < step {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// Bytes of a segment's file in a buffer of the arena, fewer at its end.
    pub(super) async fn read_window(
        &self,
        file: &File,
        base: Offset,
        position: u64,
        len: usize,
    ) -> Result<Buf, LogError> {
        self.read_range(file, position, len)
            .await
            .map_err(|source| LogError::Io {
                path: self.path(base, Kind::Log),
                source,
            })
    }

    async fn read_range(&self, file: &File, position: u64, len: usize) -> io::Result<Buf> {
        let mut buf = self.context.ring.arena().alloc(len).await;
        if let Some(read) = file.read_cached(&mut buf[..len], position)? {
            return Ok(buf.freeze(0..read));
        }
        let (read, buf) = file.read_at(buf, 0, len, position).await;
        Ok(buf.freeze(0..read?))
    }
}
