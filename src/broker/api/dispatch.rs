//! The one point through which every request goes: version range, decoding, handler.

use std::rc::Rc;

use crate::broker::api::{self, CloseReason, RequestContext, Response};
use crate::broker::shard::Shard;
use crate::wire::api::ApiKey;
use crate::wire::message::Message;
use crate::wire::read::Reader;

/// Works on a request other than Produce. All earlier ones of its connection are answered.
pub async fn dispatch(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    mut body: Reader<'_>,
) -> Result<Response, CloseReason> {
    macro_rules! call {
        ($api:ident) => {
            api::$api::handle(shard, ctx, Message::decode(&mut body, ctx.version)?).await
        };
    }
    match ctx.api {
        ApiKey::Fetch => call!(fetch),
        ApiKey::ListOffsets => call!(list_offsets),
        ApiKey::OffsetForLeaderEpoch => call!(offset_for_leader_epoch),
        ApiKey::Metadata => call!(metadata),
        ApiKey::ApiVersions => api::api_versions::handle(shard, ctx, &mut body).await,
        ApiKey::CreateTopics => call!(create_topics),
        ApiKey::DeleteTopics => call!(delete_topics),
        ApiKey::DescribeCluster => call!(describe_cluster),
        ApiKey::DescribeConfigs => call!(describe_configs),
        ApiKey::DescribeTopicPartitions => call!(describe_topic_partitions),
        ApiKey::InitProducerId => call!(init_producer_id),
        api => Err(CloseReason::Unsupported {
            api,
            version: ctx.version,
        }),
    }
}
