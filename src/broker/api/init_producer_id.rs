//! InitProducerId for idempotent producers: an id that no other producer has or will have.
//!
//! Ids come from blocks of the metadata log, one for each shard: an id costs no write, and those of
//! a block that a restart leaves unused are never given away.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::ShardId;
use crate::base::limits::PRODUCER_IDS_PER_BLOCK;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::control;
use crate::broker::message::{Call, Reply};
use crate::broker::shard::Shard;
use crate::ring::sync::Event;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// The producer ids that a shard may give away.
#[derive(Default)]
pub struct ProducerIds {
    block: Cell<Range<i64>>,
    /// A task asks for the next block; the others wait.
    asking: Cell<bool>,
    asked: Event,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        let mut block = self.block.take();
        let id = block.next();
        self.block.set(block);
        id
    }
}

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: InitProducerIdRequest<'_>,
) -> Result<Response, CloseReason> {
    let mut answer = InitProducerIdResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    match check(shard, ctx, &request) {
        Err(error) => answer.error_code = error.code(),
        Ok(()) => match next_id(shard).await {
            Ok(id) => {
                answer.producer_id = id;
                answer.producer_epoch = 0;
            }
            Err(error) => answer.error_code = error.code(),
        },
    }
    Ok(ctx.respond(shard, &answer).await)
}

fn check(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    request: &InitProducerIdRequest<'_>,
) -> Result<(), ErrorCode> {
    match request.transactional_id {
        Some("") => return Err(ErrorCode::InvalidRequest),
        // transactions are not served: final for the client, where a coordinator error would make
        // it ask for ever
        Some(_) => return Err(ErrorCode::UnsupportedVersion),
        None => {}
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    if !ctx.allows(shard, Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    Ok(())
}

async fn next_id(shard: &Rc<Shard>) -> Result<i64, ErrorCode> {
    let ids = &shard.producer_ids;
    loop {
        if let Some(id) = ids.take() {
            return Ok(id);
        }
        if ids.asking.replace(true) {
            ids.asked.wait().await;
            continue;
        }
        // the task goes on when the client that needed the block is gone: others wait for it
        let task = shard.clone();
        let block = shard.ring.spawn(async move {
            let reply = task
                .call(ShardId(0), Call::Control(control::Request::ProducerIds))
                .await;
            let result = match reply {
                Reply::Control(control::Reply::ProducerIds(Ok(first))) => {
                    let block = first..first + PRODUCER_IDS_PER_BLOCK;
                    task.producer_ids.block.set(block);
                    Ok(())
                }
                // clients ask again after this one
                _ => Err(ErrorCode::CoordinatorLoadInProgress),
            };
            task.producer_ids.asking.set(false);
            task.producer_ids.asked.notify_all();
            result
        });
        block.await?;
    }
}
