//! Receive, copy with CRC-32C, write, flush, answer: one thread, no runtime.
//!
//! As `kafka` the same, with frames and answers of Kafka's protocol: what a broker can cost at
//! least under a load that only produces.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::common::{Options, check, listen, ready};
use crate::copy::{Pages, copy};
use crate::kafka::Topics;

const GROUP_BYTES: usize = 8 << 20;
const FRAME_BYTES: usize = 2 << 20;

struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
    begin: usize,
    end: usize,
    answers: Vec<u8>,
}

pub fn serve(options: &Options) -> io::Result<()> {
    let mut open = OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    if options.flush {
        open.custom_flags(libc::O_DIRECT);
    }
    let file = open.open(&options.file)?;
    prepare(&file, options.ring_bytes)?;
    let listener = listen(options)?;
    listener.set_nonblocking(true)?;
    // SAFETY: plain system call.
    let poll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)? as RawFd;
    add(poll, listener.as_raw_fd(), u64::MAX)?;
    let address = listener.local_addr()?;
    ready(address)?;
    let mut topics = options.is_kafka().then(|| Topics::new(address));
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut group = Pages::new(GROUP_BYTES + FRAME_BYTES);
    let group = group.bytes();
    let mut position = 0;
    // SAFETY: all zeros is a valid event.
    let mut events: [libc::epoll_event; 64] = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the list lives through the call.
        let n = unsafe { libc::epoll_wait(poll, events.as_mut_ptr(), 64, -1) };
        let mut filled = 0;
        for event in &events[..n.max(0) as usize] {
            if event.u64 == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    add(poll, stream.as_raw_fd(), connections.len() as u64)?;
                    connections.push(Some(Connection {
                        stream,
                        buf: vec![0; 2 * FRAME_BYTES],
                        begin: 0,
                        end: 0,
                        answers: Vec::new(),
                    }));
                }
                continue;
            }
            let slot = &mut connections[event.u64 as usize];
            let Some(connection) = slot else { continue };
            if !connection.receive()? {
                *slot = None;
                continue;
            }
            filled = connection.take_frames(group, filled, topics.as_mut())?;
        }
        if filled > 0 {
            let whole = filled.next_multiple_of(4096);
            group[filled..whole].fill(0);
            if position + whole > options.ring_bytes {
                position = 0;
            }
            write(file.as_raw_fd(), &group[..whole], position)?;
            position += whole;
            if options.flush {
                // SAFETY: plain system call.
                check(unsafe { libc::fdatasync(file.as_raw_fd()) } as isize)?;
            }
        }
        for slot in &mut connections {
            let Some(connection) = slot else { continue };
            match connection.answer() {
                Ok(()) => {}
                // a load that ended: the next one may come
                Err(error) if is_gone(&error) => *slot = None,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connection {
    /// One receive; false at the end.
    fn receive(&mut self) -> io::Result<bool> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > FRAME_BYTES {
            self.buf.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let free = &mut self.buf[self.end..];
        // SAFETY: the slice is valid for its length.
        let n = unsafe {
            libc::recv(
                self.stream.as_raw_fd(),
                free.as_mut_ptr().cast(),
                free.len(),
                0,
            )
        };
        match check(n) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.end += n;
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(true),
                _ if is_gone(&error) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Copies whole frames into the group with their sum, as long as there is room.
    fn take_frames(
        &mut self,
        group: &mut [u8],
        mut filled: usize,
        mut topics: Option<&mut Topics>,
    ) -> io::Result<usize> {
        const ANSWER: [u8; 12] = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        while self.end - self.begin >= 4 {
            let head = &self.buf[self.begin..self.begin + 4];
            let len = i32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if len > FRAME_BYTES - 4 {
                return Err(io::Error::other("a frame is too large"));
            }
            let from = self.begin + 4;
            if self.end < from + len || filled + len > group.len() - 4096 {
                break;
            }
            let frame = &self.buf[from..from + len];
            let stored = match &mut topics {
                None => {
                    self.answers.extend_from_slice(&ANSWER);
                    true
                }
                Some(topics) => {
                    let answered = topics.answer(frame, &mut self.answers);
                    answered.map_err(io::Error::other)?
                }
            };
            if stored {
                copy(&mut group[filled..], frame);
                filled += len;
            }
            self.begin = from + len;
        }
        Ok(filled)
    }

    fn answer(&mut self) -> io::Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        // SAFETY: the slice is valid for its length. Answers are small: the socket takes them.
        let n = unsafe {
            libc::send(
                self.stream.as_raw_fd(),
                self.answers.as_ptr().cast(),
                self.answers.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        self.answers.clear();
        check(n).map(drop)
    }
}

/// The other end is no more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn add(poll: RawFd, fd: RawFd, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: data,
    };
    // SAFETY: the event lives through the call.
    check(unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } as isize)
        .map(drop)
}

fn write(fd: RawFd, bytes: &[u8], offset: usize) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let at = (offset + written) as i64;
        // SAFETY: the slice is valid for its length.
        written += check(unsafe { libc::pwrite(fd, rest.as_ptr().cast(), rest.len(), at) })?;
    }
    Ok(())
}

/// Writes the whole ring once, so that later writes change no metadata. One that was written before
/// stays as it is.
fn prepare(file: &File, ring_bytes: usize) -> io::Result<()> {
    if file.metadata()?.len() >= ring_bytes as u64 {
        return Ok(());
    }
    let fd = file.as_raw_fd();
    let mut zeros = Pages::new(4 << 20);
    let zeros = zeros.bytes();
    for at in (0..ring_bytes).step_by(zeros.len()) {
        write(fd, zeros, at)?;
    }
    // SAFETY: plain system call.
    check(unsafe { libc::fsync(fd) } as isize).map(drop)
}
