//! The sparse indexes of a segment in memory: offset to position, and time to offset. Filled while
//! a segment grows, or read from its side files. Thinned when it grows large, so that an active
//! segment's index is bounded whatever its size; a coarser index is still a correct one.

use crate::base::ids::Offset;
use crate::log::format::{FormatError, offset_index, time_index};
use crate::log::segment::header::BatchHeader;

/// Entries at which every second one goes: 8,192 entries cost 160 KiB, and a full segment of 1 GiB
/// then has one each 128 KiB or 256 KiB.
pub const MAX_ENTRIES: usize = 8192;

/// The newest timestamp of a segment and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// In ms.
    pub timestamp: i64,
    /// Last offset of its batch.
    pub offset: Offset,
}

/// The indexes of one segment.
#[derive(Clone, Debug)]
pub struct SparseIndex {
    base: Offset,
    offsets: Vec<offset_index::Entry>,
    times: Vec<time_index::Entry>,
    /// Bytes since the newest entry.
    since_entry: u64,
    /// How often it was halved: an entry each `interval << thinned` bytes.
    thinned: u32,
    /// Entries are complete from here on; below, only what side files said.
    known_from: u64,
    /// The offset that stands there.
    known_offset: Offset,
}

impl SparseIndex {
    /// The index of a segment that grows from byte `known_from` on, where `known_offset` stands.
    pub fn new(base: Offset, known_from: u64, known_offset: Offset) -> SparseIndex {
        SparseIndex {
            base,
            offsets: Vec::new(),
            times: Vec::new(),
            since_entry: 0,
            thinned: 0,
            known_from,
            known_offset,
        }
    }

    /// From the bytes of `.index` and `.timeindex` of a `.log` of `log_len` bytes.
    ///
    /// # Errors
    /// Where either cannot be true.
    pub fn from_files(
        base: Offset,
        index: &[u8],
        time: &[u8],
        log_len: u64,
    ) -> Result<SparseIndex, FormatError> {
        Ok(SparseIndex {
            base,
            offsets: offset_index::decode(index, log_len)?,
            times: time_index::decode(time)?,
            since_entry: 0,
            thinned: 0,
            known_from: 0,
            known_offset: base,
        })
    }

    /// Entries are complete from this byte on.
    pub fn known_from(&self) -> u64 {
        self.known_from
    }

    /// Notes a batch that was appended at `position`, with the segment's newest timestamp so far
    /// (it included). `interval` is `index.interval.bytes`.
    pub fn note(
        &mut self,
        header: &BatchHeader,
        position: u64,
        interval: u32,
        largest: Option<Largest>,
    ) {
        if self.since_entry > u64::from(interval) << self.thinned
            && let (Ok(position), Ok(relative_offset)) = (
                u32::try_from(position),
                u32::try_from(header.last_offset().0 - self.base.0),
            )
        {
            if self.offsets.len() >= MAX_ENTRIES {
                self.thin();
            }
            self.offsets.push(offset_index::Entry {
                relative_offset,
                position,
            });
            if let Some(largest) = largest {
                self.note_time(largest);
            }
            self.since_entry = 0;
        }
        self.since_entry += u64::from(header.len);
    }

    /// Notes the newest timestamp; the last entry of a finished time index is the segment's.
    pub fn note_time(&mut self, largest: Largest) {
        let Ok(relative_offset) = u32::try_from(largest.offset.0 - self.base.0) else {
            return;
        };
        if self.times.last().is_none_or(|last| {
            last.timestamp < largest.timestamp && last.relative_offset <= relative_offset
        }) && largest.timestamp >= 0
        {
            self.times.push(time_index::Entry {
                timestamp: largest.timestamp,
                relative_offset,
            });
        }
    }

    fn thin(&mut self) {
        let mut keep = false;
        self.offsets.retain(|_| {
            keep = !keep;
            keep
        });
        let mut keep = false;
        self.times.retain(|_| {
            keep = !keep;
            keep
        });
        self.thinned += 1;
    }

    /// Whether the file would be larger than `segment.index.bytes` with one entry more.
    pub fn is_full(&self, index_bytes: u32) -> bool {
        let index_bytes = index_bytes as usize;
        (self.offsets.len() + 1) * offset_index::ENTRY_BYTES > index_bytes
            || (self.times.len() + 2) * time_index::ENTRY_BYTES > index_bytes
    }

