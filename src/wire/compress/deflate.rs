//! Compression, for producers of our own.

use std::io::Write;

use crate::wire::compress::{Codec, xerial};

/// A codec that failed on bytes in memory.
#[derive(Debug, thiserror::Error)]
#[error("{codec} could not compress: {source}")]
pub struct CompressError {
    codec: Codec,
    source: std::io::Error,
}

/// The bytes under a codec, at its usual level.
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CompressError> {
    let fail = |source| CompressError { codec, source };
    match codec {
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).map_err(fail)?;
            encoder.finish().map_err(fail)
        }
        Codec::Snappy => xerial::compress(bytes).map_err(fail),
        Codec::Lz4 => {
            // as Kafka writes it: blocks of 64 KiB that stand alone
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(bytes).map_err(fail)?;
            encoder.finish().map_err(|e| fail(std::io::Error::other(e)))
        }
        Codec::Zstd => zstd::stream::encode_all(bytes, 0).map_err(fail),
    }
}
