//! One partition without its journal: what it holds, where it is, what it knows.
//!
//! Owns the segments of one directory, their bytes in memory, indexes, producer state and leader
//! epochs. Decides what to roll, drain, cut and where; never decides when something is durable.

mod error;
mod facts;
mod plan;
mod recovering;

pub use error::{LogError, ReadError};
pub use facts::{LastBatch, PartitionFacts, SegmentFacts};
pub use plan::{Part, ReadPlan};
pub use recovering::{Recovering, ReplayError};
