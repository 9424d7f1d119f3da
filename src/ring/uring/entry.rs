//! Submission queue entries for operations.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use super::flight::{Aux, Vectors, single};
use super::net::Address;
use super::splice::Step;
use crate::ring::driver::Op;

/// Remembered of a socket: the last receive took all there was.
pub(super) const DRAINED: u32 = 1;

/// IORING_RECVSEND_POLL_FIRST: wait first, for there is nothing to receive yet. Saves the attempt.
const RECVSEND_POLL_FIRST: u16 = 1;

/// A single operation moves less than 2 GiB.
fn clamp(len: usize) -> u32 {
    len.min(1 << 30) as u32
}

/// The entry of an operation, and what has to live as long as it. `vectors` are spare ones. A splice has
/// its own steps.
pub(super) fn entry(op: &Op, vectors: impl FnOnce() -> Box<Vectors>) -> (squeue::Entry, Aux) {
    let fd = |descriptor: &crate::ring::driver::Descriptor| types::Fd(descriptor.raw());
    let plain = |entry| (entry, Aux::None);
    match op {
        Op::Accept { listener } => plain(
            opcode::Accept::new(fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                .build(),
        ),
        Op::Connect { socket, to } => {
            let address = Box::new(Address::new(*to));
            let entry = opcode::Connect::new(fd(socket), address.as_ptr(), address.len()).build();
            (entry, Aux::Address(address))
        }
        Op::Recv {
            socket,
            buf,
            at,
            len,
        } => {
            let to = buf[*at..*at + *len].as_ptr().cast_mut();
            let mut recv = opcode::Recv::new(fd(socket), to, clamp(*len));
            if socket
                .memory()
                .is_some_and(|memory| memory.get() == DRAINED)
            {
                recv = recv.ioprio(RECVSEND_POLL_FIRST);
            }
            plain(recv.build())
        }
        Op::Send {
            socket,
            chain,
            skip,
        } => {
            // WAITALL: the kernel goes on after a short send instead of asking us to.
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            if let Some(only) = single(chain, *skip) {
                return plain(
                    opcode::Send::new(fd(socket), only.as_ptr(), clamp(only.len()))
                        .flags(flags)
                        .build(),
                );
            }
            let mut vectors = vectors();
            vectors.fill(chain, *skip);
            let entry = opcode::SendMsg::new(fd(socket), vectors.header())
                .flags(flags as u32)
                .build();
            (entry, Aux::Vectors(vectors))
        }
        Op::Writable { socket } => plain(poll(socket.raw(), libc::POLLOUT)),
        Op::Readable { socket } => plain(poll(socket.raw(), libc::POLLIN | libc::POLLRDHUP)),
        Op::HungUp { socket } => plain(poll(socket.raw(), libc::POLLRDHUP)),
        Op::Read {
            file,
            buf,
            at,
            len,
            offset,
        } => {
            let to = buf[*at..*at + *len].as_ptr().cast_mut();
            plain(
                opcode::Read::new(fd(file), to, clamp(*len))
                    .offset(*offset)
                    .build(),
            )
        }
        Op::Write {
            file,
            chain,
            skip,
            offset,
        } => {
            if let Some(only) = single(chain, *skip) {
                return plain(
                    opcode::Write::new(fd(file), only.as_ptr(), clamp(only.len()))
                        .offset(*offset)
                        .build(),
                );
            }
            let mut vectors = vectors();
            vectors.fill(chain, *skip);
            let list = vectors.list();
            let entry = opcode::Writev::new(fd(file), list.as_ptr(), list.len() as u32)
                .offset(*offset)
                .build();
            (entry, Aux::Vectors(vectors))
        }
        Op::Sync { file, metadata } => {
            let flags = if *metadata {
                types::FsyncFlags::empty()
            } else {
                types::FsyncFlags::DATASYNC
            };
            plain(opcode::Fsync::new(fd(file)).flags(flags).build())
        }
        Op::Allocate {
            file,
            offset,
            len,
            keep_size,
        } => {
            let mode = if *keep_size {
                libc::FALLOC_FL_KEEP_SIZE
            } else {
                0
            };
            plain(
                opcode::Fallocate::new(fd(file), *len)
                    .offset(*offset)
                    .mode(mode)
                    .build(),
            )
        }
        Op::ReadAhead { file, offset, len } => plain(
            opcode::Fadvise::new(fd(file), *len as libc::off_t, libc::POSIX_FADV_WILLNEED)
                .offset(*offset)
                .build(),
        ),
        Op::Warm { buf } => {
            let (at, len) = (buf.as_ptr().cast_mut().cast(), buf.capacity());
            // SAFETY: a hint on memory that the operation owns; a kernel without huge pages refuses
            // it, and all goes on.
            unsafe { libc::madvise(at, len, libc::MADV_HUGEPAGE) };
            let populate = libc::MADV_POPULATE_WRITE;
            plain(opcode::Madvise::new(at, len as libc::off_t, populate).build())
        }
        Op::Splice { .. } => unreachable!("a splice is submitted step by step"),
    }
}

fn poll(fd: RawFd, events: libc::c_short) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), events as u32).build()
}

/// The entry of a splice's step; none when it is done.
pub(super) fn step(step: &Step) -> Option<squeue::Entry> {
    Some(match step {
        Step::Fill {
            file,
            pipe,
            offset,
            len,
        } => opcode::Splice::new(
            types::Fd(*file),
            *offset as i64,
            types::Fd(*pipe),
            -1,
            clamp(*len),
        )
        .flags(libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK)
        .build(),
        Step::Wait { socket } => poll(*socket, libc::POLLOUT),
        Step::Done(_) => return None,
    })
}

/// Completes each time the doorbell rings. The counter behind it is never read: a multishot poll
/// tells of every write, whatever the counter says.
pub(super) fn doorbell(fd: RawFd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32)
        .multi(true)
        .build()
}

/// Ends another operation early; nothing is said if that works.
pub(super) fn cancel(user_data: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(user_data)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
}
