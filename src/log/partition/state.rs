//! The decisions of a partition: where a batch goes, what a read covers, what to drain. No IO, no
//! clock.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::config::TopicConfig;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::append::{AppendError, Origin};
use crate::log::epochs::LeaderEpochs;
use crate::log::format::producer_snapshot;
use crate::log::partition::facts::PartitionFacts;
use crate::log::partition::segment::{Mark, Segment};
use crate::log::producers::{BatchMark, ProducerStates, Verdict};
use crate::log::segment::{BatchHeader, Place, RollInput, RollReason, SparseIndex, roll_reason};

/// What a batch becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It goes there: stamp it, then [`push`](super::Partition::push) before anything else.
    Append(Slot),
    /// It is there already.
    Duplicate(BatchMark),
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its first offset.
    pub base_offset: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where its first byte will stand.
    pub place: Place,
    /// It begins a new segment.
    pub roll: Option<RollReason>,
    /// Space that must be [claimed](super::Partition::claim) for it first.
    pub space: u64,
}

/// Where a read begins.
pub(super) enum Located {
    /// In memory.
    At {
        segment: usize,
        position: u64,
        header: BatchHeader,
    },
    /// On the disk: look in the file from the index on.
    Cold { segment: usize },
    /// Nothing is there (yet).
    End,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) max_bytes: u64,
    /// Where what may be seen ends.
    pub(super) limit: Place,
    /// The first batch even if it is larger.
    pub(super) at_least_one: bool,
}

/// The bytes that a read covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) segment: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) first_offset: Offset,
}

pub(super) struct State {
    pub(super) segments: VecDeque<Segment>,
    pub(super) epochs: LeaderEpochs,
    pub(super) producers: ProducerStates,
    pub(super) config: Arc<TopicConfig>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) log_start: Offset,
    pub(super) durable: Place,
    pub(super) durable_end: Offset,
    /// A segment that [`State::admit`] decided to begin, with its room reserved.
    pub(super) next: Option<Segment>,
    /// Counts cuts, so that what was planned before one is not applied after.
    pub(super) cuts: u64,
    /// Directory entries that no flush covers yet.
    pub(super) new_names: bool,
    /// Nor `partition.metadata`.
    pub(super) new_metadata: bool,
}

impl State {
    pub(super) fn active(&self) -> &Segment {
        self.segments.back().expect("there is always an active one")
    }

