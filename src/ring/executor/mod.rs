//! The executor of a shard: tasks, timers and operations over one [`Driver`](super::driver::Driver).
//!
//! Owns every task of its shard. Deterministic: tasks run in the order in which they became ready, and nothing depends
//! on addresses, hash seeds or threads.

mod alarms;
mod core;
mod join;
mod ops;
mod tasks;
mod timers;
mod turn;
mod wait;
mod waker;

pub use self::core::{ExecutorOptions, Ring};
pub use join::JoinHandle;
pub use turn::{Executor, Turn};
pub use wait::Elapsed;

pub(crate) use self::core::{Hoarder, Poller};
