//! File descriptors of the process behind [`Descriptor`]s.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::ring::driver::{Close, Descriptor};

/// Why a descriptor cannot be missing: only `release` takes it, by value.
const HELD: &str = "a descriptor keeps its number until it is released for good";

struct Plain {
    fd: Cell<Option<OwnedFd>>,
    raw: RawFd,
    memory: Cell<u32>,
}

struct DiskFile {
    fd: OwnedFd,
    writable: bool,
    direct: bool,
    /// The same file through the page cache.
    cached: OnceCell<OwnedFd>,
}

/// A socket or anything else without a page cache.
pub(super) fn plain(fd: OwnedFd) -> Descriptor {
    let raw = fd.as_raw_fd();
    Descriptor::new(Rc::new(Plain {
        fd: Cell::new(Some(fd)),
        raw,
        memory: Cell::new(0),
    }))
}

/// A descriptor of this process by its number, which the caller owns.
pub(super) fn adopt(raw: RawFd) -> Descriptor {
    // SAFETY: numbers come from an accept that completed or from `release`, and are adopted once.
    plain(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A file; `direct` if it passes the page cache by.
pub(super) fn file(fd: OwnedFd, writable: bool, direct: bool) -> Descriptor {
    Descriptor::new(Rc::new(DiskFile {
        fd,
        writable,
        direct,
        cached: OnceCell::new(),
    }))
}

impl Close for Plain {
    fn raw(&self) -> i32 {
        self.raw
    }

    fn release(&self) -> i32 {
        self.fd.take().expect(HELD).into_raw_fd()
    }

    fn closer(&self) -> fn(i32) {
        // SAFETY: called once, for a number that was released and not adopted.
        |raw| drop(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn memory(&self) -> Option<&Cell<u32>> {
        Some(&self.memory)
    }
}

impl Close for DiskFile {
    fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn release(&self) -> i32 {
        // A duplicate stands for the same open file, locks included, whatever becomes of this one.
        let duplicate = self.fd.try_clone();
        duplicate.map_or(-1, IntoRawFd::into_raw_fd)
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn cached(&self) -> io::Result<i32> {
        if !self.direct {
            return Ok(self.fd.as_raw_fd());
        }
        if let Some(fd) = self.cached.get() {
            return Ok(fd.as_raw_fd());
        }
        // By number, not by name: the file may have been renamed or unlinked.
        let fd: OwnedFd = fs::OpenOptions::new()
            .read(true)
            .write(self.writable)
            .open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))?
            .into();
        Ok(self.cached.get_or_init(|| fd).as_raw_fd())
    }
}
