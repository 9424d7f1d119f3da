//! One segment: a `.log` file that grows at its end, its bytes in memory, its sparse indexes.

pub(crate) mod clock;
pub mod files;
pub mod header;
pub mod index;
pub mod place;
pub mod roll;
pub mod scan;
pub mod tail;

pub use files::{Access, SegmentFiles};
pub use header::{BatchHeader, HEADER_BYTES};
pub use index::{Largest, SparseIndex};
pub use place::Place;
pub use roll::{RollInput, RollReason, roll_reason};
pub use tail::Tail;
