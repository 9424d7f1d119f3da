//! What the leader writes into a batch that it appends.

use crate::base::checksum::{crc32c, crc32c_combine};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Timestamp;
use crate::wire::batch::header::{BATCH_HEADER_BYTES, BATCH_LENGTH_END, CRC_START, attributes};

/// Bytes of the checksum's part that changes with the timestamp: attributes to max timestamp.
const HEAD: std::ops::Range<usize> = CRC_START..43;

/// Writes base offset and leader epoch, which lie outside of the checksum. The first 16 bytes of
/// the batch are enough.
///
/// # Panics
/// If there are fewer.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

/// Writes the largest timestamp, and that it is the append's or the producer's. The checksum
/// follows without a second pass over the records, since it is linear. The 61 bytes of the header are enough; the checksum must have been
/// right.
///
/// # Panics
/// If there are fewer, or the length is no batch's.
pub fn restamp(batch: &mut [u8], max_timestamp: Timestamp, log_append_time: bool) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "a whole header");
    let number = |at: usize| u32::from_be_bytes(batch[at..at + 4].try_into().expect("4 bytes"));
    let total = number(8) as usize + BATCH_LENGTH_END;
    let tail = total.checked_sub(HEAD.end).expect("a checked batch");
    let (before, sum_before) = (number(17), crc32c(&batch[HEAD]));

    let mut bits = i16::from_be_bytes([batch[21], batch[22]]);
    match log_append_time {
        true => bits |= attributes::LOG_APPEND_TIME,
        false => bits &= !attributes::LOG_APPEND_TIME,
    }
    batch[21..23].copy_from_slice(&bits.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.0.to_be_bytes());
    // a sum of two runs is the first one, moved by the second one's length, xor the second: what
    // changes in the first changes the whole by that, moved
    let crc = crc32c_combine(sum_before ^ crc32c(&batch[HEAD]), before, tail);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{BatchBuilder, BatchView};
    use crate::wire::compress::Codec;

    #[test]
    fn stamps_leave_the_checksum_right() {
        for n in [1, 3, 1000] {
            let mut builder = BatchBuilder::new(Codec::None);
            for i in 0..n {
                builder.append(Timestamp(i), Some(b"k"), Some(b"some value"), &[]);
            }
            let mut bytes = builder.build().unwrap();
            stamp(&mut bytes, Offset(77), LeaderEpoch(3));
            let view = BatchView::parse(&bytes).unwrap();
            assert!(view.verify_crc());
            assert_eq!(view.base_offset(), Offset(77));
            assert_eq!(view.leader_epoch(), LeaderEpoch(3));
            for (time, append) in [(1_700_000_000_123, true), (5, false)] {
                restamp(&mut bytes, Timestamp(time), append);
                let view = BatchView::parse(&bytes).unwrap();
                assert!(view.verify_crc(), "{n} records");
                assert_eq!(view.max_timestamp(), Timestamp(time));
                assert_eq!(view.is_log_append_time(), append);
            }
        }
    }
}
