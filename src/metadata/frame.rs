//! The bytes of the metadata log and of its snapshot.
//!
//! Both begin with a header: magic, format version, a sequence number, CRC-32C. In the log the
//! number is that of the last batch before its first frame, in a snapshot that of the last batch
//! it holds. Then frames, each one batch of records that take effect together:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | magic |
//! | 4 | length of the payload |
//! | 8 | sequence, one more than that of the batch before |
//! | 4 | CRC-32C of magic, length, sequence and payload |
//! | 4 | number of records |
//! | n | records |
//! | 0..8 | zeros up to a multiple of 8 |
//!
//! A batch is flushed before the next is written. So bytes that are no frame are the torn last
//! write if no frame of a later sequence follows them, and damage if one does. (Rot of the very
//! last batch cannot be told from a torn write.)

use super::bytes::{Input, put_count};
use super::record::{Record, RecordError};
use crate::base::checksum::{crc32c, crc32c_append};

/// Header of either file.
pub const HEADER_BYTES: usize = 32;

const LOG_MAGIC: [u8; 8] = *b"CORELMTL";
const SNAPSHOT_MAGIC: [u8; 8] = *b"CORELMTS";
const FRAME_MAGIC: u32 = 0x434c_4d46; // "CLMF"
const FRAME_HEAD: usize = 20;

/// The format that this release writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Batches as they came.
    Log,
    /// The whole image.
    Snapshot,
}

/// Bytes that are not a usable log or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another program's file, or the header is damaged.
    #[error("the header is not that of a metadata {0}")]
    Header(&'static str),
    /// From a newer release.
    #[error("format version {0} is newer than {FORMAT}, the newest this release reads")]
    Newer(u32),
    /// A frame in the middle is damaged: later batches are intact.
    #[error(
        "batch {sequence} at byte {at} is damaged although later ones are intact: \
         the file was changed or the disk lost data; restore it from a backup"
    )]
    Damaged {
        /// Which batch is missing.
        sequence: u64,
        /// Where it should begin.
        at: u64,
    },
    /// A frame whose checksum is right and whose records cannot be read.
    #[error("batch {sequence}: {error}")]
    Record {
        /// Of which batch.
        sequence: u64,
        /// Why.
        error: RecordError,
    },
}

impl FileKind {
    /// The kind of a file that begins with these bytes.
    pub fn of(magic: [u8; 8]) -> Option<FileKind> {
        [FileKind::Log, FileKind::Snapshot]
            .into_iter()
            .find(|kind| kind.magic() == magic)
    }

    fn magic(self) -> [u8; 8] {
        match self {
            FileKind::Log => LOG_MAGIC,
            FileKind::Snapshot => SNAPSHOT_MAGIC,
        }
    }

    fn name(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::Snapshot => "snapshot",
        }
    }
}

/// A file's header.
pub fn header(kind: FileKind, sequence: u64) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&kind.magic());
    out[8..12].copy_from_slice(&FORMAT.to_be_bytes());
    out[12..20].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c(&out[..28]);
    out[28..].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The sequence number in a file's header.
///
/// # Errors
/// If it is another file's header, damaged, or of a newer format.
pub fn read_header(kind: FileKind, bytes: &[u8]) -> Result<u64, FrameError> {
    let bad = || FrameError::Header(kind.name());
    let head = bytes.get(..HEADER_BYTES).ok_or_else(bad)?;
    if head[..8] != kind.magic() {
        return Err(bad());
    }
    let mut input = Input::new(&head[8..]);
    let (format, sequence) = match (input.u32(), input.u64()) {
        (Ok(format), Ok(sequence)) => (format, sequence),
        _ => return Err(bad()),
    };
    // a newer format may sum its header in another way
    if format > FORMAT {
        return Err(FrameError::Newer(format));
    }
    if head[28..] != crc32c(&head[..28]).to_be_bytes() {
        return Err(bad());
    }
    Ok(sequence)
}

/// Appends a frame.
pub fn encode(out: &mut Vec<u8>, sequence: u64, records: &[Record]) {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    put_count(out, records.len());
    for record in records {
        record.encode(out);
    }
    let length = u32::try_from(out.len() - start - FRAME_HEAD).expect("batches are below 4 GiB");
    out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c_append(crc32c(&out[start..start + 16]), &out[start + FRAME_HEAD..]);
    out[start + 16..start + FRAME_HEAD].copy_from_slice(&crc.to_be_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
}

struct Frame<'a> {
    sequence: u64,
    payload: &'a [u8],
    /// With the zeros behind it.
    length: usize,
}

/// The frame at the beginning of `bytes`, if its checksum is right.
fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let mut input = Input::new(bytes);
    if input.u32().ok()? != FRAME_MAGIC {
        return None;
    }
    let length = input.u32().ok()? as usize;
    let sequence = input.u64().ok()?;
    let crc = input.u32().ok()?;
    let payload = input.take(length).ok()?;
    if crc32c_append(crc32c(&bytes[..16]), payload) != crc {
        return None;
    }
    Some(Frame {
        sequence,
        payload,
        length: (FRAME_HEAD + length).next_multiple_of(8),
    })
}

/// One batch of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number.
    pub sequence: u64,
    /// What takes effect together.
    pub records: Vec<Record>,
}

