//! An in-memory TCP: ordered bytes, bounded buffers, delay, resets, partitions.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::clock::Event;
use super::disk::fs::errno;
use super::io::flatten;
use super::machine::What;
use super::state::State;
use super::stream::{Listening, Segment, Socket, Stream, Waiter};
use crate::ring::driver::Op;

/// How long a connection request waits for its next try, in nanoseconds.
const SYN_RETRY_NS: u64 = 1_000_000_000;
const SYN_TRIES: u32 = 7;
/// How long a segment that cannot pass waits for its next try, in nanoseconds.
const RETRANSMIT_NS: u64 = 200_000_000;

pub(super) fn ip_of(machine: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (machine >> 8) as u8, machine as u8))
}

impl State {
    fn machine_at(&self, from: usize, ip: IpAddr) -> Option<usize> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        (0..self.machines.len()).find(|m| ip_of(*m) == ip)
    }

    pub(super) fn is_parted(&self, a: usize, b: usize) -> bool {
        self.parted.contains(&(a.min(b), a.max(b)))
    }

    fn net_time(&mut self) -> u64 {
        let (low, high) = self.options.net.delay_ns;
        let slow = self.rng.chance(self.options.net.slow_chance);
        let time = self.rng.between(low, high);
        self.now + if slow { time * 100 } else { time }
    }

    pub(super) fn sock(&self, fd: i32) -> io::Result<u64> {
        match self.handles.get(&fd).map(|h| &h.what) {
            Some(What::Socket(id)) => Ok(*id),
            _ => Err(errno(libc::EBADF)),
        }
    }

    pub(super) fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        match self.sockets.get_mut(&id) {
            Some(Socket::Stream(s)) => Some(s),
            _ => None,
        }
    }

    pub(super) fn new_socket(&mut self, process: usize) -> i32 {
        let id = self.id();
        let buffer = self.options.net.buffer_bytes;
        self.sockets.insert(
            id,
            Socket::Fresh {
                machine: self.processes[process].machine,
                send_buffer: buffer,
                recv_buffer: buffer,
            },
        );
        self.handle(process, What::Socket(id))
    }

    fn port(&mut self, machine: usize) -> u16 {
        let m = &mut self.machines[machine];
        m.next_port = m.next_port.checked_add(1).unwrap_or(32_768);
        m.next_port
    }

    fn listener_on(&self, machine: usize, port: u16) -> Option<(u64, &Listening)> {
        let mut found: Vec<(u64, &Listening)> = self
            .sockets
            .iter()
            .filter_map(|(id, s)| match s {
                Socket::Listening(l) if l.machine == machine && l.addr.port() == port => {
                    Some((*id, l))
                }
                _ => None,
            })
            .collect();
        // several listeners on one port take turns by how much waits at them
        found.sort_by_key(|(id, l)| (l.queue.len(), *id));
        found.into_iter().next()
    }

    pub(super) fn listen(
        &mut self,
        process: usize,
        addr: SocketAddr,
        backlog: u32,
    ) -> io::Result<i32> {
        let machine = self.processes[process].machine;
        let port = match addr.port() {
            0 => self.port(machine),
            port => port,
        };
        if self
            .listener_on(machine, port)
            .is_some_and(|(_, l)| l.process != process)
        {
            return Err(errno(libc::EADDRINUSE));
        }
        let id = self.id();
        let listening = Listening {
            process,
            machine,
            addr: SocketAddr::new(addr.ip(), port),
            backlog: backlog.max(1) as usize,
            queue: VecDeque::new(),
            acceptors: VecDeque::new(),
        };
        self.sockets.insert(id, Socket::Listening(listening));
        Ok(self.handle(process, What::Socket(id)))
    }

    /// Takes an operation on a socket.
    pub(super) fn submit_net(&mut self, driver: usize, id: u64, op: Op) {
        let waiter = (driver, id);
        let (fd, kind) = match &op {
            Op::Accept { listener } => (listener.raw(), 0),
            Op::Connect { socket, .. } => (socket.raw(), 1),
            Op::Recv { socket, .. } | Op::Readable { socket } => (socket.raw(), 2),
            Op::Send { socket, .. } | Op::Writable { socket } => (socket.raw(), 3),
            Op::HungUp { socket } => (socket.raw(), 4),
            _ => (-1, 5),
        };
        self.ops.insert(waiter, op);
        let Ok(sock) = self.sock(fd) else {
            return self.complete_by_id(waiter, Err(errno(libc::EBADF)));
        };
        match (kind, self.sockets.get_mut(&sock)) {
            (0, Some(Socket::Listening(l))) => {
                l.acceptors.push_back(waiter);
                self.pump_accept(sock);
            }
            (1, Some(Socket::Fresh { .. })) => {
                let at = self.net_time();
                self.queue.push(
                    at,
                    Event::Syn {
                        driver,
                        op: id,
                        tries: 0,
                    },
                );
            }
            (2, Some(Socket::Stream(s))) => {
                s.receivers.push_back(waiter);
                self.pump_receive(sock);
            }
            (4, Some(Socket::Stream(s))) => {
                s.watchers.push_back(waiter);
                self.pump_receive(sock);
            }
            (3, Some(Socket::Stream(_))) => self.wait_to_send(fd, waiter),
            _ => self.complete_by_id(waiter, Err(errno(libc::ENOTCONN))),
        }
    }

    pub(super) fn wait_to_send(&mut self, fd: i32, waiter: Waiter) {
        match self.sock(fd) {
            Ok(sock) if self.stream(sock).is_some() => {
                self.stream(sock)
                    .expect("just seen")
                    .senders
                    .push_back(waiter);
                self.pump_send(sock);
            }
            _ => self.complete_by_id(waiter, Err(errno(libc::ENOTCONN))),
        }
    }

    fn pump_accept(&mut self, sock: u64) {
        loop {
            let Some(Socket::Listening(l)) = self.sockets.get_mut(&sock) else {
                return;
            };
            if l.queue.is_empty() || l.acceptors.is_empty() {
                return;
            }
            let (Some(stream), Some(waiter)) = (l.queue.pop_front(), l.acceptors.pop_front())
            else {
                return;
            };
            let process = l.process;
            let fd = self.handle(process, What::Socket(stream));
            self.complete_by_id(waiter, Ok(fd as u32));
        }
    }

    pub(super) fn syn(&mut self, driver: usize, op: u64, tries: u32) {
        let Some(Op::Connect { socket, to }) = self.ops.get(&(driver, op)) else {
            return;
        };
        let (fd, to) = (socket.raw(), *to);
        let Ok(client) = self.sock(fd) else { return };
        let Some(Socket::Fresh {
            machine,
            send_buffer,
            recv_buffer,
        }) = self.sockets.get(&client)
        else {
            return;
        };
        let (from, buffers) = (*machine, (*send_buffer, *recv_buffer));
        let target = self.machine_at(from, to.ip());
        let reached = target.filter(|m| self.machines[*m].up && !self.is_parted(from, *m));
        let listener = reached.and_then(|m| self.listener_on(m, to.port()));
        let full = listener.is_some_and(|(_, l)| l.queue.len() >= l.backlog);
        let listener = listener.map(|(id, l)| (id, l.machine));
        match (reached, listener) {
            (Some(_), None) => {
                self.complete_by_id((driver, op), Err(errno(libc::ECONNREFUSED)));
            }
            (Some(_), Some((listener, machine))) if !full => {
                let server = self.id();
                let local = SocketAddr::new(ip_of(from), self.port(from));
                let buffer = self.options.net.buffer_bytes;
                let mut near = Stream::new(from, local, machine, to, server, buffers);
                let mut far = Stream::new(machine, to, from, local, client, (buffer, buffer));
                if self.rng.chance(self.options.net.reset_chance) {
                    let bytes = self.rng.below(self.options.net.reset_below_bytes);
                    let side = if self.rng.chance(0.5) {
                        &mut near
                    } else {
                        &mut far
                    };
                    side.reset_after = Some(bytes);
                }
                self.sockets.insert(client, Socket::Stream(near));
                self.sockets.insert(server, Socket::Stream(far));
                if let Some(Socket::Listening(l)) = self.sockets.get_mut(&listener) {
                    l.queue.push_back(server);
                }
                self.pump_accept(listener);
                self.complete_by_id((driver, op), Ok(0));
            }
            _ if tries >= SYN_TRIES => {
                self.complete_by_id((driver, op), Err(errno(libc::ETIMEDOUT)));
            }
            _ => {
                let at = self.now + SYN_RETRY_NS;
                let tries = tries + 1;
                self.queue.push(at, Event::Syn { driver, op, tries });
            }
        }
    }

    /// Bytes that may be sent now.
    fn room(&mut self, sock: u64) -> usize {
        let Some(s) = self.stream(sock) else { return 0 };
        let (peer, used, mut limit) = (s.peer, s.out_bytes, s.send_buffer);
        let mut held = used;
        if let Some(p) = self.stream(peer) {
            limit += p.recv_buffer;
            held += p.inbox.len();
        }
        limit.saturating_sub(held)
    }

    /// Why nothing can be sent any more.
    fn send_error(&mut self, sock: u64) -> Option<io::Error> {
        match self.stream(sock) {
            None => Some(errno(libc::ENOTCONN)),
            Some(s) if s.shut => Some(errno(libc::EPIPE)),
            Some(s) if s.reset => Some(errno(libc::ECONNRESET)),
            Some(_) => None,
        }
    }

    /// Puts bytes on their way, cut at random places.
    fn push(&mut self, sock: u64, bytes: &[u8]) {
        self.trace.note_bytes(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let longest = self.options.net.segment_bytes.max(1);
            let n = (self.rng.between(1, longest) as usize).min(bytes.len() - at);
            self.push_segment(sock, Segment::Data(bytes[at..at + n].to_vec()));
            at += n;
        }
    }

    fn push_segment(&mut self, sock: u64, segment: Segment) {
        let at = self.net_time();
        let Some(s) = self.stream(sock) else { return };
        if let Segment::Data(bytes) = &segment {
            s.out_bytes += bytes.len();
        }
        s.out.push_back(segment);
        s.last_arrival = at.max(s.last_arrival + 1);
        let at = s.last_arrival;
        self.queue.push(at, Event::Arrive { from: sock });
    }

    pub(super) fn pump_send(&mut self, sock: u64) {
        loop {
            let Some(waiter) = self.stream(sock).and_then(|s| s.senders.front().copied()) else {
                return;
            };
            let error = self.send_error(sock);
            let room = self.room(sock);
            if error.is_none() && room == 0 {
                return;
            }
            let result = match (error, self.ops.get(&waiter)) {
                (_, None) => None,
                (Some(_), Some(Op::Writable { .. })) => Some(Ok(0)),
                (Some(e), _) => Some(Err(e)),
                (None, Some(Op::Send { chain, skip, .. })) => {
                    let bytes = flatten(chain, *skip);
                    let n = bytes.len().min(room);
                    self.push(sock, &bytes[..n]);
                    Some(Ok(n as u32))
                }
                (
                    None,
                    Some(Op::Splice {
                        file, offset, len, ..
                    }),
                ) => {
                    let (file, offset, len) = (file.raw(), *offset, (*len).min(room));
                    Some(self.push_file(sock, file, offset, len).map(|n| n as u32))
                }
                (None, Some(_)) => Some(Ok(0)),
            };
            if let Some(s) = self.stream(sock) {
                s.senders.pop_front();
            }
            if let Some(result) = result {
                self.complete_by_id(waiter, result);
            }
        }
    }

    fn push_file(&mut self, sock: u64, file: i32, offset: u64, len: usize) -> io::Result<usize> {
        let place = self.file(file)?.place;
        let mut bytes = vec![0; len];
        let inode = self.fs(place).file(place.ino)?;
        let n = inode.content.read(offset, &mut bytes);
        self.push(sock, &bytes[..n]);
        Ok(n)
    }

    pub(super) fn send_file(
        &mut self,
        socket: i32,
        file: i32,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let sock = self.sock(socket)?;
        if let Some(e) = self.send_error(sock) {
            return Err(e);
        }
        match self.room(sock) {
            0 => Err(errno(libc::EAGAIN)),
            room => self.push_file(sock, file, offset, len.min(room)),
        }
    }

    pub(super) fn pump_receive(&mut self, sock: u64) {
        while let Some(s) = self.stream(sock)
            && (s.ended || s.reset)
            && let Some(waiter) = s.watchers.pop_front()
        {
            self.complete_by_id(waiter, Ok(0));
        }
        loop {
            let short = self.rng_short(sock);
            let Some(s) = self.stream(sock) else { return };
            let peer = s.peer;
            let Some(waiter) = s.receivers.front().copied().filter(|_| s.is_readable()) else {
                return;
            };
            s.receivers.pop_front();
            let Some(op) = self.ops.remove(&waiter) else {
                continue;
            };
            let Some(Socket::Stream(s)) = self.sockets.get_mut(&sock) else {
                return;
            };
            let (result, op) = match op {
                Op::Recv {
                    socket,
                    mut buf,
                    at,
                    len,
                } => {
                    let result = match s.reset {
                        true => Err(errno(libc::ECONNRESET)),
                        false => {
                            let n = s.inbox.len().min(len).min(short.max(1));
                            for (to, from) in buf[at..at + n].iter_mut().zip(s.inbox.drain(..n)) {
                                *to = from;
                            }
                            self.trace.note_bytes(&buf[at..at + n]);
                            Ok(n as u32)
                        }
                    };
                    let op = Op::Recv {
                        socket,
                        buf,
                        at,
                        len,
                    };
                    (result, op)
                }
                op => (Ok(0), op),
            };
            self.complete(waiter.0, waiter.1, result, op);
            self.pump_send(peer);
        }
    }

    fn rng_short(&mut self, sock: u64) -> usize {
        let waiting = self.stream(sock).map_or(0, |s| s.inbox.len());
        match waiting > 1 && self.rng.chance(self.options.net.short_chance) {
            true => self.rng.between(1, waiting as u64) as usize,
            false => usize::MAX,
        }
    }

    pub(super) fn arrive(&mut self, from: u64) {
        let Some(s) = self.stream(from) else { return };
        let (peer, machine, remote) = (s.peer, s.machine, s.remote_machine);
        let there = self.machines[remote].up;
        if self.is_parted(machine, remote) || !there {
            // as TCP does: again later
            let at = self.now + RETRANSMIT_NS;
            return self.queue.push(at, Event::Arrive { from });
        }
        let gone = self.stream(peer).is_none_or(|p| p.closed);
        let Some(s) = self.stream(from) else { return };
        let Some(segment) = s.out.pop_front() else {
            return;
        };
        let mut broken = false;
        if let Segment::Data(bytes) = &segment {
            s.out_bytes -= bytes.len();
            s.arrived += bytes.len() as u64;
            if let Some(left) = &mut s.reset_after {
                broken = bytes.len() as u64 >= *left;
                *left = left.saturating_sub(bytes.len() as u64);
            }
        }
        match segment {
            Segment::Data(mut bytes) => {
                if broken {
                    let keep = self.rng.index(bytes.len() + 1);
                    bytes.truncate(keep);
                }
                match self.stream(peer) {
                    Some(p) if !gone && !p.ended => p.inbox.extend(bytes),
                    _ => self.break_stream(from),
                }
                if broken {
                    self.pump_receive(peer);
                    self.break_stream(peer);
                    self.break_stream(from);
                }
            }
            Segment::Fin => {
                if let Some(p) = self.stream(peer) {
                    p.ended = true;
                }
            }
            Segment::Reset => self.break_stream(peer),
        }
        self.pump_receive(peer);
        self.pump_send(from);
        self.forget(from);
        self.forget(peer);
    }

    /// The connection is broken, as this end sees it.
    pub(super) fn break_stream(&mut self, sock: u64) {
        if let Some(s) = self.stream(sock) {
            s.reset = true;
            s.inbox.clear();
            s.out.clear();
            s.out_bytes = 0;
            self.pump_receive(sock);
            self.pump_send(sock);
        }
    }

    /// Drops an end that nobody can reach any more.
    fn forget(&mut self, sock: u64) {
        if let Some(s) = self.stream(sock)
            && s.closed
            && (s.reset || s.out.is_empty())
        {
            self.sockets.remove(&sock);
        }
    }

    pub(super) fn shutdown(&mut self, fd: i32, both: bool) -> io::Result<()> {
        let sock = self.sock(fd)?;
        let Some(s) = self.stream(sock) else {
            return Err(errno(libc::ENOTCONN));
        };
        if both {
            s.ended = true;
        }
        if !s.shut {
            s.shut = true;
            self.push_segment(sock, Segment::Fin);
        }
        self.pump_receive(sock);
        self.pump_send(sock);
        Ok(())
    }

    /// The last descriptor of a socket is gone.
    pub(super) fn close_socket(&mut self, sock: u64) {
        match self.sockets.get_mut(&sock) {
            Some(Socket::Listening(l)) => {
                let waiting: Vec<u64> = l.queue.drain(..).collect();
                self.sockets.remove(&sock);
                for stream in waiting {
                    self.close_socket(stream);
                }
            }
            Some(Socket::Stream(s)) => {
                s.closed = true;
                let unread = !s.inbox.is_empty();
                let shut = std::mem::replace(&mut s.shut, true);
                if s.reset {
                    self.forget(sock);
                } else if unread {
                    self.push_segment(sock, Segment::Reset);
                } else if !shut {
                    self.push_segment(sock, Segment::Fin);
                } else {
                    self.forget(sock);
                }
            }
            Some(Socket::Fresh { .. }) => drop(self.sockets.remove(&sock)),
            None => {}
        }
    }

    /// A machine without power forgets its connections; their other ends do not know.
    pub(super) fn sockets_lost(&mut self, machine: usize) {
        self.sockets.retain(|_, s| match s {
            Socket::Fresh { machine: m, .. } => *m != machine,
            Socket::Listening(l) => l.machine != machine,
            Socket::Stream(s) => s.machine != machine,
        });
    }

    /// Closes whatever a number stands for.
    pub(super) fn close(&mut self, fd: i32) {
        match self.handles.get(&fd).map(|h| &h.what) {
            Some(What::File(d)) if !d.orphan => self.close_file(fd),
            Some(What::Socket(sock)) => {
                let sock = *sock;
                self.handles.remove(&fd);
                self.close_socket(sock);
            }
            _ => {}
        }
    }
}
