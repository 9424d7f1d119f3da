//! Inflating, always with a bound.

use std::fmt;
use std::io::{self, Read};

use crate::wire::compress::{Codec, xerial};

/// Compressed bytes that can't be inflated.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// They are not what the codec writes.
    #[error("bytes are no {codec}: {source}")]
    Corrupt {
        /// The codec that the batch names.
        codec: Codec,
        /// What it found.
        source: io::Error,
    },
    /// They hold more than the caller allows.
    #[error("bytes under {codec} inflate to more than {max}")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// The bound, in bytes.
        max: usize,
    },
}

/// The state of a zstd decoder, kept from one batch to the next: it is large.
#[derive(Default)]
pub struct ZstdContext(Option<zstd::zstd_safe::DCtx<'static>>);

impl fmt::Debug for ZstdContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZstdContext")
    }
}

/// Inflates as it is read. Frames and members that follow each other are read to the end.
pub enum Inflater<'a> {
    /// As they are.
    Plain(&'a [u8]),
    /// Gzip members.
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    /// Snappy blocks.
    Snappy(SnappyReader<'a>),
    /// LZ4 frames.
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    /// Zstandard frames.
    Zstd(Box<zstd::stream::read::Decoder<'a, &'a [u8]>>),
}

/// Snappy blocks, as they are read.
pub struct SnappyReader<'a>(xerial::Reader<'a>);

impl<'a> Inflater<'a> {
    /// Over the compressed bytes of a batch.
    pub fn new(
        codec: Codec,
        bytes: &'a [u8],
        zstd: &'a mut ZstdContext,
    ) -> Result<Inflater<'a>, InflateError> {
        Ok(match codec {
            Codec::None => Inflater::Plain(bytes),
            Codec::Gzip => Inflater::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(bytes))),
            Codec::Snappy => Inflater::Snappy(SnappyReader(xerial::Reader::new(bytes))),
            Codec::Lz4 => Inflater::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(bytes))),
            Codec::Zstd => {
                let context = zstd.0.get_or_insert_with(zstd::zstd_safe::DCtx::create);
                // a batch that was cut leaves the context in the middle of a frame
                let reset = context.reset(zstd::zstd_safe::ResetDirective::SessionOnly);
                let decoder = match reset {
                    Ok(_) => zstd::stream::read::Decoder::with_context(bytes, context),
                    Err(code) => {
                        let name = zstd::zstd_safe::get_error_name(code);
                        let source = io::Error::other(name);
                        return Err(InflateError::Corrupt { codec, source });
                    }
                };
                Inflater::Zstd(Box::new(decoder))
            }
        })
    }
}

impl Read for Inflater<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Inflater::Plain(bytes) => bytes.read(to),
            Inflater::Gzip(decoder) => decoder.read(to),
            Inflater::Snappy(decoder) => decoder.0.read(to),
            Inflater::Zstd(decoder) => decoder.read(to),
            Inflater::Lz4(decoder) => loop {
                let left = decoder.get_ref().len();
                let n = decoder.read(to)?;
                let now = decoder.get_ref().len();
                // it stops at the end of each frame
                if n > 0 || now == 0 || now == left || to.is_empty() {
                    return Ok(n);
                }
            },
        }
    }
}

/// The bytes inflated, at most `max` of them.
pub fn decompress(codec: Codec, bytes: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    decompress_into(codec, bytes, max, &mut ZstdContext::default(), &mut out)?;
    Ok(out)
}

/// The bytes inflated, at most `max` of them, in place of what `out` held.
pub fn decompress_into(
    codec: Codec,
    bytes: &[u8],
    max: usize,
    zstd: &mut ZstdContext,
    out: &mut Vec<u8>,
) -> Result<(), InflateError> {
    out.clear();
    let inflater = Inflater::new(codec, bytes, zstd)?;
    match inflater.take(max as u64 + 1).read_to_end(out) {
        Err(source) => Err(InflateError::Corrupt { codec, source }),
        Ok(_) if out.len() > max => Err(InflateError::TooLarge { codec, max }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compress::compress;

    fn sample(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took() {
        for codec in Codec::ALL {
            for n in [0, 1, 100, 32 * 1024, 300_000] {
                let bytes = sample(n);
                let packed = compress(codec, &bytes).unwrap();
                assert_eq!(decompress(codec, &packed, n).unwrap(), bytes, "{codec} {n}");
            }
        }
    }

    #[test]
    fn streams_laid_end_to_end_are_read_to_the_end() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let (a, b) = (sample(70_000), sample(1000));
            let parts = [
                compress(codec, &a).unwrap(),
                compress(codec, &[]).unwrap(),
                compress(codec, &b).unwrap(),
            ];
            let whole = decompress(codec, &parts.concat(), 100_000).unwrap();
            assert_eq!(whole, [a, b].concat(), "{codec}");
        }
    }

    #[test]
    fn output_stops_at_the_bound() {
        let bytes = vec![0; 1 << 20];
        for codec in Codec::ALL {
            let packed = compress(codec, &bytes).unwrap();
            let mut out = Vec::new();
            let mut zstd = ZstdContext::default();
            let error = decompress_into(codec, &packed, 1000, &mut zstd, &mut out).unwrap_err();
            assert!(matches!(error, InflateError::TooLarge { .. }), "{error}");
            assert!(out.len() <= 1001);
        }
    }

    #[test]
    fn a_context_is_usable_after_a_batch_that_was_cut() {
        let bytes = sample(200_000);
        let packed = compress(Codec::Zstd, &bytes).unwrap();
        let (mut zstd, mut out) = (ZstdContext::default(), Vec::new());
        let half = &packed[..packed.len() / 2];
        assert!(decompress_into(Codec::Zstd, half, 1 << 20, &mut zstd, &mut out).is_err());
        decompress_into(Codec::Zstd, &packed, 1 << 20, &mut zstd, &mut out).unwrap();
        assert_eq!(out, bytes);
    }

    #[test]
    fn raw_snappy_is_read_and_a_false_length_is_not_believed() {
        let bytes = sample(5000);
        let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, 5000).unwrap(), bytes);
        let promise = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        let error = decompress(Codec::Snappy, &promise, usize::MAX - 1).unwrap_err();
        assert!(error.to_string().contains("promises more"), "{error}");
    }
}
