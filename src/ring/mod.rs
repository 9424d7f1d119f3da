//! The runtime of a shard: one thread, one executor, one ring.

pub mod buf;
pub mod driver;
pub mod executor;
pub mod file;
pub mod sim;
pub mod socket;
pub mod sync;

pub use executor::{Elapsed, Executor, ExecutorOptions, JoinHandle, Ring, Turn};
pub use file::File;
pub use socket::{Listener, Socket, SocketParcel};
