//! The log of one shard: partitions, their journals and directories behind one facade.

mod config;

pub use config::{FlushPolicy, JournalSize, LogConfig};
