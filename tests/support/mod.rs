//! What the test programs that drive the built broker share. Each uses a part of it.
#![allow(dead_code)]

pub mod broker;
pub mod kafka;
pub mod process;
pub mod wait;
