//! The records of the metadata log: our own, versioned one by one.
//!
//! A record is its kind and version (16 bits each), the length of its body (32 bits) and the body.
//! A kind or a version that is not known was written by a newer release: it is refused, never
//! skipped, because what it changed would be missing.

use super::bytes::{BadBytes, Input, put_count, put_text};
use crate::base::ids::{NodeId, TopicId, Uuid};

/// One change of what the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Which cluster this is; the first record.
    Cluster {
        /// As clients are told.
        cluster_id: String,
    },
    /// A topic and its partitions came to be.
    Topic(TopicRecord),
    /// A topic went, with its partitions.
    TopicRemoved {
        /// Which.
        id: TopicId,
    },
    /// A topic's own setting changed.
    TopicConfig {
        /// Of which topic.
        id: TopicId,
        /// Name of the property.
        name: String,
        /// Its new value; `None` takes it away.
        value: Option<String>,
    },
    /// Producer ids below this one are given away.
    ProducerIds {
        /// The first one that is free.
        next: i64,
    },
    /// So many partitions were made, those of deleted topics included; only in snapshots.
    PartitionsMade {
        /// How many.
        count: u64,
    },
}

/// A new topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions had been made before: what spreads partitions over shards.
    pub ordinal: u64,
    /// What it sets itself, by name.
    pub configs: Vec<(String, String)>,
    /// Replicas of each partition, the preferred leader first.
    pub partitions: Vec<Vec<NodeId>>,
}

/// A record that this release cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// From a newer release.
    #[error("record kind {kind} version {version} is not known: a newer release wrote it")]
    Newer {
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u16,
    },
    /// Not what this release writes.
    #[error("record is malformed {0}")]
    Malformed(#[from] BadBytes),
}

const CLUSTER: u16 = 1;
const TOPIC: u16 = 2;
const TOPIC_REMOVED: u16 = 3;
const TOPIC_CONFIG: u16 = 4;
const PRODUCER_IDS: u16 = 5;
const PARTITIONS_MADE: u16 = 6;

/// Every kind is at its first version.
const VERSION: u16 = 0;

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Record::Cluster { .. } => CLUSTER,
            Record::Topic(_) => TOPIC,
            Record::TopicRemoved { .. } => TOPIC_REMOVED,
            Record::TopicConfig { .. } => TOPIC_CONFIG,
            Record::ProducerIds { .. } => PRODUCER_IDS,
            Record::PartitionsMade { .. } => PARTITIONS_MADE,
        }
    }

    /// True if shards must learn of it: topics came, went or changed.
    pub fn changes_topics(&self) -> bool {
        matches!(
            self,
            Record::Topic(_) | Record::TopicRemoved { .. } | Record::TopicConfig { .. }
        )
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind().to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        let body_at = out.len();
        match self {
            Record::Cluster { cluster_id } => put_text(out, cluster_id),
            Record::Topic(topic) => {
                out.extend_from_slice(&topic.id.0);
                put_text(out, &topic.name);
                out.extend_from_slice(&topic.ordinal.to_be_bytes());
                put_count(out, topic.configs.len());
                for (name, value) in &topic.configs {
                    put_text(out, name);
                    put_text(out, value);
                }
                put_count(out, topic.partitions.len());
                for replicas in &topic.partitions {
                    put_count(out, replicas.len());
                    for node in replicas {
                        out.extend_from_slice(&node.0.to_be_bytes());
                    }
                }
            }
            Record::TopicRemoved { id } => out.extend_from_slice(&id.0),
            Record::TopicConfig { id, name, value } => {
                out.extend_from_slice(&id.0);
                put_text(out, name);
                put_count(out, usize::from(value.is_some()));
                if let Some(value) = value {
                    put_text(out, value);
                }
            }
            Record::ProducerIds { next } => out.extend_from_slice(&next.to_be_bytes()),
            Record::PartitionsMade { count } => out.extend_from_slice(&count.to_be_bytes()),
        }
        let length = u32::try_from(out.len() - body_at).expect("records are below 4 GiB");
        out[length_at..body_at].copy_from_slice(&length.to_be_bytes());
    }

    /// Takes one record off the front.
    ///
    /// # Errors
    /// For records of a newer release and for malformed ones.
    pub fn decode(input: &mut Input<'_>) -> Result<Record, RecordError> {
        let (kind, version) = (input.u16()?, input.u16()?);
        let length = input.count(1)?;
        let mut body = Input::new(input.take(length)?);
        if version != VERSION {
            return Err(RecordError::Newer { kind, version });
        }
        let record = match kind {
            CLUSTER => Record::Cluster {
                cluster_id: body.text()?.to_owned(),
            },
            TOPIC => Record::Topic(decode_topic(&mut body)?),
            TOPIC_REMOVED => Record::TopicRemoved {
                id: Uuid(body.id()?),
            },
            TOPIC_CONFIG => Record::TopicConfig {
                id: Uuid(body.id()?),
                name: body.text()?.to_owned(),
                value: match body.count(1)? {
                    0 => None,
                    _ => Some(body.text()?.to_owned()),
                },
            },
            PRODUCER_IDS => Record::ProducerIds { next: body.i64()? },
            PARTITIONS_MADE => Record::PartitionsMade { count: body.u64()? },
            _ => return Err(RecordError::Newer { kind, version }),
        };
        if body.remaining() > 0 {
            return Err(body.error("bytes behind the last field").into());
        }
        Ok(record)
    }
}

