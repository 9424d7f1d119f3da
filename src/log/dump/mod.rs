//! A readable walk over the files of a log, ours or Kafka's: for `corelane log dump`.
//!
//! Reads, never writes, and takes any bytes: what does not fit becomes a line that says so.

mod journal;
mod line;
mod segment;
mod side;

use std::io;

use crate::log::format::{
    epoch_checkpoint, meta_properties, names, offset_checkpoint, partition_metadata,
};
use crate::log::journal::properties;
use crate::log::journal::scan::RingSource;

pub use line::{Line, Value};

/// Files beside the records are small; one above this is none of them.
const SIDE_BYTES_MAX: u64 = 256 << 20;

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// Records too, not only batches.
    pub records: bool,
}

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The disk.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// Whoever takes the lines takes no more.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// No kind of file that is known here.
    #[error(
        "{0} is no file of a log: segments (.log), indexes, snapshots, checkpoints and journals are"
    )]
    Unknown(String),
    /// Too large for what it is called.
    #[error("{name} has {len} bytes, too many for such a file")]
    TooLarge {
        /// Its name.
        name: String,
        /// Its length.
        len: u64,
    },
}

/// A file, and whom its lines go to.
struct Walk<'w, S: ?Sized> {
    source: &'w S,
    len: u64,
    options: DumpOptions,
    take: &'w mut dyn FnMut(Line) -> io::Result<()>,
    problems: usize,
}

impl<S: RingSource + ?Sized> Walk<'_, S> {
    fn put(&mut self, line: Line) -> Result<(), DumpError> {
        self.problems += usize::from(line.problem.is_some());
        (self.take)(line).map_err(DumpError::Write)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<usize, DumpError> {
        self.source.read(at, buf).map_err(DumpError::Read)
    }

    fn whole(&self, name: &str) -> Result<Vec<u8>, DumpError> {
        if self.len > SIDE_BYTES_MAX {
            return Err(DumpError::TooLarge {
                name: name.to_owned(),
                len: self.len,
            });
        }
        let mut bytes = vec![0; self.len as usize];
        let n = self.read(0, &mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }
}

/// Walks over a file of `len` bytes with that name, and hands out what it finds line by line.
/// Returns how many lines tell of a problem.
///
/// # Errors
/// See [`DumpError`].
pub fn dump<S: RingSource + ?Sized>(
    name: &str,
    source: &S,
    len: u64,
    options: DumpOptions,
    take: &mut dyn FnMut(Line) -> io::Result<()>,
) -> Result<usize, DumpError> {
    let mut walk = Walk {
        source,
        len,
        options,
        take,
        problems: 0,
    };
    // set-aside files keep their kind: 000.log.deleted
    let plain = [".deleted", ".cleaned", ".swap"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    match (names::parse_file(plain), plain) {
        (Some((_, names::Kind::Log)), _) => segment::walk(&mut walk)?,
        (Some((base, kind)), _) => {
            let bytes = walk.whole(name)?;
            side::numbered(&mut walk, base, kind, &bytes)?;
        }
        (None, epoch_checkpoint::FILE_NAME) => {
            let bytes = walk.whole(name)?;
            side::epochs(&mut walk, &bytes)?;
        }
        (None, partition_metadata::FILE_NAME) => {
            let bytes = walk.whole(name)?;
            side::partition(&mut walk, &bytes)?;
        }
        (None, properties::FILE_NAME) => {
            let bytes = walk.whole(name)?;
            side::journals(&mut walk, &bytes)?;
        }
        (None, name) if name.starts_with(meta_properties::FILE_NAME) => {
            let bytes = walk.whole(name)?;
            side::meta(&mut walk, &bytes)?;
        }
        (
            None,
            offset_checkpoint::RECOVERY_POINT
            | offset_checkpoint::REPLICATION
            | offset_checkpoint::LOG_START
            | offset_checkpoint::CLEANER,
        ) => {
            let bytes = walk.whole(name)?;
            side::offsets(&mut walk, &bytes)?;
        }
        _ if journal::is_journal(&walk)? => journal::walk(&mut walk)?,
        _ if name.ends_with(".log") => segment::walk(&mut walk)?,
        _ => return Err(DumpError::Unknown(name.to_owned())),
    }
    Ok(walk.problems)
}

#[cfg(test)]
mod tests;
