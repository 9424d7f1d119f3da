//! The shard: listeners, connections, dispatch, one file for each API.
//!
//! Owns what lies between a socket and the log. It never decides what a record or an offset means:
//! that is `log` and `replica`; and never how bytes reach a socket or a file: that is `ring`.

pub mod acceptor;
pub mod api;
pub mod append;
pub mod apply;
pub mod auth;
pub mod calls;
pub mod clients;
pub mod complaints;
pub mod connection;
pub mod control;
pub mod counters;
pub mod expire;
pub mod gather;
pub mod lanes;
pub(crate) mod leader;
pub mod listener;
pub mod memory;
pub mod message;
pub mod offsets;
pub mod placement;
pub mod purgatory;
pub mod quota;
pub mod reads;
pub mod recycle;
pub mod refusals;
pub mod route;
pub(crate) mod scatter;
pub mod serve;
pub mod session;
pub mod shard;
pub mod stages;
pub mod start;
pub mod sweep;
pub mod transport;
pub mod watch;
