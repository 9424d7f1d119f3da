//! The shard: listeners, connections, dispatch, one file for each API.
//!
//! Owns what lies between a socket and the log. It never decides what a record or an offset means:
//! that is `log` and `replica`; and never how bytes reach a socket or a file: that is `ring`.

pub mod auth;
pub mod calls;
pub mod counters;
pub mod lanes;
pub mod placement;
pub mod quota;
pub mod session;
