//! One world that goes on: a broker on its machine, clients that work with it and remember
//! everything, and faults, a random subset for each seed.

pub mod client;
mod consumer;
mod entry;
mod faults;
mod life;
pub mod machine;
mod model;
mod producer;
mod rule;
mod shared;
mod strikes;
mod tally;
mod topic;

pub use life::simulate;
#[allow(unused_imports)] // the tests do not add up
pub use tally::Tally;