/// What stands in a file behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Whole batches, in order.
    pub batches: Vec<Batch>,
    /// Where the last whole frame begins, from the beginning of the file.
    pub last: usize,
    /// Where it ends; both are the header's end where there is none.
    pub end: usize,
    /// Bytes behind it, of a write that never finished.
    pub torn: usize,
}

/// Reads all frames of a file; `sequence` is that of its header.
///
/// # Errors
/// For damage in the middle and for records that cannot be read.
pub fn scan(bytes: &[u8], sequence: u64) -> Result<Scan, FrameError> {
    let mut batches = Vec::new();
    let (mut at, mut last, mut last_at) = (HEADER_BYTES, sequence, HEADER_BYTES);
    while let Some(found) = bytes.get(at..).and_then(frame) {
        if found.sequence != last + 1 {
            break;
        }
        last = found.sequence;
        last_at = at;
        batches.push(Batch {
            sequence: last,
            records: records(&found, last)?,
        });
        at += found.length;
    }
    let rest = bytes.get(at..).unwrap_or(&[]);
    // frames begin at multiples of 8 from the header on
    let later = (0..rest.len())
        .step_by(8)
        .any(|i| frame(&rest[i..]).is_some_and(|f| f.sequence > last));
    if later {
        return Err(FrameError::Damaged {
            sequence: last + 1,
            at: at as u64,
        });
    }
    let end = at.min(bytes.len());
    Ok(Scan {
        batches,
        torn: bytes.len() - end,
        last: last_at.min(end),
        end,
    })
}

/// Every batch of a damaged file that can be read still and comes after number `after`: those before
/// the damage, and those behind it that are whole. They rise.
pub fn readable(bytes: &[u8], after: Option<u64>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let last = batches.last().map(|batch| batch.sequence).or(after);
        let found = frame(&bytes[at..]).filter(|f| last.is_none_or(|last| f.sequence > last));
        let Some(found) = found else {
            at += 8;
            continue;
        };
        if let Ok(records) = records(&found, found.sequence) {
            batches.push(Batch {
                sequence: found.sequence,
                records,
            });
        }
        at += found.length;
    }
    batches
}

fn records(frame: &Frame<'_>, sequence: u64) -> Result<Vec<Record>, FrameError> {
    let bad = |error| FrameError::Record { sequence, error };
    let mut input = Input::new(frame.payload);
    let count = input.count(8).map_err(|e| bad(e.into()))?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(Record::decode(&mut input).map_err(bad)?);
    }
    if input.remaining() > 0 {
        return Err(bad(input.error("bytes behind the last record").into()));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(batches: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(FileKind::Log, 4).to_vec();
        let mut ends = vec![bytes.len()];
        for n in 1..=batches {
            let next = Record::ProducerIds {
                next: n as i64 * 1000,
            };
            let many = vec![next; n as usize];
            encode(&mut bytes, 4 + n, &many);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_log_cut_anywhere_gives_the_whole_batches_before_the_cut() {
        let (bytes, ends) = log(4);
        for cut in HEADER_BYTES..=bytes.len() {
            let scan = scan(&bytes[..cut], 4).unwrap();
            // a frame is whole when its payload is: the zeros behind it carry nothing
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            assert!(scan.batches.len() == whole || scan.batches.len() == whole + 1);
            assert!(scan.end <= cut);
            assert_eq!(scan.end + scan.torn, cut);
            for (i, batch) in scan.batches.iter().enumerate() {
                assert_eq!(batch.sequence, 5 + i as u64);
                assert_eq!(batch.records.len(), i + 1);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_unless_it_hits_the_last_batch() {
        let (bytes, ends) = log(3);
        for at in HEADER_BYTES..bytes.len() {
            let mut hurt = bytes.clone();
            hurt[at] ^= 0x10;
            let result = scan(&hurt, 4);
            let batch = ends.iter().filter(|e| **e <= at).count();
            match result {
                Err(FrameError::Damaged { sequence, .. }) => {
                    assert!(batch < 3, "byte {at}");
                    assert_eq!(sequence, 4 + batch as u64);
                }
                // the zeros between frames carry nothing
                Ok(scan) if scan.batches.len() == 3 => assert_eq!(scan.torn, 0),
                Ok(scan) => {
                    assert_eq!(batch, 3, "byte {at}");
                    assert_eq!(scan.batches.len(), 2);
                }
                Err(e) => panic!("byte {at}: {e}"),
            }
        }
    }

    #[test]
    fn headers_of_other_files_and_of_newer_formats_are_refused() {
        let good = header(FileKind::Log, 7);
        assert_eq!(read_header(FileKind::Log, &good), Ok(7));
        assert!(read_header(FileKind::Snapshot, &good).is_err());
        assert!(read_header(FileKind::Log, &good[..31]).is_err());
        for at in 0..HEADER_BYTES {
            let mut hurt = good;
            hurt[at] ^= 1;
            assert!(read_header(FileKind::Log, &hurt).is_err(), "byte {at}");
        }
        let mut newer = good;
        newer[11] = 2;
        assert_eq!(
            read_header(FileKind::Log, &newer),
            Err(FrameError::Newer(2))
        );
    }
}
