//! Bytes received and not yet worked on.

use std::io;

use crate::broker::transport::Transport;
use crate::ring::buf::{Arena, Budget, BufMut, Grant};
use crate::wire::frame::{self, Split};

/// An idle connection keeps a buffer of this size, outside of the budget for requests.
pub const SMALL_BYTES: usize = 4096;
/// From this size on a frame is received into a buffer of its own, within the budget, which goes
/// back as soon as the frame is done.
const LARGE_BYTES: usize = 16 * 1024;
/// A length alone is worth no memory: a frame gets it as its bytes come, so many times what is there.
const GROWTH: usize = 4;
/// A connection that sent frames as large before gets the memory for one at once, up to this.
const TRUSTED_BYTES: usize = 2 << 20;

/// The receiving side of a connection: cuts what comes into frames, wherever the pieces end.
pub struct Input {
    buf: Option<BufMut>,
    grant: Option<Grant>,
    start: usize,
    end: usize,
    /// Bytes of the last frame, with its length: the next one probably is like it.
    usual: usize,
    /// Bytes of the largest frame that ever came whole.
    largest: usize,
}

impl Input {
    /// Nothing received yet, but for what another shard received already.
    pub fn new() -> Input {
        Input {
            buf: None,
            grant: None,
            start: 0,
            end: 0,
            usual: 0,
            largest: 0,
        }
    }

    /// Takes over what another shard received.
    pub async fn carry(&mut self, unread: &[u8], arena: &Arena, budget: &Budget) {
        if unread.is_empty() {
            return;
        }
        self.reserve(unread.len(), arena, budget).await;
        if let Some(buf) = &mut self.buf {
            buf[..unread.len()].copy_from_slice(unread);
            self.end = unread.len();
        }
    }

    /// What is there.
    pub fn unread(&self) -> &[u8] {
        match &self.buf {
            Some(buf) => &buf[self.start..self.end],
            None => &[],
        }
    }

    /// The next frame, if it is there; `max` bounds its content.
    pub fn split(&self, max: usize) -> Split {
        frame::split(self.unread(), max)
    }

    /// Moves on behind a frame of so many bytes, its length included.
    pub fn consume(&mut self, bytes: usize) {
        self.usual = bytes;
        self.largest = self.largest.max(bytes);
        self.start += bytes;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Nothing of a frame is there.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Makes room for more of a frame that needs `need` bytes in all, which may have to wait for
    /// others; how many to receive into it. Under `pressure` no memory is held while nothing comes.
    pub async fn make_room(
        &mut self,
        transport: &Transport,
        need: usize,
        pressure: bool,
        arena: &Arena,
        budget: &Budget,
    ) -> io::Result<usize> {
        if self.is_empty() && (pressure || self.usual > LARGE_BYTES) {
            self.release();
            transport.readable().await?;
        }
        let have = self.end - self.start;
        // the frame before tells how large the next one will be, until its length is there
        let want = if have < frame::LENGTH_BYTES {
            need.max(self.usual)
        } else {
            need
        };
        let earned = self.largest.clamp(LARGE_BYTES, TRUSTED_BYTES);
        let room = want.min(earned.max(GROWTH * have)).max(SMALL_BYTES);
        self.reserve(room, arena, budget).await;
        let free = self.buf.as_ref().map_or(0, BufMut::capacity) - self.end;
        // Ends large frames where they end, so that the next one begins a buffer and nothing needs
        // to be moved; small ones come as many at a time as there are.
        Ok(match want.checked_sub(have) {
            Some(rest) if want > LARGE_BYTES && rest > 0 => rest.min(free),
            _ => free,
        })
    }

    /// Receives up to `len` bytes, for which there is room; 0 at the end of the stream.
    pub async fn receive(&mut self, transport: &Transport, len: usize) -> io::Result<usize> {
        let buf = self.buf.take().expect("who receives made room before");
        let (received, back) = transport.recv(buf, self.end, len).await;
        self.buf = Some(back);
        let n = received?;
        self.end += n;
        Ok(n)
    }

    /// It holds a part of the budget.
    pub fn holds(&self) -> bool {
        self.grant.is_some()
    }

    /// Gives the memory back while nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.buf = None;
            self.grant = None;
        }
    }

    /// A large buffer that is empty goes back.
    pub fn trim(&mut self) {
        if self.is_empty() && self.grant.is_some() {
            self.release();
        }
    }

    /// Makes room for `bytes` in all from `start` on.
    async fn reserve(&mut self, bytes: usize, arena: &Arena, budget: &Budget) {
        let have = self.end - self.start;
        if let Some(buf) = &mut self.buf {
            if bytes <= buf.capacity() - self.start && self.end < buf.capacity() {
                return;
            }
            if bytes <= buf.capacity() && have < buf.capacity() {
                buf.copy_within(self.start..self.end, 0);
                self.start = 0;
                self.end = have;
                return;
            }
        }
        // What was granted before stays granted until the bytes have moved, but is not waited
        // for a second time on top: first give back, then ask, so that growing frames never hold
        // what others wait for while they wait themselves.
        let grant = if bytes > LARGE_BYTES {
            self.grant = None;
            let most = usize::try_from(budget.total_bytes()).unwrap_or(usize::MAX);
            Some(budget.grant(bytes.min(most) as u64).await)
        } else {
            None
        };
        let mut larger = arena.alloc(bytes).await;
        if let Some(old) = &self.buf {
            larger[..have].copy_from_slice(&old[self.start..self.end]);
        }
        self.buf = Some(larger);
        self.grant = grant;
        self.start = 0;
        self.end = have;
    }
}

impl Default for Input {
    fn default() -> Input {
        Input::new()
    }
}
