//! The log: journals, group commit, segments, recovery.

pub mod append;
mod aside;
pub mod cache;
pub mod commit;
pub mod dump;
pub mod epochs;
pub mod format;
pub mod journal;
pub mod partition;
pub mod producers;
pub mod recovery;
pub mod repair;
pub mod segment;
pub mod store;
pub mod verify;

pub use append::{AppendError, Origin, StorageError};
pub use store::{Appended, LogConfig, LogStore, NewPartition, Ticket};
