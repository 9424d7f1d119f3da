//! What a partition keeps of one of its segments.

use std::rc::Rc;

use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::partition::check::Checked;
use crate::log::partition::facts::{LastBatch, SegmentFacts};
use crate::log::segment::{BatchHeader, HEADER_BYTES, Largest, SparseIndex, Tail};

/// Space is claimed and reserved in steps that double from here ...
pub(super) const STEP_MIN: u64 = 64 << 10;
/// ... to here.
pub(super) const STEP_MAX: u64 = 16 << 20;

/// A boundary of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) position: u64,
    pub(super) offset: Offset,
}

/// A segment. The last of a partition grows, the others are sealed.
pub(super) struct Segment {
    pub(super) base: Offset,
    /// One after its last offset.
    pub(super) end: Offset,
    pub(super) tail: Tail,
    /// Bytes that are in the file.
    pub(super) drained: u64,
    /// The last boundary of batches at or below `drained`. Memory above it stays.
    pub(super) boundary: Mark,
    /// Memory held it from here on in this run.
    pub(super) held_from: u64,
    /// Memory below this was given to the cache.
    pub(super) cached: u64,
    /// Of what grew in this run; none once the side files are written.
    pub(super) index: Option<Rc<SparseIndex>>,
    pub(super) largest: Option<Largest>,
    pub(super) first_timestamp: Option<i64>,
    pub(super) created: i64,
    pub(super) jitter: u64,
    pub(super) last_batch: Option<LastBatch>,
    /// Space reserved in the file.
    pub(super) allocated: u64,
    /// Space that the directory keeps for the file, reserved or not: no byte is taken in above it.
    pub(super) claimed: u64,
    /// The file was made in an earlier run or is made already.
    pub(super) on_disk: bool,
    /// Bytes were written that no flush covers yet.
    pub(super) dirty: bool,
    /// The producers as they were when it was sealed: what its `.snapshot` will say.
    pub(super) snapshot: Option<Vec<u8>>,
    /// What readers had of its file in this run.
    pub(super) checked: Checked,
}

impl Segment {
    /// A new one, without a file yet.
    pub(super) fn begin(base: Offset, created: i64, jitter: u64) -> Segment {
        let mark = Mark {
            position: 0,
            offset: base,
        };
        Segment {
            base,
            end: base,
            tail: Tail::new(0),
            drained: 0,
            boundary: mark,
            held_from: 0,
            cached: 0,
            index: Some(Rc::new(SparseIndex::new(base, 0, base))),
            largest: None,
            first_timestamp: None,
            created,
            jitter,
            last_batch: None,
            allocated: 0,
            claimed: 0,
            on_disk: false,
            dirty: false,
            snapshot: None,
            checked: Checked::default(),
        }
    }

    /// One whose `len` bytes are in its file, as at a start.
    pub(super) fn open(facts: &SegmentFacts, jitter: u64) -> Segment {
        Segment {
            end: facts.end,
            tail: Tail::new(facts.len),
            drained: facts.len,
            boundary: Mark {
                position: facts.len,
                offset: facts.end,
            },
            held_from: facts.len,
            cached: facts.len,
            index: None,
            largest: facts.largest,
            first_timestamp: facts.first_timestamp,
            last_batch: facts.last_batch,
            allocated: facts.len,
            claimed: facts.len,
            on_disk: true,
            ..Segment::begin(facts.base, facts.created, jitter)
        }
    }

    /// Length, in the file or not.
    pub(super) fn len(&self) -> u64 {
        self.tail.end()
    }

