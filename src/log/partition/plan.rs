//! What a read answers with: ranges, not copies.

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

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}
