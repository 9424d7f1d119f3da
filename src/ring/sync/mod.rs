//! Waiting within a shard: no threads, no locks, wake-ups in the order of waiting.

pub mod channel;
pub mod event;
pub mod join;
pub mod oneshot;
pub mod race;
pub mod semaphore;

pub use channel::channel;
pub use event::Event;
pub use join::join;
pub use oneshot::oneshot;
pub use race::{Either, race};
pub use semaphore::{Permit, Semaphore};
