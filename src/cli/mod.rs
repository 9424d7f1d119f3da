//! The command line: arguments in, exit codes out.
//!
//! `serve` starts the shards; everything else is a client of a broker, or reads files. Nothing
//! here runs on a shard, so plain threads, blocking sockets and the system's clock are in place.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod args;
mod bench;
mod client;
mod config;
mod consume;
mod disk;
mod log;
mod on_ring;
mod output;
mod payload;
mod produce;
mod progress;
pub mod rig;
mod run;
mod send;
mod serve;
mod topic;
mod tune;

pub use run::run;
