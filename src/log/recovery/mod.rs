//! From what is on the disk to partitions that can be opened: identity and locks of the log
//! directories, replay of their journals, settling, the new run's incarnation. Runs once, on one
//! shard, before any shard serves; its result is plain data.

mod error;
pub(crate) mod identity;
pub(crate) mod journals;
mod open;
mod opened;
pub(crate) mod overlay;
pub(crate) mod replay;
pub(crate) mod run;
mod settle;
mod strays;
pub(crate) mod walk;

pub use error::OpenError;
pub use journals::Fault;
pub use open::open_directories;
pub use opened::{Opened, OpenedDirectory, OpenedPartition, OpenedShard};
