//! Waiting within a shard: no threads, no locks, wake-ups in the order of waiting.

pub mod semaphore;

pub use semaphore::{Permit, Semaphore};
