//! `.snapshot`: what a partition knows of its idempotent producers at an offset, version 1. Kafka
//! keeps only the newest batch of each.
//!
//! version i16, CRC-32C u32 of what follows, count i32, entries of 46 bytes: producer id i64, epoch
//! i16, last sequence i32, last offset i64, offset delta i32, timestamp i64, coordinator epoch i32,
//! first offset of the open transaction i64 (-1: none).

use crate::base::checksum::crc32c;
use crate::log::format::{Cursor, FormatError};

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const ENTRIES_AT: usize = 6;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 46;

/// One producer, with its newest batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Producer id.
    pub producer_id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Last sequence of the newest batch; -1 where none is known.
    pub last_sequence: i32,
    /// Last offset of the newest batch; -1 where none is known.
    pub last_offset: i64,
    /// Last offset less first offset of that batch.
    pub offset_delta: i32,
    /// Newest timestamp of that batch, in ms.
    pub timestamp: i64,
    /// Epoch of the transaction coordinator that wrote the newest marker; -1 where there is none.
    pub coordinator_epoch: i32,
    /// First offset of the open transaction.
    pub current_txn_first_offset: Option<i64>,
}

/// The file with these entries.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRIES_AT + 4 + entries.len() * ENTRY_BYTES);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(entries.len() as i32).to_be_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.producer_id.to_be_bytes());
        out.extend_from_slice(&entry.epoch.to_be_bytes());
        out.extend_from_slice(&entry.last_sequence.to_be_bytes());
        out.extend_from_slice(&entry.last_offset.to_be_bytes());
        out.extend_from_slice(&entry.offset_delta.to_be_bytes());
        out.extend_from_slice(&entry.timestamp.to_be_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&entry.current_txn_first_offset.unwrap_or(-1).to_be_bytes());
    }
    let crc = crc32c(&out[ENTRIES_AT..]);
    out[CRC_AT..ENTRIES_AT].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Reads a whole file.
///
/// # Errors
/// A version other than 1, a checksum that does not agree, a count that does not fit the bytes, a
/// batch that would begin below offset 0.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    let mut cursor = Cursor::new(bytes);
    let version = cursor.i16()?;
    if version != VERSION {
        return Err(FormatError::Version {
            got: version.into(),
            newest: VERSION.into(),
        });
    }
    let stored = cursor.u32()?;
    let computed = crc32c(&bytes[ENTRIES_AT..]);
    if stored != computed {
        return Err(FormatError::Checksum { computed, stored });
    }
    let count = cursor.i32()?;
    let fits = usize::try_from(count)
        .ok()
        .and_then(|n| n.checked_mul(ENTRY_BYTES))
        .is_some_and(|len| len == cursor.remaining());
    if !fits {
        return Err(FormatError::at(
            ENTRIES_AT,
            format!("{count} entries do not fit the file"),
        ));
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let at = cursor.position();
        let entry = Entry {
            producer_id: cursor.i64()?,
            epoch: cursor.i16()?,
            last_sequence: cursor.i32()?,
            last_offset: cursor.i64()?,
            offset_delta: cursor.i32()?,
            timestamp: cursor.i64()?,
            coordinator_epoch: cursor.i32()?,
            current_txn_first_offset: Some(cursor.i64()?).filter(|offset| *offset >= 0),
        };
        let is_batch = (0..=entry.last_offset).contains(&i64::from(entry.offset_delta));
        let is_none = entry.last_offset == -1 && entry.offset_delta == 0;
        if !is_batch && !is_none {
            return Err(FormatError::at(
                at,
                format!(
                    "a batch of {} offsets cannot end at {}",
                    i64::from(entry.offset_delta) + 1,
                    entry.last_offset
                ),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_kafkas_version_1() {
        let entry = Entry {
            producer_id: 1000,
            epoch: 2,
            last_sequence: 9,
            last_offset: 41,
            offset_delta: 4,
            timestamp: 1_700_000_000_000,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        };
        let bytes = encode(&[entry]);
        assert_eq!(bytes.len(), 6 + 4 + 46);
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(bytes[6..10], [0, 0, 0, 1]);
        assert_eq!(bytes[10..20], [0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 2]);
        assert_eq!(bytes[20..24], [0, 0, 0, 9]);
        assert_eq!(bytes[24..32], [0, 0, 0, 0, 0, 0, 0, 41]);
        assert_eq!(bytes[32..36], [0, 0, 0, 4]);
        assert_eq!(bytes[48..], [0xff; 8]);
        assert_eq!(decode(&bytes).unwrap(), [entry]);
    }

    #[test]
    fn a_changed_byte_or_a_wild_count_is_refused() {
        let mut bytes = encode(&[]);
        assert_eq!(decode(&bytes).unwrap(), []);
        bytes[9] ^= 1;
        assert!(matches!(decode(&bytes), Err(FormatError::Checksum { .. })));
        bytes[6..10].copy_from_slice(&i32::MAX.to_be_bytes());
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(
            decode(&bytes),
            Err(FormatError::Bytes { at: 6, .. })
        ));
        let impossible = Entry {
            producer_id: 1,
            epoch: 0,
            last_sequence: 0,
            last_offset: 3,
            offset_delta: 4,
            timestamp: 0,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        };
        for (last_offset, offset_delta) in [(3, 4), (3, -1), (-2, 0), (i64::MIN, 0)] {
            let entry = Entry {
                last_offset,
                offset_delta,
                ..impossible
            };
            assert!(matches!(
                decode(&encode(&[entry])),
                Err(FormatError::Bytes { at: 10, .. })
            ));
        }
        assert!(matches!(
            decode(&[0]),
            Err(FormatError::Bytes { at: 0, .. })
        ));
    }
}
