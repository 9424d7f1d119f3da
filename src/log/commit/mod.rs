//! Group commit: how batches of all partitions of a shard become entries of one journal, and how
//! the ring's space comes back.
//!
//! Decisions are plain values here ([`space`], [`group`], [`pace`]); `store` does what they say.

pub mod group;
pub mod pace;
pub mod space;
pub mod stamp;

#[cfg(test)]
mod space_tests;
