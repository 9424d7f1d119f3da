//! Listening, connecting, receiving and sending.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::buf::BufMut;
use super::driver::{Chain, Descriptor, Op, OpId, Residency};
use super::executor::Ring;
use super::file::File;

/// Bytes of a file that one direct send takes: what a socket takes at once, and short enough for
/// the other tasks of the shard.
const SEND_FILE_BYTES: u64 = 512 * 1024;
/// Bytes of a file that one cold read takes.
const SPLICE_BYTES: u64 = 1024 * 1024;
/// Direct sends in a row before other tasks run.
const SEND_FILE_BURST: u32 = 4;

/// A socket that connections come to.
pub struct Listener {
    ring: Ring,
    descriptor: Descriptor,
    /// The accept in flight. It stays when the future that waits for it goes: a cancelled accept can
    /// swallow the kernel's wake-up for the one after it (waiters on a listening socket are woken one at
    /// a time, and a cancelled one still counts until its turn).
    accept: Cell<Option<OpId>>,
}

/// A connection.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    ring: Ring,
    descriptor: Descriptor,
}

/// A connection on its way to another shard: nothing is in flight on it. Dropping it closes it.
#[derive(Debug)]
pub struct SocketParcel {
    raw: i32,
    close: fn(i32),
}

impl Ring {
    /// Listens on an address; port 0 picks a free one.
    pub fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
        Ok(Listener {
            ring: self.clone(),
            descriptor: self.driver().listen(addr, backlog)?,
            accept: Cell::new(None),
        })
    }

    /// Connects.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Socket> {
        let descriptor = self.driver().socket(to)?;
        let socket = descriptor.clone();
        self.op(Op::Connect { socket, to }).await.0?;
        self.driver().tune_socket(&descriptor, None, None)?;
        Ok(Socket::new(self, descriptor))
    }

    /// Takes a connection over that another shard gave away.
    pub fn adopt(&self, parcel: SocketParcel) -> Socket {
        let raw = std::mem::ManuallyDrop::new(parcel).raw;
        Socket::new(self, self.driver().adopt(raw))
    }
}

impl Listener {
    /// Waits for a connection. One task at a time waits; no connection is lost when it gives up.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let (raw, _) = poll_fn(|cx| {
            let id = self.accept.get().unwrap_or_else(|| {
                let listener = self.descriptor.clone();
                self.ring.begin(Op::Accept { listener })
            });
            let end = self.ring.poll_op(id, cx);
            self.accept.set(end.is_pending().then_some(id));
            end
        })
        .await;
        let raw = raw?;
        let descriptor = self.ring.driver().adopt(raw as i32);
        self.ring.driver().tune_socket(&descriptor, None, None)?;
        let peer = self.ring.driver().peer_addr(&descriptor)?;
        Ok((Socket::new(&self.ring, descriptor), peer))
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ring.driver().local_addr(&self.descriptor)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(id) = self.accept.take() {
            self.ring.abandon(id);
        }
    }
}

impl Socket {
    fn new(ring: &Ring, descriptor: Descriptor) -> Socket {
        Socket(Rc::new(Inner {
            ring: ring.clone(),
            descriptor,
        }))
    }

    /// Receives into `buf[at..at + len]`, at least one byte; 0 if the peer sends no more.
    ///
    /// # Panics
    /// If the range is not within the buffer.
    pub async fn recv(&self, buf: BufMut, at: usize, len: usize) -> (io::Result<usize>, BufMut) {
        assert!(at + len <= buf.capacity());
        let socket = self.0.descriptor.clone();
        let (result, op) = self
            .0
            .ring
            .op(Op::Recv {
                socket,
                buf,
                at,
                len,
            })
            .await;
        let Op::Recv { buf, .. } = op else {
            unreachable!("an operation comes back as it was submitted")
        };
        (result.map(|n| n as usize), buf)
    }