    pub(super) fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            base: self.base,
            len: self.len(),
            end: self.end,
            largest: self.largest,
            first_timestamp: self.first_timestamp,
            created: self.created,
            last_batch: self.last_batch,
        }
    }

    /// Takes a batch in, for which room was reserved.
    pub(super) fn append(
        &mut self,
        header: &BatchHeader,
        head: &[u8],
        records: &[u8],
        index_interval: u32,
    ) {
        let position = self.len();
        self.tail.append(head);
        self.tail.append(records);
        if self
            .largest
            .is_none_or(|largest| largest.timestamp < header.max_timestamp)
        {
            self.largest = Some(Largest {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            });
        }
        self.first_timestamp.get_or_insert(header.max_timestamp);
        let (base, end) = (self.base, self.end);
        let index = self
            .index
            .get_or_insert_with(|| Rc::new(SparseIndex::new(base, position, end)));
        // a lookup on the disk may hold the old one: then it is copied
        Rc::make_mut(index).note(header, position, index_interval, self.largest);
        self.end = header.next_offset();
        self.last_batch = Some(LastBatch {
            position,
            crc: header.crc,
        });
    }

    /// The header of the batch at `position`, if that is in memory.
    pub(super) fn peek(&self, position: u64) -> Option<BatchHeader> {
        let mut bytes = [0; HEADER_BYTES];
        self.tail
            .copy(position, &mut bytes)
            .then(|| BatchHeader::parse(&bytes))
            .flatten()
    }

    /// Walks batches in memory from a boundary to the first whose last offset is not below
    /// `offset`.
    pub(super) fn find(&self, from: u64, offset: Offset) -> Option<(u64, BatchHeader)> {
        let mut position = from;
        loop {
            let header = self.peek(position)?;
            if header.last_offset() >= offset {
                return Some((position, header));
            }
            position += u64::from(header.len);
        }
    }

    /// The largest boundary of batches in memory that is not above `at_most`, from a known one on.
    pub(super) fn boundary_below(&self, from: Mark, at_most: u64) -> Mark {
        let mut mark = from;
        while let Some(header) = self.peek(mark.position) {
            let next = mark.position + u64::from(header.len);
            if next > at_most {
                break;
            }
            mark = Mark {
                position: next,
                offset: header.next_offset(),
            };
        }
        mark
    }

    /// Notes that the file has all bytes below `upto`; answers with memory that the cache may let
    /// go from now on: up to where, and how much.
    pub(super) fn drained_to(&mut self, upto: u64) -> Option<(u64, usize)> {
        if upto <= self.drained {
            return None;
        }
        self.drained = upto;
        self.dirty = true;
        self.boundary = if upto == self.len() {
            Mark {
                position: upto,
                offset: self.end,
            }
        } else {
            self.boundary_below(self.boundary, upto)
        };
        let (position, bytes) = self.tail.full_chunks(self.cached, self.boundary.position);
        self.cached = position;
        (bytes > 0).then_some((position, bytes))
    }

    /// What must be claimed before `bytes` more can be taken in: nothing, or the next step. A page
    /// is enough for what may stay that small.
    pub(super) fn claim_for(&self, bytes: u64) -> u64 {
        let end = self.len() + bytes;
        if end <= self.claimed {
            return 0;
        }
        let page = PAGE_BYTES as u64;
        let step = match self.claimed {
            0 if end <= page => page,
            claimed => claimed.next_power_of_two().clamp(STEP_MIN, STEP_MAX),
        };
        (self.claimed + step).max(end.next_multiple_of(page)) - self.claimed
    }

    /// Space that is claimed and not reserved yet.
    pub(super) fn unreserved(&self) -> u64 {
        self.claimed.saturating_sub(self.allocated)
    }

    /// Bytes that only memory has.
    pub(super) fn undrained(&self) -> u64 {
        self.len() - self.drained
    }

    /// All of it is in the file, flushed, with side files if it is sealed.
    pub(super) fn is_finished(&self) -> bool {
        self.undrained() == 0 && self.snapshot.is_none() && !self.dirty
    }

    /// Whole pages that may be written, below `limit`.
    pub(super) fn whole_pages(&self, limit: u64, max: u64) -> Option<(u64, u64)> {
        let from = page_floor(self.drained);
        let to = page_floor(limit.min(self.len()).min(from.saturating_add(max)));
        (to > self.drained).then_some((from, to))
    }
}

pub(super) fn page_floor(position: u64) -> u64 {
    position - position % PAGE_BYTES as u64
}
