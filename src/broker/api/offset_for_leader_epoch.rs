//! OffsetForLeaderEpoch: where an epoch ended (KIP-320).

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{PartitionId, PartitionKey, ShardId};
use crate::broker::api::create_topics::bounded_partitions;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::message::{Call, EpochOutcome, EpochQuery, Reply};
use crate::broker::scatter::Scatter;
use crate::broker::shard::Shard;
use crate::wire::messages::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: OffsetForLeaderEpochRequest<'_>,
) -> Result<Response, CloseReason> {
    let mut outcomes: Vec<EpochOutcome> = Vec::new();
    let mut calls = Scatter::new();
    bounded_partitions(request.topics.iter().map(|t| t.partitions.len()))?;
    for topic in &request.topics {
        for partition in &topic.partitions {
            let at = outcomes.len();
            let checked = check(shard, ctx, &topic, &partition);
            outcomes.push(EpochOutcome {
                error: *checked
                    .as_ref()
                    .err()
                    .unwrap_or(&ErrorCode::UnknownServerError),
                leader_epoch: -1,
                end_offset: -1,
            });
            if let Ok((owner, query)) = checked {
                calls.add(owner, at, query);
            }
        }
    }
    for (to, places, queries) in calls.calls(shard) {
        if let Reply::Epochs(found) = shard.call(to, Call::Epochs(queries)).await {
            for (place, outcome) in places.into_iter().zip(found) {
                outcomes[place] = outcome;
            }
        }
    }
    let mut rest = outcomes.into_iter();
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: topic
                .partitions
                .iter()
                .zip(rest.by_ref())
                .map(|(partition, outcome)| EpochEndOffset {
                    error_code: outcome.error.code(),
                    partition: partition.partition,
                    leader_epoch: outcome.leader_epoch,
                    end_offset: outcome.end_offset,
                })
                .collect(),
        })
        .collect();
    let response = OffsetForLeaderEpochResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        topics,
    };
    Ok(ctx.respond(shard, &response).await)
}

fn check(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    topic: &OffsetForLeaderTopic<'_>,
    partition: &OffsetForLeaderPartition,
) -> Result<(ShardId, EpochQuery), ErrorCode> {
    if !ctx.allows(shard, Operation::Describe, Resource::Topic(topic.topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let id = PartitionId(partition.partition);
    let image = shard.image();
    let known = image
        .topic(topic.topic)
        .filter(|t| t.partition(id).is_some())
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let query = EpochQuery {
        key: PartitionKey {
            topic: known.id,
            partition: id,
        },
        current_leader_epoch: partition.current_leader_epoch,
        leader_epoch: partition.leader_epoch,
    };
    Ok((shard.owner(known, id), query))
}
