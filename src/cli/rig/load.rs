//! A load client that knows nothing of a protocol but its framing: it sends length-prefixed
//! frames and waits for length-prefixed answers, so that a broker and a floor program are driven
//! by the same code.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;

use crate::cli::rig::machine::{self, Cpu};
use crate::cli::rig::server::Server;

/// Where frames come from and where answers go.
pub trait Traffic {
    /// The next frame of a connection, length included.
    fn frame(&mut self, connection: usize) -> &[u8];
    /// The head of an answer (at most [`HEAD_BYTES`], without its length) and its whole length.
    fn answer(&mut self, connection: usize, head: &[u8], length: usize) -> Result<(), String>;
}

/// How much of an answer a [`Traffic`] sees; the rest is read and dropped.
pub const HEAD_BYTES: usize = 512;

/// When frames are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Always so many in flight on each connection.
    Depth(usize),
    /// So many a second over all connections, whatever the answers do: latency counts from the
    /// intended time.
    Rate(f64),
}

/// How a load runs.
#[derive(Clone, Copy)]
pub struct Plan {
    /// All are made before the warm-up.
    pub connections: usize,
    /// When frames are sent.
    pub pace: Pace,
    /// Time before the measured one, in which the same is done.
    pub warmup: Duration,
    /// The warm-up goes on as long as the server takes more memory, a minute at most:
    /// pages that are touched for the first time are no cost of a server that runs on.
    pub until_steady: bool,
    /// How long is measured.
    pub run: Duration,
    /// Congestion control of the load's sockets; none: the system's.
    pub congestion: Option<&'static str>,
    /// Ends the load as failed once it is set.
    pub interrupted: Option<&'static AtomicBool>,
}

impl Plan {
    /// The same, with a warm-up until the server has the memory that it will have.
    pub fn until_steady(self) -> Plan {
        Plan {
            until_steady: true,
            ..self
        }
    }
}

const LONGEST_WARMUP: Duration = Duration::from_secs(60);
/// How often the memory is looked at, and how much more of it is still steady.
const STEADY_TIME: Duration = Duration::from_millis(500);
const STEADY_MIB: f64 = 4.0;
/// An interrupt is noticed in this time.
const LOOK: Duration = Duration::from_millis(200);

/// What came of it, warm-up left out.
pub struct Outcome {
    /// Whole ones.
    pub answers: u64,
    /// Of frames.
    pub sent_bytes: u64,
    /// Of answers.
    pub received_bytes: u64,
    /// The time in which the rest came about.
    pub elapsed: Duration,
    /// Spent in it.
    pub cpu: Cpu,
    /// Nanoseconds from (intended) send to the whole answer.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// So much a second.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }

    /// Of the way that carries more, in 1e9 bytes.
    pub fn gigabytes(&self) -> f64 {
        self.sent_bytes.max(self.received_bytes) as f64 / 1e9
    }

    /// CPU seconds of all but the load for a gigabyte.
    pub fn cpu_per_gb(&self) -> f64 {
        self.cpu.cost() / self.gigabytes()
    }

    /// The same for one request, in us.
    pub fn cpu_us_each(&self) -> f64 {
        self.cpu.cost() * 1e6 / self.answers as f64
    }

    /// In us.
    pub fn quantile_us(&self, q: f64) -> f64 {
        self.latency.value_at_quantile(q) as f64 / 1e3
    }
}

struct Connection {
    socket: TcpStream,
    /// Being sent, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// When each frame in flight was meant to leave.
    due: VecDeque<Instant>,
    /// Frames that should have left already.
    backlog: VecDeque<Instant>,
    length: [u8; 4],
    length_have: usize,
    head: Vec<u8>,
    body_left: usize,
    body_length: usize,
}

