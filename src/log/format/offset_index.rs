//! `.index`: offset to file position, sparse. Entries of 8 bytes: relative offset i32, position
//! i32. An entry names the last offset of a batch and where that batch begins. The file is a hint
//! without checksum: what is found through it is checked against the batch that stands there.

use crate::log::format::FormatError;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 8;

/// Where a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The batch's last offset, less the segment's base offset.
    pub relative_offset: u32,
    /// Byte of the `.log` at which the batch begins.
    pub position: u32,
}

/// Appends the entries to `out` as Kafka writes them.
pub fn encode(entries: &[Entry], out: &mut Vec<u8>) {
    out.reserve(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.relative_offset.to_be_bytes());
        out.extend_from_slice(&entry.position.to_be_bytes());
    }
}

/// Reads a whole file that belongs to a `.log` of `log_len` bytes. Both columns must rise and lie
/// inside the segment. Zeros at the end are the preallocated rest that a killed Kafka leaves.
///
/// # Errors
/// At the first entry that cannot be true.
pub fn decode(bytes: &[u8], log_len: u64) -> Result<Vec<Entry>, FormatError> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(FormatError::at(
            bytes.len() / ENTRY_BYTES * ENTRY_BYTES,
            "half an entry",
        ));
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (i, raw) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let entry = Entry {
            relative_offset: word(0),
            position: word(4),
        };
        if i > 0 && raw.iter().all(|b| *b == 0) {
            break;
        }
        let rises = entries.last().is_none_or(|last| {
            last.relative_offset < entry.relative_offset && last.position < entry.position
        });
        if !rises {
            return Err(FormatError::at(i * ENTRY_BYTES, "entries do not rise"));
        }
        if entry.relative_offset > i32::MAX as u32 || u64::from(entry.position) >= log_len {
            return Err(FormatError::at(
                i * ENTRY_BYTES,
                "an entry lies outside the segment",
            ));
        }
        entries.push(entry);
    }
    if let [only] = entries[..]
        && only.position == 0
        && only.relative_offset == 0
        && bytes.len() > ENTRY_BYTES
    {
        entries.clear(); // nothing but preallocated zeros
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(relative_offset: u32, position: u32) -> Entry {
        Entry {
            relative_offset,
            position,
        }
    }

    #[test]
    fn entries_are_eight_bytes_big_endian() {
        let entries = [entry(42, 4096), entry(0x0102_0304, 0x0506_0708)];
        let mut bytes = Vec::new();
        encode(&entries, &mut bytes);
        assert_eq!(
            bytes,
            [0, 0, 0, 42, 0, 0, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            "as Kafka's OffsetIndex"
        );
        assert_eq!(decode(&bytes, u64::from(u32::MAX)).unwrap(), entries);
    }

    #[test]
    fn a_preallocated_rest_of_zeros_ends_the_entries() {
        let mut bytes = Vec::new();
        encode(&[entry(1, 100)], &mut bytes);
        bytes.extend([0; 32]);
        assert_eq!(decode(&bytes, 1000).unwrap(), [entry(1, 100)]);
        assert_eq!(decode(&[0; 64], 1000).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_its_place() {
        let at = |entries: &[Entry]| {
            let mut bytes = Vec::new();
            encode(entries, &mut bytes);
            decode(&bytes, 1000).unwrap_err()
        };
        assert_eq!(
            at(&[entry(5, 10), entry(5, 20)]),
            FormatError::at(8, "entries do not rise")
        );
        assert_eq!(
            at(&[entry(5, 10), entry(6, 1000)]),
            FormatError::at(8, "an entry lies outside the segment")
        );
        assert_eq!(
            decode(&[0; 13], 10).unwrap_err(),
            FormatError::at(8, "half an entry")
        );
    }
}
