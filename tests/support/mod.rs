//! What the test programs that drive the built broker share. Each uses a part of it.
#![allow(dead_code)]

pub mod broker;
pub mod history;
pub mod kafka;
pub mod load;
pub mod process;
pub mod sequence;
pub mod wait;

pub use corelane::cli::rig::ports;
