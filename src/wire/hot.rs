//! Produce and Fetch answers, written as they arise: the parts of an answer go into the writer one
//! by one, and nothing is collected before. The bytes are those of [`crate::wire::frame::response`].
//!
//! Counts of topics and partitions are given before their elements, since they stand first on the
//! wire.

use crate::base::ids::Uuid;
use crate::wire::api::ApiKey;
use crate::wire::array::Array;
use crate::wire::field::Wire;
use crate::wire::frame::{self, Start};
use crate::wire::messages::{NodeEndpoint, PartitionData, PartitionProduceResponse};
use crate::wire::write::Writer;

/// An answer under way.
struct Open {
    version: i16,
    flex: bool,
    start: Start,
    /// Topics and partitions announced and not written yet: a miscount would garble the stream.
    topics: usize,
    partitions: usize,
}

impl Open {
    fn new(api: ApiKey, version: i16, correlation_id: i32, w: &mut Writer<'_>) -> Open {
        let start = frame::begin(w);
        frame::response_header(api, version, correlation_id, w);
        Open {
            version,
            flex: api.is_flexible(version),
            start,
            topics: 0,
            partitions: 0,
        }
    }

    fn topics(&mut self, count: usize, w: &mut Writer<'_>) {
        self.topics = count;
        w.length(Some(count), self.flex);
    }

    fn topic(&mut self, name: &str, id: Uuid, partitions: usize, w: &mut Writer<'_>) {
        assert!(self.partitions == 0, "all partitions of the topic before");
        self.topics = self.topics.checked_sub(1).expect("topics as announced");
        self.partitions = partitions;
        // both APIs went over to ids in the same version
        if self.version >= 13 {
            w.uuid(id);
        } else {
            w.string(Some(name), self.flex);
        }
        w.length(Some(partitions), self.flex);
        self.close_topic(w);
    }

    /// The tagged fields of a topic stand behind its last partition.
    fn close_topic(&self, w: &mut Writer<'_>) {
        if self.partitions == 0 && self.flex {
            w.uvarint(0);
        }
    }

    fn partition<'a>(&mut self, partition: &impl Wire<'a>, w: &mut Writer<'_>) {
        let left = self.partitions.checked_sub(1);
        self.partitions = left.expect("partitions as announced");
        partition.put(w, self.version, self.flex);
        self.close_topic(w);
    }

    fn end(self, endpoints: &[NodeEndpoint<'_>], endpoints_from: i16, w: &mut Writer<'_>) {
        assert!(self.topics == 0 && self.partitions == 0, "all announced");
        if self.flex {
            if endpoints.is_empty() || self.version < endpoints_from {
                w.uvarint(0);
            } else {
                let list = Array::Slice(endpoints);
                w.uvarint(1);
                w.uvarint(0);
                w.uvarint(list.length(self.version, true) as u32);
                list.put(w, self.version, true);
            }
        }
        frame::end(w, self.start);
    }
}

/// An answer to Produce under way.
pub struct ProduceAnswer(Open);

impl ProduceAnswer {
    /// Begins an answer about so many topics.
    pub fn begin(version: i16, correlation_id: i32, topics: usize, w: &mut Writer<'_>) -> Self {
        let mut open = Open::new(ApiKey::Produce, version, correlation_id, w);
        open.topics(topics, w);
        ProduceAnswer(open)
    }

    /// The next topic: by its name, from version 13 by its id.
    pub fn topic(&mut self, name: &str, id: Uuid, partitions: usize, w: &mut Writer<'_>) {
        self.0.topic(name, id, partitions, w);
    }

    /// The next partition of the topic.
    pub fn partition(&mut self, partition: &PartitionProduceResponse<'_>, w: &mut Writer<'_>) {
        self.0.partition(partition, w);
    }

    /// Ends the answer; `endpoints` are the leaders that its partitions name (KIP-951).
    pub fn end(self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>], w: &mut Writer<'_>) {
        w.i32(throttle_time_ms);
        self.0.end(endpoints, 10, w);
    }
}

/// An answer to Fetch under way.
pub struct FetchAnswer(Open);

/// What stands before the topics of an answer to Fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchHead {
    /// For how long the client was throttled, in milliseconds.
    pub throttle_time_ms: i32,
    /// An error about the session or the whole request.
    pub error_code: i16,
    /// The session (KIP-227), or 0.
    pub session_id: i32,
}

