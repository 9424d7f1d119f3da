//! DescribeConfigs: the settings of topics and of this machine, with where they come from.

use std::rc::Rc;

use crate::base::config::{Entry, broker_entries, topic_entries};
use crate::base::error_code::ErrorCode;
use crate::base::ids::NodeId;
use crate::base::limits::NAMED_PER_REQUEST_MAX;
use crate::base::topic_name::validate_topic_name;
use crate::broker::api::create_topics::bounded;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::lanes;
use crate::broker::shard::Shard;
use crate::wire::array::Array;
use crate::wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

/// Kinds of resources, by Kafka's codes.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

type Failure = (ErrorCode, String);

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: DescribeConfigsRequest<'_>,
) -> Result<Response, CloseReason> {
    let keys = request.resources.iter();
    let keys: usize = keys.map(|r| r.configuration_keys.len()).sum();
    bounded(keys, 10 * NAMED_PER_REQUEST_MAX)?;
    let known = shard.image().topics().len();
    bounded(request.resources.len(), known + NAMED_PER_REQUEST_MAX)?;
    // what the answer borrows lives here
    let found: Vec<Result<Vec<Entry>, Failure>> = request
        .resources
        .iter()
        .map(|resource| entries(shard, ctx, &resource))
        .collect();
    let results: Vec<DescribeConfigsResult<'_>> = request
        .resources
        .iter()
        .zip(&found)
        .map(|(resource, found)| {
            let mut result = DescribeConfigsResult {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                ..DescribeConfigsResult::default()
            };
            match found {
                Ok(entries) => {
                    let configs = entries.iter().map(|entry| config(shard, &request, entry));
                    result.configs = configs.collect();
                }
                Err((code, message)) => {
                    result.error_code = code.code();
                    result.error_message = Some(message);
                }
            }
            result
        })
        .collect();
    let body = DescribeConfigsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        results: Array::Slice(&results),
    };
    Ok(ctx.respond(shard, &body).await)
}

/// The settings of a resource that are asked for.
fn entries(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry>, Failure> {
    let name = resource.resource_name;
    let mut entries = match resource.resource_type {
        TOPIC => topic(shard, ctx, name)?,
        BROKER => broker(shard, ctx, name)?,
        other => {
            let message = format!("resources of type {other} have no settings here");
            return Err((ErrorCode::InvalidRequest, message));
        }
    };
    // as in Kafka, an empty list asks for all too
    if !resource.configuration_keys.is_empty() {
        let keys: Vec<&str> = resource.configuration_keys.iter().collect();
        entries.retain(|entry| keys.contains(&entry.name));
    }
    Ok(entries)
}

fn topic(shard: &Shard, ctx: &RequestContext<'_>, name: &str) -> Result<Vec<Entry>, Failure> {
    if !ctx.allows(shard, Operation::Describe, Resource::Topic(name)) {
        let message = "Topic authorization failed.".to_owned();
        return Err((ErrorCode::TopicAuthorizationFailed, message));
    }
    validate_topic_name(name).map_err(|e| (ErrorCode::InvalidTopicException, e.to_string()))?;
    match shard.image().topic(name) {
        Some(topic) => Ok(topic_entries(&shard.config, &topic.overrides)),
        None => Err((
            ErrorCode::UnknownTopicOrPartition,
            "This server does not host this topic-partition.".to_owned(),
        )),
    }
}

fn broker(shard: &Shard, ctx: &RequestContext<'_>, name: &str) -> Result<Vec<Entry>, Failure> {
    if !ctx.allows(shard, Operation::Describe, Resource::Cluster) {
        let message = "Cluster authorization failed.".to_owned();
        return Err((ErrorCode::ClusterAuthorizationFailed, message));
    }
    let machine = shard.node_id();
    match name.parse::<i32>() {
        // what is set for all brokers at run time: nothing can be
        _ if name.is_empty() => Ok(Vec::new()),
        Ok(id) if lanes::machine(NodeId(id)) == machine => {
            Ok(broker_entries(&shard.config.settings))
        }
        _ => Err((
            ErrorCode::InvalidRequest,
            format!(
                "Unexpected broker id, expected {machine} or empty string, but received {name}"
            ),
        )),
    }
}

fn config<'a>(
    shard: &'a Shard,
    request: &DescribeConfigsRequest<'_>,
    entry: &'a Entry,
) -> DescribeConfigsResourceResult<'a> {
    let synonyms = match request.include_synonyms {
        true => entry.synonyms(&shard.config.settings),
        false => Vec::new(),
    };
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: false,
        synonyms: synonyms
            .into_iter()
            .map(|s| DescribeConfigsSynonym {
                name: s.name,
                value: s.value,
                source: s.source as i8,
            })
            .collect(),
        config_type: entry.property.kind.code(),
        documentation: request.include_documentation.then_some(entry.property.doc),
    }
}
