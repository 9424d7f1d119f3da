//! Messages between shards: a bounded ring for each pair, and a doorbell for sleepers.
//!
//! A full mailbox makes the sender wait; nothing is dropped and nothing grows. To be safe from a
//! circle of shards that wait for each other's room, whoever receives must not wait to send to
//! the class of messages that it receives.

mod lane;
mod post;

pub use post::{Mailbox, Post, mesh};
