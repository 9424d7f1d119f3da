//! What the cluster knows at one moment: never changed once shared.
//!
//! Shards share it by `Arc`. A change clones the maps, not the topics behind them: some hundred
//! microseconds at 10,000 topics, and a commit carries many changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::config::{BrokerConfig, TopicConfig};
use crate::base::ids::{LeaderEpoch, NodeId, PartitionId, PartitionKey, TopicId};
use crate::base::map::Map;

/// Everything the metadata log says, as of one batch of it.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) broker: Arc<BrokerConfig>,
    pub(super) cluster_id: Arc<str>,
    pub(super) sequence: u64,
    pub(super) by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(super) by_id: Map<TopicId, Arc<Topic>>,
    /// Names with `.` or `_`, by what they become in metric names: of those only one may exist.
    pub(super) by_metric_name: BTreeMap<String, Arc<str>>,
    pub(super) partitions_made: u64,
    pub(super) partition_count: usize,
    pub(super) next_producer_id: i64,
}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions had been made before it: spreads partitions over shards.
    pub ordinal: u64,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// What it sets itself.
    pub overrides: BTreeMap<String, String>,
    /// What is in effect.
    pub config: Arc<TopicConfig>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who leads it; `None` if nobody.
    pub leader: Option<NodeId>,
    /// How often leadership changed; overlaid at start with what the log found.
    pub leader_epoch: LeaderEpoch,
    /// How often leader or in-sync replicas changed.
    pub partition_epoch: i32,
    /// Machines with a replica, the preferred leader first.
    pub replicas: Arc<[NodeId]>,
    /// Those in sync.
    pub isr: Arc<[NodeId]>,
}

impl Image {
    /// A cluster without topics.
    pub fn empty(broker: Arc<BrokerConfig>) -> Image {
        Image {
            broker,
            cluster_id: Arc::from(""),
            sequence: 0,
            by_name: BTreeMap::new(),
            by_id: Map::default(),
            by_metric_name: BTreeMap::new(),
            partitions_made: 0,
            partition_count: 0,
            next_producer_id: 0,
        }
    }

    /// The broker's configuration, against which topics resolve theirs.
    pub fn broker(&self) -> &Arc<BrokerConfig> {
        &self.broker
    }

    /// Which cluster this is.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Number of the last batch of the log that is in here.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: &TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// A partition of a topic.
    pub fn partition(&self, key: &PartitionKey) -> Option<&Partition> {
        let index = usize::try_from(key.partition.0).ok()?;
        self.by_id.get(&key.topic)?.partitions.get(index)
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The first producer id that is not given away.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The existing topic whose name differs from this one only in `.` and `_`.
    pub fn collision(&self, name: &str) -> Option<&str> {
        self.by_metric_name
            .get(&metric_name(name)?)
            .map(|existing| &**existing)
            .filter(|existing| *existing != name)
    }

    /// Puts the leader epochs that the logs were found with over those of the records: on a single
    /// machine an unclean start raises them, and no record says so. To be called before the image
    /// is shared.
    pub fn overlay_leader_epochs(&mut self, epoch: impl Fn(&PartitionKey) -> Option<LeaderEpoch>) {
        let ids: Vec<TopicId> = self.by_id.keys().copied().collect();
        for id in ids {
            let Some(topic) = self.by_id.get(&id) else {
                continue;
            };
            let found: Vec<Option<LeaderEpoch>> = topic
                .keys()
                .zip(&topic.partitions)
                .map(|(key, p)| epoch(&key).filter(|e| *e > p.leader_epoch))
                .collect();
            if found.iter().all(Option::is_none) {
                continue;
            }
            let mut topic = Topic::clone(topic);
            for (partition, epoch) in topic.partitions.iter_mut().zip(found) {
                partition.leader_epoch = epoch.unwrap_or(partition.leader_epoch);
            }
            self.put(Arc::new(topic));
        }
    }

    /// Puts a topic under its name and id.
    pub(super) fn put(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }
}

impl Topic {
    /// The keys of its partitions.
    pub fn keys(&self) -> impl Iterator<Item = PartitionKey> + use<> {
        let topic = self.id;
        (0..self.partitions.len() as i32).map(move |n| PartitionKey {
            topic,
            partition: PartitionId(n),
        })
    }

    /// The partition of that number.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(usize::try_from(id.0).ok()?)
    }

    /// True for topics that the broker keeps for itself.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

/// True for names of topics that Kafka's brokers keep for themselves.
pub fn is_internal(name: &str) -> bool {
    matches!(
        name,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

/// What a name becomes in metric names, if that is another one or may be another topic's.
pub(super) fn metric_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
