//! DeleteTopics, by name or by id. The answer means that no shard serves the partitions.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{ShardId, Uuid};
use crate::base::limits::NAMED_PER_REQUEST_MAX;
use crate::broker::api::create_topics::{bounded, limit, timed_out};
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::control;
use crate::broker::message::{Call, Reply};
use crate::broker::shard::Shard;
use crate::metadata::controller::{Refusal, TopicDeletion, TopicRef};
use crate::wire::array::Array;
use crate::wire::messages::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

/// First version that names topics by id too.
const BY_ID: i16 = 6;

/// First version that knows TOPIC_DELETION_DISABLED.
const KNOWS_DISABLED: i16 = 3;

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: DeleteTopicsRequest<'_>,
) -> Result<Response, CloseReason> {
    let known = shard.image().topics().len();
    bounded(
        request.topics.len() + request.topic_names.len(),
        known + NAMED_PER_REQUEST_MAX,
    )?;
    let asked: Vec<TopicRef> = if ctx.version >= BY_ID {
        let topics = request.topics.iter();
        topics
            .map(|t| TopicRef {
                name: t.name.map(str::to_owned),
                id: t.topic_id,
            })
            .collect()
    } else {
        let names = request.topic_names.iter();
        names
            .map(|name| TopicRef {
                name: Some(name.to_owned()),
                id: Uuid::ZERO,
            })
            .collect()
    };
    let (allowed, mut answers) = authorise(shard, ctx, asked);
    let limit = limit(request.timeout_ms);
    if !allowed.is_empty() {
        let call = Call::Control(control::Request::DeleteTopics(allowed.clone()));
        let refusal = match shard
            .ring
            .timeout(limit, shard.call(ShardId(0), call))
            .await
        {
            Ok(Reply::Control(control::Reply::DeleteTopics(mut deleted))) => {
                answers.append(&mut deleted);
                None
            }
            Ok(Reply::Control(control::Reply::Refused(refusal))) => Some(refusal),
            Ok(_) => Some(Refusal {
                code: ErrorCode::UnknownServerError,
                message: "the control task gave another answer".to_owned(),
            }),
            Err(_) => Some(timed_out()),
        };
        if let Some(refusal) = refusal {
            answers.extend(allowed.into_iter().map(|asked| TopicDeletion {
                asked,
                result: Err(refusal.clone()),
            }));
        }
    }
    Ok(answer(shard, ctx, &answers).await)
}

/// Splits off what the principal may not delete; it does not even learn the name behind an id.
fn authorise(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    asked: Vec<TopicRef>,
) -> (Vec<TopicRef>, Vec<TopicDeletion>) {
    let image = shard.image();
    let (mut allowed, mut refused) = (Vec::new(), Vec::new());
    for topic in asked {
        let by_id = image.topic_by_id(&topic.id).map(|t| &*t.name);
        let may = match topic.name.as_deref().or(by_id) {
            Some(name) => ctx.allows(shard, Operation::Delete, Resource::Topic(name)),
            None => true,
        };
        if may {
            allowed.push(topic);
        } else {
            refused.push(TopicDeletion {
                asked: topic,
                result: Err(Refusal {
                    code: ErrorCode::TopicAuthorizationFailed,
                    message: "Authorization failed.".to_owned(),
                }),
            });
        }
    }
    (allowed, refused)
}

async fn answer(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    answers: &[TopicDeletion],
) -> Response {
    let responses: Vec<DeletableTopicResult<'_>> = answers
        .iter()
        .map(|topic| {
            let mut out = DeletableTopicResult {
                name: topic.asked.name.as_deref(),
                topic_id: topic.asked.id,
                ..DeletableTopicResult::default()
            };
            match &topic.result {
                Ok(deleted) => {
                    out.name = Some(&deleted.name);
                    out.topic_id = deleted.id;
                }
                Err(refusal) => {
                    let code = match refusal.code {
                        ErrorCode::TopicDeletionDisabled if ctx.version < KNOWS_DISABLED => {
                            ErrorCode::InvalidRequest
                        }
                        code => code,
                    };
                    out.error_code = code.code();
                    out.error_message = Some(&refusal.message);
                }
            }
            out
        })
        .collect();
    let body = DeleteTopicsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        responses: Array::Slice(&responses),
    };
    ctx.respond(shard, &body).await
}
