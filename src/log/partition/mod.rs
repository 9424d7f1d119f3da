//! One partition without its journal: what it holds, where it is, what it knows.
//!
//! Owns the segments of one directory, their bytes in memory, indexes, producer state and leader
//! epochs. Decides what to roll, drain, cut and where; never decides when something is durable.

mod check;
mod close;
mod context;
mod drain;
mod error;
mod facts;
mod find;
mod live;
mod lookup;
mod observers;
mod open;
mod plan;
mod read;
mod recall;
mod recovering;
mod segment;
mod sides;
mod state;

pub use context::{PartitionContext, PartitionSpec};
pub use drain::{Dirty, DrainLimit};
pub use error::{LogError, ReadError};
pub use facts::{LastBatch, PartitionFacts, SegmentFacts};
pub use live::{Partition, Undrained};
pub use lookup::TimedOffset;
pub use observers::Observer;
pub use plan::{Part, ReadPlan};
pub use recovering::{Recovering, ReplayError};
pub use state::{Admit, Slot};

#[cfg(test)]
mod model_test;
#[cfg(test)]
pub(crate) mod test_ring;
