//! `.timeindex`: time to offset, sparse. Entries of 12 bytes: timestamp i64, relative offset i32.
//! An entry says that no record up to its offset is newer than its timestamp; the last one holds
//! the newest timestamp of the segment. The file is a hint without checksum.

use crate::log::format::FormatError;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 12;

/// The newest timestamp up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Last offset of the batch that has this timestamp, less the segment's base offset.
    pub relative_offset: u32,
}

/// Appends the entries to `out` as Kafka writes them.
pub fn encode(entries: &[Entry], out: &mut Vec<u8>) {
    out.reserve(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.timestamp.to_be_bytes());
        out.extend_from_slice(&entry.relative_offset.to_be_bytes());
    }
}

/// Reads a whole file. Timestamps and offsets must rise. Zeros at the end are the preallocated
/// rest that a killed Kafka leaves.
///
/// # Errors
/// At the first entry that cannot be true.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(FormatError::at(
            bytes.len() / ENTRY_BYTES * ENTRY_BYTES,
            "half an entry",
        ));
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (i, raw) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
        let (Some(time), Some(offset)) = (raw.first_chunk::<8>(), raw.last_chunk::<4>()) else {
            break; // not reached: a chunk has 12 bytes
        };
        let entry = Entry {
            timestamp: i64::from_be_bytes(*time),
            relative_offset: u32::from_be_bytes(*offset),
        };
        if raw.iter().all(|b| *b == 0) && bytes[i * ENTRY_BYTES..].iter().all(|b| *b == 0) {
            if bytes.len() == ENTRY_BYTES {
                entries.push(entry);
            }
            break;
        }
        let rises = entries.last().is_none_or(|last| {
            last.timestamp < entry.timestamp && last.relative_offset <= entry.relative_offset
        });
        if !rises {
            return Err(FormatError::at(i * ENTRY_BYTES, "entries do not rise"));
        }
        if entry.relative_offset > i32::MAX as u32 {
            return Err(FormatError::at(
                i * ENTRY_BYTES + 8,
                "an entry lies outside the segment",
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timestamp: i64, relative_offset: u32) -> Entry {
        Entry {
            timestamp,
            relative_offset,
        }
    }

    #[test]
    fn entries_are_twelve_bytes_big_endian() {
        let entries = [entry(1_700_000_000_000, 7), entry(1_700_000_000_001, 9)];
        let mut bytes = Vec::new();
        encode(&entries, &mut bytes);
        assert_eq!(
            bytes[..12],
            [0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 7]
        );
        assert_eq!(decode(&bytes).unwrap(), entries);
    }

    #[test]
    fn a_preallocated_rest_of_zeros_ends_the_entries() {
        let mut bytes = Vec::new();
        encode(&[entry(5, 1)], &mut bytes);
        bytes.extend([0; 36]);
        assert_eq!(decode(&bytes).unwrap(), [entry(5, 1)]);
        assert_eq!(decode(&[0; 24]).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_its_place() {
        let mut bytes = Vec::new();
        encode(&[entry(5, 1), entry(5, 2)], &mut bytes);
        assert_eq!(
            decode(&bytes).unwrap_err(),
            FormatError::at(12, "entries do not rise")
        );
        assert_eq!(
            decode(&bytes[..20]).unwrap_err(),
            FormatError::at(12, "half an entry")
        );
    }
}
