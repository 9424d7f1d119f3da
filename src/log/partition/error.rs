//! What goes wrong with one partition's files.

use std::io;
use std::path::PathBuf;

use crate::base::ids::Offset;
use crate::log::format::FormatError;
use crate::log::segment::Place;

/// A partition's files cannot be read or written, or do not say what they should.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A side file is broken.
    #[error("{path}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: FormatError,
    },
    /// A segment is not what was recorded of it: someone else wrote there, or the disk lost it.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The arena has no memory for it now.
    #[error("no memory for the pages of {0}")]
    Memory(PathBuf),
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Below the log's start or above its end.
    #[error("offset {asked} is not in the log, which holds {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        asked: Offset,
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// Bytes on the disk that are no batch where one must be.
    #[error(
        "{path} is damaged at byte {}: {what}; everything else is served, and once the broker is \
         stopped `corelane log verify` tells which offsets are touched, and `corelane log repair` \
         what can be kept",
        at.position
    )]
    Corrupt {
        /// The segment's file.
        path: PathBuf,
        /// Where.
        at: Place,
        /// What is wrong there.
        what: String,
        /// It was not the last such place of this partition already.
        news: bool,
    },
    /// The disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The partition was deleted, or its directory went offline.
    #[error("the partition is gone")]
    Gone,
}
