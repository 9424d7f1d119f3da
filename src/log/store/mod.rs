//! The log of one shard: partitions, their journals and directories behind one facade.

mod appends;
mod bypass;
mod checkpoint;
mod commits;
mod config;
mod counts;
mod directory;
mod drains;
mod growth;
mod journal;
mod shard;
mod slot;
mod stop;
mod table;
mod ticket;
mod waits;

pub use config::{FlushPolicy, JournalSize, LogConfig};
pub use counts::{Counts, CountsNow};
pub use directory::{Directory, FreeJournal};
pub use journal::MAX_AUTO_BYTES;
pub use shard::{LogStore, NewPartition, StoreError};
pub use ticket::{Appended, Ticket};

#[cfg(test)]
mod tests;
