//! The Kafka protocol: messages, frames, record batches, compression.
//!
//! Turns bytes into borrowed values and values into bytes. Does no IO, keeps no state, reads no
//! clock, and trusts nothing that it decodes: every length is checked against the bytes that are
//! there before anything is reserved, and no input makes it panic.
//!
//! - [`frame`]: from a stream to requests, from answers to a stream.
//! - [`messages`]: one struct a message, generated from `schema/*.schema`; [`message::Message`]
//!   decodes and encodes them, [`array::Array`] is a list that is decoded as it is walked.
//! - [`batch`]: record batches in place; [`compress`]: their codecs.
//! - [`hot`]: Produce and Fetch answers, written as they arise.
//! - [`api`]: which APIs and versions there are.

pub mod api;
pub mod array;
pub mod batch;
pub mod compress;
pub mod error;
pub mod field;
pub mod frame;
pub mod hot;
pub mod message;
pub mod messages;
pub mod read;
pub mod records;
pub mod write;

#[cfg(test)]
mod differential;
#[cfg(test)]
pub(crate) mod random;
