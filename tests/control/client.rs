//! One connection that speaks the protocol in any version.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use corelane::wire::api::ApiKey;
use corelane::wire::frame;
use corelane::wire::message::Message;
use corelane::wire::read::Reader;
use corelane::wire::write::Writer;

/// No answer takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    socket: TcpStream,
    correlation_id: i32,
}

/// The body of an answer.
pub struct Answer {
    frame: Vec<u8>,
    body_at: usize,
    version: i16,
}

impl Answer {
    /// Decodes it, whole.
    pub fn read<'a, M: Message<'a>>(&'a self) -> M {
        self.read_as(self.version)
    }

    /// Decodes it in another version than that of the request.
    pub fn read_as<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        let mut reader = Reader::new(&self.frame[self.body_at..]);
        M::decode(&mut reader, version).unwrap()
    }
}

impl Client {
    pub fn connect(address: &str) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket,
            correlation_id: 0,
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask<'a, M: Message<'a>>(&mut self, version: i16, body: &M) -> Answer {
        self.correlation_id += 1;
        let mut bytes = Vec::new();
        let id = self.correlation_id;
        frame::request(
            version,
            id,
            Some("test"),
            body,
            &mut Writer::vec(&mut bytes),
        );
        self.answer_to(&bytes, M::API, version)
            .expect("the connection stays open")
    }

    /// Sends bytes of a request; `None` if the broker closes the connection.
    pub fn answer_to(&mut self, request: &[u8], api: ApiKey, version: i16) -> Option<Answer> {
        self.socket.write_all(request).unwrap();
        let mut length = [0; 4];
        match self.socket.read_exact(&mut length) {
            Ok(()) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(e) => panic!("{api} version {version}: {e}"),
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut frame).unwrap();
        // ApiVersions answers versions that it does not serve in version 0
        let (id, body) = frame::read_response_header(&frame, api, version).unwrap();
        assert_eq!(id, i32::from_be_bytes(request[8..12].try_into().unwrap()));
        let body_at = frame.len() - body.len();
        Some(Answer {
            frame,
            body_at,
            version,
        })
    }
}
