//! What must be in a partition, as far as its clients know.

use std::collections::{BTreeMap, BTreeSet};

use corelane::base::ids::{PartitionId, PartitionKey, Uuid};

/// A partition's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Making,
    There,
    Deleting,
}

/// One partition as its clients know it. Records are named by numbers that are never used twice.
pub struct Model {
    pub key: PartitionKey,
    pub topic: String,
    pub stage: Stage,
    /// By offset, what was ever appended there since the last restart, or found at it.
    attempts: BTreeMap<i64, BTreeSet<u64>>,
    /// Acked as flushed, or seen by a consumer: never lost.
    durable: BTreeMap<i64, u64>,
    /// Acked as written: not lost with the process alone.
    written: BTreeMap<i64, u64>,
    /// Only the process died since.
    machine_stayed: bool,
    /// An ack, and what consumers see, stands for a written record only.
    pub interval: bool,
}

impl Model {
    pub fn new(id: u64, topic: String, interval: bool) -> Model {
        Model {
            key: PartitionKey {
                topic: Uuid::from_random(id.wrapping_mul(0x9e37_79b9_7f4a_7c15), id),
                partition: PartitionId(0),
            },
            topic,
            stage: Stage::Making,
            attempts: BTreeMap::new(),
            durable: BTreeMap::new(),
            written: BTreeMap::new(),
            machine_stayed: true,
            interval,
        }
    }

    pub fn appended(&mut self, offset: i64, record: u64) {
        self.attempts.entry(offset).or_default().insert(record);
    }

    pub fn is_written(&mut self, offset: i64, record: u64) {
        self.written.insert(offset, record);
    }

    /// Acked as flushed, or seen.
    pub fn is_durable(&mut self, offset: i64, record: u64) {
        let was = self.durable.insert(offset, record);
        assert!(
            was.is_none_or(|was| was == record),
            "{}: offset {offset} held record {was:?}, now {record}",
            self.topic
        );
    }

    /// A consumer sees a record.
    pub fn seen(&mut self, offset: i64, record: u64) {
        assert!(
            self.attempts
                .get(&offset)
                .is_some_and(|a| a.contains(&record)),
            "{}: nobody appended record {record} at {offset}",
            self.topic
        );
        self.is_durable(offset, record);
    }

    /// The process ended; with `power` its machine too.
    pub fn died(&mut self, power: bool) {
        self.machine_stayed &= !power;
        if power && self.interval {
            self.durable.clear();
        }
    }

    /// What a restart found, from the log's start to its end.
    pub fn found(&mut self, found: &BTreeMap<i64, u64>) {
        let mut records = BTreeSet::new();
        for (n, (offset, record)) in found.iter().enumerate() {
            assert_eq!(*offset, n as i64, "{}: offsets without a gap", self.topic);
            assert!(
                records.insert(record),
                "{}: record {record} twice",
                self.topic
            );
            assert!(
                self.attempts
                    .get(offset)
                    .is_some_and(|a| a.contains(record)),
                "{}: nobody appended record {record} at {offset}",
                self.topic
            );
        }
        let check = |what: &str, must: &BTreeMap<i64, u64>| {
            for (offset, record) in must {
                assert_eq!(
                    found.get(offset),
                    Some(record),
                    "{}: offset {offset} of {} was {what}",
                    self.topic,
                    found.len()
                );
            }
        };
        check("acked as flushed, or seen", &self.durable);
        if self.machine_stayed {
            check("acked as written", &self.written);
        }
        // from here on all of it is visible
        self.attempts = found
            .iter()
            .map(|(o, r)| (*o, BTreeSet::from([*r])))
            .collect();
        self.durable = found.clone();
        self.written.clear();
        self.machine_stayed = true;
    }

    pub fn durable_records(&self) -> usize {
        self.durable.len()
    }
}
