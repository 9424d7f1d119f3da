//! What the cluster knows: topics, their settings and partitions, producer ids.
//!
//! A [`controller`] turns requests into records and answers, reading an [`Image`]; [`apply`] is the
//! only place that changes one; the [`store`] makes records durable and reads them back. Shards
//! hold the newest image and swap it. Nothing but the store does IO, nothing reads a clock.

pub mod apply;
pub mod bytes;
pub mod controller;
pub mod frame;
pub mod image;
pub mod rebuild;
pub mod record;
pub mod recover;
pub mod snapshot;
pub mod store;

pub use image::{Image, Partition, Topic};
pub use record::Record;
