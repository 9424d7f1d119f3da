//! Connections: from bytes to requests, from answers to bytes.
//!
//! One task reads and works; a second one, started by the first pipelined Produce, sends answers
//! that wait for the disk. Everything else is answered by the reading task itself, once all
//! earlier requests are answered: a connection has one order.

pub mod amend;
pub mod foreign;
pub mod input;
pub mod outbox;
pub mod reader;
mod start;
pub mod state;
pub mod watch;
pub mod writer;

pub use start::{adopt, start};
pub use state::Connection;
