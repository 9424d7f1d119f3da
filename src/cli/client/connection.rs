//! One connection to a broker.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::cli::client::error::ClientError;
use crate::wire::api::ApiKey;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::write::Writer;

/// How the client calls itself.
const NAME: &str = "corelane";
/// No answer is larger: fetches ask for much less.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// A connection, with the versions that its broker serves.
pub struct Connection {
    address: String,
    stream: TcpStream,
    timeout: Duration,
    versions: BTreeMap<i16, (i16, i16)>,
    last_id: i32,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Connection {
    /// Connects and asks which versions the broker serves.
    pub fn open(address: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let name = address.to_owned();
        let resolved = address.to_socket_addrs();
        let resolved = resolved.map_err(|source| ClientError::Address {
            address: name.clone(),
            source,
        })?;
        let mut stream = Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
        for to in resolved {
            stream = TcpStream::connect_timeout(&to, timeout);
            if stream.is_ok() {
                break;
            }
        }
        let prepared = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        let stream = prepared.map_err(|source| ClientError::Connect {
            address: name,
            source,
        })?;
        let mut connection = Connection {
            address: address.to_owned(),
            stream,
            timeout,
            versions: BTreeMap::new(),
            last_id: 0,
            out: Vec::new(),
            input: Vec::new(),
        };
        connection.negotiate()?;
        Ok(connection)
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: NAME,
            client_software_version: env!("CARGO_PKG_VERSION"),
            ..Default::default()
        };
        let id = self.send(&request, 3)?;
        self.read_frame()?;
        // a broker that does not know version 3 answers in version 0, with an error
        let code = self
            .input
            .get(4..6)
            .map(|b| i16::from_be_bytes([b[0], b[1]]));
        let version = if code == Some(35) { 0 } else { 3 };
        let answer: ApiVersionsResponse<'_> = self.decode(id, version)?;
        let ranges: Vec<_> = answer
            .api_keys
            .iter()
            .map(|k| (k.api_key, (k.min_version, k.max_version)))
            .collect();
        self.versions = ranges.into_iter().collect();
        Ok(())
    }

    /// Where the broker is, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The newest version of a request that both sides speak, at most `max`.
    pub fn version<'a, Q: Message<'a>>(&self, max: i16) -> Result<i16, ClientError> {
        let theirs = self.versions.get(&Q::API.code());
        let (low, high) = theirs.copied().unwrap_or((0, -1));
        let version = high.min(Q::VERSIONS.1).min(max);
        match version >= low.max(Q::VERSIONS.0) {
            true => Ok(version),
            false => Err(self.no_version(Q::API)),
        }
    }

    fn no_version(&self, api: ApiKey) -> ClientError {
        ClientError::Version {
            address: self.address.clone(),
            api,
        }
    }

    /// Asks and waits for the answer.
    pub fn call<'s, 'q, Q: Message<'q>, A: Message<'s>>(
        &'s mut self,
        request: &Q,
        version: i16,
    ) -> Result<A, ClientError> {
        let id = self.send(request, version)?;
        self.receive(id, version)
    }

    /// Sends a request; returns the id that its answer will carry.
    pub fn send<'q, Q: Message<'q>>(
        &mut self,
        request: &Q,
        version: i16,
    ) -> Result<i32, ClientError> {
        self.last_id = self.last_id.wrapping_add(1);
        self.out.clear();
        let w = &mut Writer::vec(&mut self.out);
        frame::request(version, self.last_id, Some(NAME), request, w);
        let sent = self.stream.write_all(&self.out);
        sent.map_err(|e| self.broken(e))?;
        Ok(self.last_id)
    }

    /// Waits for the next answer, which must be that of `id`.
    pub fn receive<'s, A: Message<'s>>(
        &'s mut self,
        id: i32,
        version: i16,
    ) -> Result<A, ClientError> {
        self.read_frame()?;
        self.decode(id, version)
    }

    fn read_frame(&mut self) -> Result<(), ClientError> {
        let mut head = [0; frame::LENGTH_BYTES];
        let read = self.stream.read_exact(&mut head);
        read.map_err(|e| self.broken(e))?;
        let length = i32::from_be_bytes(head);
        let length = match usize::try_from(length) {
            Ok(n) if n <= ANSWER_BYTES_MAX => n,
            _ => return Err(self.protocol(format!("an answer of {length} bytes"))),
        };
        self.input.clear();
        let mut body = (&self.stream).take(length as u64);
        let read = match body.read_to_end(&mut self.input) {
            Ok(n) if n < length => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        read.map_err(|e| self.broken(e))?;
        Ok(())
    }

    fn decode<'s, A: Message<'s>>(&'s self, id: i32, version: i16) -> Result<A, ClientError> {
        let decode = |source| ClientError::Decode {
            address: self.address.clone(),
            source,
        };
        let (found, mut body) =
            frame::read_response_header(&self.input, A::API, version).map_err(decode)?;
        if found != id {
            return Err(self.protocol(format!("answer {found} where {id} was expected")));
        }
        A::decode(&mut body, version).map_err(decode)
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            what,
        }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let address = self.address.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout {
                address,
                timeout: self.timeout,
            },
            _ => ClientError::Broken { address, source },
        }
    }
}
