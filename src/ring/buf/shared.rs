//! A buffer with many readers.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;

use super::arena::Block;
use super::unique::BufMut;

/// Shared within the shard, read-only, a range of some memory. Cloning and slicing count users and
/// copy nothing.
pub struct Buf {
    /// None for memory that lives as long as the program.
    block: Option<NonNull<Block>>,
    ptr: NonNull<u8>,
    len: usize,
}

impl Buf {
    /// # Safety
    /// `len` bytes from `ptr` lie in `block` (or live for ever), are initialised and are not written
    /// while this lives; the caller passes one use of `block` on.
    pub(super) unsafe fn of(
        block: impl Into<Option<NonNull<Block>>>,
        ptr: NonNull<u8>,
        len: usize,
    ) -> Buf {
        let block = block.into();
        Buf { block, ptr, len }
    }

    /// No bytes.
    pub const fn empty() -> Buf {
        Buf::from_static(&[])
    }

    /// Bytes of the program itself.
    pub const fn from_static(bytes: &'static [u8]) -> Buf {
        Buf {
            block: None,
            // SAFETY: a slice's pointer is never null.
            ptr: unsafe { NonNull::new_unchecked(bytes.as_ptr().cast_mut()) },
            len: bytes.len(),
        }
    }

    /// A part of it.
    ///
    /// # Panics
    /// If the range is not within it.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Buf {
        let start = match range.start_bound() {
            Bound::Included(&n) => n,
            Bound::Excluded(&n) => n + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&n) => n + 1,
            Bound::Excluded(&n) => n,
            Bound::Unbounded => self.len,
        };
        assert!(start <= end && end <= self.len);
        let mut part = self.clone();
        // SAFETY: within our own range.
        part.ptr = unsafe { part.ptr.add(start) };
        part.len = end - start;
        part
    }

    /// The memory back for writing, if nobody else reads it and it came from an arena.
    pub fn into_mut(self) -> Result<BufMut, Buf> {
        let Some(block) = self.block else {
            return Err(self);
        };
        // SAFETY: alive, we are a user.
        let header = unsafe { block.as_ref() };
        if header.users.get() != 1 || !header.is_paged() {
            return Err(self);
        }
        let _moved = ManuallyDrop::new(self);
        Ok(BufMut::of(block))
    }
}

impl Deref for Buf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: promised by whoever made it (`of`).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Buf {
    fn clone(&self) -> Buf {
        if let Some(block) = self.block {
            // SAFETY: we are a user.
            unsafe { Block::retain(block) };
        }
        Buf { ..*self }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            // SAFETY: we are a user and are going.
            unsafe { Block::release(block) };
        }
    }
}

impl Default for Buf {
    fn default() -> Buf {
        Buf::empty()
    }
}

impl From<Vec<u8>> for Buf {
    fn from(bytes: Vec<u8>) -> Buf {
        if bytes.is_empty() {
            return Buf::empty();
        }
        let len = bytes.len();
        let block = Block::of_vec(bytes);
        // SAFETY: alive, one user; nobody writes a vector that the block owns.
        unsafe { Buf::of(block, block.as_ref().ptr, len) }
    }
}

impl PartialEq for Buf {
    fn eq(&self, other: &Buf) -> bool {
        **self == **other
    }
}

impl Eq for Buf {}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes)", self.len)
    }
}
