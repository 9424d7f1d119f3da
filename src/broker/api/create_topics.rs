//! CreateTopics. The answer means that the partitions serve.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::base::config::{Entry, topic_entries};
use crate::base::error_code::ErrorCode;
use crate::base::ids::{ShardId, Uuid};
use crate::base::limits::NAMED_PER_REQUEST_MAX;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::control;
use crate::broker::message::{Call, Reply};
use crate::broker::shard::Shard;
use crate::metadata::controller::{Created, NewTopic, Refusal, TopicCreation};
use crate::wire::array::Array;
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

/// First version whose answer tells the settings of the new topic.
const TELLS_CONFIGS: i16 = 5;

/// How long a change may take that the client sets no limit for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: CreateTopicsRequest<'_>,
) -> Result<Response, CloseReason> {
    let named = request.topics.iter();
    let carried: usize = named
        .map(|t| {
            let replicas = t.assignments.iter().map(|a| 1 + a.broker_ids.len());
            1 + t.configs.len() + replicas.sum::<usize>()
        })
        .sum();
    bounded(carried, 10 * NAMED_PER_REQUEST_MAX)?;
    let any = ctx.allows(shard, Operation::Create, Resource::Cluster);
    let (mut topics, mut refused) = (Vec::new(), Vec::new());
    for topic in request.topics.iter() {
        if any || ctx.allows(shard, Operation::Create, Resource::Topic(topic.name)) {
            topics.push(new_topic(&topic));
        } else {
            refused.push(TopicCreation {
                name: topic.name.to_owned(),
                result: Err(Refusal {
                    code: ErrorCode::TopicAuthorizationFailed,
                    message: "Authorization failed.".to_owned(),
                }),
            });
        }
    }
    let limit = limit(request.timeout_ms);
    let mut created = create(shard, topics, request.validate_only, limit).await;
    created.append(&mut refused);
    Ok(answer(shard, ctx, &created).await)
}

/// Ends the connection of a client that asks for absurdly much: see [`NAMED_PER_REQUEST_MAX`].
pub(super) fn bounded(count: usize, max: usize) -> Result<(), CloseReason> {
    match count <= max {
        true => Ok(()),
        false => Err(CloseReason::Cut("too much in one request")),
    }
}

/// As [`bounded`], for requests that name partitions: each costs many times its own bytes in the
/// answer, so that one frame could ask for more memory than the shard has.
pub(super) fn bounded_partitions(
    partitions: impl Iterator<Item = usize>,
) -> Result<(), CloseReason> {
    bounded(partitions.map(|n| n + 1).sum(), 10 * NAMED_PER_REQUEST_MAX)
}

/// The time that a client gives a change.
pub(super) fn limit(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(ms) if ms > 0 => Duration::from_millis(ms),
        _ => PATIENCE,
    }
}

/// What a topic is refused with when its change takes too long. It may still happen.
pub(super) fn timed_out() -> Refusal {
    Refusal {
        code: ErrorCode::RequestTimedOut,
        message: "The request timed out.".to_owned(),
    }
}

/// Makes topics by the control task; the answers come in any order.
pub(super) async fn create(
    shard: &Rc<Shard>,
    topics: Vec<NewTopic>,
    validate_only: bool,
    limit: Duration,
) -> Vec<TopicCreation> {
    if topics.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = topics.iter().map(|t| t.name.clone()).collect();
    let call = Call::Control(control::Request::CreateTopics {
        topics,
        validate_only,
    });
    let refusal = match shard
        .ring
        .timeout(limit, shard.call(ShardId(0), call))
        .await
    {
        Ok(Reply::Control(control::Reply::CreateTopics(created))) => return created,
        Ok(Reply::Control(control::Reply::Refused(refusal))) => refusal,
        Ok(_) => Refusal {
            code: ErrorCode::UnknownServerError,
            message: "the control task gave another answer".to_owned(),
        },
        Err(_) => timed_out(),
    };
    names
        .into_iter()
        .map(|name| TopicCreation {
            name,
            result: Err(refusal.clone()),
        })
        .collect()
}

fn new_topic(topic: &CreatableTopic<'_>) -> NewTopic {
    NewTopic {
        name: topic.name.to_owned(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|a| {
                let machines = a.broker_ids.iter().map(machine_id);
                (a.partition_index, machines.collect())
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|c| (c.name.to_owned(), c.value.map(str::to_owned)))
            .collect(),
    }
}

/// Clients that are shown lanes may name one: it stands for its machine.
fn machine_id(shown: i32) -> i32 {
    crate::broker::lanes::machine(crate::base::ids::NodeId(shown)).0
}

async fn answer(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    created: &[TopicCreation],
) -> Response {
    // what the answer borrows lives here; most topics set nothing and share one list
    let tells = ctx.version >= TELLS_CONFIGS && created.iter().any(|t| t.result.is_ok());
    let defaults = match tells {
        true => topic_entries(&shard.config, &BTreeMap::new()),
        false => Vec::new(),
    };
    let own: Vec<Option<Vec<Entry>>> = created
        .iter()
        .map(|t| match &t.result {
            Ok(Created { overrides, .. }) if tells && !overrides.is_empty() => {
                Some(topic_entries(&shard.config, overrides))
            }
            _ => None,
        })
        .collect();
    let messages: Vec<Option<String>> = created
        .iter()
        .map(|t| t.result.as_ref().err().map(|e| e.message.clone()))
        .collect();
    let topics: Vec<CreatableTopicResult<'_>> = created
        .iter()
        .zip(&own)
        .zip(&messages)
        .map(|((topic, own), message)| {
            let entries = own.as_ref().unwrap_or(&defaults);
            result(topic, entries, message.as_deref())
        })
        .collect();
    let body = CreateTopicsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        topics: Array::Slice(&topics),
    };
    ctx.respond(shard, &body).await
}

fn result<'a>(
    topic: &'a TopicCreation,
    entries: &'a [Entry],
    message: Option<&'a str>,
) -> CreatableTopicResult<'a> {
    let mut out = CreatableTopicResult {
        name: &topic.name,
        error_message: message,
        ..CreatableTopicResult::default()
    };
    match &topic.result {
        Ok(created) => {
            out.topic_id = created.id;
            out.num_partitions = created.partitions;
            out.replication_factor = created.replication_factor;
            out.configs = entries.iter().map(config).collect();
        }
        Err(refusal) => {
            out.topic_id = Uuid::ZERO;
            out.error_code = refusal.code.code();
        }
    }
    out
}

fn config(entry: &Entry) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: false,
    }
}

/// A topic as auto-creation makes it.
pub(super) fn with_defaults(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}

/// Errors by name, for callers that look topics up afterwards.
pub(super) fn errors(created: Vec<TopicCreation>) -> BTreeMap<String, ErrorCode> {
    created
        .into_iter()
        .filter_map(|t| t.result.err().map(|e| (t.name, e.code)))
        .collect()
}
