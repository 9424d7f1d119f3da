//! A simulated world: machines with clocks, disks and a network, all on one thread, all from one
//! seed. The same seed and the same code give the same run, bit for bit.
//!
//! Owns time, chance, the network and the disks. Runs the same executors and the same shells as
//! production; what differs is the driver under them.

mod clock;
mod disk;
mod driver;
mod faults;
mod io;
mod machine;
mod net;
mod options;
mod rng;
mod state;
mod stream;
mod world;

#[cfg(test)]
mod tests;

pub use disk::content::Luck;
pub use faults::ArenaUse;
pub use machine::{MachineId, ProcessId};
pub use options::{DiskOptions, NetOptions, SimOptions};
pub use rng::Rng;
pub use world::SimWorld;
