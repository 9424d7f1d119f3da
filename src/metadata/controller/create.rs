//! CreateTopics.

use std::collections::BTreeMap;

use super::draft::{Draft, Refusal};
use crate::base::config::resolve_topic;
use crate::base::error_code::ErrorCode;
use crate::base::ids::{NodeId, TopicId, Uuid};
use crate::base::limits::{PARTITIONS_MAX, PARTITIONS_PER_REQUEST_MAX};
use crate::base::topic_name::validate_topic_name;
use crate::metadata::record::{Record, TopicRecord};

/// A topic as a client asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; -1 for the broker's default or where replicas are assigned.
    pub partitions: i32,
    /// Replicas; -1 for the broker's default or where they are assigned.
    pub replication_factor: i16,
    /// Replicas of each partition, if the client chooses them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Settings.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was made, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id; zero where it was only checked.
    pub id: TopicId,
    /// Partitions.
    pub partitions: i32,
    /// Replicas.
    pub replication_factor: i16,
    /// What it sets itself.
    pub overrides: BTreeMap<String, String>,
}

/// The answer for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub result: Result<Created, Refusal>,
}

/// The topic of Kafka's controllers, which a broker has no business in.
const CLUSTER_METADATA: &str = "__cluster_metadata";

impl Draft {
    /// Makes topics, each by itself; with `validate_only` only says what would happen. `ids` draws
    /// the ids of new topics.
    pub fn create_topics(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
        mut ids: impl FnMut() -> Uuid,
    ) -> Vec<TopicCreation> {
        if validate_only {
            // later topics of the request must see the earlier ones, and then nothing stays
            return self
                .clone()
                .create_all(topics, ids)
                .into_iter()
                .map(|mut t| {
                    if let Ok(created) = &mut t.result {
                        created.id = Uuid::ZERO;
                    }
                    t
                })
                .collect();
        }
        self.create_all(topics, &mut ids)
    }

