//! Frames of the Kafka protocol for the load, made once and sent again and again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::base::time::Timestamp;
use crate::wire::batch::BatchBuilder;
use crate::wire::compress::Codec;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::messages::*;
use crate::wire::records::Records;
use crate::wire::write::Writer;

use crate::cli::rig::load::Traffic;

/// The topic that frames are for.
pub const TOPIC: &str = "bench";
const PRODUCE: i16 = 11;
const FETCH: i16 = 12;

/// A request's frame, length included.
pub fn request<'a, M: Message<'a>>(version: i16, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::request(
        version,
        7,
        Some("bench"),
        message,
        &mut Writer::vec(&mut bytes),
    );
    bytes
}

/// Sends a request and waits for its answer's bytes, header included.
pub fn call(socket: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(request)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer)?;
    Ok(answer)
}

/// What an answer's bytes say.
pub fn decode<'a, M: Message<'a>>(answer: &'a [u8], version: i16) -> io::Result<M> {
    let header = frame::read_response_header(answer, M::API, version);
    let (_, mut body) = header.map_err(io::Error::other)?;
    M::decode(&mut body, version).map_err(io::Error::other)
}

/// No topics take longer to make.
const CREATION: Duration = Duration::from_secs(120);

/// Makes topics of so many partitions each; the answer means that they serve.
pub fn create_topics(addr: SocketAddr, topics: &[(&str, i32)]) -> io::Result<()> {
    let request = request(
        5,
        &CreateTopicsRequest {
            topics: topics
                .iter()
                .map(|(name, partitions)| CreatableTopic {
                    name,
                    num_partitions: *partitions,
                    replication_factor: 1,
                    ..Default::default()
                })
                .collect::<Vec<_>>()
                .into(),
            timeout_ms: 60_000,
            ..Default::default()
        },
    );
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(CREATION))?;
    let answer = call(&mut socket, &request)?;
    let decoded: CreateTopicsResponse<'_> = decode(&answer, 5)?;
    match decoded.topics.iter().find(|t| t.error_code != 0) {
        None => Ok(()),
        Some(t) => Err(io::Error::other(format!(
            "{}: error {}",
            t.name, t.error_code
        ))),
    }
}

/// Which lane leads each partition of the topic, as a client that is shown lanes sees it.
pub fn leaders(addr: SocketAddr) -> io::Result<Vec<i32>> {
    let mut socket = TcpStream::connect(addr)?;
    introduce(&mut socket)?;
    let request = request(
        9,
        &MetadataRequest {
            topics: vec![MetadataRequestTopic {
                name: Some(TOPIC),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        },
    );
    let answer = call(&mut socket, &request)?;
    let decoded: MetadataResponse<'_> = decode(&answer, 9)?;
    let mut found = Vec::new();
    for topic in decoded.topics.iter() {
        for p in topic.partitions.iter() {
            found.push((p.partition_index, p.leader_id));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, leader)| leader).collect())
}

/// Says to be a client that is shown lanes.
pub fn introduce(socket: &mut TcpStream) -> io::Result<()> {
    let request = request(
        3,
        &ApiVersionsRequest {
            client_software_name: "apache-kafka-java",
            client_software_version: "4.3.1",
            ..Default::default()
        },
    );
    call(socket, &request).map(drop)
}

/// A batch of `records` records of `record_bytes` payload each.
pub fn batch(records: usize, record_bytes: usize) -> Vec<u8> {
    // payload that does not repeat, so that nothing on the way can cheat
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..records {
        let value: Vec<u8> = (0..record_bytes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        builder.append(Timestamp(i as i64), None, Some(&value), &[]);
    }
    builder.build().expect("nothing is compressed")
}

/// Produces the same batch again and again; each connection to its own partitions in turn.
pub struct Produce {
    frames: Vec<Vec<Vec<u8>>>,
    turn: Vec<usize>,
}

impl Produce {
    /// `partitions[c]` are those of connection `c`.
    pub fn new(batch: &[u8], acks: i16, partitions: &[Vec<i32>]) -> Produce {
        let frames = partitions
            .iter()
            .map(|own| own.iter().map(|p| produce_frame(batch, acks, *p)).collect())
            .collect();
        Produce {
            frames,
            turn: vec![0; partitions.len()],
        }
    }

    /// So many connections, partitions dealt round robin.
    pub fn spread(batch: &[u8], connections: usize, partitions: i32) -> Produce {
        let own = (0..connections as i32)
            .map(|c| {
                let own: Vec<i32> = (0..partitions)
                    .filter(|p| p % connections as i32 == c)
                    .collect();
                if own.is_empty() {
                    vec![c % partitions]
                } else {
                    own
                }
            })
            .collect::<Vec<_>>();
        Produce::new(batch, -1, &own)
    }
}

fn produce_frame(batch: &[u8], acks: i16, partition: i32) -> Vec<u8> {
    request(
        PRODUCE,
        &ProduceRequest {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: TOPIC,
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Records::Bytes(batch),
                }]
                .into(),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        },
    )
}

