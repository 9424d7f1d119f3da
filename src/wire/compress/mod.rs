//! The codecs of record batches. A batch's records are compressed as one run of bytes.
//!
//! Output is bounded while inflating: no input makes it larger than the caller allows.

mod codec;
mod deflate;
mod inflate;
mod xerial;

pub use codec::Codec;
pub use deflate::{CompressError, compress};
pub use inflate::{InflateError, Inflater, ZstdContext, decompress, decompress_into};
