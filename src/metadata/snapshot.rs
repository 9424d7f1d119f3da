//! An image as the records that make it.

use super::image::Image;
use super::record::{Record, TopicRecord};

/// The records that, applied to an empty image, give this one. Topics come in the order they were
/// made, so that leader epochs aside nothing is lost.
pub fn records(image: &Image) -> Vec<Record> {
    let mut topics: Vec<_> = image.topics().collect();
    topics.sort_by_key(|t| (t.ordinal, t.id));
    let mut out = vec![
        Record::Cluster {
            cluster_id: image.cluster_id().to_owned(),
        },
        Record::ProducerIds {
            next: image.next_producer_id,
        },
        Record::PartitionsMade {
            count: image.partitions_made,
        },
    ];
    out.extend(topics.into_iter().map(|t| {
        Record::Topic(TopicRecord {
            id: t.id,
            name: t.name.to_string(),
            ordinal: t.ordinal,
            configs: t
                .overrides
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            partitions: t.partitions.iter().map(|p| p.replicas.to_vec()).collect(),
        })
    }));
    out
}