    pub(super) fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .back_mut()
            .expect("there is always an active one")
    }

    pub(super) fn end(&self) -> Offset {
        self.active().end
    }

    pub(super) fn end_place(&self) -> Place {
        let active = self.active();
        Place::new(active.base, active.len())
    }

    pub(super) fn index_of(&self, base: Offset) -> Option<usize> {
        let above = self.segments.partition_point(|s| s.base <= base);
        let i = above.checked_sub(1)?;
        (self.segments[i].base == base).then_some(i)
    }

    pub(super) fn by_base(&mut self, base: Offset) -> Option<&mut Segment> {
        let i = self.index_of(base)?;
        self.segments.get_mut(i)
    }

    /// Checks a batch (unstamped where a client sent it) and says where it goes.
    pub(super) fn admit(
        &mut self,
        header: &BatchHeader,
        origin: Origin,
        now_ms: i64,
        jitter: impl FnOnce() -> u64,
    ) -> Result<Admit, AppendError> {
        self.next = None;
        if u64::from(header.len) > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment {
                size_bytes: header.len.into(),
                segment_bytes: self.config.segment_bytes,
            });
        }
        if let Verdict::Duplicate(mark) = self.producers.check(header, origin)? {
            return Ok(Admit::Duplicate(mark));
        }
        let end = self.end();
        let (base_offset, leader_epoch) = match origin {
            Origin::Leader if header.base_offset < end => {
                return Err(AppendError::OutOfOrderOffset {
                    got: header.base_offset,
                    expected: end,
                });
            }
            Origin::Leader => (header.base_offset, header.leader_epoch),
            Origin::Client | Origin::Coordinator => (end, self.leader_epoch),
        };
        let active = self.active();
        let roll = roll_reason(
            &RollInput {
                base: active.base,
                len: active.len(),
                first_timestamp: active.first_timestamp,
                created: active.created,
                jitter: active.jitter,
                index_full: active
                    .index
                    .as_ref()
                    .is_some_and(|index| index.is_full(self.config.segment_index_bytes)),
                batch_len: header.len,
                batch_timestamp: header.max_timestamp,
                batch_last_offset: base_offset.plus(header.last_offset_delta.into()),
                now: now_ms,
            },
            &self.config,
        );
        let place = match roll {
            None => self.end_place(),
            Some(_) => {
                self.next = Some(Segment::begin(base_offset, now_ms, jitter()));
                Place::new(base_offset, 0)
            }
        };
        let space = self.taker().claim_for(u64::from(header.len));
        Ok(Admit::Append(Slot {
            base_offset,
            leader_epoch,
            place,
            roll,
            space,
        }))
    }

    /// The segment that takes the admitted batch.
    pub(super) fn taker(&mut self) -> &mut Segment {
        match &mut self.next {
            Some(next) => next,
            None => self
                .segments
                .back_mut()
                .expect("there is always an active one"),
        }
    }

    /// Appends a stamped batch; answers with the place of its first byte.
    pub(super) fn push(&mut self, header: &BatchHeader, head: &[u8], records: &[u8]) -> Place {
        if let Some(next) = self.next.take() {
            self.seal(next);
        }
        self.epochs.assign(header.leader_epoch, header.base_offset);
        self.producers.note(header);
        let place = self.end_place();
        let interval = self.config.index_interval_bytes;
        self.active_mut().append(header, head, records, interval);
        place
    }

    fn seal(&mut self, next: Segment) {
        let snapshot = producer_snapshot::encode(&self.producers.to_snapshot());
        let active = self.active_mut();
        active.snapshot = Some(snapshot);
        if let (Some(index), Some(largest)) = (&mut active.index, active.largest) {
            Rc::make_mut(index).note_time(largest);
        }
        self.segments.push_back(next);
    }

    /// Where the batch with `offset` stands, if memory can tell.
    pub(super) fn locate(&self, offset: Offset) -> Located {
        let above = self.segments.partition_point(|s| s.base <= offset);
        let mut i = above.saturating_sub(1);
        while let Some(segment) = self.segments.get(i) {
            if offset < segment.end {
                return self.locate_in(i, offset);
            }
            i += 1; // a gap that a compaction left, or the very end
        }
        Located::End
    }

    fn locate_in(&self, i: usize, offset: Offset) -> Located {
        let segment = &self.segments[i];
        let cold = Located::Cold { segment: i };
        let Some(index) = &segment.index else {
            return cold;
        };
        if !index.knows(offset) {
            return cold;
        }
        let mut from = index.floor(offset);
        if offset >= segment.boundary.offset {
            from = from.max(segment.boundary.position);
        }
        if from < segment.tail.start() {
            return cold;
        }
        match segment.find(from, offset) {
            Some((position, header)) => Located::At {
                segment: i,
                position,
                header,
            },
            None => Located::End,
        }
    }

    /// Where the batches below `limit` end; `None` if only the disk can tell.
    pub(super) fn limit_place(&self, limit: Offset) -> Option<Place> {
        if limit >= self.end() {
            return Some(self.end_place());
        }
        if limit == self.durable_end {
            return Some(self.durable);
        }
        match self.locate(limit) {
            Located::At {
                segment, position, ..
            } => Some(Place::new(self.segments[segment].base, position)),
            Located::End => Some(self.end_place()),
            Located::Cold { .. } => None,
        }
    }

    /// The bytes of a read that begins at a known batch.
    pub(super) fn span(
        &self,
        i: usize,
        position: u64,
        header: &BatchHeader,
        wish: Wish,
        index: Option<&SparseIndex>,
    ) -> Option<Span> {
        let Wish {
            max_bytes,
            limit,
            at_least_one,
        } = wish;
        let segment = &self.segments[i];
        let hard = match limit.segment.cmp(&segment.base) {
            std::cmp::Ordering::Less => return None,
            std::cmp::Ordering::Equal => limit.position.min(segment.len()),
            std::cmp::Ordering::Greater => segment.len(),
        };
        let first_end = position + u64::from(header.len);
        if first_end > hard {
            return None;
        }
        let cap = position.saturating_add(max_bytes);
        let to = if cap >= hard {
            hard
        } else if first_end > cap {
            if !at_least_one {
                return None;
            }
            first_end
        } else {
            let known = index
                .or(segment.index.as_deref())
                .and_then(|index| index.boundary(first_end, cap))
                .unwrap_or(first_end);
            let mark = Mark {
                position: known,
                offset: Offset(0),
            };
            segment.boundary_below(mark, cap).position
        };
        Some(Span {
            segment: i,
            from: position,
            to,
            first_offset: header.base_offset,
        })
    }

    /// The oldest segment with bytes that only memory has.
    pub(super) fn first_undrained(&self) -> Option<usize> {
        let first = self.first_unfinished();
        let open = self.segments.range(first..);
        open.enumerate()
            .find(|(_, segment)| segment.undrained() > 0)
            .map(|(i, _)| first + i)
    }

    /// The oldest segment of which something may still be to write or flush, at most the active one.
    /// Sealed ones are finished in their order, so this looks at few.
    pub(super) fn first_unfinished(&self) -> usize {
        let sealed = self.segments.range(..self.segments.len() - 1);
        let finished = sealed.rev().position(Segment::is_finished);
        finished.map_or(0, |i| self.segments.len() - 1 - i)
    }

    /// Everything beyond the files.
    pub(super) fn facts(&self) -> PartitionFacts {
        let first = self.first_undrained().unwrap_or(self.segments.len() - 1);
        let drained = &self.segments[first];
        PartitionFacts {
            log_start: self.log_start,
            drained: Place::new(drained.base, drained.drained),
            segments: self.segments.range(first..).map(Segment::facts).collect(),
            sealed: Vec::new(),
            epochs: self.epochs.starts().to_vec(),
            producers: self
                .producers
                .iter()
                .map(|(id, producer)| (id, producer.clone()))
                .collect(),
        }
    }

    /// As [`State::facts`] once all is in the files, with what an earlier run left of the log.
    pub(super) fn closing_facts(&self) -> PartitionFacts {
        let mut facts = self.facts();
        let first = facts.drained.segment;
        let sealed = self.segments.iter().take_while(|s| s.base < first);
        facts.sealed = sealed.map(|s| (s.base, s.len())).collect();
        facts
    }
}
