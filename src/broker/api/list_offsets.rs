//! ListOffsets: offsets by time and by selector.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{PartitionId, PartitionKey, ShardId};
use crate::broker::api::create_topics::bounded_partitions;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::message::{Call, OffsetOutcome, OffsetQuery, Reply};
use crate::broker::offsets;
use crate::broker::scatter::Scatter;
use crate::broker::shard::Shard;
use crate::metadata::Topic;
use crate::wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: ListOffsetsRequest<'_>,
) -> Result<Response, CloseReason> {
    let image = shard.image();
    let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
    bounded_partitions(request.topics.iter().map(|t| t.partitions.len()))?;
    for topic in &request.topics {
        for partition in &topic.partitions {
            let name = (topic.name, partition.partition_index);
            if !named.insert(name) {
                twice.insert(name);
            }
        }
    }
    let mut outcomes: Vec<OffsetOutcome> = Vec::new();
    let mut calls = Scatter::new();
    for topic in &request.topics {
        let known = image.topic(topic.name);
        for partition in &topic.partitions {
            let at = outcomes.len();
            let checked = if twice.contains(&(topic.name, partition.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                check(shard, ctx, &topic, &partition, known.map(|t| &**t))
            };
            match checked {
                Err(code) => outcomes.push(OffsetOutcome::nothing(code)),
                Ok((owner, query)) => {
                    outcomes.push(OffsetOutcome::nothing(ErrorCode::UnknownServerError));
                    calls.add(owner, at, query);
                }
            }
        }
    }
    for (to, places, queries) in calls.calls(shard) {
        if let Reply::Offsets(found) = shard.call(to, Call::Offsets(queries)).await {
            for (place, outcome) in places.into_iter().zip(found) {
                outcomes[place] = outcome;
            }
        }
    }
    let mut rest = outcomes.into_iter();
    let topics = request
        .topics
        .iter()
        .map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(rest.by_ref())
                .map(|(partition, outcome)| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: outcome.error.code(),
                    timestamp: outcome.timestamp,
                    offset: outcome.offset,
                    leader_epoch: outcome.leader_epoch,
                })
                .collect(),
        })
        .collect();
    let response = ListOffsetsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        topics,
    };
    Ok(ctx.respond(shard, &response).await)
}

fn check(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    topic: &ListOffsetsTopic<'_>,
    partition: &ListOffsetsPartition,
    known: Option<&Topic>,
) -> Result<(ShardId, OffsetQuery), ErrorCode> {
    if !ctx.allows(shard, Operation::Describe, Resource::Topic(topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    match offsets::selector_from(partition.timestamp) {
        Some(from) if from <= ctx.version => {}
        _ => return Err(ErrorCode::UnsupportedVersion),
    }
    let id = PartitionId(partition.partition_index);
    let topic = known
        .filter(|t| t.partition(id).is_some())
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let query = OffsetQuery {
        key: PartitionKey {
            topic: topic.id,
            partition: id,
        },
        current_leader_epoch: partition.current_leader_epoch,
        timestamp: partition.timestamp,
    };
    Ok((shard.owner(topic, id), query))
}
