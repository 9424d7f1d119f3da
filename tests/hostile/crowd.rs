//! Clients that mean no good, in numbers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use corelane::wire::messages::ApiVersionsRequest;

use crate::client::{Client, Fetching, batch, data, part, produce};
use crate::sockets::reset;
use crate::support::wait::pause;

/// Bytes that are no request, each of a kind that the broker knows or not.
pub const FOREIGN: [(&str, &[u8]); 5] = [
    ("HTTP", b"GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n"),
    ("TLS", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7]),
    (
        "the PROXY protocol",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 9092\r\n",
    ),
    // no length of a frame, and no protocol that is known
    ("a frame of", &[0x9d, 0xe2, 0x11, 0x07, 1, 2, 3]),
    // a frame, but no API that there is
    ("malformed", &[0, 0, 0, 8, 0x7f, 0x7f, 0, 0, 0, 0, 0, 1]),
];

/// Opens `count` connections that stay silent; every other one after a request.
pub fn idle(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|n| {
            let socket = TcpStream::connect(address).context("an idle connection")?;
            if n % 2 == 0 {
                return Ok(socket);
            }
            let mut client = Client::of(socket);
            client.ask(3, &ApiVersionsRequest::default());
            Ok(client.socket)
        })
        .collect()
}

/// Threads that do harm until they are dropped.
pub struct Harm {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Bad connections that were made and ended.
    pub ended: Arc<AtomicU64>,
}

impl Harm {
    pub fn none() -> Harm {
        Harm {
            over: Arc::default(),
            threads: Vec::new(),
            ended: Arc::default(),
        }
    }

    fn spawn(&mut self, mut turn: impl FnMut() + Send + 'static, every: Duration) {
        let over = Arc::clone(&self.over);
        self.threads.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                turn();
                pause(every);
            }
        }));
    }

    /// `count` clients that send a produce, a byte a second each.
    pub fn trickle(&mut self, address: SocketAddr, count: usize) -> Result<()> {
        let records = batch(&["a byte a second"]);
        let parts = [part(0, &records)];
        let mut sockets = Vec::new();
        for _ in 0..count {
            let mut client = Client::of(TcpStream::connect(address)?);
            let bytes = client.encode(9, &produce(&[data("trickle", &parts)], -1)).1;
            sockets.push((client.socket, bytes));
        }
        let mut sent = 0;
        self.spawn(
            move || {
                for (socket, bytes) in &mut sockets {
                    let at = sent % bytes.len();
                    // the broker may close it for its own reasons
                    let _ = socket.write_all(&bytes[at..at + 1]);
                }
                sent += 1;
            },
            Duration::from_secs(1),
        );
        Ok(())
    }

    /// `count` clients that ask for the records of `topic` again and again and never read.
    pub fn never_read(&mut self, address: SocketAddr, topic: &str, count: usize) -> Result<()> {
        let mut sockets = Vec::new();
        for _ in 0..count {
            let mut client = Client::of(TcpStream::connect(address)?);
            for _ in 0..8 {
                Fetching::new(topic, &[(0, 0)]).with(|fetch| client.send(11, fetch));
            }
            client.socket.set_nonblocking(true)?;
            sockets.push(client);
        }
        let topic = topic.to_owned();
        self.spawn(
            move || {
                for client in &mut sockets {
                    let (_, bytes) =
                        Fetching::new(&topic, &[(0, 0)]).with(|fetch| client.encode(11, fetch));
                    // a full socket is what this is for, and half a request does no harm there
                    let _ = client.socket.write(&bytes);
                }
            },
            Duration::from_millis(500),
        );
        Ok(())
    }

    /// Connections that are reset in the middle of a frame, and such that speak other protocols, a
    /// few hundred a second.
    pub fn come_and_go(&mut self, address: SocketAddr) {
        let ended = Arc::clone(&self.ended);
        let mut turn = 0;
        self.spawn(
            move || {
                turn += 1;
                let outcome = match turn % 2 {
                    0 => reset_in_a_frame(address, turn),
                    _ => speak(address, FOREIGN[turn / 2 % FOREIGN.len()].1),
                };
                if outcome.is_ok() {
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            },
            Duration::from_millis(2),
        );
    }
}

impl Drop for Harm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends the beginning of a large frame, and resets the connection.
pub fn reset_in_a_frame(address: SocketAddr, n: usize) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    let mut bytes = vec![0; 4 + n * 37 % 5000];
    bytes[..4].copy_from_slice(&1_000_000u32.to_be_bytes());
    socket.write_all(&bytes)?;
    reset(socket);
    Ok(())
}

/// Sends bytes that are no request, and waits until the broker has closed the connection; an error
/// if it answers, or keeps it.
pub fn speak(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(crate::client::PATIENCE))?;
    socket.write_all(bytes)?;
    let mut answer = Vec::new();
    let closed = match socket.read_to_end(&mut answer) {
        Ok(_) => answer.is_empty(),
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    anyhow::ensure!(
        closed,
        "the connection stays open, or is answered: {answer:?}"
    );
    // no TIME_WAIT, of which a flood would make very many
    reset(socket);
    Ok(())
}