    /// Where to begin looking for `offset`: the start of a batch that begins at or before it.
    pub fn floor(&self, offset: Offset) -> u64 {
        let entry = self
            .floor_entry(offset)
            .map_or(0, |entry| u64::from(entry.position));
        match offset >= self.known_offset {
            true => entry.max(self.known_from),
            false => entry,
        }
    }

    /// Whether entries around `offset` are complete.
    pub fn knows(&self, offset: Offset) -> bool {
        offset >= self.known_offset
    }

    /// The entry behind [`SparseIndex::floor`].
    pub fn floor_entry(&self, offset: Offset) -> Option<offset_index::Entry> {
        let relative = offset.0 - self.base.0;
        let above = self
            .offsets
            .partition_point(|entry| i64::from(entry.relative_offset) <= relative);
        self.offsets.get(..above)?.last().copied()
    }

    /// The first entry whose batch ends behind `offset`; that batch may also begin behind it.
    pub fn entry_after(&self, offset: Offset) -> Option<offset_index::Entry> {
        let relative = offset.0 - self.base.0;
        let above = self
            .offsets
            .partition_point(|entry| i64::from(entry.relative_offset) <= relative);
        self.offsets.get(above).copied()
    }

    /// The largest start of a batch that is known in `(above, at_most]`.
    pub fn boundary(&self, above: u64, at_most: u64) -> Option<u64> {
        let after = self
            .offsets
            .partition_point(|entry| u64::from(entry.position) <= at_most);
        let entry = self.offsets.get(..after)?.last()?;
        Some(u64::from(entry.position)).filter(|position| *position > above)
    }

    /// The newest time below `timestamp` that an entry names: up to its offset, no record is as new
    /// as `timestamp`. `None`: look from the segment's first offset on.
    pub fn floor_time(&self, timestamp: i64) -> Option<Largest> {
        let above = self
            .times
            .partition_point(|entry| entry.timestamp < timestamp);
        let entry = self.times.get(..above)?.last()?;
        Some(Largest {
            timestamp: entry.timestamp,
            offset: self.base.plus(i64::from(entry.relative_offset)),
        })
    }

    /// The last entry of the time index, which in a finished one is the segment's newest.
    pub fn last_time(&self) -> Option<Largest> {
        self.times.last().map(|entry| Largest {
            timestamp: entry.timestamp,
            offset: self.base.plus(i64::from(entry.relative_offset)),
        })
    }

    /// The last entry's position, and how many bytes behind it another entry must stand at the
    /// latest, if a batch begins there. `interval` is `index.interval.bytes`.
    pub fn last_entry(&self, interval: u32) -> (u64, u64) {
        let positions = || self.offsets.iter().map(|entry| u64::from(entry.position));
        let distance = match self.offsets.len() < MAX_ENTRIES / 2 {
            true => None, // never thinned
            false => positions()
                .zip(positions().skip(1))
                .map(|(a, b)| b - a)
                .min(),
        };
        let distance = distance.unwrap_or(0).max(interval.into());
        (positions().next_back().unwrap_or(0), distance)
    }

    /// Takes over what another index of the same segment knows below the first entry of this.
    pub fn adopt_below(&mut self, other: &SparseIndex) {
        let first = self
            .offsets
            .first()
            .map_or(self.known_from, |entry| u64::from(entry.position));
        let first_time = self.times.first().copied();
        let mut offsets: Vec<_> = other
            .offsets
            .iter()
            .copied()
            .filter(|entry| u64::from(entry.position) < first)
            .collect();
        let mut times: Vec<_> = other
            .times
            .iter()
            .copied()
            .filter(|entry| {
                first_time.is_none_or(|first| {
                    entry.timestamp < first.timestamp
                        && entry.relative_offset <= first.relative_offset
                })
            })
            .collect();
        offsets.append(&mut self.offsets);
        times.append(&mut self.times);
        self.offsets = offsets;
        self.times = times;
        if other.known_from < self.known_from {
            self.known_from = other.known_from;
            self.known_offset = other.known_offset;
        }
    }