    fn create_all(
        &mut self,
        topics: &[NewTopic],
        mut ids: impl FnMut() -> Uuid,
    ) -> Vec<TopicCreation> {
        let too_many = self.too_many_partitions(topics);
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        for topic in topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let mut out = Vec::with_capacity(times.len());
        for topic in topics {
            // answered once, at its first place
            let Some(times) = times.remove(topic.name.as_str()) else {
                continue;
            };
            let result = if times > 1 {
                Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    "Duplicate topic name.",
                ))
            } else if topic.name == CLUSTER_METADATA {
                Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!("Creation of internal topic {CLUSTER_METADATA} is prohibited."),
                ))
            } else if let Some(refusal) = &too_many {
                Err(refusal.clone())
            } else {
                self.create_one(topic, &mut ids)
            };
            out.push(TopicCreation {
                name: topic.name.clone(),
                result,
            });
        }
        out
    }

    fn too_many_partitions(&self, topics: &[NewTopic]) -> Option<Refusal> {
        let default = i64::from(self.image.broker.num_partitions);
        let asked: i64 = topics
            .iter()
            .map(|t| match (t.assignments.len(), t.partitions) {
                (0, -1) => default,
                (0, n) => i64::from(n.max(0)),
                (assigned, _) => assigned as i64,
            })
            .sum();
        let message = if asked > PARTITIONS_PER_REQUEST_MAX as i64 {
            format!("{asked} partitions in one request: at most {PARTITIONS_PER_REQUEST_MAX}")
        } else if asked + self.image.partition_count as i64 > PARTITIONS_MAX as i64 {
            format!("the cluster would have more than {PARTITIONS_MAX} partitions")
        } else {
            return None;
        };
        Some(Refusal::new(ErrorCode::PolicyViolation, message))
    }

    fn create_one(
        &mut self,
        topic: &NewTopic,
        ids: &mut impl FnMut() -> Uuid,
    ) -> Result<Created, Refusal> {
        let name = &topic.name;
        // Kafka says of an existing topic only that it exists, whatever else is wrong
        if self.image.topic(name).is_some() {
            return Err(Refusal::new(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        validate_topic_name(name)
            .map_err(|e| Refusal::new(ErrorCode::InvalidTopicException, e.to_string()))?;
        if let Some(other) = self.image.collision(name) {
            return Err(Refusal::new(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            ));
        }
        let overrides = self.overrides(topic)?;
        let partitions = if topic.assignments.is_empty() {
            self.place(topic)?
        } else {
            self.assigned(topic)?
        };
        let id = ids();
        let created = Created {
            id,
            partitions: partitions.len() as i32,
            replication_factor: partitions.first().map_or(0, Vec::len) as i16,
            overrides: overrides.clone(),
        };
        self.change(Record::Topic(TopicRecord {
            id,
            name: name.clone(),
            ordinal: self.image.partitions_made,
            configs: overrides.into_iter().collect(),
            partitions,
        }));
        Ok(created)
    }

    fn overrides(&self, topic: &NewTopic) -> Result<BTreeMap<String, String>, Refusal> {
        if topic.configs.is_empty() {
            return Ok(BTreeMap::new());
        }
        let invalid = |message| Refusal::new(ErrorCode::InvalidConfig, message);
        let mut overrides = BTreeMap::new();
        for (name, value) in &topic.configs {
            let Some(value) = value else {
                return Err(invalid(format!(
                    "Null value not supported for topic configs: {name}"
                )));
            };
            overrides.insert(name.clone(), value.clone());
        }
        resolve_topic(&self.image.broker, &overrides).map_err(|e| invalid(e.to_string()))?;
        Ok(overrides)
    }

    fn place(&self, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let broker = &self.image.broker;
        let replicas = match topic.replication_factor {
            -1 => broker.default_replication_factor,
            n if n <= 0 => {
                return Err(Refusal::new(
                    ErrorCode::InvalidReplicationFactor,
                    "Replication factor must be larger than 0, or -1 to use the default value.",
                ));
            }
            n => n,
        };
        let partitions = match topic.partitions {
            -1 => broker.num_partitions,
            n if n <= 0 => {
                return Err(Refusal::new(
                    ErrorCode::InvalidPartitions,
                    "Number of partitions was set to an invalid non-positive value.",
                ));
            }
            n => n,
        };
        let nodes = &self.nodes;
        if replicas as usize > nodes.len() {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {replicas} time(s): The target replication \
                     factor of {replicas} cannot be reached because only {} broker(s) are \
                     registered.",
                    nodes.len()
                ),
            ));
        }
        let start = self.image.partitions_made as usize;
        Ok((0..partitions as usize)
            .map(|p| {
                (0..replicas as usize)
                    .map(|r| nodes[(start + p + r) % nodes.len()])
                    .collect()
            })
            .collect())
    }

    fn assigned(&self, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let both = |what| {
            Refusal::new(
                ErrorCode::InvalidRequest,
                format!(
                    "A manual partition assignment was specified, but {what} was not set to -1."
                ),
            )
        };
        if topic.replication_factor != -1 {
            return Err(both("replication factor"));
        }
        if topic.partitions != -1 {
            return Err(both("numPartitions"));
        }
        let invalid = |message| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
        let mut by_id: BTreeMap<i32, Vec<NodeId>> = BTreeMap::new();
        let mut first_len = None;
        for (partition, brokers) in &topic.assignments {
            if by_id.contains_key(partition) {
                return Err(invalid(format!(
                    "Found multiple manual partition assignments for partition {partition}"
                )));
            }
            let replicas = self.check_assignment(brokers).map_err(invalid)?;
            let expected = *first_len.get_or_insert(replicas.len());
            if replicas.len() != expected {
                return Err(invalid(format!(
                    "The manual partition assignment includes a partition with {} replica(s), \
                     but previous partitions have {expected} replica(s).",
                    replicas.len()
                )));
            }
            by_id.insert(*partition, replicas);
        }
        if !by_id.keys().copied().eq(0..by_id.len() as i32) {
            return Err(invalid(
                "partitions should be a consecutive 0-based integer sequence".to_owned(),
            ));
        }
        Ok(by_id.into_values().collect())
    }

    fn check_assignment(&self, brokers: &[i32]) -> Result<Vec<NodeId>, String> {
        if brokers.is_empty() {
            return Err("The manual partition assignment includes an empty replica list.".into());
        }
        let mut out: Vec<NodeId> = Vec::with_capacity(brokers.len());
        for broker in brokers.iter().copied().map(NodeId) {
            if !self.nodes.contains(&broker) {
                return Err(format!(
                    "The manual partition assignment includes broker {broker}, \
                     but no such broker is registered."
                ));
            }
            if out.contains(&broker) {
                return Err(format!(
                    "The manual partition assignment includes the broker {broker} more than once."
                ));
            }
            out.push(broker);
        }
        Ok(out)
    }
}
