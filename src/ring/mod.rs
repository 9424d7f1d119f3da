//! The runtime of a shard: one thread, one executor, one ring.

pub mod buf;
pub mod driver;
pub mod sync;
