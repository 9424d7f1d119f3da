//! As much of Kafka's protocol as a load that produces asks for: topics by name, where each partition
//! ends, one node.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use corelane::base::error_code::ErrorCode;
use corelane::wire::api::ApiKey;
use corelane::wire::array::Array;
use corelane::wire::batch::batches;
use corelane::wire::frame::{self, RequestHeader};
use corelane::wire::message::Message;
use corelane::wire::messages::*;
use corelane::wire::write::Writer;

/// What clients are told. Loads that only produce want to know of Fetch too.
const SERVED: [(ApiKey, i16, i16); 8] = [
    (ApiKey::Produce, 9, 12),
    (ApiKey::Fetch, 12, 12),
    (ApiKey::ListOffsets, 8, 8),
    (ApiKey::Metadata, 12, 12),
    (ApiKey::ApiVersions, 0, NEWEST),
    (ApiKey::CreateTopics, 7, 7),
    (ApiKey::DeleteTopics, 6, 6),
    (ApiKey::InitProducerId, 4, 4),
];
/// Of ApiVersions.
const NEWEST: i16 = 4;
const NODE: i32 = 1;

/// What is known of the topics: the end of each of their partitions.
pub struct Topics {
    address: SocketAddr,
    ends: BTreeMap<String, Vec<i64>>,
    producers: i64,
}

impl Topics {
    pub fn new(address: SocketAddr) -> Topics {
        Topics {
            address,
            ends: BTreeMap::new(),
            producers: 0,
        }
    }

