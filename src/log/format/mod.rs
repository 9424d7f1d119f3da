//! The files beside the records: Kafka's own, byte for byte, and the few of ours.
//!
//! Pure encoders and decoders. A decoder takes any bytes and answers with what is wrong and where;
//! it never trusts a count, a length or an order.

pub mod clean_shutdown;
pub mod epoch_checkpoint;
mod lines;
pub mod meta_properties;
pub mod names;
pub mod offset_checkpoint;
pub mod offset_index;
pub mod partition_metadata;
pub mod producer_snapshot;
pub mod time_index;
pub mod txn_index;

use std::borrow::Cow;

/// A file that does not say what its format demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Bytes at a place that make no sense there.
    #[error("byte {at}: {what}")]
    Bytes {
        /// Position in the file.
        at: usize,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// A line of a text file that makes no sense.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: Cow<'static, str>,
    },
    /// The file was made by a newer release.
    #[error("version {got} is not known (newest known: {newest})")]
    Version {
        /// What the file says.
        got: i64,
        /// What this release reads.
        newest: i64,
    },
    /// The checksum over the file does not agree.
    #[error("checksum is {computed:08x}, the file says {stored:08x}")]
    Checksum {
        /// Of the bytes as they are.
        computed: u32,
        /// In the file.
        stored: u32,
    },
}

impl FormatError {
    pub(crate) fn at(at: usize, what: impl Into<Cow<'static, str>>) -> FormatError {
        FormatError::Bytes {
            at,
            what: what.into(),
        }
    }

    pub(crate) fn line(line: usize, what: impl Into<Cow<'static, str>>) -> FormatError {
        FormatError::Line {
            line,
            what: what.into(),
        }
    }
}

/// A reader over a slice that never runs past its end.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or_else(|| FormatError::at(self.at, format!("{N} bytes are missing")))?;
        self.at += N;
        Ok(*bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, FormatError> {
        self.take().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.take().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.take().map(u64::from_be_bytes)
    }
}
