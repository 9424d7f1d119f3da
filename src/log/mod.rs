//! The log: journals, group commit, segments, recovery.

pub mod append;
pub mod store;

pub use append::{AppendError, Origin, StorageError};
pub use store::LogConfig;
