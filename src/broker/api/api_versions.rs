//! ApiVersions: what is served, and who asks.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::shard::Shard;
use crate::wire::api::ApiKey;
use crate::wire::array::Array;
use crate::wire::message::Message;
use crate::wire::messages::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, SupportedFeatureKey,
};
use crate::wire::read::Reader;

/// The newest version whose body we can read; newer ones than are served are answered with an
/// error, but their client has said who it is.
const READABLE: i16 = 5;

/// First version that carries the client's name.
const NAMED: i16 = 3;

/// First version whose clients accept features that may be at level 0 (KAFKA-17011).
const LEVEL_ZERO: i16 = 4;

/// Features that Kafka's clients look for; none is switched on, which level 0 says.
const FEATURES: [SupportedFeatureKey<'static>; 4] = [
    feature("group.version"),
    feature("share.version"),
    feature("streams.version"),
    feature("transaction.version"),
];

const fn feature(name: &'static str) -> SupportedFeatureKey<'static> {
    SupportedFeatureKey {
        name,
        min_version: 0,
        max_version: 0,
    }
}

/// Answers it; the version may be one that is not served.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    body: &mut Reader<'_>,
) -> Result<Response, CloseReason> {
    let served = ApiKey::ApiVersions.serves(ctx.version);
    if !served {
        if (NAMED..=READABLE).contains(&ctx.version)
            && let Ok(request) = ApiVersionsRequest::decode(body, ctx.version)
            && names_are_valid(&request)
        {
            remember(ctx, &request);
        }
        let ranges = vec![version_range(ApiKey::ApiVersions)];
        let answer = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: ranges.into_iter().flatten().collect(),
            ..ApiVersionsResponse::default()
        };
        return Ok(ctx.respond_as(shard, 0, &answer).await);
    }
    let request = ApiVersionsRequest::decode(body, ctx.version)?;
    let mut answer = ApiVersionsResponse {
        throttle_time_ms: ctx.throttle_ms(shard, 0),
        ..ApiVersionsResponse::default()
    };
    if ctx.version >= NAMED && !names_are_valid(&request) {
        answer.error_code = ErrorCode::InvalidRequest.code();
        return Ok(ctx.respond(shard, &answer).await);
    }
    if ctx.version >= NAMED {
        remember(ctx, &request);
    }
    answer.api_keys = ApiKey::ALL
        .iter()
        .filter_map(|api| version_range(*api))
        .collect();
    if ctx.version >= LEVEL_ZERO {
        answer.supported_features = Array::Slice(&FEATURES);
    }
    answer.finalized_features_epoch = i64::try_from(shard.image().sequence()).unwrap_or(0);
    Ok(ctx.respond(shard, &answer).await)
}

fn version_range(api: ApiKey) -> Option<ApiVersion> {
    let range = api.advertised()?;
    Some(ApiVersion {
        api_key: api.code(),
        min_version: *range.start(),
        max_version: *range.end(),
    })
}

fn remember(ctx: &RequestContext<'_>, request: &ApiVersionsRequest<'_>) {
    ctx.connection.set_software(
        request.client_software_name,
        request.client_software_version,
    );
}

fn names_are_valid(request: &ApiVersionsRequest<'_>) -> bool {
    is_valid(request.client_software_name) && is_valid(request.client_software_version)
}

/// Letters, digits, and between them `-` and `.` (KIP-511). Bounded, since it is kept.
fn is_valid(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 256
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_and_digits_with_dashes_and_dots_between() {
        for good in ["a", "apache-kafka-java", "4.3.1", "2.16.1-rdkafka-2.16.0"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a_b", "é", &"x".repeat(257)] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn old_librdkafka_is_told_that_produce_begins_at_0() {
        let produce = version_range(ApiKey::Produce).unwrap();
        assert_eq!(produce.min_version, 0);
        assert!(!ApiKey::Produce.serves(0));
        assert_eq!(version_range(ApiKey::LeaderAndIsr), None);
    }
}