    /// Sends all of the chain.
    pub async fn send(&self, mut chain: Chain) -> io::Result<()> {
        let total: usize = chain.iter().map(|buf| buf.len()).sum();
        let mut skip = 0;
        while skip < total {
            let socket = self.0.descriptor.clone();
            let (result, op) = self
                .0
                .ring
                .op(Op::Send {
                    socket,
                    chain,
                    skip,
                })
                .await;
            match result? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => skip += n as usize,
            }
            let Op::Send { chain: back, .. } = op else {
                unreachable!("an operation comes back as it was submitted")
            };
            chain = back;
        }
        Ok(())
    }

    /// Holds back what is sent next until it fills whole segments, so that an answer of several
    /// pieces does not leave in as many packets; or lets go of what was held back.
    pub fn hold(&self, on: bool) -> io::Result<()> {
        self.0.ring.driver().hold(&self.0.descriptor, on)
    }

    /// Sends a range of a file without copying it; answers how many bytes went, which are fewer
    /// only at the end of the file. What the page cache holds goes at once, the rest is
    /// read by the driver without holding up the shard.
    pub async fn send_file(&self, file: &File, offset: u64, len: u64) -> io::Result<u64> {
        let ring = &self.0.ring;
        let socket = &self.0.descriptor;
        let driver = ring.driver();
        let mut sent = 0;
        let mut resident_to = offset;
        let mut burst = 0;
        while sent < len {
            let at = offset + sent;
            if resident_to <= at {
                let window = (len - sent).min(SEND_FILE_BYTES);
                if file.residency(at, window) == Residency::Cold {
                    let moved = self.send_cold(file, at, len - sent).await?;
                    if moved == 0 {
                        break;
                    }
                    sent += moved;
                    resident_to = offset + sent;
                    burst = 0;
                    continue;
                }
                resident_to = at + window;
            }
            let window = (resident_to - at) as usize;
            match driver.send_file(socket, file.descriptor(), at, window) {
                Ok(0) => break,
                Ok(n) => sent += n as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = socket.clone();
                    ring.op(Op::Writable { socket }).await.0?;
                    burst = 0;
                    continue;
                }
                Err(error) => return Err(error),
            }
            burst += 1;
            if burst == SEND_FILE_BURST && sent < len {
                burst = 0;
                ring.yield_now().await;
            }
        }
        Ok(sent)
    }

    async fn send_cold(&self, file: &File, offset: u64, len: u64) -> io::Result<u64> {
        let op = Op::Splice {
            file: file.descriptor().clone(),
            offset,
            len: len.min(SPLICE_BYTES) as usize,
            socket: self.0.descriptor.clone(),
        };
        Ok(u64::from(self.0.ring.op(op).await.0?))
    }

    /// Waits until there is something to receive, an end or an error.
    pub async fn readable(&self) -> io::Result<()> {
        let socket = self.0.descriptor.clone();
        self.0.ring.op(Op::Readable { socket }).await.0?;
        Ok(())
    }

    /// Waits until the other end sends no more, or the connection is broken, whatever there still is to
    /// receive.
    pub async fn hung_up(&self) -> io::Result<()> {
        let socket = self.0.descriptor.clone();
        self.0.ring.op(Op::HungUp { socket }).await.0?;
        Ok(())
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.ring.driver().peer_addr(&self.0.descriptor)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.ring.driver().local_addr(&self.0.descriptor)
    }

    /// Bytes sent that the other end's machine has acknowledged so far, from any origin: only
    /// differences say something. Does not wait.
    pub fn acknowledged(&self) -> io::Result<u64> {
        self.0.ring.driver().acknowledged(&self.0.descriptor)
    }

    /// Ends sending, or with `both` receiving too; whoever waits on the socket wakes.
    pub fn shutdown(&self, both: bool) -> io::Result<()> {
        self.0.ring.driver().shutdown(&self.0.descriptor, both)
    }

    /// Sets the kernel's buffer sizes in bytes, where given, TCP_NODELAY and SO_KEEPALIVE.
    pub fn tune(&self, send_buffer: Option<usize>, recv_buffer: Option<usize>) -> io::Result<()> {
        let driver = self.0.ring.driver();
        driver.tune_socket(&self.0.descriptor, send_buffer, recv_buffer)
    }

    /// Sets the kernel's congestion control for it, by name.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        self.0
            .ring
            .driver()
            .set_congestion(&self.0.descriptor, name)
    }

    /// Makes it ready to go to another shard. Only its last clone can go, and only when nothing
    /// is in flight on it; else it comes back.
    pub fn into_parcel(self) -> Result<SocketParcel, Socket> {
        let inner = Rc::try_unwrap(self.0).map_err(Socket)?;
        if !inner.descriptor.is_unique() {
            return Err(Socket(Rc::new(inner)));
        }
        let close = inner.descriptor.closer();
        let raw = inner.descriptor.release();
        Ok(SocketParcel { raw, close })
    }
}

impl Drop for SocketParcel {
    fn drop(&mut self) {
        (self.close)(self.raw);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.0.descriptor.raw())
    }
}
