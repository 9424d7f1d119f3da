//! Page-aligned memory, and a copy into it past the cache, with a sum.

use std::hint::black_box;

use crc_fast::{CrcAlgorithm, Digest};

/// Sum and copy alternate within the first-level cache.
const PIECE: usize = 8 << 10;
/// Below this a copy goes through the cache.
#[cfg(target_arch = "x86_64")]
const STREAMED_BYTES: usize = 4 << 10;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Memory as direct writes want it.
pub struct Pages(Vec<Page>);

impl Pages {
    /// So many bytes, a multiple of a page.
    pub fn new(bytes: usize) -> Pages {
        Pages(vec![Page([0; 4096]); bytes.div_ceil(4096)])
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        let bytes = self.0.len() * size_of::<Page>();
        // SAFETY: pages are bytes and nothing between them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), bytes) }
    }
}

/// Copies `from` to the start of `to`, with its CRC-32C.
pub fn copy(to: &mut [u8], from: &[u8]) {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for (to, from) in to.chunks_mut(PIECE).zip(from.chunks(PIECE)) {
        digest.update(from);
        stream(&mut to[..from.len()], from);
    }
    black_box(digest.finalize());
}

fn stream(to: &mut [u8], from: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if from.len() >= STREAMED_BYTES {
        return past_the_cache(to, from);
    }
    to.copy_from_slice(from);
}

/// Writes whole cache lines past the cache: the device reads them next, this core does not.
#[cfg(target_arch = "x86_64")]
fn past_the_cache(to: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const LINE: usize = 64;
    const LANE: usize = size_of::<__m128i>();
    let head = to.as_ptr().align_offset(LINE).min(from.len());
    let (to_head, to) = to.split_at_mut(head);
    let (from_head, from) = from.split_at(head);
    to_head.copy_from_slice(from_head);
    let mut to = to.chunks_exact_mut(LINE);
    let mut from = from.chunks_exact(LINE);
    for (to, from) in to.by_ref().zip(from.by_ref()) {
        let to = to.as_mut_ptr().cast::<__m128i>();
        let from = from.as_ptr().cast::<__m128i>();
        for lane in 0..LINE / LANE {
            // SAFETY: both are `LINE` bytes long, and `to` is aligned to it; SSE2 is part of the
            // architecture.
            unsafe { _mm_stream_si128(to.add(lane), _mm_loadu_si128(from.add(lane))) };
        }
    }
    to.into_remainder().copy_from_slice(from.remainder());
    // SAFETY: as above.
    unsafe { _mm_sfence() };
}
