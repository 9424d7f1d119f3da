//! The fields of a batch's first 61 bytes, as the log needs them when it walks a segment: copied
//! out, because a header may lie across two chunks of memory or come from the disk.

use crate::base::ids::{LeaderEpoch, Offset};

/// Bytes of a header of magic 2.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that `batchLength` counts.
const PREFIX_BYTES: u32 = 12;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A batch of magic 2 without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// First offset.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub len: u32,
    /// Epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of all from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Last offset less first offset.
    pub last_offset_delta: i32,
    /// Time of the first record in ms, or the delete horizon.
    pub base_timestamp: i64,
    /// Newest time of its records in ms.
    pub max_timestamp: i64,
    /// -1: none.
    pub producer_id: i64,
    /// -1: none.
    pub producer_epoch: i16,
    /// Sequence of the first record; -1: none.
    pub base_sequence: i32,
    /// Number of records; fewer than the offsets after a compaction.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the first 61 of `bytes`; `None` where they cannot begin a batch: too few, another
    /// magic, a length below the header's own, negative offsets.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        let b: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let int = |at: usize| i32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let short = |at: usize| i16::from_be_bytes([b[at], b[at + 1]]);
        let long = |at: usize| (i64::from(int(at)) << 32) | i64::from(int(at + 4) as u32);
        let body = u32::try_from(int(8)).ok()?;
        let header = BatchHeader {
            base_offset: Offset(long(0)),
            len: body.checked_add(PREFIX_BYTES)?,
            leader_epoch: LeaderEpoch(int(12)),
            crc: int(17) as u32,
            attributes: short(21),
            last_offset_delta: int(23),
            base_timestamp: long(27),
            max_timestamp: long(35),
            producer_id: long(43),
            producer_epoch: short(51),
            base_sequence: int(53),
            count: int(57),
        };
        let plausible = b[16] == 2
            && header.len as usize >= HEADER_BYTES
            && header.base_offset.0 >= 0
            && header.last_offset_delta >= 0
            && header
                .base_offset
                .0
                .checked_add(i64::from(header.last_offset_delta) + 1)
                .is_some();
        plausible.then_some(header)
    }

    /// The last offset.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// One after the last offset.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// Sequence of the last record; -1: none. Wraps at `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The broker's clock stamped it.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & (1 << 3) != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// A marker, not for applications.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Written by an idempotent producer.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A batch of `len` bytes (at least the header) whose records are filler.
    pub(crate) fn batch(base_offset: i64, count: i32, len: usize, timestamp: i64) -> Vec<u8> {
        let mut b = vec![0u8; len.max(HEADER_BYTES)];
        let body = (b.len() - 12) as i32;
        b[0..8].copy_from_slice(&base_offset.to_be_bytes());
        b[8..12].copy_from_slice(&body.to_be_bytes());
        b[16] = 2;
        b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        b[27..35].copy_from_slice(&timestamp.to_be_bytes());
        b[35..43].copy_from_slice(&timestamp.to_be_bytes());
        b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
        b[51..53].copy_from_slice(&(-1i16).to_be_bytes());
        b[53..57].copy_from_slice(&(-1i32).to_be_bytes());
        b[57..61].copy_from_slice(&count.to_be_bytes());
        for (i, byte) in b[HEADER_BYTES..].iter_mut().enumerate() {
            *byte = (base_offset as u8).wrapping_add(i as u8);
        }
        let crc = crate::base::checksum::crc32c(&b[21..]);
        b[17..21].copy_from_slice(&crc.to_be_bytes());
        b
    }

    #[test]
    fn fields_stand_where_the_format_says() {
        let header = BatchHeader::parse(&batch(1_000_000_007, 5, 200, 1_700_000_000_123)).unwrap();
        assert_eq!(header.base_offset, Offset(1_000_000_007));
        assert_eq!(header.len, 200);
        assert_eq!(header.last_offset(), Offset(1_000_000_011));
        assert_eq!(header.max_timestamp, 1_700_000_000_123);
        assert_eq!((header.producer_id, header.producer_epoch), (-1, -1));
        assert_eq!((header.base_sequence, header.last_sequence()), (-1, -1));
        assert_eq!(header.count, 5);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut bytes = batch(0, 3, 100, 0);
        bytes[53..57].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        assert_eq!(BatchHeader::parse(&bytes).unwrap().last_sequence(), 0);
    }

    #[test]
    fn what_cannot_begin_a_batch_is_none() {
        let good = batch(0, 1, 100, 0);
        assert!(BatchHeader::parse(&good).is_some());
        assert!(BatchHeader::parse(&good[..60]).is_none());
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            BatchHeader::parse(&bytes)
        };
        assert!(changed(16, 1).is_none(), "magic");
        assert!(changed(0, 0x80).is_none(), "negative offset");
        assert!(changed(8, 0x80).is_none(), "negative length");
        assert!(changed(11, 48).is_none(), "shorter than its header");
        assert!(changed(23, 0x80).is_none(), "negative delta");
        assert!(BatchHeader::parse(&[0; 64]).is_none(), "zeros");
    }
}
