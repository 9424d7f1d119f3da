//! `corelane.clean` of a log directory: where every log ended at a clean stop. Its removal is the
//! first durable act of a start; a file that differs from it at a start was changed by someone
//! else.
//!
//! Layout, big-endian: magic `CLclean\n`, version u32, incarnation u64, count u32, entries of 64
//! bytes, CRC-32C u32 over all before it.

use crate::base::checksum::crc32c;
use crate::base::ids::{Offset, PartitionId, PartitionKey, Uuid};
use crate::log::format::{Cursor, FormatError};

/// Name of the file in the log directory.
pub const FILE_NAME: &str = "corelane.clean";

const MAGIC: &[u8; 8] = b"CLclean\n";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;
const ENTRY_BYTES: usize = 64;

/// The end of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Which partition.
    pub key: PartitionKey,
    /// Base offset of its last segment.
    pub segment: Offset,
    /// Length of that segment's `.log`, in bytes.
    pub len: u64,
    /// The log's end: one after its last offset.
    pub end: Offset,
    /// The log's start.
    pub start: Offset,
    /// Byte of the last segment at which its last batch begins; its length where it has none.
    pub last_batch_position: u64,
    /// The CRC in the last batch's header; 0 where there is none.
    pub last_batch_crc: u32,
}

/// A clean stop of one log directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanMarker {
    /// The run that stopped.
    pub incarnation: u64,
    /// Every log of the directory.
    pub logs: Vec<LogEnd>,
}

impl CleanMarker {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.logs.len() * ENTRY_BYTES + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        out.extend_from_slice(&(self.logs.len() as u32).to_be_bytes());
        for log in &self.logs {
            out.extend_from_slice(&log.key.topic.0);
            out.extend_from_slice(&log.key.partition.0.to_be_bytes());
            out.extend_from_slice(&log.segment.0.to_be_bytes());
            out.extend_from_slice(&log.len.to_be_bytes());
            out.extend_from_slice(&log.end.0.to_be_bytes());
            out.extend_from_slice(&log.start.0.to_be_bytes());
            out.extend_from_slice(&log.last_batch_position.to_be_bytes());
            out.extend_from_slice(&log.last_batch_crc.to_be_bytes());
        }
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// Another magic, a newer version, a checksum that does not agree, a wrong length.
    pub fn decode(bytes: &[u8]) -> Result<CleanMarker, FormatError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take::<8>()? != *MAGIC {
            return Err(FormatError::at(0, "no clean marker"));
        }
        let version = cursor.u32()?;
        if version != VERSION {
            return Err(FormatError::Version {
                got: version.into(),
                newest: VERSION.into(),
            });
        }
        let (body, sum) = bytes
            .split_last_chunk::<4>()
            .filter(|(body, _)| body.len() >= HEAD_BYTES)
            .ok_or_else(|| FormatError::at(bytes.len(), "cut short"))?;
        let (computed, stored) = (crc32c(body), u32::from_be_bytes(*sum));
        if computed != stored {
            return Err(FormatError::Checksum { computed, stored });
        }
        let incarnation = cursor.u64()?;
        let count = cursor.u32()? as usize;
        if count.checked_mul(ENTRY_BYTES) != Some(body.len() - HEAD_BYTES) {
            return Err(FormatError::at(
                HEAD_BYTES - 4,
                format!("{count} entries do not fit the file"),
            ));
        }
        let mut logs = Vec::with_capacity(count);
        for _ in 0..count {
            logs.push(LogEnd {
                key: PartitionKey {
                    topic: Uuid(cursor.take()?),
                    partition: PartitionId(cursor.i32()?),
                },
                segment: Offset(cursor.i64()?),
                len: cursor.u64()?,
                end: Offset(cursor.i64()?),
                start: Offset(cursor.i64()?),
                last_batch_position: cursor.u64()?,
                last_batch_crc: cursor.u32()?,
            });
        }
        Ok(CleanMarker { incarnation, logs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> CleanMarker {
        CleanMarker {
            incarnation: 9,
            logs: vec![LogEnd {
                key: PartitionKey {
                    topic: Uuid([7; 16]),
                    partition: PartitionId(3),
                },
                segment: Offset(100),
                len: 4200,
                end: Offset(140),
                start: Offset(20),
                last_batch_position: 4000,
                last_batch_crc: 0xdead_beef,
            }],
        }
    }

    #[test]
    fn a_marker_reads_back() {
        let bytes = marker().encode();
        assert_eq!(bytes.len(), HEAD_BYTES + ENTRY_BYTES + 4);
        assert_eq!(CleanMarker::decode(&bytes).unwrap(), marker());
        let empty = CleanMarker::default();
        assert_eq!(CleanMarker::decode(&empty.encode()).unwrap(), empty);
    }

    #[test]
    fn no_cut_or_changed_marker_is_believed() {
        let bytes = marker().encode();
        for len in 0..bytes.len() {
            assert!(CleanMarker::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(CleanMarker::decode(&changed).is_err(), "byte {at}");
        }
    }
}
