//! One connection that sends whatever a test wants, and reads answers one by one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use corelane::base::ids::{Offset, Uuid};
use corelane::base::time::Timestamp;
use corelane::wire::array::Array;
use corelane::wire::batch::{BatchBuilder, batches};
use corelane::wire::compress::Codec;
use corelane::wire::frame;
use corelane::wire::message::Message;
use corelane::wire::messages::*;
use corelane::wire::read::Reader;
use corelane::wire::records::Records;
use corelane::wire::write::Writer;

/// No answer takes longer, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    pub socket: TcpStream,
    next_id: i32,
}

/// An answer as it came.
pub struct Answer {
    frame: Vec<u8>,
}

impl Answer {
    /// Its correlation id.
    pub fn id(&self) -> i32 {
        i32::from_be_bytes(self.frame[..4].try_into().unwrap())
    }

    /// Its body, in the version of the request.
    pub fn read<'a, M: Message<'a>>(&'a self, version: i16) -> M {
        let (_, mut reader): (i32, Reader<'a>) =
            frame::read_response_header(&self.frame, M::API, version).unwrap();
        M::decode(&mut reader, version).unwrap()
    }
}

impl Client {
    pub fn connect(address: &str) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    /// A connection that is there.
    pub fn of(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket, next_id: 1 }
    }

    /// The same connection a second time, for a thread that only reads.
    pub fn reader(&self) -> Client {
        Client {
            socket: self.socket.try_clone().unwrap(),
            next_id: 0,
        }
    }

    /// Sends a request, gives its correlation id.
    pub fn send<'a, M: Message<'a>>(&mut self, version: i16, body: &M) -> i32 {
        let (id, bytes) = self.encode(version, body);
        self.socket.write_all(&bytes).unwrap();
        id
    }

    /// A request's bytes, not sent.
    pub fn encode<'a, M: Message<'a>>(&mut self, version: i16, body: &M) -> (i32, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = Vec::new();
        frame::request(
            version,
            id,
            Some("test"),
            body,
            &mut Writer::vec(&mut bytes),
        );
        (id, bytes)
    }

    /// The next answer; `None` when the broker has closed the connection.
    pub fn next(&mut self) -> Option<Answer> {
        let mut length = [0; 4];
        if !self.read(&mut length) {
            return None;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        assert!(self.read(&mut frame), "an answer that is cut off");
        Some(Answer { frame })
    }

    fn read(&mut self, bytes: &mut [u8]) -> bool {
        match self.socket.read_exact(bytes) {
            Ok(()) => true,
            Err(e) => match e.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => false,
                _ => panic!("no answer: {e}"),
            },
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask<'a, M: Message<'a>>(&mut self, version: i16, body: &M) -> Answer {
        let id = self.send(version, body);
        let answer = self.next().expect("the connection stays open");
        assert_eq!(answer.id(), id);
        answer
    }

    /// Sends no more; answers still come.
    pub fn end(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Makes a topic and waits until it serves; its id.
    pub fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let configs: Vec<CreatableTopicConfig<'_>> = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name,
                value: Some(value),
            })
            .collect();
        let topics = [CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs[..].into(),
            ..CreatableTopic::default()
        }];
        let request = CreateTopicsRequest {
            topics: topics[..].into(),
            timeout_ms: 20_000,
            validate_only: false,
        };
        let answer = self.ask(7, &request);
        let response: CreateTopicsResponse<'_> = answer.read(7);
        let made = response.topics.iter().next().unwrap();
        assert_eq!(made.error_code, 0, "{:?}", made.error_message);
        made.topic_id
    }
}

/// One uncompressed batch of these values.
pub fn batch(values: &[&str]) -> Vec<u8> {
    batch_at(Timestamp(1_700_000_000_000), values)
}

/// The same, its records a millisecond apart from `first` on.
pub fn batch_at(first: Timestamp, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for (n, value) in values.iter().enumerate() {
        let at = Timestamp(first.0 + n as i64);
        builder.append(at, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

/// What a produce of one batch to one partition looks like.
pub fn produce<'a>(topics: &'a [TopicProduceData<'a>], acks: i16) -> ProduceRequest<'a> {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: topics.into(),
        ..ProduceRequest::default()
    }
}

/// The part of a produce that is about one topic.
pub fn data<'a>(name: &'a str, parts: &'a [PartitionProduceData<'a>]) -> TopicProduceData<'a> {
    TopicProduceData {
        name,
        partition_data: parts.into(),
        ..TopicProduceData::default()
    }
}

