//! A connection on the ring: frames out as chains of buffers, frames in through one buffer.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use anyhow::{Context, bail};

use crate::ring::buf::{Buf, BufMut};
use crate::ring::driver::Chain;
use crate::ring::{Ring, Socket};
use crate::wire::api::ApiKey;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::read::Reader;
use crate::wire::write::Writer;

const NAME: &str = "corelane-bench";
/// Received at a time, at least, where connections leave so much to each.
const READ_BYTES: RangeInclusive<usize> = 4 << 10..=256 << 10;
/// All of them together.
const READ_ALL_BYTES: usize = 256 << 20;
/// A longer frame is none that was asked for.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// Head of a request: everything but batches.
const HEAD_BYTES: usize = 4096;

/// Bytes that each of so many connections receives at a time.
pub fn read_bytes(connections: usize) -> usize {
    let part = READ_ALL_BYTES / connections.max(1);
    part.clamp(*READ_BYTES.start(), *READ_BYTES.end())
}

/// Connects; sends go out at once.
pub async fn connect(
    ring: &Ring,
    address: SocketAddr,
    congestion: Option<&str>,
) -> anyhow::Result<Socket> {
    let connected = ring.connect(address).await;
    let socket = connected.with_context(|| format!("can't connect to {address}"))?;
    if let Some(name) = congestion {
        let set = socket.set_congestion(name);
        set.with_context(|| format!("congestion control {name}"))?;
    }
    Ok(socket)
}

/// Batches for one place in a message, laid end to end.
pub trait Body: IntoIterator<Item = Buf> {}
impl<T: IntoIterator<Item = Buf>> Body for T {}

/// A request's bytes; `bodies` belong into its holes, in order.
pub async fn request<'a, M: Message<'a>>(
    ring: &Ring,
    version: i16,
    id: i32,
    message: &M,
    bodies: impl IntoIterator<Item: Body>,
) -> Chain {
    let write = |w: &mut Writer<'_>| frame::request(version, id, Some(NAME), message, w);
    chain(ring, write, bodies).await
}

/// An answer's bytes, in the same way.
pub async fn response<'a, M: Message<'a>>(
    ring: &Ring,
    version: i16,
    id: i32,
    message: &M,
    bodies: impl IntoIterator<Item: Body>,
) -> Chain {
    let write = |w: &mut Writer<'_>| frame::response(version, id, message, w);
    chain(ring, write, bodies).await
}

/// What a message without batches has in its holes.
pub fn no_bodies() -> impl Iterator<Item = Option<Buf>> {
    std::iter::empty()
}

/// The body of the answer that comes next.
pub fn body(answer: &[u8], api: ApiKey, version: i16, id: i32) -> anyhow::Result<Reader<'_>> {
    let (answered, body) = frame::read_response_header(answer, api, version)?;
    if answered != id {
        bail!("an answer to request {answered} where {id} comes next");
    }
    Ok(body)
}

async fn chain(
    ring: &Ring,
    write: impl Fn(&mut Writer<'_>),
    bodies: impl IntoIterator<Item: Body>,
) -> Chain {
    let mut size = HEAD_BYTES;
    loop {
        let mut head = ring.arena().alloc(size).await;
        let mut writer = Writer::slice(&mut head);
        write(&mut writer);
        if writer.overflowed() {
            size = writer.len();
            continue;
        }
        let (len, holes) = (writer.len(), writer.holes().to_vec());
        let head = head.freeze(0..len);
        let mut chain = Chain::new();
        let mut at = 0;
        for (hole, body) in holes.iter().zip(bodies) {
            chain.push(head.slice(at..hole.at));
            chain.extend(body);
            at = hole.at;
        }
        if at < len {
            chain.push(head.slice(at..len));
        }
        return chain;
    }
}

/// The frames that a connection brings, one after the other.
pub struct Frames {
    socket: Socket,
    ring: Ring,
    /// Gone while a receive is on its way.
    buf: Option<BufMut>,
    /// Received and not consumed: `start..end` of the buffer.
    start: usize,
    end: usize,
}

impl Frames {
    pub async fn new(ring: &Ring, socket: &Socket, read_bytes: usize) -> Frames {
        Frames {
            socket: socket.clone(),
            ring: ring.clone(),
            buf: Some(ring.arena().alloc(read_bytes).await),
            start: 0,
            end: 0,
        }
    }

    /// The next frame without its length.
    pub async fn next(&mut self) -> anyhow::Result<&[u8]> {
        self.fill(4).await?;
        let length = {
            let buf = self.buf.as_ref().expect("received");
            let (length, _) = buf[self.start..].split_first_chunk::<4>().expect("filled");
            u32::from_be_bytes(*length) as usize
        };
        if length > FRAME_BYTES_MAX {
            bail!("a frame of {length} bytes");
        }
        self.fill(4 + length).await?;
        let from = self.start + 4;
        self.start = from + length;
        let buf = self.buf.as_ref().expect("received");
        Ok(&buf[from..from + length])
    }

    /// Receives until so many bytes are there.
    async fn fill(&mut self, len: usize) -> anyhow::Result<()> {
        if self.end - self.start >= len {
            return Ok(());
        }
        let mut buf = self.buf.take().expect("received");
        let have = self.end - self.start;
        if len > buf.capacity() {
            let mut larger = self.ring.arena().alloc(len.next_power_of_two()).await;
            larger[..have].copy_from_slice(&buf[self.start..self.end]);
            buf = larger;
            (self.start, self.end) = (0, have);
        } else if self.start + len > buf.capacity() || have == 0 {
            buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, have);
        }
        while self.end - self.start < len {
            let room = buf.capacity() - self.end;
            let (got, back) = self.socket.recv(buf, self.end, room).await;
            buf = back;
            match got.context("receiving") {
                Ok(0) => bail!("the connection was closed"),
                Ok(n) => self.end += n,
                Err(error) => return Err(error),
            }
        }
        self.buf = Some(buf);
        Ok(())
    }
}
