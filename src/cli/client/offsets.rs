//! Offsets of partitions, by their leaders.

use std::collections::BTreeMap;

use crate::cli::client::{ClientError, Cluster, TopicInfo};
use crate::wire::array::Array;
use crate::wire::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

const VERSION: i16 = 10;
const TIMEOUT_MS: i32 = 30_000;

impl Cluster {
    /// The offset of each partition at a timestamp, or at a special one below 0.
    pub fn offsets(
        &mut self,
        topic: &TopicInfo,
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for partition in &topic.partitions {
            let ask = ListOffsetsPartition {
                partition_index: partition.index,
                timestamp,
                ..Default::default()
            };
            by_leader.entry(partition.leader).or_default().push(ask);
        }
        let mut found = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let connection = self.node(leader)?;
            let version = connection.version::<ListOffsetsRequest<'_>>(VERSION)?;
            let asked = ListOffsetsTopic {
                name: &topic.name,
                partitions: partitions.into(),
            };
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: Array::Slice(std::slice::from_ref(&asked)),
                timeout_ms: TIMEOUT_MS,
                ..Default::default()
            };
            let answer: ListOffsetsResponse<'_> = connection.call(&request, version)?;
            for topic in &answer.topics {
                for p in &topic.partitions {
                    let index = p.partition_index;
                    let what = || format!("offsets of partition {index} of {}", topic.name);
                    ClientError::check(p.error_code, None, what)?;
                    found.insert(index, p.offset);
                }
            }
        }
        Ok(found)
    }
}
