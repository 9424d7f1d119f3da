//! Which shard a connection belongs to: decided by its first request that names partitions.

use crate::base::ids::{PartitionId, ShardId};
use crate::broker::connection::Connection;
use crate::broker::shard::Shard;
use crate::metadata::{Image, Topic};
use crate::wire::api::ApiKey;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::messages::{
    FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};

/// The shard that a request's partitions lie on. `None` for requests that name none that exist:
/// the connection stays free. A client that is shown lanes means the lane of the first partition;
/// anyone else's connection only moves when everything it asks for lies on one shard.
pub fn lane_of(shard: &Shard, connection: &Connection, frame: &[u8]) -> Option<ShardId> {
    if shard.placement.shards() == 1 {
        return None;
    }
    let image = shard.image();
    let listener = &shard.listeners[connection.listener];
    let mut votes = Votes {
        shard,
        image: &image,
        first: None,
        mixed: false,
    };
    votes.frame(frame);
    let first = votes.first?;
    if !votes.mixed {
        return Some(first);
    }
    let sees_lanes = connection.view(listener).lanes > 1;
    Some(if sees_lanes { first } else { shard.id })
}

struct Votes<'v> {
    shard: &'v Shard,
    image: &'v Image,
    first: Option<ShardId>,
    mixed: bool,
}

impl Votes<'_> {
    fn vote(&mut self, topic: Option<&Topic>, partition: i32) {
        let Some(topic) = topic.filter(|t| t.partition(PartitionId(partition)).is_some()) else {
            return;
        };
        let owner = self.shard.owner(topic, PartitionId(partition));
        match self.first {
            None => self.first = Some(owner),
            Some(first) => self.mixed |= first != owner,
        }
    }

    fn frame(&mut self, frame: &[u8]) {
        // what cannot be read is told when it is worked on
        let Ok((header, mut body)) = frame::request_header(frame) else {
            return;
        };
        let version = header.api_version;
        let image = self.image;
        let by_id = version >= 13;
        match header.api_key {
            ApiKey::Produce => {
                let Ok(request) = ProduceRequest::decode(&mut body, version) else {
                    return;
                };
                for topic in &request.topic_data {
                    let known = if by_id {
                        image.topic_by_id(&topic.topic_id)
                    } else {
                        image.topic(topic.name)
                    };
                    for partition in &topic.partition_data {
                        self.vote(known.map(|t| &**t), partition.index);
                    }
                }
            }
            ApiKey::Fetch => {
                let Ok(request) = FetchRequest::decode(&mut body, version) else {
                    return;
                };
                for topic in &request.topics {
                    let known = if by_id {
                        image.topic_by_id(&topic.topic_id)
                    } else {
                        image.topic(topic.topic)
                    };
                    for partition in &topic.partitions {
                        self.vote(known.map(|t| &**t), partition.partition);
                    }
                }
            }
            ApiKey::ListOffsets => {
                let Ok(request) = ListOffsetsRequest::decode(&mut body, version) else {
                    return;
                };
                for topic in &request.topics {
                    let known = image.topic(topic.name);
                    for partition in &topic.partitions {
                        self.vote(known.map(|t| &**t), partition.partition_index);
                    }
                }
            }
            ApiKey::OffsetForLeaderEpoch => {
                let decoded = OffsetForLeaderEpochRequest::decode(&mut body, version);
                let Ok(request) = decoded else {
                    return;
                };
                for topic in &request.topics {
                    let known = image.topic(topic.topic);
                    for partition in &topic.partitions {
                        self.vote(known.map(|t| &**t), partition.partition);
                    }
                }
            }
            _ => {}
        }
    }
}
