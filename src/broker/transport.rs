//! The seam under a connection: what turns bytes of requests and answers into bytes on the wire.
//!
//! Plain sockets for now. TLS goes here, as a variant that holds a session beside the socket and
//! reads and encrypts file ranges instead of handing them to the kernel.

use std::io;

use crate::base::config::SecurityProtocol;
use crate::ring::buf::BufMut;
use crate::ring::driver::Chain;
use crate::ring::{File, Socket, SocketParcel};

/// One end of a connection. Clones share it.
#[derive(Clone)]
pub enum Transport {
    /// Bytes as they are.
    Plain(Socket),
}

impl Transport {
    /// What a listener's protocol puts over a socket that was just accepted.
    pub fn over(socket: Socket, protocol: SecurityProtocol) -> Transport {
        match protocol {
            // the configuration refuses listeners with other protocols
            SecurityProtocol::Plaintext
            | SecurityProtocol::Ssl
            | SecurityProtocol::SaslPlaintext
            | SecurityProtocol::SaslSsl => Transport::Plain(socket),
        }
    }

    /// Receives into `buf[at..at + len]`; 0 at the end of the stream.
    pub async fn recv(&self, buf: BufMut, at: usize, len: usize) -> (io::Result<usize>, BufMut) {
        match self {
            Transport::Plain(socket) => socket.recv(buf, at, len).await,
        }
    }

    /// Waits until there is something to receive, without holding memory for it.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.readable().await,
        }
    }

    /// Waits until the client sends no more, whatever there still is to receive.
    pub async fn hung_up(&self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.hung_up().await,
        }
    }

    /// Sends all of the chain.
    pub async fn send(&self, chain: Chain) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.send(chain).await,
        }
    }

    /// Begins or ends an answer that is sent in several pieces.
    pub fn hold(&self, on: bool) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.hold(on),
        }
    }

    /// Sends a range of a file; answers how many bytes went, fewer only at the end of the file.
    pub async fn send_file(&self, file: &File, offset: u64, len: u64) -> io::Result<u64> {
        match self {
            Transport::Plain(socket) => socket.send_file(file, offset, len).await,
        }
    }

    /// Bytes sent that the other end has taken so far, from any origin.
    pub fn acknowledged(&self) -> io::Result<u64> {
        match self {
            Transport::Plain(socket) => socket.acknowledged(),
        }
    }

    /// Ends it both ways: whoever waits on it wakes.
    pub fn shutdown(&self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.shutdown(true),
        }
    }

    /// Makes it ready to go to another shard; only its last clone can go.
    pub fn into_parcel(self) -> Result<SocketParcel, Transport> {
        match self {
            Transport::Plain(socket) => socket.into_parcel().map_err(Transport::Plain),
        }
    }
}

/// The client went away: nothing is wrong on this side.
pub fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut
    )
}
