//! DescribeCluster: machines, never lanes, because admin tools act on machines.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::broker::api::metadata::CLUSTER_OPERATIONS;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::shard::Shard;
use crate::wire::array::Array;
use crate::wire::messages::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

/// Endpoint types of KIP-919.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers it.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: DescribeClusterRequest,
) -> Result<Response, CloseReason> {
    let image = shard.image();
    let listener = ctx.listener(shard);
    let machine = [DescribeClusterBroker {
        broker_id: shard.node_id().0,
        host: &listener.advertised_host,
        port: i32::from(listener.advertised_port),
        rack: shard.config.rack.as_deref(),
        is_fenced: false,
    }];
    let mut answer = DescribeClusterResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        endpoint_type: request.endpoint_type,
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        BROKERS => {
            answer.cluster_id = image.cluster_id();
            answer.controller_id = shard.node_id().0;
            answer.brokers = Array::Slice(&machine);
            if request.include_cluster_authorized_operations {
                answer.cluster_authorized_operations = CLUSTER_OPERATIONS;
            }
        }
        CONTROLLERS => {
            answer.error_code = ErrorCode::MismatchedEndpointType.code();
            answer.error_message = Some(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
                 type CONTROLLER",
            );
        }
        _ => {
            answer.error_code = ErrorCode::UnsupportedEndpointType.code();
            answer.error_message = Some("Unsupported endpoint type");
        }
    }
    Ok(ctx.respond(shard, &answer).await)
}
