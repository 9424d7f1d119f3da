//! The runtime of a shard: one thread, one executor, one ring.

pub mod affinity;
pub mod buf;
pub mod driver;
pub mod executor;
pub mod file;
pub mod mailbox;
pub mod process;
pub mod sim;
pub mod socket;
pub mod sync;
#[cfg(test)]
mod tests;
pub mod uring;

pub(crate) use executor::Hoarder;
pub use executor::{Elapsed, Executor, ExecutorOptions, JoinHandle, Ring, Turn};
pub use file::File;
pub use socket::{Listener, Socket, SocketParcel};
