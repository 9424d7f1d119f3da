//! Decoding and encoding of the messages that clients send all the time, in the versions that
//! Kafka's clients of 4.x use. Requests are decoded and walked; answers are encoded.

use std::hint::black_box;

use corelane::base::ids::Uuid;
use corelane::wire::frame;
use corelane::wire::message::Message;
use corelane::wire::messages::*;
use corelane::wire::records::Records;
use corelane::wire::write::Writer;

use crate::Path;
use crate::counted::counted;

pub const PATHS: &[Path] = &[
    ("decode Produce, 1 partition", || decode_produce(1)),
    ("decode Produce, 16 partitions", || decode_produce(16)),
    ("decode Fetch, 16 partitions", decode_fetch),
    ("decode Metadata, 16 topics", decode_metadata),
    ("encode Produce, 16 partitions", encode_produce),
    ("encode Fetch, 16 partitions", encode_fetch),
    ("encode Metadata, 16 topics", encode_metadata),
];

const PRODUCE: i16 = 13;
const FETCH: i16 = 17;
const METADATA: i16 = 13;
const OPERATIONS: u64 = 1000;
const TOPIC: Uuid = Uuid([7; 16]);
const BATCH: [u8; 200] = [3; 200];

fn request<'a, M: Message<'a>>(version: i16, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::vec(&mut bytes);
    frame::request(version, 7, Some("producer-1"), message, &mut writer);
    bytes.split_off(4)
}

/// Decodes the frame again and again; `walk` looks at all that is in it.
fn decode<'a, M: Message<'a>>(frame: &'a [u8], walk: impl Fn(M)) -> u64 {
    counted(&mut || {
        for _ in 0..OPERATIONS {
            let (header, mut body) =
                frame::request_header(black_box(frame)).expect("it was encoded here");
            walk(M::decode(&mut body, header.api_version).expect("it was encoded here"));
        }
    });
    OPERATIONS
}

fn encode<'a, M: Message<'a>>(version: i16, message: &M) -> u64 {
    let mut bytes = vec![0; frame::response_size(version, message)];
    counted(&mut || {
        for _ in 0..OPERATIONS {
            let mut writer = Writer::slice(&mut bytes);
            frame::response(version, 7, black_box(message), &mut writer);
            black_box(writer.len());
        }
    });
    OPERATIONS
}

fn decode_produce(partitions: i32) -> u64 {
    let parts: Vec<_> = (0..partitions)
        .map(|index| PartitionProduceData {
            index,
            records: Records::Bytes(&BATCH),
        })
        .collect();
    let topics = [TopicProduceData {
        topic_id: TOPIC,
        partition_data: parts[..].into(),
        ..Default::default()
    }];
    let frame = request(
        PRODUCE,
        &ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: topics[..].into(),
            ..Default::default()
        },
    );
    decode(&frame, |request: ProduceRequest<'_>| {
        for topic in request.topic_data.iter() {
            for part in topic.partition_data.iter() {
                black_box(part.records.bytes());
            }
        }
    })
}

fn decode_fetch() -> u64 {
    let parts: Vec<_> = (0..16)
        .map(|partition| FetchPartition {
            partition,
            fetch_offset: 1_000_000,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        })
        .collect();
    let topics = [FetchTopic {
        topic_id: TOPIC,
        partitions: parts[..].into(),
        ..Default::default()
    }];
    let frame = request(
        FETCH,
        &FetchRequest {
            max_wait_ms: 500,
            topics: topics[..].into(),
            ..Default::default()
        },
    );
    decode(&frame, |request: FetchRequest<'_>| {
        for topic in request.topics.iter() {
            for part in topic.partitions.iter() {
                black_box(part.fetch_offset);
            }
        }
    })
}

fn names() -> Vec<String> {
    (0..16).map(|n| format!("topic-{n}")).collect()
}

fn decode_metadata() -> u64 {
    let names = names();
    let topics: Vec<_> = names
        .iter()
        .map(|name| MetadataRequestTopic {
            name: Some(name),
            ..Default::default()
        })
        .collect();
    let frame = request(
        METADATA,
        &MetadataRequest {
            topics: topics[..].into(),
            ..Default::default()
        },
    );
    decode(&frame, |request: MetadataRequest<'_>| {
        for topic in request.topics.iter() {
            black_box(topic.name);
        }
    })
}

fn encode_produce() -> u64 {
    let parts: Vec<_> = (0..16)
        .map(|index| PartitionProduceResponse {
            index,
            base_offset: 1_000_000,
            ..Default::default()
        })
        .collect();
    let topics = [TopicProduceResponse {
        topic_id: TOPIC,
        partition_responses: parts[..].into(),
        ..Default::default()
    }];
    let answer = ProduceResponse {
        responses: topics[..].into(),
        ..Default::default()
    };
    encode(PRODUCE, &answer)
}

/// Batches are sent from where they lie: a hole stands for them.
fn encode_fetch() -> u64 {
    let parts: Vec<_> = (0..16)
        .map(|partition_index| PartitionData {
            partition_index,
            high_watermark: 1_000_000,
            records: Records::Hole(65_536),
            ..Default::default()
        })
        .collect();
    let topics = [FetchableTopicResponse {
        topic_id: TOPIC,
        partitions: parts[..].into(),
        ..Default::default()
    }];
    let answer = FetchResponse {
        responses: topics[..].into(),
        ..Default::default()
    };
    encode(FETCH, &answer)
}

fn encode_metadata() -> u64 {
    let names = names();
    let nodes = [1];
    let parts: Vec<_> = (0..4)
        .map(|partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            replica_nodes: nodes[..].into(),
            isr_nodes: nodes[..].into(),
            ..Default::default()
        })
        .collect();
    let topics: Vec<_> = names
        .iter()
        .map(|name| MetadataResponseTopic {
            name: Some(name),
            topic_id: TOPIC,
            partitions: parts[..].into(),
            ..Default::default()
        })
        .collect();
    let brokers = [MetadataResponseBroker {
        node_id: 1,
        host: "localhost",
        port: 9092,
        rack: None,
    }];
    let answer = MetadataResponse {
        brokers: brokers[..].into(),
        cluster_id: Some("a-cluster-of-one-node"),
        topics: topics[..].into(),
        ..Default::default()
    };
    encode(METADATA, &answer)
}