impl FetchAnswer {
    /// Begins an answer about so many topics.
    pub fn begin(
        version: i16,
        correlation_id: i32,
        head: FetchHead,
        topics: usize,
        w: &mut Writer<'_>,
    ) -> Self {
        let mut open = Open::new(ApiKey::Fetch, version, correlation_id, w);
        w.i32(head.throttle_time_ms);
        if version >= 7 {
            w.i16(head.error_code);
            w.i32(head.session_id);
        }
        open.topics(topics, w);
        FetchAnswer(open)
    }

    /// The next topic: by its name, from version 13 by its id.
    pub fn topic(&mut self, name: &str, id: Uuid, partitions: usize, w: &mut Writer<'_>) {
        self.0.topic(name, id, partitions, w);
    }

    /// The next partition of the topic. Records may be a hole: its place is among the writer's.
    pub fn partition(&mut self, partition: &PartitionData<'_>, w: &mut Writer<'_>) {
        self.0.partition(partition, w);
    }

    /// Ends the answer; `endpoints` are the leaders that its partitions name (KIP-951).
    pub fn end(self, endpoints: &[NodeEndpoint<'_>], w: &mut Writer<'_>) {
        self.0.end(endpoints, 16, w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::response;
    use crate::wire::messages::{FetchResponse, ProduceResponse};
    use crate::wire::random::{Gen, Random};
    use crate::wire::records::Records;

    #[test]
    fn produce_answers_are_those_of_the_generated_encoder() {
        let mut g = Gen(1);
        for version in ApiKey::Produce.versions().unwrap() {
            for _ in 0..50 {
                let whole = ProduceResponse::random(&mut g, version);
                let mut expected = Vec::new();
                response(version, 9, &whole, &mut Writer::vec(&mut expected));

                let mut bytes = Vec::new();
                let w = &mut Writer::vec(&mut bytes);
                let mut answer = ProduceAnswer::begin(version, 9, whole.responses.len(), w);
                for topic in &whole.responses {
                    let partitions = topic.partition_responses.len();
                    answer.topic(topic.name, topic.topic_id, partitions, w);
                    for partition in &topic.partition_responses {
                        answer.partition(&partition, w);
                    }
                }
                let endpoints: Vec<_> = whole.node_endpoints.iter().collect();
                answer.end(whole.throttle_time_ms, &endpoints, w);
                assert_eq!(bytes, expected, "version {version}: {whole:?}");
            }
        }
    }

    #[test]
    fn fetch_answers_are_those_of_the_generated_encoder_and_count_their_holes() {
        let mut g = Gen(2);
        for version in ApiKey::Fetch.versions().unwrap() {
            for _ in 0..50 {
                let whole = FetchResponse::random(&mut g, version);
                let mut expected = Vec::new();
                response(version, 9, &whole, &mut Writer::vec(&mut expected));

                let mut bytes = Vec::new();
                let w = &mut Writer::vec(&mut bytes);
                let head = FetchHead {
                    throttle_time_ms: whole.throttle_time_ms,
                    error_code: whole.error_code,
                    session_id: whole.session_id,
                };
                let mut records = Vec::new();
                let mut answer = FetchAnswer::begin(version, 9, head, whole.responses.len(), w);
                for topic in &whole.responses {
                    answer.topic(topic.topic, topic.topic_id, topic.partitions.len(), w);
                    for mut partition in &topic.partitions {
                        if let Records::Bytes(data) = partition.records {
                            partition.records = Records::Hole(data.len());
                            records.extend((!data.is_empty()).then_some(data));
                        }
                        answer.partition(&partition, w);
                    }
                }
                let endpoints: Vec<_> = whole.node_endpoints.iter().collect();
                answer.end(&endpoints, w);

                let holes = w.holes().to_vec();
                assert_eq!(holes.len(), records.len());
                for (hole, data) in holes.iter().zip(records).rev() {
                    assert_eq!(hole.len, data.len());
                    bytes.splice(hole.at..hole.at, data.iter().copied());
                }
                assert_eq!(bytes, expected, "version {version}: {whole:?}");
            }
        }
    }
}
