//! A partition while it is being recovered: what the last table says, then what the journal holds,
//! in order, on state in memory. Files are written and cut by the caller after the whole replay.

use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::epochs::LeaderEpochs;
use crate::log::partition::facts::{LastBatch, PartitionFacts, SegmentFacts};
use crate::log::producers::ProducerStates;
use crate::log::segment::{BatchHeader, Largest, Place};

/// Why a journal's item cannot be applied: then the partition is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The bytes do not begin with a batch.
    #[error("no batch at {0}")]
    NoBatch(Place),
    /// A batch does not follow what is there.
    #[error(
        "a batch at {at} with offset {offset} does not continue the log, which ends at {end} ({end_offset})"
    )]
    Gap {
        /// Where the batch stands.
        at: Place,
        /// Its first offset.
        offset: Offset,
        /// The end of the log so far.
        end: Place,
        /// The offset there.
        end_offset: Offset,
    },
    /// Bytes of the log are neither in a file nor in a journal.
    #[error("bytes from {from} to {to} are missing")]
    Missing {
        /// First missing byte.
        from: Place,
        /// One after the last.
        to: Place,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Recovering {
    facts: PartitionFacts,
    epochs: LeaderEpochs,
    producers: ProducerStates,
    pending: Vec<(Place, Vec<u8>)>,
    /// A cut was replayed.
    cut: bool,
    /// And producers must be read from the log again.
    lost_producers: bool,
}

impl Recovering {
    /// From the last table, or for a partition that no table knows.
    pub fn new(facts: PartitionFacts) -> Recovering {
        let mut producers = ProducerStates::default();
        for (id, producer) in &facts.producers {
            producers.insert(*id, producer.clone());
        }
        Recovering {
            epochs: LeaderEpochs::from_starts(facts.epochs.clone()),
            producers,
            facts,
            pending: Vec::new(),
            cut: false,
            lost_producers: false,
        }
    }

    /// Takes over what an older record of the same log knows of segments that this one leaves out.
    pub fn remember_sealed(&mut self, older: &Recovering) {
        let first = self.facts.drained.segment;
        let sealed = older.facts.sealed.iter();
        self.facts
            .sealed
            .extend(sealed.filter(|(base, _)| *base < first));
    }

    /// One after the last offset so far.
    pub fn end(&self) -> Offset {
        self.facts.end()
    }

    /// Bytes as they stand in the log, whole batches or a part (a carried tail). Changes no state.
    /// Bytes below the drained place are in their file and are skipped.
    pub fn bytes(&mut self, at: Place, bytes: &[u8]) {
        let end = at.plus(bytes.len() as u64);
        if end <= self.facts.drained {
            return;
        }
        let skip = match at.segment == self.facts.drained.segment {
            true => self.facts.drained.position.saturating_sub(at.position) as usize,
            false => 0,
        };
        self.pending
            .push((at.plus(skip as u64), bytes[skip..].to_vec()));
    }

    /// A batch as it was appended. What the state has already only contributes its bytes.
    ///
    /// # Errors
    /// If it does not follow what is there.
    pub fn batch(&mut self, at: Place, bytes: &[u8]) -> Result<(), ReplayError> {
        self.header(at, bytes)?;
        self.bytes(at, bytes);
        Ok(())
    }

    /// A batch that went past the journal: only its header is needed. Every byte of the log below
    /// `durable` is in its file; a rest of the batch may follow with [`Recovering::bytes`].
    ///
    /// # Errors
    /// If it does not follow what is there.
    pub fn pointer(&mut self, at: Place, header: &[u8], durable: Place) -> Result<(), ReplayError> {
        self.header(at, header)?;
        self.facts.drained = self.facts.drained.max(durable);
        Ok(())
    }

    /// First offset that can be read.
    pub fn log_start(&self) -> Offset {
        self.facts.log_start
    }

    /// Every byte below this place is in its file.
    pub fn drained(&self) -> Place {
        self.facts.drained
    }

    fn header(&mut self, at: Place, bytes: &[u8]) -> Result<u32, ReplayError> {
        let header = BatchHeader::parse(bytes).ok_or(ReplayError::NoBatch(at))?;
        let (end, end_place) = (self.facts.end(), self.facts.end_place());
        if header.base_offset < end {
            return Ok(header.len);
        }
        let follows = at == end_place
            || (at.segment > end_place.segment && at.segment == end && at.position == 0);
        if !follows {
            return Err(ReplayError::Gap {
                at,
                offset: header.base_offset,
                end: end_place,
                end_offset: end,
            });
        }
        if at.segment != end_place.segment {
            self.roll(at.segment, header.max_timestamp);
        }
        self.epochs.assign(header.leader_epoch, header.base_offset);
        self.producers.note(&header);
        let active = self.active();
        active.len = at.position + u64::from(header.len);
        active.end = header.next_offset();
        active.first_timestamp.get_or_insert(header.max_timestamp);
        active.last_batch = Some(LastBatch {
            position: at.position,
            crc: header.crc,
        });
        if active
            .largest
            .is_none_or(|largest| largest.timestamp < header.max_timestamp)
        {
            active.largest = Some(Largest {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            });
        }
        Ok(header.len)
    }

    fn active(&mut self) -> &mut SegmentFacts {
        self.facts
            .segments
            .last_mut()
            .expect("there is always an active one")
    }

    /// A new segment begins at `base`, which is the log's end.
    pub fn roll(&mut self, base: Offset, now_ms: i64) {
        if base <= self.facts.active().base {
            return;
        }
        let mut facts = PartitionFacts::empty(base, now_ms);
        self.facts.segments.append(&mut facts.segments);
    }

    /// The epoch of the next record.
    pub fn epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.epochs.assign(epoch, start);
    }

    /// The log starts at `start` now.
    pub fn advance_log_start(&mut self, start: Offset) {
        if start > self.facts.log_start {
            self.facts.log_start = start;
            self.epochs.truncate_start(start);
        }
    }

    /// The log was cut to end at `to` and `end`.
    pub fn truncate(&mut self, to: Place, end: Offset) {
        if to >= self.facts.end_place() {
            return;
        }
        self.cut = true;
        self.pending.retain_mut(|(at, bytes)| {
            if *at >= to {
                return false;
            }
            if at.segment == to.segment {
                bytes.truncate((to.position - at.position) as usize);
            }
            true
        });
        self.facts
            .segments
            .retain(|segment| segment.base <= to.segment);
        if self
            .facts
            .segments
            .last()
            .is_none_or(|segment| segment.base != to.segment)
        {
            let created = self.facts.segments.last().map_or(0, |s| s.created);
            let mut older = PartitionFacts::empty(to.segment, created);
            self.facts.segments = std::mem::take(&mut older.segments);
        }
        let active = self.active();
        active.len = to.position;
        active.end = end;
        active.last_batch = None;
        self.facts.drained = self.facts.drained.min(to);
        self.facts.sealed.retain(|(base, _)| *base < to.segment);
        self.epochs.truncate_end(end);
        self.lost_producers |= !self.producers.truncate_end(end);
        self.facts.log_start = self.facts.log_start.min(end);
    }

    /// One after the last byte so far.
    pub fn end_place(&self) -> Place {
        self.facts.end_place()
    }

    /// The idempotent producers that are known.
    pub fn producer_ids(&self) -> impl Iterator<Item = i64> {
        self.producers.iter().map(|(id, _)| id)
    }

    /// Where leader epochs begin.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Segments before the drained place that a clean stop saw: base offset and length in bytes.
    pub fn sealed(&self) -> &[(Offset, u64)] {
        &self.facts.sealed
    }

    /// What settling must write to the segments' files, each at its exact place; overlapping parts
    /// agree.
    pub fn pending(&self) -> impl Iterator<Item = (Place, &[u8])> {
        self.pending
            .iter()
            .map(|(at, bytes)| (*at, bytes.as_slice()))
    }

    /// The segments whose `.index` and `.timeindex`, if there are some, say nothing true any more:
    /// they must go.
    pub fn stale_indexes(&self) -> impl Iterator<Item = Offset> {
        let active = self.facts.active().base;
        self.facts
            .segments
            .iter()
            .map(|segment| segment.base)
            .filter(move |base| *base != active || self.cut)
    }

    /// The segments that must be cut to their length after that; every later file of the directory
    /// goes.
    pub fn segments(&self) -> &[SegmentFacts] {
        &self.facts.segments
    }

    /// Whether every byte from the drained place to the end is pending.
    ///
    /// # Errors
    /// Names the first missing ones.
    pub fn check(&self) -> Result<(), ReplayError> {
        let mut parts: Vec<(Place, u64)> = self
            .pending
            .iter()
            .map(|(at, bytes)| (*at, bytes.len() as u64))
            .collect();
        parts.sort();
        let mut parts = parts.into_iter().peekable();
        let drained = self.facts.drained;
        for segment in &self.facts.segments {
            let from = match segment.base.cmp(&drained.segment) {
                std::cmp::Ordering::Less => segment.len,
                std::cmp::Ordering::Equal => drained.position,
                std::cmp::Ordering::Greater => 0,
            };
            let mut covered = from;
            while let Some((at, len)) = parts.next_if(|(at, _)| at.segment == segment.base) {
                if at.position > covered {
                    break;
                }
                covered = covered.max(at.position + len);
            }
            while parts
                .next_if(|(at, _)| at.segment == segment.base)
                .is_some()
            {}
            if covered < segment.len {
                return Err(ReplayError::Missing {
                    from: Place::new(segment.base, covered),
                    to: Place::new(segment.base, segment.len),
                });
            }
        }
        Ok(())
    }

    /// The facts once everything pending is in its file.
    pub fn finish(mut self) -> PartitionFacts {
        self.facts.drained = self.facts.end_place();
        let active = *self.facts.active();
        self.facts.segments.clear();
        self.facts.segments.push(active);
        self.unsettled()
    }

    /// The facts of a partition that is left as it is: its files reach as far as they did.
    pub fn unsettled(mut self) -> PartitionFacts {
        self.facts.drained = self.facts.drained.min(self.facts.end_place());
        let drained = self.facts.drained;
        self.facts
            .segments
            .retain(|segment| segment.base >= drained.segment);
        self.facts.epochs = self.epochs.starts().to_vec();
        self.facts.producers = self
            .producers
            .iter()
            .map(|(id, producer)| (id, producer.clone()))
            .collect();
        if self.lost_producers {
            self.active().last_batch = None; // asks for a recall
        }
        self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::header::tests::batch;

    fn place(segment: i64, position: u64) -> Place {
        Place::new(Offset(segment), position)
    }

    fn fresh() -> Recovering {
        Recovering::new(PartitionFacts::empty(Offset(0), 0))
    }

    #[test]
    fn batches_follow_one_another_across_segments() {
        let mut partition = fresh();
        partition.batch(place(0, 0), &batch(0, 2, 100, 10)).unwrap();
        partition
            .batch(place(0, 100), &batch(2, 1, 80, 30))
            .unwrap();
        partition.batch(place(3, 0), &batch(3, 1, 70, 20)).unwrap();
        partition.check().unwrap();
        assert_eq!(partition.segments().len(), 2);
        assert_eq!(partition.segments()[0].largest.unwrap().offset, Offset(2));
        let facts = partition.finish();
        assert_eq!((facts.end(), facts.end_place()), (Offset(4), place(3, 70)));
        assert_eq!(facts.drained, place(3, 70));
        assert_eq!(facts.epochs.len(), 1);
    }

    #[test]
    fn replaying_twice_changes_nothing() {
        let mut once = fresh();
        once.batch(place(0, 0), &batch(0, 2, 100, 10)).unwrap();
        let mut twice = once.clone();
        twice.batch(place(0, 0), &batch(0, 2, 100, 10)).unwrap();
        twice.check().unwrap();
        assert_eq!(once.finish(), twice.finish());
    }

    #[test]
    fn a_gap_and_missing_bytes_are_damage() {
        let mut partition = fresh();
        let gap = partition.batch(place(0, 90), &batch(5, 1, 70, 0));
        assert!(matches!(gap, Err(ReplayError::Gap { .. })));
        assert_eq!(
            partition.batch(place(0, 0), &[0; 70]),
            Err(ReplayError::NoBatch(place(0, 0)))
        );
        partition.batch(place(0, 0), &batch(0, 1, 100, 0)).unwrap();
        let mut facts = partition.finish();
        facts.drained = place(0, 60);
        let mut partition = Recovering::new(facts);
        assert_eq!(
            partition.check(),
            Err(ReplayError::Missing {
                from: place(0, 60),
                to: place(0, 100)
            })
        );
        partition.bytes(place(0, 50), &[0; 50]);
        partition.check().unwrap();
        let (at, bytes) = partition.pending().next().unwrap();
        assert_eq!((at, bytes.len()), (place(0, 60), 40), "drained bytes stay");
    }

    #[test]
    fn a_pointer_counts_as_drained() {
        let mut partition = fresh();
        let large = batch(0, 1, 5000, 0);
        partition
            .pointer(place(0, 0), &large[..61], place(0, 4096))
            .unwrap();
        partition.bytes(place(0, 4096), &large[4096..]);
        partition
            .batch(place(0, 5000), &batch(1, 1, 70, 0))
            .unwrap();
        partition.check().unwrap();
        assert_eq!(partition.end(), Offset(2));
        assert_eq!(partition.pending().count(), 2);
    }

    #[test]
    fn a_cut_takes_bytes_state_and_later_segments() {
        let mut partition = fresh();
        partition.batch(place(0, 0), &batch(0, 2, 100, 10)).unwrap();
        partition
            .batch(place(0, 100), &batch(2, 1, 80, 30))
            .unwrap();
        partition.batch(place(3, 0), &batch(3, 1, 70, 20)).unwrap();
        partition.truncate(place(0, 100), Offset(2));
        partition.check().unwrap();
        assert_eq!(partition.end(), Offset(2));
        partition
            .batch(place(0, 100), &batch(2, 1, 90, 40))
            .unwrap();
        partition.check().unwrap();
        let facts = partition.finish();
        assert_eq!(facts.end_place(), place(0, 190));
        assert_eq!(facts.segments.len(), 1);
    }
}
