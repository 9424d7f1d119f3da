//! Operations that the kernel has, with everything that must outlive them.
#![allow(unsafe_code)]

use super::net::Address;
use super::splice::Splice;
use crate::ring::driver::{Chain, Op, OpId};

/// An operation between submission and completion. The kernel holds addresses of buffers in `op` (whose
/// memory does not move with it) and of what is boxed here.
pub(super) struct Flight {
    pub(super) id: OpId,
    pub(super) op: Op,
    pub(super) aux: Aux,
    pub(super) cancelled: bool,
}

pub(super) enum Aux {
    None,
    Vectors(Box<Vectors>),
    /// Only the kernel reads it.
    Address(#[allow(dead_code)] Box<Address>),
    Splice(Box<Splice>),
}

/// The kernel refuses a longer list (IOV_MAX of `limits.h`).
const RANGES_MAX: usize = 1024;

/// A list of memory ranges, as the kernel takes it, and the message header around it.
pub(super) struct Vectors {
    list: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Vectors {
    pub(super) fn new() -> Box<Vectors> {
        Box::new(Vectors {
            list: Vec::with_capacity(8),
            // SAFETY: all zeros is a valid, empty header.
            header: unsafe { std::mem::zeroed() },
        })
    }

    /// Names what is left of a chain after `skip` bytes, or as much of it as goes at once: whoever
    /// asked goes on after a short write.
    pub(super) fn fill(&mut self, chain: &Chain, mut skip: usize) {
        self.list.clear();
        for buf in chain {
            if skip >= buf.len() {
                skip -= buf.len();
                continue;
            }
            let rest = &buf[skip..];
            skip = 0;
            self.list.push(libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            });
            if self.list.len() == RANGES_MAX {
                break;
            }
        }
    }

    pub(super) fn list(&self) -> &[libc::iovec] {
        &self.list
    }

    /// The header around the list; it stays valid while this is not touched.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.list.as_mut_ptr();
        self.header.msg_iovlen = self.list.len();
        &raw const self.header
    }
}

/// The only range that is left of a chain after `skip` bytes, if it is only one.
pub(super) fn single(chain: &Chain, mut skip: usize) -> Option<&[u8]> {
    let mut bufs = chain.iter();
    let first = loop {
        let buf = bufs.next()?;
        if skip < buf.len() {
            break &buf[skip..];
        }
        skip -= buf.len();
    };
    bufs.all(|buf| buf.is_empty()).then_some(first)
}
