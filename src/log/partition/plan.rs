//! What a read answers with: ranges, not copies.

use std::io;

use smallvec::SmallVec;

use crate::base::ids::Offset;
use crate::log::segment::Place;
use crate::ring::File;
use crate::ring::buf::Buf;

/// A run of bytes.
#[derive(Clone, Debug)]
pub enum Part {
    /// In memory.
    Memory(Buf),
    /// In a segment's file, opened for buffered reads.
    File {
        /// The file; held as long as this lives, whatever becomes of the segment.
        file: File,
        /// First byte.
        position: u64,
        /// Number of bytes.
        len: u64,
    },
}

impl Part {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Part::Memory(buf) => buf.len() as u64,
            Part::File { len, .. } => *len,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whole batches of one segment, in order.
#[derive(Clone, Debug, Default)]
pub struct ReadPlan {
    /// The bytes.
    pub parts: SmallVec<[Part; 4]>,
    /// How many they are.
    pub bytes: u64,
    /// First offset of the first batch, which may lie before the offset asked for.
    pub first_offset: Option<Offset>,
    /// Where the bytes end.
    pub end: Place,
}

impl ReadPlan {
    /// Lets the bytes go, keeps its own memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
        self.first_offset = None;
        self.end = Place::default();
    }

    /// A copy of the bytes, for tools and tests: a client gets them without one. It blocks for the
    /// disk.
    ///
    /// # Errors
    /// The disk's; `UnexpectedEof` where a file is shorter than its log was.
    pub fn copy_now(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.bytes as usize);
        for part in &self.parts {
            match part {
                Part::Memory(buf) => bytes.extend_from_slice(buf),
                Part::File {
                    file,
                    position,
                    len,
                } => {
                    let at = bytes.len();
                    bytes.resize(at + *len as usize, 0);
                    if file.read_now(&mut bytes[at..], *position)? < *len as usize {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}
