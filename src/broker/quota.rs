//! Quotas: how long a connection is muted after an answer (KIP-219).

use std::time::Duration;

use crate::broker::auth::Principal;
use crate::wire::api::ApiKey;

/// What a request used.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// Who asked.
    pub principal: &'a Principal,
    /// As whom.
    pub client_id: Option<&'a str>,
    /// For what.
    pub api: ApiKey,
    /// Bytes of the request's frame.
    pub request_bytes: usize,
    /// Bytes of record data handed out.
    pub response_bytes: usize,
    /// Time it kept the shard busy.
    pub busy: Duration,
}

/// Counts usage and names the pause that follows from it. The answer goes out first and carries
/// the pause as its throttle time; then the connection is not read for that long.
pub trait Quotas {
    /// Notes the usage; zero when it is within its bounds.
    fn charge(&self, usage: Usage<'_>) -> Duration;
}

/// No quotas are set.
pub struct Unlimited;

impl Quotas for Unlimited {
    fn charge(&self, _: Usage<'_>) -> Duration {
        Duration::ZERO
    }
}
