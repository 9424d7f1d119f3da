//! Metadata: brokers, topics, who leads. The only answer in which lanes are nodes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{NodeId, PartitionId, Uuid};
use crate::base::limits::NAMED_PER_REQUEST_MAX;
use crate::base::topic_name::validate_topic_name;
use crate::broker::api::create_topics::{bounded, create, errors, limit, with_defaults};
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::lanes::LaneView;
use crate::broker::shard::Shard;
use crate::metadata::image::{Image, Topic, is_internal};
use crate::wire::array::Array;
use crate::wire::messages::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};

/// First version in which topics have ids.
const HAS_IDS: i16 = 10;

/// First version in which topics can be asked for by id; 10 and 11 have the field and refuse it.
const BY_ID: i16 = 12;

/// First version in which no list, and not an empty one, asks for all topics.
const NULL_IS_ALL: i16 = 1;

/// What everybody may do with the cluster: bits by Kafka's codes of operations (create 5, alter 7,
/// describe 8, cluster action 9, describe configs 10, alter configs 11, idempotent write 12).
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The same with a topic: read 3, write 4, create 5, delete 6, alter 7, describe 8, describe
/// configs 10, alter configs 11.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// What one asked for.
enum Asked<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// What is told of one topic.
enum Found<'a> {
    Topic(Arc<Topic>),
    Error(ErrorCode, Asked<'a>),
}

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: MetadataRequest<'_>,
) -> Result<Response, CloseReason> {
    let known = shard.image().topics().len();
    bounded(request.topics.len(), known + NAMED_PER_REQUEST_MAX)?;
    let all = match ctx.version {
        v if v < NULL_IS_ALL => request.topics.is_empty(),
        _ => request.topics.is_null(),
    };
    let found: Vec<Found<'_>> = if all {
        let image = shard.image();
        image
            .topics()
            .filter(|t| may_describe(shard, ctx, &t.name))
            .map(|t| Found::Topic(t.clone()))
            .collect()
    } else {
        let auto = request.allow_auto_topic_creation && shard.config.auto_create_topics;
        let asked = asked(ctx.version, &request);
        let made = match auto {
            true => create_missing(shard, ctx, &asked).await,
            false => BTreeMap::new(),
        };
        let image = shard.image();
        asked
            .into_iter()
            .map(|asked| look_up(shard, ctx, &image, &made, asked))
            .collect()
    };
    Ok(answer(shard, ctx, &request, &found).await)
}

fn may_describe(shard: &Shard, ctx: &RequestContext<'_>, name: &str) -> bool {
    ctx.allows(shard, Operation::Describe, Resource::Topic(name))
}

fn asked<'a>(version: i16, request: &MetadataRequest<'a>) -> Vec<Asked<'a>> {
    let topics = request.topics.iter();
    topics
        .map(|t| match t.name {
            Some(name) if version < BY_ID || t.topic_id.is_zero() => Asked::Name(name),
            _ => Asked::Id(t.topic_id),
        })
        .collect()
}

/// Makes the topics that are asked for by name and that do not exist; why some could not be made.
async fn create_missing(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    asked: &[Asked<'_>],
) -> BTreeMap<String, ErrorCode> {
    let image = shard.image();
    let may_any = ctx.allows(shard, Operation::Create, Resource::Cluster);
    let mut missing: Vec<&str> = asked
        .iter()
        .filter_map(|a| match a {
            Asked::Name(name) => Some(*name),
            Asked::Id(_) => None,
        })
        .filter(|name| image.topic(name).is_none())
        // the broker's own topics need settings that a client's question does not carry
        .filter(|name| validate_topic_name(name).is_ok() && !is_internal(name))
        .filter(|name| may_describe(shard, ctx, name))
        .filter(|name| may_any || ctx.allows(shard, Operation::Create, Resource::Topic(name)))
        .collect();
    drop(image);
    missing.sort_unstable();
    missing.dedup();
    let topics = missing.into_iter().map(with_defaults).collect();
    errors(create(shard, topics, false, limit(0)).await)
}

fn look_up<'a>(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    image: &Image,
    made: &BTreeMap<String, ErrorCode>,
    asked: Asked<'a>,
) -> Found<'a> {
    match asked {
        Asked::Name(name) => {
            if !may_describe(shard, ctx, name) {
                return Found::Error(ErrorCode::TopicAuthorizationFailed, asked);
            }
            if let Some(topic) = image.topic(name) {
                return Found::Topic(topic.clone());
            }
            let error = if validate_topic_name(name).is_err() {
                ErrorCode::InvalidTopicException
            } else {
                match made.get(name) {
                    // someone else made it and deleted it again meanwhile
                    None | Some(ErrorCode::TopicAlreadyExists) => {
                        ErrorCode::UnknownTopicOrPartition
                    }
                    Some(error) => *error,
                }
            };
            Found::Error(error, asked)
        }
        Asked::Id(id) if ctx.version < BY_ID || id.is_zero() => {
            Found::Error(ErrorCode::InvalidRequest, Asked::Id(id))
        }
        Asked::Id(id) => match image.topic_by_id(&id) {
            Some(topic) if may_describe(shard, ctx, &topic.name) => Found::Topic(topic.clone()),
            _ => Found::Error(ErrorCode::UnknownTopicId, Asked::Id(id)),
        },
    }
}

