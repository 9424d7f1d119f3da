//! File to socket through a pipe, for ranges that the page cache does not hold: the ring's workers wait for the disk and
//! fill the pipe, the shard empties it into the socket without waiting.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::disk;

/// What a pipe should hold: one cold window.
const PIPE_BYTES: i32 = 1 << 20;
/// Pipes kept for later. A pipe holds no memory while it is empty.
const POOL: usize = 16;

/// An empty pipe.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

#[derive(Default)]
pub(super) struct Pipes(Vec<Pipe>);

impl Pipes {
    pub(super) fn take(&mut self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.pop() {
            return Ok(pipe);
        }
        let (read, write) = disk::pipe()?;
        // SAFETY: plain system calls. Where a large pipe is refused the default one serves.
        let capacity = unsafe {
            libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES);
            libc::fcntl(write.as_raw_fd(), libc::F_GETPIPE_SZ)
        };
        Ok(Pipe {
            read,
            write,
            capacity: usize::try_from(capacity).unwrap_or(0).max(4096),
        })
    }

    fn give(&mut self, pipe: Pipe) {
        if self.0.len() < POOL {
            self.0.push(pipe);
        }
    }
}

/// How far a transfer is.
pub(super) struct Splice {
    pipe: Option<Pipe>,
    file: RawFd,
    socket: RawFd,
    offset: u64,
    want: usize,
    in_pipe: usize,
    moved: u32,
    filled: bool,
}

/// What the ring has to do next.
pub(super) enum Step {
    /// Move from file to pipe.
    Fill {
        file: RawFd,
        pipe: RawFd,
        offset: u64,
        len: usize,
    },
    /// Wait until the socket takes bytes.
    Wait { socket: RawFd },
    /// Nothing: it is done.
    Done(io::Result<u32>),
}

impl Splice {
    pub(super) fn new(pipe: Pipe, file: RawFd, socket: RawFd, offset: u64, len: usize) -> Splice {
        Splice {
            want: len.min(pipe.capacity),
            pipe: Some(pipe),
            file,
            socket,
            offset,
            in_pipe: 0,
            moved: 0,
            filled: false,
        }
    }

    pub(super) fn begin(&self) -> Step {
        let pipe = self.pipe.as_ref().map_or(-1, |pipe| pipe.write.as_raw_fd());
        Step::Fill {
            file: self.file,
            pipe,
            offset: self.offset,
            len: self.want,
        }
    }

    /// Goes on after the ring did a step. At the end the pipe goes back to the pool if it is empty, and
    /// is closed with its content if not.
    pub(super) fn go_on(
        &mut self,
        result: io::Result<u32>,
        cancelled: bool,
        pipes: &mut Pipes,
    ) -> Step {
        let end = match result {
            Ok(n) if !self.filled => {
                self.filled = true;
                self.in_pipe = n as usize;
                None
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let end = match end {
            None if cancelled => Some(io::Error::from_raw_os_error(libc::ECANCELED)),
            None => match self.drain() {
                Ok(true) => None,
                Ok(false) => {
                    return Step::Wait {
                        socket: self.socket,
                    };
                }
                Err(error) => Some(error),
            },
            error => error,
        };
        if let Some(pipe) = self.pipe.take()
            && self.in_pipe == 0
        {
            pipes.give(pipe);
        }
        Step::Done(match end {
            // What was moved is on its way: the error shows at the next operation.
            Some(error) if self.moved == 0 => Err(error),
            _ => Ok(self.moved),
        })
    }

    /// Empties the pipe as far as the socket goes; true when it is empty.
    fn drain(&mut self) -> io::Result<bool> {
        let Some(pipe) = &self.pipe else {
            return Ok(true);
        };
        while self.in_pipe > 0 {
            // SAFETY: plain system call on two open descriptors without offsets.
            let n = unsafe {
                libc::splice(
                    pipe.read.as_raw_fd(),
                    std::ptr::null_mut(),
                    self.socket,
                    std::ptr::null_mut(),
                    self.in_pipe,
                    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
                )
            };
            match usize::try_from(n) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.in_pipe -= n;
                    self.moved += n as u32;
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => return Ok(false),
                        io::ErrorKind::Interrupted => {}
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(true)
    }
}
