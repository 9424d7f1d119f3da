//! DescribeTopicPartitions: topics page by page, for tools. Machines, never lanes: a tool compares
//! leaders with the nodes of DescribeCluster.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::NodeId;
use crate::base::limits::{DESCRIBED_PARTITIONS_MAX, NAMED_PER_REQUEST_MAX};
use crate::base::topic_name::validate_topic_name;
use crate::broker::api::create_topics::bounded;
use crate::broker::api::metadata::TOPIC_OPERATIONS;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::shard::Shard;
use crate::metadata::image::{Image, Partition, Topic, is_internal};
use crate::wire::array::Array;
use crate::wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    PartitionCursor,
};

/// Partitions of each topic in an answer, and where the next answer begins.
type Pages<'a> = (Vec<(usize, usize)>, Option<(&'a str, usize)>);

/// What is told of one name: the topic or why not.
type Found<'a> = (&'a str, Result<&'a Arc<Topic>, ErrorCode>);

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: DescribeTopicPartitionsRequest<'_>,
) -> Result<Response, CloseReason> {
    let image = shard.image();
    let known = image.topics().len();
    bounded(request.topics.len(), known + NAMED_PER_REQUEST_MAX)?;
    let cursor = request.cursor.as_ref();
    let cursor = cursor.map(|c| (c.topic_name, usize::try_from(c.partition_index)));
    let (found, from) = match cursor {
        // there is no error but those of topics
        Some((_, Err(_))) => {
            let names = request.topics.iter().map(|t| t.name);
            let refused = names.map(|name| (name, Err(ErrorCode::InvalidRequest)));
            (refused.collect(), None)
        }
        Some((topic, Ok(partition))) => {
            let found = wanted(shard, ctx, &request, &image, topic);
            (found, Some((topic, partition)))
        }
        None => (wanted(shard, ctx, &request, &image, ""), None),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = limit.clamp(1, DESCRIBED_PARTITIONS_MAX);
    let counts = found.iter().map(|(name, topic)| {
        let partitions = topic.as_ref().map_or(0, |t| t.partitions.len());
        (*name, partitions)
    });
    let (pages, next) = page(counts, from, limit);
    let topics = found.iter().zip(&pages);
    let body = DescribeTopicPartitionsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        topics: topics
            .map(|((name, topic), (from, to))| described(name, topic, *from, *to))
            .collect(),
        next_cursor: next.map(|(topic_name, partition)| PartitionCursor {
            topic_name,
            partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
        }),
    };
    Ok(ctx.respond(shard, &body).await)
}

/// What is asked for from a name on, in the order of names, each once.
fn wanted<'a>(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    request: &DescribeTopicPartitionsRequest<'a>,
    image: &'a Image,
    from: &str,
) -> Vec<Found<'a>> {
    let may = |name: &str| ctx.allows(shard, Operation::Describe, Resource::Topic(name));
    if request.topics.is_empty() {
        return image
            .topics()
            .filter(|t| &*t.name >= from && may(&t.name))
            .map(|t| (&*t.name, Ok(t)))
            .collect();
    }
    let mut names: Vec<&str> = request.topics.iter().map(|t| t.name).collect();
    names.retain(|name| *name >= from);
    names.sort_unstable();
    names.dedup();
    let look_up = |name| {
        if !may(name) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        image
            .topic(name)
            .ok_or_else(|| match validate_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            })
    };
    names.into_iter().map(|n| (n, look_up(n))).collect()
}

/// Which partitions of which topics an answer with at most `limit` of them has, and where the next
/// one begins. `from` is where the one before ended; a topic that is gone since begins anew with the
/// one behind it.
fn page<'a>(
    topics: impl Iterator<Item = (&'a str, usize)>,
    from: Option<(&str, usize)>,
    limit: usize,
) -> Pages<'a> {
    let (mut pages, mut left) = (Vec::new(), limit);
    for (name, partitions) in topics {
        if left == 0 {
            return (pages, Some((name, 0)));
        }
        let first = match from {
            Some((topic, partition)) if topic == name => partition.min(partitions),
            _ => 0,
        };
        let end = partitions.min(first + left);
        pages.push((first, end));
        left -= end - first;
        if end < partitions {
            return (pages, Some((name, end)));
        }
    }
    (pages, None)
}

fn described<'a>(
    name: &'a str,
    topic: &Result<&'a Arc<Topic>, ErrorCode>,
    from: usize,
    to: usize,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    let mut told = DescribeTopicPartitionsResponseTopic {
        name: Some(name),
        is_internal: is_internal(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    match topic {
        Err(error) => told.error_code = error.code(),
        Ok(topic) => {
            told.topic_id = topic.id;
            told.topic_authorized_operations = TOPIC_OPERATIONS;
            let numbered = (0..).zip(&topic.partitions);
            let shown = numbered.skip(from).take(to - from);
            told.partitions = shown.map(|(n, p)| partition(n, p)).collect();
        }
    }
    told
}

fn partition<'a>(number: i32, of: &Partition) -> DescribeTopicPartitionsResponsePartition<'a> {
    let ids = |list: &[NodeId]| list.iter().map(|n| n.0).collect();
    DescribeTopicPartitionsResponsePartition {
        error_code: match of.leader {
            Some(_) => ErrorCode::None.code(),
            None => ErrorCode::LeaderNotAvailable.code(),
        },
        partition_index: number,
        leader_id: of.leader.map_or(-1, |n| n.0),
        leader_epoch: of.leader_epoch.0,
        replica_nodes: ids(&of.replicas),
        isr_nodes: ids(&of.isr),
        eligible_leader_replicas: Array::EMPTY,
        last_known_elr: Array::EMPTY,
        offline_replicas: Array::EMPTY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [(&str, usize); 4] = [("a", 3), ("b", 0), ("c", 5), ("d", 1)];

    fn rest_from(from: Option<(&str, usize)>, limit: usize) -> Pages<'static> {
        let start = from.map_or("", |(name, _)| name);
        page(
            TOPICS.into_iter().filter(|(name, _)| *name >= start),
            from,
            limit,
        )
    }

    #[test]
    fn pages_together_have_every_partition_once() {
        for limit in 1..12 {
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let start = cursor.map_or("", |(name, _)| name);
                let (pages, next) = rest_from(cursor, limit);
                let names = TOPICS.iter().filter(|(name, _)| *name >= start);
                let mut count = 0;
                for ((name, _), (from, to)) in names.zip(pages) {
                    seen.extend((from..to).map(|p| (*name, p)));
                    count += to - from;
                }
                assert!(count <= limit, "{count} partitions in a page of {limit}");
                match next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            let all = TOPICS
                .into_iter()
                .flat_map(|(name, n)| (0..n).map(move |p| (name, p)));
            assert_eq!(seen, all.collect::<Vec<_>>(), "pages of {limit}");
        }
    }

    #[test]
    fn a_cursor_beyond_what_is_there_goes_on_behind_it() {
        assert_eq!(rest_from(Some(("c", 9)), 10), (vec![(5, 5), (0, 1)], None));
        assert_eq!(rest_from(Some(("bb", 2)), 10), (vec![(0, 5), (0, 1)], None));
        assert_eq!(rest_from(Some(("z", 0)), 10), (vec![], None));
    }
}
