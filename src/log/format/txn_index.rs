//! `.txnindex`: the aborted transactions whose marker lies in a segment. Entries of 34 bytes:
//! version i16 (0), producer id i64, first offset i64, offset of the marker i64, last stable
//! offset at that time i64.

use crate::base::ids::{Offset, ProducerId};
use crate::log::format::{Cursor, FormatError};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 34;

/// An aborted transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// Its first record here.
    pub first_offset: Offset,
    /// Its abort marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was written.
    pub last_stable_offset: Offset,
}

/// Appends the entries to `out` as Kafka writes them.
pub fn encode(entries: &[AbortedTxn], out: &mut Vec<u8>) {
    out.reserve(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&0i16.to_be_bytes());
        out.extend_from_slice(&entry.producer_id.0.to_be_bytes());
        out.extend_from_slice(&entry.first_offset.0.to_be_bytes());
        out.extend_from_slice(&entry.last_offset.0.to_be_bytes());
        out.extend_from_slice(&entry.last_stable_offset.0.to_be_bytes());
    }
}

/// Reads a whole file; markers must rise.
///
/// # Errors
/// At the first entry that cannot be true.
pub fn decode(bytes: &[u8]) -> Result<Vec<AbortedTxn>, FormatError> {
    let mut cursor = Cursor::new(bytes);
    let mut entries: Vec<AbortedTxn> = Vec::new();
    while cursor.remaining() > 0 {
        let at = cursor.position();
        let version = cursor.i16()?;
        if version != 0 {
            return Err(FormatError::Version {
                got: version.into(),
                newest: 0,
            });
        }
        let entry = AbortedTxn {
            producer_id: ProducerId(cursor.i64()?),
            first_offset: Offset(cursor.i64()?),
            last_offset: Offset(cursor.i64()?),
            last_stable_offset: Offset(cursor.i64()?),
        };
        if entry.first_offset > entry.last_offset
            || entries
                .last()
                .is_some_and(|last| last.last_offset >= entry.last_offset)
        {
            return Err(FormatError::at(at, "entries do not rise"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_thirty_four_bytes() {
        let txn = AbortedTxn {
            producer_id: ProducerId(7),
            first_offset: Offset(10),
            last_offset: Offset(20),
            last_stable_offset: Offset(21),
        };
        let mut bytes = Vec::new();
        encode(&[txn], &mut bytes);
        let mut expected = vec![0, 0];
        for n in [7u8, 10, 20, 21] {
            expected.extend([0, 0, 0, 0, 0, 0, 0, n]);
        }
        assert_eq!(bytes, expected);
        assert_eq!(decode(&bytes).unwrap(), [txn]);
        assert!(matches!(
            decode(&bytes[..33]),
            Err(FormatError::Bytes { at: 26, .. })
        ));
        let twice = [bytes.clone(), bytes].concat();
        assert_eq!(
            decode(&twice).unwrap_err(),
            FormatError::at(34, "entries do not rise")
        );
    }
}