async fn answer(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: &MetadataRequest<'_>,
    found: &[Found<'_>],
) -> Response {
    let image = shard.image();
    let view = ctx.view(shard);
    let listener = ctx.listener(shard);
    let brokers: Vec<MetadataResponseBroker<'_>> = view
        .nodes(shard.node_id(), listener.advertised_port)
        .map(|(node, port)| MetadataResponseBroker {
            node_id: node.0,
            host: &listener.advertised_host,
            port: i32::from(port),
            rack: shard.config.rack.as_deref(),
        })
        .collect();
    let lists = Lists::of(found);
    let operations = match request.include_topic_authorized_operations {
        true => TOPIC_OPERATIONS,
        false => i32::MIN,
    };
    let topics: Vec<MetadataResponseTopic<'_>> = found
        .iter()
        .map(|found| match found {
            Found::Topic(topic) => MetadataResponseTopic {
                name: Some(&topic.name),
                topic_id: topic.id,
                is_internal: topic.is_internal(),
                partitions: partitions(shard, view, topic, &lists).into(),
                topic_authorized_operations: operations,
                ..MetadataResponseTopic::default()
            },
            Found::Error(error, asked) => missing(ctx.version, *error, asked),
        })
        .collect();
    let body = MetadataResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        brokers: brokers.into(),
        cluster_id: Some(image.cluster_id()),
        controller_id: shard.node_id().0,
        topics: topics.into(),
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        ..MetadataResponse::default()
    };
    ctx.respond(shard, &body).await
}

fn missing<'a>(version: i16, error: ErrorCode, asked: &Asked<'a>) -> MetadataResponseTopic<'a> {
    let (name, id) = match asked {
        Asked::Name(name) => (Some(*name), Uuid::ZERO),
        // only later versions can leave the name out
        Asked::Id(id) => ((version < BY_ID).then_some(""), *id),
    };
    MetadataResponseTopic {
        error_code: error.code(),
        name,
        topic_id: if version >= HAS_IDS { id } else { Uuid::ZERO },
        is_internal: name.is_some_and(is_internal),
        ..MetadataResponseTopic::default()
    }
}

/// Node ids as the answer carries them, each list once: most partitions have the same replicas.
struct Lists(BTreeMap<Arc<[NodeId]>, Vec<i32>>);

impl Lists {
    fn of(found: &[Found<'_>]) -> Lists {
        let mut lists: BTreeMap<Arc<[NodeId]>, Vec<i32>> = BTreeMap::new();
        for found in found {
            let Found::Topic(topic) = found else { continue };
            for p in &topic.partitions {
                for list in [&p.replicas, &p.isr] {
                    if !lists.contains_key(list) {
                        lists.insert(list.clone(), list.iter().map(|n| n.0).collect());
                    }
                }
            }
        }
        Lists(lists)
    }

    fn get(&self, list: &Arc<[NodeId]>) -> Array<'_, i32> {
        self.0.get(list).map_or(Array::EMPTY, |l| Array::Slice(l))
    }
}

fn partitions<'a>(
    shard: &Shard,
    view: LaneView,
    topic: &Topic,
    lists: &'a Lists,
) -> Vec<MetadataResponsePartition<'a>> {
    let numbered = (0..).zip(&topic.partitions);
    numbered
        .map(|(number, p)| {
            let leader = p.leader.map(|machine| {
                // other machines' lanes are not known here: the machine forwards
                match machine == shard.node_id() {
                    true => view.leader(
                        machine,
                        &shard.placement,
                        topic.ordinal,
                        PartitionId(number),
                    ),
                    false => machine,
                }
            });
            MetadataResponsePartition {
                error_code: match leader {
                    Some(_) => ErrorCode::None.code(),
                    None => ErrorCode::LeaderNotAvailable.code(),
                },
                partition_index: number,
                leader_id: leader.map_or(-1, |n| n.0),
                leader_epoch: p.leader_epoch.0,
                replica_nodes: lists.get(&p.replicas),
                isr_nodes: lists.get(&p.isr),
                offline_replicas: Array::EMPTY,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_the_numbers_that_kafka_answers() {
        assert_eq!(CLUSTER_OPERATIONS, 8096);
        assert_eq!(TOPIC_OPERATIONS, 3576);
    }
}
