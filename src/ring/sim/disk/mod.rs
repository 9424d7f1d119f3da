//! A simulated disk: three layers (in flight, in a cache, durable), with names, lengths and data
//! durable apart from each other. Owns no clock: `ops` says when something happens.

pub(crate) mod content;
pub(crate) mod fs;
pub(crate) mod names;