fn decode_topic(body: &mut Input<'_>) -> Result<TopicRecord, BadBytes> {
    let id = Uuid(body.id()?);
    let name = body.text()?.to_owned();
    let ordinal = body.u64()?;
    let mut configs = Vec::with_capacity(body.count(8)?);
    for _ in 0..configs.capacity() {
        configs.push((body.text()?.to_owned(), body.text()?.to_owned()));
    }
    let count = body.count(4)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let replicas = body.count(4)?;
        partitions.push(
            (0..replicas)
                .map(|_| body.i32().map(NodeId))
                .collect::<Result<_, _>>()?,
        );
    }
    Ok(TopicRecord {
        id,
        name,
        ordinal,
        configs,
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn samples() -> Vec<Record> {
        let id = Uuid::from_random(1, 2);
        vec![
            Record::Cluster {
                cluster_id: "abc".to_owned(),
            },
            Record::Topic(TopicRecord {
                id,
                name: "t".to_owned(),
                ordinal: 9,
                configs: vec![("retention.ms".to_owned(), "5".to_owned())],
                partitions: vec![vec![NodeId(1)], vec![NodeId(1), NodeId(2)]],
            }),
            Record::TopicConfig {
                id,
                name: "a".to_owned(),
                value: None,
            },
            Record::TopicConfig {
                id,
                name: "a".to_owned(),
                value: Some(String::new()),
            },
            Record::ProducerIds { next: 1000 },
            Record::PartitionsMade { count: 11 },
            Record::TopicRemoved { id },
        ]
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        for record in samples() {
            record.encode(&mut bytes);
        }
        let mut input = Input::new(&bytes);
        for record in samples() {
            assert_eq!(Record::decode(&mut input), Ok(record));
        }
        assert_eq!(input.remaining(), 0);
    }

    #[test]
    fn records_of_newer_releases_are_refused_not_skipped() {
        let mut bytes = Vec::new();
        Record::ProducerIds { next: 1 }.encode(&mut bytes);
        bytes[3] = 1;
        let error = Record::decode(&mut Input::new(&bytes)).unwrap_err();
        assert_eq!(
            error,
            RecordError::Newer {
                kind: 5,
                version: 1
            }
        );
        bytes[3] = 0;
        bytes[1] = 200;
        assert!(matches!(
            Record::decode(&mut Input::new(&bytes)),
            Err(RecordError::Newer { kind: 200, .. })
        ));
    }

    #[test]
    fn cut_and_flipped_bytes_never_panic() {
        let mut bytes = Vec::new();
        samples()[1].encode(&mut bytes);
        for end in 0..bytes.len() {
            assert!(Record::decode(&mut Input::new(&bytes[..end])).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut hurt = bytes.clone();
                hurt[at] ^= 1 << bit;
                let _ = Record::decode(&mut Input::new(&hurt));
            }
        }
    }
}