impl Traffic for Produce {
    fn frame(&mut self, connection: usize) -> &[u8] {
        let frames = &self.frames[connection];
        let turn = &mut self.turn[connection];
        *turn = (*turn + 1) % frames.len();
        &frames[*turn]
    }

    fn answer(&mut self, _: usize, head: &[u8], _: usize) -> Result<(), String> {
        let answer: ProduceResponse<'_> = decode(head, PRODUCE).map_err(|e| e.to_string())?;
        for topic in answer.responses.iter() {
            for p in topic.partition_responses.iter() {
                if p.error_code != 0 {
                    return Err(format!("produce answered error {}", p.error_code));
                }
            }
        }
        Ok(())
    }
}

/// Reads each connection's partition from the front, over and over; `bytes` at most an answer.
pub struct Fetch {
    bytes: i32,
    records: i64,
    end: i64,
    next: Vec<i64>,
    frame: Vec<u8>,
    template: Vec<(Vec<u8>, usize)>,
}

impl Fetch {
    /// `records` a batch; partitions hold `end` records.
    pub fn new(connections: usize, bytes: i32, records: i64, end: i64) -> Fetch {
        let template = (0..connections)
            .map(|c| {
                let mark = 0x0123_4567_89ab_cdefi64;
                let frame = fetch_frame(c as i32, mark, bytes);
                let at = frame
                    .windows(8)
                    .position(|w| w == mark.to_be_bytes())
                    .expect("the offset stands in the frame");
                (frame, at)
            })
            .collect();
        Fetch {
            bytes,
            records,
            end,
            next: vec![0; connections],
            frame: Vec::new(),
            template,
        }
    }
}

fn fetch_frame(partition: i32, offset: i64, bytes: i32) -> Vec<u8> {
    request(
        FETCH,
        &FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: bytes,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: TOPIC,
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: bytes,
                    ..Default::default()
                }]
                .into(),
                ..Default::default()
            }]
            .into(),
            ..Default::default()
        },
    )
}

impl Traffic for Fetch {
    fn frame(&mut self, connection: usize) -> &[u8] {
        let (template, at) = &self.template[connection];
        self.frame.clear();
        self.frame.extend_from_slice(template);
        let offset = self.next[connection];
        self.frame[*at..*at + 8].copy_from_slice(&offset.to_be_bytes());
        &self.frame
    }

    fn answer(&mut self, connection: usize, head: &[u8], length: usize) -> Result<(), String> {
        // correlation id, tags, throttle time, error code
        if head.get(9..11) != Some(&[0, 0][..]) {
            return Err("fetch answered an error".into());
        }
        if length < self.bytes as usize / 2 {
            return Err(format!("fetch answered {length} bytes of {}", self.bytes));
        }
        let batches = (length as i64 / (self.bytes as i64)).max(1);
        let next = self.next[connection] + self.records * batches;
        self.next[connection] = if next >= self.end { 0 } else { next };
        Ok(())
    }
}

/// Frames for the floor programs: the same bytes without their protocol.
pub struct Plain {
    frame: Vec<u8>,
    /// Where a read's offset stands, and the step and end of it.
    walk: Option<(u64, u64)>,
    next: Vec<u64>,
}

impl Plain {
    /// Frames of the same length as a produce request that carries `batch`.
    pub fn of_batch(batch: &[u8], connections: usize) -> Plain {
        let frame = produce_frame(batch, -1, 0);
        Plain {
            frame,
            walk: None,
            next: vec![0; connections],
        }
    }

    /// Reads of `bytes` at rising offsets of a file of `file_bytes`.
    pub fn reads(bytes: u32, file_bytes: u64, connections: usize) -> Plain {
        let mut frame = 12u32.to_be_bytes().to_vec();
        frame.extend_from_slice(&0u64.to_be_bytes());
        frame.extend_from_slice(&bytes.to_be_bytes());
        let next = (0..connections as u64)
            .map(|c| file_bytes / connections as u64 * c / u64::from(bytes) * u64::from(bytes))
            .collect();
        Plain {
            frame,
            walk: Some((u64::from(bytes), file_bytes)),
            next,
        }
    }
}

impl Traffic for Plain {
    fn frame(&mut self, connection: usize) -> &[u8] {
        if let Some((step, end)) = self.walk {
            let at = self.next[connection];
            self.frame[4..12].copy_from_slice(&at.to_be_bytes());
            self.next[connection] = if at + 2 * step > end { 0 } else { at + step };
        }
        &self.frame
    }

    fn answer(&mut self, _: usize, _: &[u8], _: usize) -> Result<(), String> {
        Ok(())
    }
}
