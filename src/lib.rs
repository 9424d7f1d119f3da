//! A streaming broker for Linux that speaks the Apache Kafka protocol.
#![cfg_attr(not(test), warn(missing_docs))]

pub mod base;
pub mod broker;
pub mod cli;
pub mod log;
pub mod metadata;
pub mod replica;
pub mod ring;
pub mod wire;
