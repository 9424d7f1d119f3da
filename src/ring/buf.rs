//! Page-aligned memory of a shard.

/// Unique, page-aligned, writable.
pub struct BufMut;

/// Shared within the shard, read-only.
#[derive(Clone)]
pub struct Buf;
