//! Page-aligned memory of a shard.
//!
//! [`Arena`] hands out [`BufMut`]s within a budget; a filled one is frozen into [`Buf`]s, which are
//! shared by reference count. [`AppendBuf`] is written at its end while its front is read.
//! Nothing here crosses threads, and nothing needs a ring.

mod append;
mod arena;
mod buddy;
mod shared;
mod stream;
mod unique;

pub use append::AppendBuf;
pub use arena::{Arena, Budget, CHUNK_BYTES, Grant};
pub use shared::Buf;
pub use stream::copy_streaming;
pub use unique::BufMut;