/// The part that is about one partition.
pub fn part(index: i32, records: &[u8]) -> PartitionProduceData<'_> {
    PartitionProduceData {
        index,
        records: Records::Bytes(records),
    }
}

/// Produces one batch in version 9 and gives error and base offset.
pub fn put(client: &mut Client, topic: &str, partition: i32, values: &[&str]) -> (i16, i64) {
    let records = batch(values);
    let parts = [part(partition, &records)];
    let topics = [data(topic, &parts)];
    let answer = client.ask(9, &produce(&topics, -1));
    outcomes(&answer, 9)[0]
}

/// Error, timestamp and offset of each partition, which is asked for by a timestamp.
pub fn offsets(
    client: &mut Client,
    version: i16,
    topic: &str,
    asked: &[(i32, i64)],
) -> Vec<(i16, i64, i64)> {
    let partitions: Vec<_> = asked
        .iter()
        .map(|(partition_index, timestamp)| ListOffsetsPartition {
            partition_index: *partition_index,
            current_leader_epoch: -1,
            timestamp: *timestamp,
        })
        .collect();
    let topics = [ListOffsetsTopic {
        name: topic,
        partitions: partitions[..].into(),
    }];
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: topics[..].into(),
        ..ListOffsetsRequest::default()
    };
    let answer = client.ask(version, &request);
    let response: ListOffsetsResponse<'_> = answer.read(version);
    let topic = response.topics.iter().next().expect("one topic");
    topic
        .partitions
        .iter()
        .map(|p| (p.error_code, p.timestamp, p.offset))
        .collect()
}

/// Error and base offset of each partition of a produce's answer.
pub fn outcomes(answer: &Answer, version: i16) -> Vec<(i16, i64)> {
    let response: ProduceResponse<'_> = answer.read(version);
    response
        .responses
        .iter()
        .flat_map(|t| t.partition_responses.iter().collect::<Vec<_>>())
        .map(|p| (p.error_code, p.base_offset))
        .collect()
}

/// A fetch of some partitions of one topic from these offsets, without a session.
pub struct Fetching<'a> {
    pub topic: &'a str,
    pub id: Uuid,
    pub from: &'a [(i32, i64)],
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub max_wait_ms: i32,
    pub session: (i32, i32),
}

impl<'a> Fetching<'a> {
    pub fn new(topic: &'a str, from: &'a [(i32, i64)]) -> Fetching<'a> {
        Fetching {
            topic,
            id: Uuid::ZERO,
            from,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_wait_ms: 0,
            session: (0, -1),
        }
    }

    /// Builds the request and hands it to `run`.
    pub fn with<R>(&self, run: impl FnOnce(&FetchRequest<'_>) -> R) -> R {
        let partitions: Vec<FetchPartition> = self
            .from
            .iter()
            .map(|(partition, offset)| FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: self.max_bytes,
                ..FetchPartition::default()
            })
            .collect();
        let topics = [FetchTopic {
            topic: self.topic,
            topic_id: self.id,
            partitions: partitions[..].into(),
        }];
        let topics = match self.from {
            [] => Array::EMPTY,
            _ => Array::from(&topics[..]),
        };
        run(&FetchRequest {
            replica_id: -1,
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics,
            ..FetchRequest::default()
        })
    }
}

/// What a fetch's answer says of one partition.
#[derive(Debug, PartialEq)]
pub struct Fetched {
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    pub values: Vec<String>,
    pub diverging: (i32, i64),
}

/// Top-level error, session, partitions.
pub fn fetched(answer: &Answer, version: i16) -> (i16, i32, Vec<Fetched>) {
    let response: FetchResponse<'_> = answer.read(version);
    let partitions = response
        .responses
        .iter()
        .flat_map(|t| t.partitions.iter().collect::<Vec<_>>())
        .map(|p| Fetched {
            partition: p.partition_index,
            error: p.error_code,
            high_watermark: p.high_watermark,
            values: values(p.records.bytes()),
            diverging: (p.diverging_epoch.epoch, p.diverging_epoch.end_offset),
        })
        .collect();
    (response.error_code, response.session_id, partitions)
}

/// The values of all records in these batches, whose checksums must be right.
pub fn values(bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut next: Option<Offset> = None;
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        assert!(batch.verify_crc());
        assert!(
            next.is_none_or(|n| n == batch.base_offset()),
            "offsets without a gap"
        );
        next = Some(batch.next_offset());
        for record in corelane::wire::batch::records(batch.body(), batch.records_count()) {
            let value = record.unwrap().value.unwrap_or(b"");
            out.push(String::from_utf8_lossy(value).into_owned());
        }
    }
    out
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
