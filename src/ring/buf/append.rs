//! A buffer that grows at its end while its front is read.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use super::arena::Block;
use super::shared::Buf;
use super::stream::copy_streaming;
use super::unique::BufMut;

/// One writer, many readers: what was appended never changes, so ranges of it can be shared and be
/// in flight while more is appended behind them.
pub struct AppendBuf {
    block: NonNull<Block>,
    len: usize,
}

impl AppendBuf {
    /// An empty one over a buffer's memory.
    pub fn new(buf: BufMut) -> AppendBuf {
        AppendBuf {
            block: buf.into_block(),
            len: 0,
        }
    }

    /// One whose first `len` bytes are the buffer's.
    ///
    /// # Panics
    /// If the buffer is not that large.
    pub fn with_len(buf: BufMut, len: usize) -> AppendBuf {
        assert!(len <= buf.capacity());
        AppendBuf {
            block: buf.into_block(),
            len,
        }
    }

    fn block(&self) -> &Block {
        // SAFETY: we are its user.
        unsafe { self.block.as_ref() }
    }

    /// Bytes that it holds at most.
    pub fn capacity(&self) -> usize {
        self.block().capacity
    }

    /// Bytes appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len
    }

    /// Appends as much as fits; answers how many bytes it took.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.remaining());
        // SAFETY: behind `len`, where no shared range reaches, and within the capacity: nobody else
        // reads or writes there.
        let free = unsafe {
            let free = self.block().ptr.add(self.len).as_ptr();
            std::slice::from_raw_parts_mut(free, taken)
        };
        copy_streaming(free, &bytes[..taken]);
        self.len += taken;
        taken
    }

    /// Appends zeros up to a length (at most the capacity); no effect if it is already there.
    pub fn pad_to(&mut self, len: usize) {
        let len = len.min(self.capacity());
        if len > self.len {
            // SAFETY: as in `append`.
            unsafe {
                std::ptr::write_bytes(self.block().ptr.add(self.len).as_ptr(), 0, len - self.len);
            }
            self.len = len;
        }
    }

    /// Shares a range of what was appended.
    ///
    /// # Panics
    /// If it reaches beyond.
    pub fn slice(&self, range: Range<usize>) -> Buf {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: below `len` nothing is written any more; we are a user, so that one can be added.
        unsafe {
            Block::retain(self.block);
            Buf::of(self.block, self.block().ptr.add(range.start), range.len())
        }
    }

    /// What was appended.
    pub fn filled(&self) -> &[u8] {
        // SAFETY: below `len` nothing is written any more.
        unsafe { std::slice::from_raw_parts(self.block().ptr.as_ptr(), self.len) }
    }

    /// Whether ranges of it are shared.
    pub fn is_shared(&self) -> bool {
        self.block().users.get() > 1
    }
}

impl Drop for AppendBuf {
    fn drop(&mut self) {
        // SAFETY: we are its user and are going.
        unsafe { Block::release(self.block) };
    }
}

impl fmt::Debug for AppendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppendBuf({} of {} bytes)", self.len, self.capacity())
    }
}
