//! A buffer with one owner.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

use super::arena::{Arena, Block};
use super::shared::Buf;

/// Unique, page-aligned, writable. Its content is what was there before.
pub struct BufMut(NonNull<Block>);

impl BufMut {
    pub(super) fn of(block: NonNull<Block>) -> BufMut {
        BufMut(block)
    }

    pub(super) fn into_block(self) -> NonNull<Block> {
        ManuallyDrop::new(self).0
    }

    fn block(&self) -> &Block {
        // SAFETY: we are its user.
        unsafe { self.0.as_ref() }
    }

    /// A buffer outside of any budget, for tests and tools.
    pub fn unbudgeted(bytes: usize) -> BufMut {
        Arena::new(bytes.max(1).next_power_of_two().max(4096))
            .try_alloc(bytes)
            .expect("an arena as large as its only buffer")
    }

    /// Bytes that it holds: a multiple of 4096, all of them readable and writable.
    pub fn capacity(&self) -> usize {
        self.block().capacity
    }

    /// Shares a range of it, read-only from now on.
    ///
    /// # Panics
    /// If the range is not within the capacity.
    pub fn freeze(self, range: Range<usize>) -> Buf {
        let (ptr, capacity) = (self.block().ptr, self.block().capacity);
        assert!(range.start <= range.end && range.end <= capacity);
        // SAFETY: within the block's memory, as just asserted; the use count moves over.
        unsafe { Buf::of(self.into_block(), ptr.add(range.start), range.len()) }
    }
}

impl Deref for BufMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let block = self.block();
        // SAFETY: mapped memory is initialised, and we are the only user.
        unsafe { std::slice::from_raw_parts(block.ptr.as_ptr(), block.capacity) }
    }
}

impl DerefMut for BufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        let block = self.block();
        // SAFETY: mapped memory is initialised, and we are the only user.
        unsafe { std::slice::from_raw_parts_mut(block.ptr.as_ptr(), block.capacity) }
    }
}

impl Drop for BufMut {
    fn drop(&mut self) {
        // SAFETY: we are its user and are going.
        unsafe { Block::release(self.0) };
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} bytes)", self.capacity())
    }
}