    /// The segment was cut to `len` bytes and ends before `end`.
    pub fn truncate(&mut self, end: Offset, len: u64) {
        let relative = end.0 - self.base.0;
        self.offsets.retain(|entry| {
            i64::from(entry.relative_offset) < relative && u64::from(entry.position) < len
        });
        self.times
            .retain(|entry| i64::from(entry.relative_offset) < relative);
        if self.known_from > len {
            self.known_from = len;
            self.known_offset = end;
        }
        self.since_entry = 0;
    }

    /// The bytes of the `.index` and the `.timeindex`.
    pub fn to_files(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut index, mut time) = (Vec::new(), Vec::new());
        offset_index::encode(&self.offsets, &mut index);
        time_index::encode(&self.times, &mut time);
        (index, time)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<SparseIndex>()
            + self.offsets.capacity() * size_of::<offset_index::Entry>()
            + self.times.capacity() * size_of::<time_index::Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::header::tests::batch;

    fn filled(batches: i64, len: usize, interval: u32) -> SparseIndex {
        let mut index = SparseIndex::new(Offset(100), 0, Offset(100));
        for n in 0..batches {
            let header = BatchHeader::parse(&batch(100 + n, 1, len, 1000 + n)).unwrap();
            let largest = Largest {
                timestamp: 1000 + n,
                offset: Offset(100 + n),
            };
            index.note(&header, n as u64 * len as u64, interval, Some(largest));
        }
        index
    }

    #[test]
    fn an_entry_stands_each_interval_and_names_a_batch() {
        let index = filled(12, 1000, 4096);
        // Kafka: more than 4096 bytes since the last entry, so at batches 5 and 10
        let (bytes, _) = index.to_files();
        assert_eq!(
            bytes,
            [0, 0, 0, 5, 0, 0, 0x13, 0x88, 0, 0, 0, 10, 0, 0, 0x27, 0x10]
        );
        assert_eq!(index.floor(Offset(104)), 0);
        assert_eq!(index.floor(Offset(105)), 5000);
        assert_eq!(index.floor(Offset(109)), 5000);
        assert_eq!(index.floor(Offset(999)), 10_000);
        assert_eq!(index.boundary(0, 9999), Some(5000));
        assert_eq!(index.boundary(5000, 9999), None);
    }

    #[test]
    fn times_begin_before_the_first_record_that_is_new_enough() {
        let index = filled(12, 1000, 4096);
        let floor = |time| index.floor_time(time).map(|entry| entry.offset);
        assert_eq!(floor(1005), None);
        assert_eq!(floor(1006), Some(Offset(105)));
        assert_eq!(floor(9999), Some(Offset(110)));
        assert_eq!(
            index.last_time(),
            Some(Largest {
                timestamp: 1010,
                offset: Offset(110)
            })
        );
    }

    #[test]
    fn a_large_index_is_thinned_and_stays_correct() {
        let batches = 3 * MAX_ENTRIES as i64;
        let index = filled(batches, 100, 99);
        assert!(index.offsets.len() <= MAX_ENTRIES);
        assert!(index.times.len() <= MAX_ENTRIES + 1);
        for n in (0..batches).step_by(97) {
            let floor = index.floor(Offset(100 + n));
            assert!(floor <= n as u64 * 100 && floor.is_multiple_of(100));
            assert!(n as u64 * 100 - floor <= 800, "{n}: {floor}");
        }
    }

    #[test]
    fn files_read_back_and_join_with_what_grew_since() {
        let whole = filled(30, 1000, 4096);
        let (index, time) = whole.to_files();
        let old = SparseIndex::from_files(Offset(100), &index[..16], &time[..24], 12_000).unwrap();
        let mut grown = SparseIndex::new(Offset(100), 12_000, Offset(112));
        grown.offsets = whole.offsets[2..].to_vec();
        grown.times = whole.times[2..].to_vec();
        grown.adopt_below(&old);
        assert_eq!(grown.to_files(), (index, time));
        assert_eq!(grown.known_from(), 0);
    }

    #[test]
    fn cutting_takes_the_entries_beyond_with_it() {
        let mut index = filled(30, 1000, 4096);
        index.truncate(Offset(110), 10_000);
        assert_eq!(index.floor(Offset(500)), 5000);
        assert_eq!(index.last_time().unwrap().offset, Offset(105));
    }
}
