//! The only place that changes an image. Replaying the log and committing a change go through it
//! alike, so both give the same image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{Image, Partition, Topic, metric_name};
use super::record::{Record, TopicRecord};
use crate::base::config::{BrokerConfig, TopicConfig, resolve_topic};
use crate::base::ids::{LeaderEpoch, NodeId, TopicId};
use crate::base::limits::STORED_NUMBER_MAX;
use crate::base::topic_name::{InvalidName, validate_topic_name};

/// A record that does not fit the image: the log is not what a controller wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A topic that exists is made again.
    #[error("topic {0} is made a second time")]
    TopicExists(String),
    /// A record about a topic that does not exist.
    #[error("topic id {0} does not exist")]
    NoTopic(TopicId),
    /// The cluster's id changes.
    #[error("cluster id {0} becomes {1}")]
    ClusterChanges(String, String),
    /// A name that no topic can have.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// More partitions than any cluster made.
    #[error("{0} partitions were never made")]
    Count(u64),
}

/// Changes `image` by one record.
///
/// # Errors
/// If the record does not fit; the image is then as before.
pub fn apply(image: &mut Image, record: &Record) -> Result<(), ApplyError> {
    match record {
        Record::Cluster { cluster_id } => {
            if !image.cluster_id.is_empty() && *image.cluster_id != **cluster_id {
                return Err(ApplyError::ClusterChanges(
                    image.cluster_id.to_string(),
                    cluster_id.clone(),
                ));
            }
            image.cluster_id = Arc::from(cluster_id.as_str());
        }
        Record::Topic(record) => make_topic(image, record)?,
        Record::TopicRemoved { id } => {
            let topic = image.by_id.remove(id).ok_or(ApplyError::NoTopic(*id))?;
            image.by_name.remove(&topic.name);
            image.partition_count -= topic.partitions.len();
            if let Some(name) = metric_name(&topic.name) {
                image.by_metric_name.remove(&name);
            }
        }
        Record::TopicConfig { id, name, value } => {
            let topic = image.by_id.get(id).ok_or(ApplyError::NoTopic(*id))?;
            let mut topic = Topic::clone(topic);
            match value {
                Some(value) => drop(topic.overrides.insert(name.clone(), value.clone())),
                None => drop(topic.overrides.remove(name)),
            }
            topic.config = effective(&image.broker, &topic.name, &topic.overrides);
            image.put(Arc::new(topic));
        }
        Record::ProducerIds { next } => {
            image.next_producer_id = image.next_producer_id.max(*next);
        }
        Record::PartitionsMade { count } => {
            if *count > STORED_NUMBER_MAX {
                return Err(ApplyError::Count(*count));
            }
            image.partitions_made = image.partitions_made.max(*count);
        }
    }
    Ok(())
}

fn make_topic(image: &mut Image, record: &TopicRecord) -> Result<(), ApplyError> {
    if image.by_id.contains_key(&record.id) || image.by_name.contains_key(record.name.as_str()) {
        return Err(ApplyError::TopicExists(record.name.clone()));
    }
    validate_topic_name(&record.name)?;
    let made = record
        .ordinal
        .saturating_add(record.partitions.len() as u64);
    if made > STORED_NUMBER_MAX {
        return Err(ApplyError::Count(made));
    }
    let name: Arc<str> = Arc::from(record.name.as_str());
    let overrides: BTreeMap<String, String> = record.configs.iter().cloned().collect();
    let mut partitions: Vec<Partition> = Vec::with_capacity(record.partitions.len());
    for replicas in &record.partitions {
        // neighbours mostly have the same replicas: they share the list
        let replicas: Arc<[NodeId]> = match partitions.last() {
            Some(p) if *p.replicas == **replicas => p.replicas.clone(),
            _ => Arc::from(replicas.as_slice()),
        };
        partitions.push(Partition {
            leader: replicas.first().copied(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            isr: replicas.clone(),
            replicas,
        });
    }
    if let Some(metric) = metric_name(&name) {
        image.by_metric_name.insert(metric, name.clone());
    }
    image.partitions_made = image.partitions_made.max(made);
    image.partition_count += partitions.len();
    image.put(Arc::new(Topic {
        id: record.id,
        config: effective(&image.broker, &name, &overrides),
        name,
        ordinal: record.ordinal,
        partitions,
        overrides,
    }));
    Ok(())
}

/// A topic's settings. What was allowed when it was set and no longer is (another release, other
/// bounds) is left out one by one, with a log line: the topic must still be served.
fn effective(
    broker: &BrokerConfig,
    name: &str,
    overrides: &BTreeMap<String, String>,
) -> Arc<TopicConfig> {
    if overrides.is_empty() {
        return broker.topic.config.clone();
    }
    let mut usable = overrides.clone();
    loop {
        match resolve_topic(broker, &usable) {
            Ok(config) => return Arc::new(config),
            Err(error) => {
                tracing::warn!(topic = name, %error, "a setting of the topic is ignored");
                if usable.remove(&error.name).is_none() {
                    return broker.topic.config.clone();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Uuid;

    #[test]
    fn a_topic_that_no_controller_makes_is_refused() {
        let topic = |name: &str, ordinal| {
            let mut image = Image::empty(Arc::new(BrokerConfig::default()));
            let record = Record::Topic(TopicRecord {
                id: Uuid([1; 16]),
                name: name.to_owned(),
                ordinal,
                configs: Vec::new(),
                partitions: vec![vec![NodeId(1)]],
            });
            apply(&mut image, &record)
        };
        assert_eq!(topic("t", STORED_NUMBER_MAX - 1), Ok(()));
        // a snapshot of it could not be read back
        assert!(topic("t", STORED_NUMBER_MAX).is_err());
        assert_eq!(topic("t", u64::MAX), Err(ApplyError::Count(u64::MAX)));
        for name in ["", "..", "a/../../b"] {
            assert!(matches!(topic(name, 0), Err(ApplyError::Name(_))), "{name}");
        }
        let mut image = Image::empty(Arc::new(BrokerConfig::default()));
        let count = Record::PartitionsMade { count: u64::MAX };
        assert!(apply(&mut image, &count).is_err());
    }
}
