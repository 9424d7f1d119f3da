//! The header of a batch as the leader stamps it: in a copy of 61 bytes, whatever the batch's size.

use crate::base::checksum::{crc32c, crc32c_combine};
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Timestamp;
use crate::log::journal::entry::BATCH_HEADER_BYTES;

/// Where the CRC's range begins.
const CRC_FROM: usize = 21;
const LOG_APPEND_TIME: u8 = 1 << 3;

/// The header with its offset and epoch set, both outside the CRC; with `append_time` also the
/// timestamp type and the largest timestamp, and the CRC that follows. The records are not read:
/// their part of the old CRC is carried over.
pub fn stamped(
    batch: &[u8],
    base_offset: Offset,
    epoch: LeaderEpoch,
    append_time: Option<Timestamp>,
) -> [u8; BATCH_HEADER_BYTES] {
    let mut head = [0; BATCH_HEADER_BYTES];
    head.copy_from_slice(&batch[..BATCH_HEADER_BYTES]);
    head[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    head[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    if let Some(time) = append_time {
        let records = batch.len() - BATCH_HEADER_BYTES;
        let before = crc32c(&head[CRC_FROM..]);
        head[22] |= LOG_APPEND_TIME;
        head[35..43].copy_from_slice(&time.0.to_be_bytes());
        let after = crc32c(&head[CRC_FROM..]);
        // CRCs are linear: the records' part is what the old one leaves without the old header's
        let old = u32::from_be_bytes([head[17], head[18], head[19], head[20]]);
        let new = old ^ crc32c_combine(before, 0, records) ^ crc32c_combine(after, 0, records);
        head[17..CRC_FROM].copy_from_slice(&new.to_be_bytes());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::{BatchBuilder, BatchView};
    use crate::wire::compress::Codec;

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(Timestamp(5), Some(b"k"), Some(&[7; 3000]), &[]);
        builder.build().unwrap()
    }

    #[test]
    fn the_crc_stays_right_whatever_is_stamped() {
        for time in [None, Some(Timestamp(1_700_000_000_123))] {
            let mut bytes = batch();
            let head = stamped(&bytes, Offset(77), LeaderEpoch(3), time);
            bytes[..61].copy_from_slice(&head);
            let view = BatchView::parse(&bytes).unwrap();
            assert!(view.verify_crc());
            assert_eq!(view.base_offset(), Offset(77));
            assert_eq!(view.leader_epoch(), LeaderEpoch(3));
            assert_eq!(view.is_log_append_time(), time.is_some());
            assert_eq!(view.max_timestamp(), time.unwrap_or(Timestamp(5)));
        }
    }
}
