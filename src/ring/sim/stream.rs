//! Sockets: buffers, segments on their way, who waits.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// An operation that waits: its shard's driver and its id.
pub(super) type Waiter = (usize, u64);

pub(super) enum Segment {
    Data(Vec<u8>),
    Fin,
    Reset,
}

/// One end of a connection.
pub(super) struct Stream {
    pub(super) machine: usize,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) remote_machine: usize,
    /// The other end, whether or not it still exists.
    pub(super) peer: u64,
    pub(super) inbox: VecDeque<u8>,
    pub(super) out: VecDeque<Segment>,
    pub(super) out_bytes: usize,
    /// Bytes that reached the other end.
    pub(super) arrived: u64,
    /// When the last segment sent arrives.
    pub(super) last_arrival: u64,
    pub(super) send_buffer: usize,
    pub(super) recv_buffer: usize,
    /// The peer sends no more, or this end receives no more.
    pub(super) ended: bool,
    /// This end sends no more.
    pub(super) shut: bool,
    pub(super) reset: bool,
    /// No descriptor is left.
    pub(super) closed: bool,
    /// The connection breaks when this many more bytes have arrived from here.
    pub(super) reset_after: Option<u64>,
    pub(super) receivers: VecDeque<Waiter>,
    pub(super) senders: VecDeque<Waiter>,
    /// Who waits for the other end's end.
    pub(super) watchers: VecDeque<Waiter>,
}

pub(super) struct Listening {
    pub(super) process: usize,
    pub(super) machine: usize,
    pub(super) addr: SocketAddr,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<u64>,
    pub(super) acceptors: VecDeque<Waiter>,
}

pub(super) enum Socket {
    /// Not connected yet.
    Fresh {
        machine: usize,
        send_buffer: usize,
        recv_buffer: usize,
    },
    Listening(Listening),
    Stream(Stream),
}

impl Stream {
    pub(super) fn new(
        machine: usize,
        local: SocketAddr,
        remote_machine: usize,
        remote: SocketAddr,
        peer: u64,
        buffers: (usize, usize),
    ) -> Stream {
        Stream {
            machine,
            local,
            remote,
            remote_machine,
            peer,
            inbox: VecDeque::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            arrived: 0,
            last_arrival: 0,
            send_buffer: buffers.0,
            recv_buffer: buffers.1,
            ended: false,
            shut: false,
            reset: false,
            closed: false,
            reset_after: None,
            receivers: VecDeque::new(),
            senders: VecDeque::new(),
            watchers: VecDeque::new(),
        }
    }

    /// Something to receive, an end or an error.
    pub(super) fn is_readable(&self) -> bool {
        self.reset || self.ended || !self.inbox.is_empty()
    }
}
