//! The framing that xerial's Java library puts around snappy blocks, and that Kafka's clients use:
//! a magic, two versions, then blocks, each behind its length of four bytes.

use std::io::{self, Read};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
/// What xerial's writer cuts its input into.
const BLOCK_BYTES: usize = 32 * 1024;
/// No snappy element makes more than 64 bytes out of two or three: a block that promises more lies.
const MAX_RATIO: usize = 32;

pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let packed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

/// Inflates block by block.
pub(super) struct Reader<'a> {
    left: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Over framed blocks, or over one raw block where the magic is missing.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        let framed = bytes.starts_with(&MAGIC) && bytes.len() >= HEADER_BYTES;
        Reader {
            left: if framed {
                &bytes[HEADER_BYTES..]
            } else {
                bytes
            },
            framed,
            block: Vec::new(),
            at: 0,
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let bad = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        // some writers put a stream behind another
        while self.framed && self.left.len() >= HEADER_BYTES && self.left.starts_with(&MAGIC) {
            self.left = &self.left[HEADER_BYTES..];
        }
        if self.left.is_empty() {
            self.block.clear();
            self.at = 0;
            return Ok(());
        }
        let packed = if self.framed {
            let (length, rest) = self
                .left
                .split_first_chunk::<4>()
                .ok_or_else(|| bad("the length of a snappy block is cut"))?;
            let length = u32::from_be_bytes(*length) as usize;
            let (packed, rest) = rest
                .split_at_checked(length)
                .ok_or_else(|| bad("a snappy block is cut"))?;
            self.left = rest;
            packed
        } else {
            std::mem::take(&mut self.left)
        };
        let length = snap::raw::decompress_len(packed)?;
        if length > packed.len().saturating_mul(MAX_RATIO) {
            return Err(bad("a snappy block promises more than it can hold"));
        }
        self.block.clear();
        self.block.resize(length, 0);
        let made = snap::raw::Decoder::new().decompress(packed, &mut self.block)?;
        self.block.truncate(made);
        self.at = 0;
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.left.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let n = to.len().min(self.block.len() - self.at);
        to[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
