//! A byte of a partition's log.

use std::fmt;

use crate::base::ids::Offset;

/// A byte of a log: segment and position in it. Ordered as the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Byte of its `.log`.
    pub position: u64,
}

impl Place {
    /// A byte of a segment.
    pub fn new(segment: Offset, position: u64) -> Place {
        Place { segment, position }
    }

    /// So many bytes on in the same segment.
    pub fn plus(self, bytes: u64) -> Place {
        Place {
            position: self.position + bytes,
            ..self
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.segment, self.position)
    }
}
