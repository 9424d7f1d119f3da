//! Everything about a partition that is not in its `.log` files, as plain data that can go to
//! another shard or into a journal's table.

use smallvec::SmallVec;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::limits::STORED_NUMBER_MAX;
use crate::log::epochs::EpochStart;
use crate::log::format::{Cursor, FormatError};
use crate::log::producers::{BATCHES, BatchMark, Producer};
use crate::log::segment::{Largest, Place};

/// The last batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// Where it begins.
    pub position: u64,
    /// The CRC in its header.
    pub crc: u32,
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Base offset.
    pub base: Offset,
    /// Bytes up to the end of its last batch, in the file or not.
    pub len: u64,
    /// One after its last offset.
    pub end: Offset,
    /// Newest timestamp.
    pub largest: Option<Largest>,
    /// Newest timestamp of its first batch, in ms: its age counts from there.
    pub first_timestamp: Option<i64>,
    /// When it was begun, in ms.
    pub created: i64,
    /// Its last batch.
    pub last_batch: Option<LastBatch>,
}

/// A partition at one moment, at a boundary of batches.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionFacts {
    /// First offset that can be read.
    pub log_start: Offset,
    /// Below this place every byte is in its file.
    pub drained: Place,
    /// From the segment of `drained` to the active one, which is the last; never empty. Those
    /// before the last are sealed, but their side files are missing or stale: a recovery removes
    /// what there is of them.
    pub segments: SmallVec<[SegmentFacts; 1]>,
    /// The segments before those as a clean stop saw them: base offset and length. None of them
    /// changes any more, and what is above `drained` or below the log's start may be gone since.
    pub sealed: Vec<(Offset, u64)>,
    /// Where leader epochs begin.
    pub epochs: Vec<EpochStart>,
    /// Idempotent producers, by id.
    pub producers: Vec<(i64, Producer)>,
}

impl PartitionFacts {
    /// A log without a record that begins at `start`.
    pub fn empty(start: Offset, created: i64) -> PartitionFacts {
        PartitionFacts {
            log_start: start,
            drained: Place::new(start, 0),
            segments: SmallVec::from_elem(
                SegmentFacts {
                    base: start,
                    len: 0,
                    end: start,
                    largest: None,
                    first_timestamp: None,
                    created,
                    last_batch: None,
                },
                1,
            ),
            sealed: Vec::new(),
            epochs: Vec::new(),
            producers: Vec::new(),
        }
    }

    /// The segment that grows.
    pub fn active(&self) -> &SegmentFacts {
        self.segments.last().expect("there is always an active one")
    }

    /// One after the last offset.
    pub fn end(&self) -> Offset {
        self.active().end
    }

    /// One after the last byte.
    pub fn end_place(&self) -> Place {
        Place::new(self.active().base, self.active().len)
    }

    /// A cut made the last batch, the newest timestamp or producers unknown: after opening,
    /// [`Partition::recall`](super::Partition::recall) must read them again.
    pub fn needs_recall(&self) -> bool {
        let active = self.active();
        active.len > 0 && active.last_batch.is_none()
    }

