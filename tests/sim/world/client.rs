//! A Kafka client with one connection, over the same ring as the broker.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use corelane::ring::buf::Buf;
use corelane::ring::{Ring, Socket};
use corelane::wire::frame::{self, Split};
use corelane::wire::message::Message;
use corelane::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatableTopic, CreateTopicsRequest,
    CreateTopicsResponse,
};
use corelane::wire::write::Writer;

/// How long an answer may take while brokers come and go.
pub const PATIENCE: Duration = Duration::from_secs(2);

pub struct Client {
    pub ring: Ring,
    pub patience: Duration,
    /// Says first who it is, as a client that is shown lanes.
    pub introduces_itself: bool,
    address: SocketAddr,
    socket: Option<Socket>,
    received: Vec<u8>,
    correlation: i32,
    /// Asked and not answered yet: correlation ids.
    asked: VecDeque<i32>,
}

/// An answer's frame, to be decoded by whoever knows what was asked.
pub struct Answer(Vec<u8>);

impl Answer {
    pub fn decode<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        let (_, mut body) =
            frame::read_response_header(&self.0, M::API, version).expect("a header");
        M::decode(&mut body, version).unwrap_or_else(|e| panic!("{}: {e}", M::API.name()))
    }
}

impl Client {
    pub fn new(ring: &Ring, address: SocketAddr) -> Client {
        Client {
            ring: ring.clone(),
            patience: PATIENCE,
            introduces_itself: false,
            address,
            socket: None,
            received: Vec::new(),
            correlation: 0,
            asked: VecDeque::new(),
        }
    }

    /// Gives the connection up.
    pub fn drop_connection(&mut self) {
        self.socket = None;
        self.received.clear();
        self.asked.clear();
    }

    /// Connects unless it is connected.
    pub async fn reach(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let connected = self.connect().await;
            if connected.is_err() {
                self.drop_connection();
            }
            return connected;
        }
        Ok(())
    }

    async fn connect(&mut self) -> io::Result<()> {
        let connecting = self.ring.connect(self.address);
        let connected = self.ring.timeout(self.patience, connecting).await;
        self.socket = Some(connected.map_err(|_| io::ErrorKind::TimedOut)??);
        if self.introduces_itself {
            let request = ApiVersionsRequest {
                client_software_name: "apache-kafka-java",
                client_software_version: "4.0.0",
                ..ApiVersionsRequest::default()
            };
            self.send(3, &request).await?;
            let answer = self.answer().await?;
            let answer: ApiVersionsResponse = answer.decode(3);
            assert_eq!(answer.error_code, 0, "an answer to ApiVersions");
        }
        Ok(())
    }

    /// Sends a request; answers come in the order of requests.
    pub async fn ask<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> io::Result<()> {
        self.reach().await?;
        self.send(version, request).await
    }

    /// Sends a request that has no answer.
    pub async fn tell<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> io::Result<()> {
        let result = self.ask(version, request).await;
        self.asked.pop_back();
        result
    }

    async fn send<'a, M: Message<'a>>(&mut self, version: i16, request: &M) -> io::Result<()> {
        self.correlation += 1;
        let mut bytes = Vec::new();
        let mut w = Writer::vec(&mut bytes);
        frame::request(version, self.correlation, Some("sim"), request, &mut w);
        self.asked.push_back(self.correlation);
        let socket = self.socket.clone().expect("connected");
        let chain = [Buf::from(bytes)].into_iter().collect();
        match self.ring.timeout(self.patience, socket.send(chain)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// The answer to the oldest request without one.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let ring = self.ring.clone();
        match ring.timeout(self.patience, self.receive()).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn receive(&mut self) -> io::Result<Answer> {
        loop {
            match frame::split(&self.received, 64 << 20) {
                Split::Frame(range) => {
                    let end = range.end;
                    let frame = self.received[range].to_vec();
                    self.received.drain(..end);
                    let correlation = i32::from_be_bytes(frame[..4].try_into().expect("4"));
                    assert_eq!(
                        Some(correlation),
                        self.asked.pop_front(),
                        "answers in order"
                    );
                    return Ok(Answer(frame));
                }
                Split::TooLarge(n) => panic!("an answer of {n} bytes"),
                Split::Incomplete(_) => {}
            }
            let Some(socket) = self.socket.clone() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let buf = self.ring.arena().alloc(16_384).await;
            let (n, buf) = socket.recv(buf, 0, 16_384).await;
            match n? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.received.extend_from_slice(&buf[..n]),
            }
        }
    }

    /// Makes a topic that is not there yet, on a broker that answers.
    #[allow(dead_code)] // the simulator makes its topics in the midst of faults
    pub async fn create(&mut self, name: &str, partitions: i32) {
        let topics = [CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        }];
        let request = CreateTopicsRequest {
            topics: topics[..].into(),
            timeout_ms: 60_000,
            validate_only: false,
        };
        let answer = self.call(7, &request).await.expect("an answer");
        let answer: CreateTopicsResponse = answer.decode(7);
        assert_eq!(answer.topics.iter().next().expect("one").error_code, 0);
    }

    /// Asks once, and gives the connection up when that fails.
    pub async fn call<'a, M: Message<'a>>(
        &mut self,
        version: i16,
        request: &M,
    ) -> io::Result<Answer> {
        let result = match self.ask(version, request).await {
            Ok(()) => self.answer().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            tracing::info!(api = M::API.name(), %error, now = self.ring.now().0, "a call fails");
            self.drop_connection();
        }
        result
    }
}