/// Runs a load. `prepare` has each connection first, with its number.
pub fn run(
    server: &Server,
    plan: Plan,
    traffic: &mut dyn Traffic,
    prepare: &mut dyn FnMut(usize, &mut TcpStream) -> io::Result<()>,
) -> Result<Outcome, String> {
    let fail = |what: &str, e: io::Error| format!("{what}: {e}");
    let poll = Poll::new().map_err(|e| fail("epoll", e))?;
    let mut connections = Vec::new();
    for i in 0..plan.connections {
        let mut socket = TcpStream::connect(server.addr).map_err(|e| fail("connect", e))?;
        if let Some(name) = plan.congestion {
            set_congestion(&socket, name).map_err(|e| fail(name, e))?;
        }
        socket.set_nodelay(true).map_err(|e| fail("nodelay", e))?;
        prepare(i, &mut socket).map_err(|e| fail("first exchange", e))?;
        socket
            .set_nonblocking(true)
            .map_err(|e| fail("nonblocking", e))?;
        poll.add(&socket, i as u64).map_err(|e| fail("epoll", e))?;
        connections.push(Connection {
            socket,
            out: Vec::new(),
            sent: 0,
            due: Default::default(),
            backlog: Default::default(),
            length: [0; 4],
            length_have: 0,
            head: Vec::with_capacity(HEAD_BYTES),
            body_left: 0,
            body_length: 0,
        });
    }
    let mut outcome = Outcome {
        answers: 0,
        sent_bytes: 0,
        received_bytes: 0,
        elapsed: Duration::ZERO,
        cpu: Cpu::default(),
        latency: Histogram::new(3).expect("3 digits are allowed"),
    };
    let mut scratch = vec![0u8; 256 * 1024];
    let began = Instant::now();
    let mut measured_from = began + plan.warmup;
    let mut resident = 0.0;
    let mut measuring = false;
    let mut scheduled = 0u64;
    let mut turn = 0usize;
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        if !measuring && now >= measured_from {
            let before = resident;
            if plan.until_steady {
                resident = machine::resident_mib(server.pid());
            }
            if resident > before + STEADY_MIB && now - began < LONGEST_WARMUP {
                measured_from = now + STEADY_TIME;
            } else {
                measuring = true;
                measured_from = now;
                outcome.cpu = Cpu::now(server.pid());
            }
        }
        let ends = measured_from + plan.run;
        if now >= ends {
            outcome.cpu = Cpu::now(server.pid()).since(outcome.cpu);
            outcome.elapsed = now - measured_from;
            return Ok(outcome);
        }
        if plan
            .interrupted
            .is_some_and(|it| it.load(Ordering::Relaxed))
        {
            return Err("interrupted".into());
        }
        let mut wait = (ends - now).min(LOOK);
        match plan.pace {
            Pace::Depth(depth) => {
                for (i, c) in connections.iter_mut().enumerate() {
                    while c.due.len() < depth && c.sent == c.out.len() {
                        c.begin(traffic.frame(i), now);
                        if measuring {
                            outcome.sent_bytes += c.out.len() as u64;
                        }
                        c.push().map_err(|e| fail("send", e))?;
                    }
                }
            }
            Pace::Rate(rate) => {
                let due = ((now - began).as_secs_f64() * rate) as u64;
                while scheduled < due {
                    let at = began + Duration::from_secs_f64(scheduled as f64 / rate);
                    connections[turn].backlog.push_back(at);
                    turn = (turn + 1) % plan.connections;
                    scheduled += 1;
                }
                for (i, c) in connections.iter_mut().enumerate() {
                    while c.sent == c.out.len() {
                        let Some(at) = c.backlog.pop_front() else {
                            break;
                        };
                        c.begin(traffic.frame(i), at);
                        if measuring {
                            outcome.sent_bytes += c.out.len() as u64;
                        }
                        c.push().map_err(|e| fail("send", e))?;
                    }
                }
                let next = began + Duration::from_secs_f64((scheduled + 1) as f64 / rate);
                wait = wait.min(next.saturating_duration_since(Instant::now()));
            }
        }
        poll.wait(&mut events, wait)
            .map_err(|e| fail("epoll_wait", e))?;
        for i in events.drain(..) {
            let i = i as usize;
            let c = &mut connections[i];
            c.push().map_err(|e| fail("send", e))?;
            c.pull(i, &mut scratch, traffic, measuring, &mut outcome)?;
        }
    }
}

impl Connection {
    fn begin(&mut self, frame: &[u8], due: Instant) {
        self.out.clear();
        self.out.extend_from_slice(frame);
        self.sent = 0;
        self.due.push_back(due);
    }

    fn push(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.socket.write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn pull(
        &mut self,
        index: usize,
        scratch: &mut [u8],
        traffic: &mut dyn Traffic,
        measuring: bool,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        loop {
            let got = match self.socket.read(scratch) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(format!("receive: {e}")),
            };
            if measuring {
                outcome.received_bytes += got as u64;
            }
            let mut bytes = &scratch[..got];
            while !bytes.is_empty() {
                if self.length_have < 4 {
                    self.length[self.length_have] = bytes[0];
                    self.length_have += 1;
                    bytes = &bytes[1..];
                    if self.length_have == 4 {
                        self.body_length = u32::from_be_bytes(self.length) as usize;
                        self.body_left = self.body_length;
                        self.head.clear();
                    }
                } else {
                    let take = bytes.len().min(self.body_left);
                    let head = (HEAD_BYTES - self.head.len()).min(take);
                    self.head.extend_from_slice(&bytes[..head]);
                    self.body_left -= take;
                    bytes = &bytes[take..];
                }
                if self.length_have == 4 && self.body_left == 0 {
                    self.length_have = 0;
                    traffic.answer(index, &self.head, self.body_length)?;
                    let due = self
                        .due
                        .pop_front()
                        .ok_or("an answer that nobody asked for")?;
                    if measuring {
                        outcome.answers += 1;
                        let nanos = due.elapsed().as_nanos() as u64;
                        let _ = outcome.latency.record(nanos);
                    }
                }
            }
            if got < scratch.len() {
                return Ok(());
            }
        }
    }
}

/// BBR and cubic cost differently on loopback: both sides of every measured connection use the same.
pub fn set_congestion(socket: &TcpStream, name: &str) -> io::Result<()> {
    Ok(setsockopt(socket, TcpCongestion, &OsString::from(name))?)
}

/// Which sockets have something to do.
struct Poll(Epoll);

impl Poll {
    fn new() -> io::Result<Poll> {
        Ok(Poll(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    fn add(&self, socket: &TcpStream, key: u64) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        Ok(self.0.add(socket, EpollEvent::new(flags, key))?)
    }

    /// Waits for some, at most so long: epoll itself knows no time below a millisecond.
    fn wait(&self, keys: &mut Vec<u64>, wait: Duration) -> io::Result<()> {
        let mut ready = [PollFd::new(self.0.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut ready, Some(wait.into()), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [EpollEvent::empty(); 128];
        let n = self.0.wait(&mut events, EpollTimeout::ZERO)?;
        keys.extend(events[..n].iter().map(EpollEvent::data));
        Ok(())
    }
}