    /// Appends the facts to `out`; their own length is not written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, &self.log_start.0.to_be_bytes());
        put(out, &self.drained.segment.0.to_be_bytes());
        put(out, &self.drained.position.to_be_bytes());
        put(out, &(self.segments.len() as u32).to_be_bytes());
        for segment in &self.segments {
            put(out, &segment.base.0.to_be_bytes());
            put(out, &segment.len.to_be_bytes());
            put(out, &segment.end.0.to_be_bytes());
            let (timestamp, offset) = segment
                .largest
                .map_or((-1, -1), |largest| (largest.timestamp, largest.offset.0));
            put(out, &timestamp.to_be_bytes());
            put(out, &offset.to_be_bytes());
            put(
                out,
                &segment.first_timestamp.unwrap_or(i64::MIN).to_be_bytes(),
            );
            put(out, &segment.created.to_be_bytes());
            let last = segment.last_batch;
            put(
                out,
                &last.map_or(u64::MAX, |batch| batch.position).to_be_bytes(),
            );
            put(out, &last.map_or(0, |batch| batch.crc).to_be_bytes());
        }
        put(out, &(self.epochs.len() as u32).to_be_bytes());
        for entry in &self.epochs {
            put(out, &entry.epoch.0.to_be_bytes());
            put(out, &entry.start.0.to_be_bytes());
        }
        put(out, &(self.producers.len() as u32).to_be_bytes());
        for (id, producer) in &self.producers {
            put(out, &id.to_be_bytes());
            put(out, &producer.epoch.to_be_bytes());
            put(out, &producer.last_timestamp.to_be_bytes());
            put(out, &producer.coordinator_epoch.to_be_bytes());
            let open = producer.txn_first_offset.map_or(-1, |offset| offset.0);
            put(out, &open.to_be_bytes());
            put(out, &[producer.batches.len() as u8]);
            for batch in &producer.batches {
                put(out, &batch.last_sequence.to_be_bytes());
                put(out, &batch.last_offset.0.to_be_bytes());
                put(out, &batch.offset_delta.to_be_bytes());
                put(out, &batch.timestamp.to_be_bytes());
            }
        }
        put(out, &(self.sealed.len() as u32).to_be_bytes());
        for (base, len) in &self.sealed {
            put(out, &base.0.to_be_bytes());
            put(out, &len.to_be_bytes());
        }
    }

    /// Reads what [`PartitionFacts::encode`] wrote, all of `bytes`; `format` is the
    /// [table's](crate::log::journal::table::FORMAT).
    ///
    /// # Errors
    /// At the first place that cannot be true.
    pub fn decode(bytes: &[u8], format: u16) -> Result<PartitionFacts, FormatError> {
        let mut cursor = Cursor::new(bytes);
        let log_start = Offset(cursor.i64()?);
        let drained = Place::new(Offset(cursor.i64()?), cursor.u64()?);
        let mut segments: SmallVec<[SegmentFacts; 1]> = SmallVec::new();
        for _ in 0..cursor.u32()? {
            let at = cursor.position();
            let base = Offset(cursor.i64()?);
            let len = cursor.u64()?;
            let end = Offset(cursor.i64()?);
            let (timestamp, offset) = (cursor.i64()?, Offset(cursor.i64()?));
            let largest = (offset.0 >= 0).then_some(Largest { timestamp, offset });
            let first_timestamp = Some(cursor.i64()?).filter(|time| *time != i64::MIN);
            let created = cursor.i64()?;
            let (position, crc) = (cursor.u64()?, cursor.u32()?);
            if end < base || segments.last().is_some_and(|last| last.end > base) {
                return Err(FormatError::at(at, "segments overlap"));
            }
            segments.push(SegmentFacts {
                base,
                len,
                end,
                largest,
                first_timestamp,
                created,
                last_batch: (position != u64::MAX).then_some(LastBatch { position, crc }),
            });
        }
        if segments.first().map(|first| first.base) != Some(drained.segment) {
            return Err(FormatError::at(8, "segments do not begin with the drained"));
        }
        let mut epochs = Vec::new();
        for _ in 0..cursor.u32()? {
            epochs.push(EpochStart {
                epoch: LeaderEpoch(cursor.i32()?),
                start: Offset(cursor.i64()?),
            });
        }
        let mut producers = Vec::new();
        for _ in 0..cursor.u32()? {
            let id = cursor.i64()?;
            let mut producer = Producer {
                epoch: cursor.i16()?,
                batches: SmallVec::new(),
                last_timestamp: cursor.i64()?,
                coordinator_epoch: cursor.i32()?,
                txn_first_offset: Some(Offset(cursor.i64()?)).filter(|offset| offset.0 >= 0),
            };
            let at = cursor.position();
            let batches = usize::from(cursor.take::<1>()?[0]);
            if batches > BATCHES {
                return Err(FormatError::at(at, "too many batches of a producer"));
            }
            for _ in 0..batches {
                producer.batches.push(BatchMark {
                    last_sequence: cursor.i32()?,
                    last_offset: Offset(cursor.i64()?),
                    offset_delta: cursor.i32()?,
                    timestamp: cursor.i64()?,
                });
            }
            producers.push((id, producer));
        }
        let mut sealed: Vec<(Offset, u64)> = Vec::new();
        // format 1 did not know them
        for _ in 0..if format >= 2 { cursor.u32()? } else { 0 } {
            let at = cursor.position();
            let base = Offset(cursor.i64()?);
            if sealed.last().is_some_and(|(last, _)| *last >= base) {
                return Err(FormatError::at(at, "segments do not rise"));
            }
            sealed.push((base, cursor.u64()?));
        }
        if cursor.remaining() > 0 {
            return Err(FormatError::at(cursor.position(), "bytes too many"));
        }
        let facts = PartitionFacts {
            log_start,
            drained,
            segments,
            sealed,
            epochs,
            producers,
        };
        match facts.contradiction() {
            None => Ok(facts),
            Some(what) => Err(FormatError::at(0, what)),
        }
    }

    /// What in these facts, each readable by itself, cannot be true of a log.
    fn contradiction(&self) -> Option<&'static str> {
        const MAX: u64 = STORED_NUMBER_MAX;
        let active = self.segments.last()?;
        let first = self.segments.first()?;
        let mut places = self.segments.iter().map(|s| s.len);
        let mut epochs = self.epochs.windows(2).map(|pair| (pair[0], pair[1]));
        let mut producers = self.producers.iter();
        let mut batches = self.producers.iter().flat_map(|(_, p)| &p.batches);
        let contradictions = [
            (
                first.base.0 < 0 || active.end.0 > MAX as i64,
                "offsets that no log has",
            ),
            (places.any(|len| len > MAX), "segments that no disk holds"),
            (
                self.sealed.iter().any(|(base, _)| base.0 < 0),
                "a segment below offset 0",
            ),
            (
                self.log_start.0 < 0 || self.log_start > active.end,
                "a start behind the end",
            ),
            (
                self.drained.position > first.len,
                "more is drained than there is",
            ),
            (
                epochs.any(|(a, b)| a.epoch >= b.epoch || a.start > b.start),
                "epochs that do not rise",
            ),
            (
                self.epochs.iter().any(|e| e.epoch.0 < 0 || e.start.0 < 0),
                "a negative epoch",
            ),
            (producers.any(|(id, _)| *id < 0), "a producer without an id"),
            (
                batches.any(|b| !(0..=b.last_offset.0).contains(&i64::from(b.offset_delta))),
                "a producer's batch below offset 0",
            ),
        ];
        let found = contradictions.into_iter().find(|(wrong, _)| *wrong);
        found.map(|(_, what)| what)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_true_of_a_log_is_refused() {
        let good = facts();
        let refused = |change: &dyn Fn(&mut PartitionFacts)| {
            let (mut facts, mut bytes) = (good.clone(), Vec::new());
            change(&mut facts);
            facts.encode(&mut bytes);
            PartitionFacts::decode(&bytes, 2).is_err()
        };
        assert!(!refused(&|_| ()));
        assert!(refused(&|f| f.log_start = Offset(-1)));
        assert!(refused(&|f| f.log_start = f.end().plus(1)));
        assert!(refused(&|f| f.drained.position = u64::MAX));
        assert!(refused(&|f| f.segments[0].len = u64::MAX));
        assert!(refused(&|f| {
            let last = f.segments.len() - 1;
            f.segments[last].end = Offset(i64::MAX);
        }));
        assert!(refused(&|f| f.epochs.push(f.epochs[0])));
        assert!(refused(&|f| f.producers[0].0 = -1));
        assert!(refused(&|f| f.producers[0].1.batches[0].offset_delta = -1));
    }

    fn facts() -> PartitionFacts {
        let mut facts = PartitionFacts::empty(Offset(5), 1_700_000_000_000);
        facts.segments.push(SegmentFacts {
            base: Offset(5),
            len: 777,
            end: Offset(9),
            largest: Some(Largest {
                timestamp: 12,
                offset: Offset(8),
            }),
            first_timestamp: Some(-1),
            created: 3,
            last_batch: Some(LastBatch {
                position: 700,
                crc: 0xffff_0001,
            }),
        });
        facts.epochs.push(EpochStart {
            epoch: LeaderEpoch(3),
            start: Offset(5),
        });
        let producer = Producer {
            epoch: 1,
            batches: SmallVec::from_elem(
                BatchMark {
                    last_sequence: 9,
                    last_offset: Offset(8),
                    offset_delta: 2,
                    timestamp: 12,
                },
                5,
            ),
            last_timestamp: 12,
            coordinator_epoch: -1,
            txn_first_offset: Some(Offset(6)),
        };
        facts.producers.push((77, producer));
        facts.sealed = vec![(Offset(0), 12), (Offset(3), 9)];
        facts
    }

    #[test]
    fn facts_read_back() {
        let mut bytes = Vec::new();
        facts().encode(&mut bytes);
        assert_eq!(PartitionFacts::decode(&bytes, 2).unwrap(), facts());
        assert_eq!(facts().end(), Offset(9));
    }

    #[test]
    fn facts_of_format_1_end_before_the_sealed_segments() {
        let (mut bytes, mut old) = (Vec::new(), facts());
        old.sealed.clear();
        old.encode(&mut bytes);
        let without = &bytes[..bytes.len() - 4];
        assert_eq!(PartitionFacts::decode(without, 1).unwrap(), old);
        assert!(PartitionFacts::decode(without, 2).is_err());
    }

    #[test]
    fn any_cut_is_noticed_and_wild_counts_allocate_nothing() {
        let mut bytes = Vec::new();
        facts().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert!(PartitionFacts::decode(&bytes[..len], 2).is_err(), "{len}");
        }
        bytes[24..28].fill(0xff);
        assert!(PartitionFacts::decode(&bytes, 2).is_err());
        bytes.truncate(24);
        assert!(PartitionFacts::decode(&bytes, 2).is_err());
    }
}