    /// Appends the answer to a request, given without its length; true where it brought records.
    pub fn answer(&mut self, request: &[u8], answers: &mut Vec<u8>) -> anyhow::Result<bool> {
        let (header, mut body) = frame::request_header(request)?;
        let mut to = Answer { header, answers };
        let version = header.api_version;
        match header.api_key {
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut body, version)?;
                self.produce(&request, &mut to)?;
                return Ok(true);
            }
            ApiKey::ApiVersions => versions(&mut to),
            ApiKey::Metadata => self.metadata(&Message::decode(&mut body, version)?, &mut to),
            ApiKey::ListOffsets => self.offsets(&Message::decode(&mut body, version)?, &mut to),
            ApiKey::CreateTopics => self.create(&Message::decode(&mut body, version)?, &mut to),
            ApiKey::DeleteTopics => self.delete(&Message::decode(&mut body, version)?, &mut to),
            ApiKey::InitProducerId => {
                self.producers += 1;
                to.put(&InitProducerIdResponse {
                    producer_id: self.producers,
                    ..Default::default()
                });
            }
            other => bail!("{other} is not served"),
        }
        Ok(false)
    }

    fn produce(&mut self, request: &ProduceRequest<'_>, to: &mut Answer<'_>) -> anyhow::Result<()> {
        let mut responses = Vec::new();
        for topic in request.topic_data.iter() {
            let ends = self.ends.get_mut(topic.name);
            let ends = ends.with_context(|| format!("topic {} is not known", topic.name))?;
            let mut answered = Vec::new();
            for partition in topic.partition_data.iter() {
                let end = ends.get_mut(partition.index as usize);
                let end = end.with_context(|| format!("no partition {}", partition.index))?;
                answered.push(PartitionProduceResponse {
                    index: partition.index,
                    base_offset: *end,
                    log_start_offset: 0,
                    ..Default::default()
                });
                for batch in batches(partition.records.bytes()) {
                    *end += i64::from(batch?.records_count());
                }
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                partition_responses: Array::Owned(answered),
                ..Default::default()
            });
        }
        if request.acks != 0 {
            to.put(&ProduceResponse {
                responses: Array::Owned(responses),
                ..Default::default()
            });
        }
        Ok(())
    }

    fn metadata(&mut self, request: &MetadataRequest<'_>, to: &mut Answer<'_>) {
        let mut topics = Vec::new();
        for name in request.topics.iter().filter_map(|asked| asked.name) {
            if request.allow_auto_topic_creation && !self.ends.contains_key(name) {
                self.ends.insert(name.to_owned(), vec![0]);
            }
            let partition = |partition_index| MetadataResponsePartition {
                partition_index,
                leader_id: NODE,
                leader_epoch: 0,
                replica_nodes: Array::Slice(&[NODE]),
                isr_nodes: Array::Slice(&[NODE]),
                ..Default::default()
            };
            let ends = self.ends.get(name);
            topics.push(MetadataResponseTopic {
                error_code: known(ends.is_some()),
                name: Some(name),
                partitions: (0..ends.map_or(0, Vec::len) as i32)
                    .map(partition)
                    .collect(),
                ..Default::default()
            });
        }
        let host = self.address.ip().to_string();
        let node = MetadataResponseBroker {
            node_id: NODE,
            host: &host,
            port: i32::from(self.address.port()),
            ..Default::default()
        };
        to.put(&MetadataResponse {
            brokers: Array::Slice(&[node]),
            controller_id: NODE,
            topics: Array::Owned(topics),
            ..Default::default()
        });
    }

    fn offsets(&self, request: &ListOffsetsRequest<'_>, to: &mut Answer<'_>) {
        let mut topics = Vec::new();
        for topic in request.topics.iter() {
            let ends = self.ends.get(topic.name);
            let mut partitions = Vec::new();
            for asked in topic.partitions.iter() {
                let end = ends.and_then(|ends| ends.get(asked.partition_index as usize));
                partitions.push(ListOffsetsPartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: known(end.is_some()),
                    offset: end.copied().unwrap_or(-1),
                    ..Default::default()
                });
            }
            topics.push(ListOffsetsTopicResponse {
                name: topic.name,
                partitions: Array::Owned(partitions),
            });
        }
        to.put(&ListOffsetsResponse {
            topics: Array::Owned(topics),
            ..Default::default()
        });
    }

    fn create(&mut self, request: &CreateTopicsRequest<'_>, to: &mut Answer<'_>) {
        let mut made = Vec::new();
        for topic in request.topics.iter() {
            let partitions = topic.num_partitions.max(1);
            let ends = vec![0; partitions as usize];
            self.ends.insert(topic.name.to_owned(), ends);
            made.push(CreatableTopicResult {
                name: topic.name,
                num_partitions: partitions,
                replication_factor: 1,
                ..Default::default()
            });
        }
        to.put(&CreateTopicsResponse {
            topics: Array::Owned(made),
            ..Default::default()
        });
    }

    fn delete(&mut self, request: &DeleteTopicsRequest<'_>, to: &mut Answer<'_>) {
        let mut deleted = Vec::new();
        for topic in request.topics.iter() {
            let ends = topic.name.and_then(|name| self.ends.remove(name));
            deleted.push(DeletableTopicResult {
                name: topic.name,
                error_code: known(ends.is_some()),
                ..Default::default()
            });
        }
        to.put(&DeleteTopicsResponse {
            responses: Array::Owned(deleted),
            ..Default::default()
        });
    }
}

/// An error where something is not.
fn known(is: bool) -> i16 {
    match is {
        true => ErrorCode::None.code(),
        false => ErrorCode::UnknownTopicOrPartition.code(),
    }
}

fn versions(to: &mut Answer<'_>) {
    let mut error = ErrorCode::None;
    if to.header.api_version > NEWEST {
        // told in the oldest version, which every client reads
        error = ErrorCode::UnsupportedVersion;
        to.header.api_version = 0;
    }
    let range = |(key, min_version, max_version): (ApiKey, _, _)| ApiVersion {
        api_key: key.code(),
        min_version,
        max_version,
    };
    let answer = ApiVersionsResponse {
        error_code: error.code(),
        api_keys: SERVED.into_iter().map(range).collect(),
        ..Default::default()
    };
    to.put(&answer);
}

struct Answer<'a> {
    header: RequestHeader<'a>,
    answers: &'a mut Vec<u8>,
}

impl Answer<'_> {
    fn put<'m, M: Message<'m>>(&mut self, message: &M) {
        let (version, id) = (self.header.api_version, self.header.correlation_id);
        frame::response(version, id, message, &mut Writer::vec(self.answers));
    }
}
