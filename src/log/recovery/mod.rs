//! From what is on the disk to partitions that can be opened: identity and locks of the log
//! directories, replay of their journals, settling, the new run's incarnation. Runs once, on one
//! shard, before any shard serves; its result is plain data.

mod error;
mod identity;
mod journals;
mod open;
mod opened;
mod replay;
mod run;
mod settle;
mod strays;
mod walk;

pub use error::OpenError;
pub use journals::Fault;
pub use open::open_directories;
pub use opened::{Opened, OpenedDirectory, OpenedPartition, OpenedShard};
