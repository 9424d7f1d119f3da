//! The batches of a segment's file from end to end, whole and in memory one at a time: for whoever
//! must know that every byte is what was written.

use std::io;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::journal::scan::RingSource;
use crate::wire::batch::{BatchError, BatchView};

/// Read at once; a larger batch is read by itself.
const WINDOW_BYTES: usize = 1 << 20;
/// No batch is larger: Kafka's largest segments are.
const BATCH_BYTES_MAX: usize = 1 << 31;

/// Bytes that are no batch where one must be.
#[derive(Debug, thiserror::Error)]
pub enum BatchFault {
    /// The disk.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// No batch begins there.
    #[error("no batch begins here: {0}")]
    NoBatch(BatchError),
    /// It goes on behind the end of the file.
    #[error("a batch of {needed} bytes begins here, {left} bytes are left")]
    Cut {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are there.
        left: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the checksum of the batch does not agree")]
    Checksum,
    /// It does not follow the batch before it.
    #[error("the batch begins with offset {got}, {expected} was expected")]
    Offset {
        /// Its first offset.
        got: Offset,
        /// One after the last offset before it.
        expected: Offset,
    },
    /// Its leader epoch, which no checksum covers, is not the one of its offset.
    #[error("the batch has leader epoch {got}, {expected} was expected")]
    Epoch {
        /// Its epoch.
        got: LeaderEpoch,
        /// What the log knows of its offset.
        expected: LeaderEpoch,
    },
}

/// Walks from one batch to the next.
pub struct SegmentScan<'s, S: ?Sized> {
    source: &'s S,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'s, S: RingSource + ?Sized> SegmentScan<'s, S> {
    /// From a boundary of batches to `end`.
    pub fn new(source: &'s S, from: u64, end: u64) -> SegmentScan<'s, S> {
        SegmentScan {
            source,
            at: from,
            end,
            window: Vec::new(),
            window_at: from,
        }
    }

    /// Where the next batch begins: after an error, where it should.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next batch with its position, unchecked but for its frame; `None` at the end.
    ///
    /// # Errors
    /// Where no whole batch stands. The scan stays there.
    pub fn next_batch(&mut self) -> Result<Option<(u64, BatchView<'_>)>, BatchFault> {
        if self.at >= self.end {
            return Ok(None);
        }
        let left = self.end - self.at;
        loop {
            let skip = (self.at - self.window_at) as usize;
            let here = self.window.get(skip..).unwrap_or(&[]);
            let needed = match BatchView::parse(here) {
                Ok(_) => break,
                Err(BatchError::Truncated { needed, .. }) if needed <= BATCH_BYTES_MAX => needed,
                Err(error) => return Err(BatchFault::NoBatch(error)),
            };
            let cut = BatchFault::Cut {
                needed: needed as u64,
                left,
            };
            if needed as u64 > left {
                return Err(cut);
            }
            let before = here.len();
            let want = left.min(needed.max(WINDOW_BYTES) as u64) as usize;
            self.window.resize(want, 0);
            let got = self.source.read(self.at, &mut self.window)?;
            self.window.truncate(got);
            self.window_at = self.at;
            if got <= before {
                return Err(cut); // the file is shorter than it was said to be
            }
        }
        let position = self.at;
        let skip = (position - self.window_at) as usize;
        let batch = BatchView::parse(&self.window[skip..]).map_err(BatchFault::NoBatch)?;
        self.at += batch.total_len() as u64;
        Ok(Some((position, batch)))
    }
}

/// Whether only zeros stand from `at` to `end`, as behind the records of a killed Kafka.
///
/// # Errors
/// What the disk says.
pub fn only_zeros<S: RingSource + ?Sized>(source: &S, mut at: u64, end: u64) -> io::Result<bool> {
    let mut buf = vec![0; WINDOW_BYTES];
    while at < end {
        let want = (end - at).min(WINDOW_BYTES as u64) as usize;
        let got = source.read(at, &mut buf[..want])?;
        if got == 0 || buf[..got].iter().any(|b| *b != 0) {
            return Ok(got == 0);
        }
        at += got as u64;
    }
    Ok(true)
}

/// Whether a batch is what was written there: its checksum, and the fields that it leaves out.
/// `expected` is the offset that must come next, `epoch` what the log knows of that offset.
///
/// # Errors
/// What is wrong first.
pub fn check_batch(
    batch: &BatchView<'_>,
    expected: Offset,
    epoch: Option<LeaderEpoch>,
) -> Result<(), BatchFault> {
    let got = batch.base_offset();
    if got != expected {
        return Err(BatchFault::Offset { got, expected });
    }
    if !batch.verify_crc() {
        return Err(BatchFault::Checksum);
    }
    match (batch.leader_epoch(), epoch) {
        (got, Some(expected)) if got != expected => Err(BatchFault::Epoch { got, expected }),
        _ => Ok(()),
    }
}
