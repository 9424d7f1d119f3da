//! The driver of production: one io_uring per shard.
//!
//! The ring is set up with SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN: completions are worked off when the shard
//! enters the kernel, never in between. Needs Linux 6.1.

mod descriptor;
mod disk;
mod doorbell;
mod driver;
mod entry;
mod flight;
mod net;
mod probe;
mod splice;

pub use driver::{UringDriver, UringOptions};
pub use probe::{COUNTS_LOCKED, OLDEST, ProbeError, locked_bytes, probe, version};
