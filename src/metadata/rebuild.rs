//! Metadata made anew from what is left of it and from the partitions that the directories hold. No
//! IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::apply;
use super::frame::{FileKind, encode, header, read_header, readable};
use super::image::Image;
use super::record::{Record, TopicRecord};
use super::snapshot;
use crate::base::config::BrokerConfig;
use crate::base::ids::{NodeId, PartitionKey, TopicId};
use crate::base::limits::PARTITIONS_MAX;

/// Producer ids that may have been handed out since what is left of the metadata was written.
const PRODUCER_IDS_SKIPPED: i64 = 1_000_000;

/// What is known beside the metadata.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The cluster, from `meta.properties`.
    pub cluster_id: String,
    /// This machine.
    pub node: NodeId,
    /// Partitions with their topics' names.
    pub partitions: Vec<(PartitionKey, String)>,
    /// The largest id of a producer that wrote; -1 for none.
    pub largest_producer_id: i64,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// The metadata.
    pub image: Image,
    /// Topics that only their partitions named: their settings are lost.
    pub without_settings: Vec<String>,
    /// Bytes of the new snapshot, to be written before the new log.
    pub snapshot: Vec<u8>,
    /// Bytes of the new log.
    pub log: Vec<u8>,
}

/// Takes what can be read of snapshot and log, then what the partitions add to it.
pub fn rebuild(
    broker: &Arc<BrokerConfig>,
    snapshot: Option<&[u8]>,
    log: Option<&[u8]>,
    beside: &Beside,
) -> Rebuilt {
    let mut image = Image::empty(broker.clone());
    let mut newest = 0;
    for (kind, bytes) in [(FileKind::Snapshot, snapshot), (FileKind::Log, log)] {
        let Some(bytes) = bytes else {
            continue;
        };
        let after = match (kind, read_header(kind, bytes)) {
            (FileKind::Snapshot, Ok(sequence)) => sequence.checked_sub(1),
            (FileKind::Log, Ok(sequence)) => Some(sequence),
            (_, Err(_)) => None, // its frames say where they belong
        };
        for batch in readable(bytes, after) {
            if batch.sequence <= newest {
                continue;
            }
            newest = batch.sequence;
            for record in &batch.records {
                // what does not fit any more was about something that is lost
                let _ = apply(&mut image, record);
            }
        }
    }
    // these fit: what they are about is not there yet
    let change = |image: &mut Image, record: Record| drop(apply(image, &record));
    if image.cluster_id().is_empty() {
        let cluster_id = beside.cluster_id.clone();
        change(&mut image, Record::Cluster { cluster_id });
    }
    let mut lost: BTreeMap<TopicId, (String, i32)> = BTreeMap::new();
    for (key, name) in &beside.partitions {
        let taken = image.topic(name).is_some_and(|topic| topic.id != key.topic);
        let possible = (0..PARTITIONS_MAX as i32).contains(&key.partition.0);
        if image.topic_by_id(&key.topic).is_none() && !taken && possible {
            let (_, count) = lost.entry(key.topic).or_insert((name.clone(), 0));
            *count = (*count).max(key.partition.0 + 1);
        }
    }
    let mut without_settings = Vec::new();
    for (id, (name, count)) in lost {
        if image.topic(&name).is_some() {
            continue; // two partitions of one name and different ids: the first has it
        }
        let record = TopicRecord {
            id,
            name: name.clone(),
            ordinal: image.partitions_made,
            configs: Vec::new(),
            partitions: (0..count).map(|_| vec![beside.node]).collect(),
        };
        change(&mut image, Record::Topic(record));
        without_settings.push(name);
    }
    let next = image.next_producer_id().max(beside.largest_producer_id + 1);
    if let Some(next) = next.checked_add(PRODUCER_IDS_SKIPPED) {
        change(&mut image, Record::ProducerIds { next });
    }
    let sequence = newest + 1;
    image.sequence = sequence;
    let mut snapshot = header(FileKind::Snapshot, sequence).to_vec();
    encode(&mut snapshot, sequence, &snapshot::records(&image));
    Rebuilt {
        image,
        without_settings,
        snapshot,
        log: header(FileKind::Log, sequence).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::controller::{Draft, NewTopic};
    use super::super::recover::recover;
    use super::*;
    use crate::base::ids::{PartitionId, Uuid};

    fn log(topics: usize) -> (Vec<u8>, Image, Vec<usize>) {
        let mut image = Image::empty(Arc::default());
        let mut bytes = header(FileKind::Log, 0).to_vec();
        let mut ends = vec![bytes.len()];
        for n in 0..topics {
            let mut draft = Draft::new(&image, vec![NodeId(1)]);
            if n == 0 {
                draft.found_cluster("c");
            }
            let topic = NewTopic {
                name: format!("t{n}"),
                partitions: 2,
                replication_factor: 1,
                configs: vec![("retention.ms".to_owned(), Some("7".to_owned()))],
                ..NewTopic::default()
            };
            draft.create_topics(&[topic], false, || Uuid([n as u8 + 1; 16]));
            let (next, records) = draft.finish(n as u64 + 1);
            encode(&mut bytes, n as u64 + 1, &records);
            ends.push(bytes.len());
            image = next;
        }
        (bytes, image, ends)
    }

    fn beside(image: &Image) -> Beside {
        let topics = image.topics();
        let keys = topics.flat_map(|t| t.keys().map(|key| (key, t.name.to_string())));
        Beside {
            cluster_id: "c".into(),
            node: NodeId(1),
            partitions: keys.collect(),
            largest_producer_id: 4000,
        }
    }

    #[test]
    fn every_topic_comes_back_whatever_byte_is_lost() {
        let (good, image, _) = log(4);
        let broker = Arc::default();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            let made = rebuild(&broker, None, Some(&bytes), &beside(&image));
            let found = recover(&broker, Some(&made.snapshot), Some(&made.log)).unwrap();
            assert_eq!(found.image.cluster_id(), "c", "byte {at}");
            let names = |image: &Image| -> Vec<(Uuid, String, usize)> {
                let topics = image.topics();
                let parts = topics.map(|t| (t.id, t.name.to_string(), t.partitions.len()));
                parts.collect()
            };
            assert_eq!(names(&found.image), names(&image), "byte {at}");
            assert!(found.image.next_producer_id() > 4000);
        }
    }

    #[test]
    fn topics_of_batches_before_the_damage_keep_their_settings() {
        let (mut bytes, image, ends) = log(4);
        bytes[ends[2] + 30] ^= 1;
        let made = rebuild(&Arc::default(), None, Some(&bytes), &beside(&image));
        // the batch behind the damage is whole too, and says itself where it belongs
        assert_eq!(made.without_settings, ["t2"]);
        let kept = made.image.topic("t1").unwrap();
        assert_eq!(kept.overrides["retention.ms"], "7");
        assert_eq!(
            made.image.topic("t3").unwrap().overrides["retention.ms"],
            "7"
        );
    }

    #[test]
    fn a_name_that_is_taken_stays_with_whom_the_metadata_says() {
        let (bytes, image, _) = log(1);
        let mut beside = beside(&image);
        let stranger = PartitionKey {
            topic: Uuid([9; 16]),
            partition: PartitionId(0),
        };
        beside.partitions.push((stranger, "t0".into()));
        let made = rebuild(&Arc::default(), None, Some(&bytes), &beside);
        assert_eq!(made.without_settings, Vec::<String>::new());
        assert_eq!(made.image.topic("t0").unwrap().id, Uuid([1; 16]));
    }
}
