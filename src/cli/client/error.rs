//! What can go wrong between us and a broker.

use std::io;
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::wire::api::ApiKey;
use crate::wire::error::DecodeError;

/// A request that got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error(
        "no broker at {address}: {source}; start one with `corelane serve`, or name another with --bootstrap"
    )]
    Connect {
        /// Where.
        address: String,
        /// The system's word.
        source: io::Error,
    },
    /// The name of a host means nothing.
    #[error("{address} is no address: {source}")]
    Address {
        /// What was given.
        address: String,
        /// The system's word.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the broker at {address} closed the connection: {source}")]
    Broken {
        /// Whose.
        address: String,
        /// The system's word.
        source: io::Error,
    },
    /// The broker takes too long.
    #[error("the broker at {address} did not answer within {timeout:?}; see --timeout")]
    Timeout {
        /// Whose.
        address: String,
        /// For how long.
        timeout: Duration,
    },
    /// The answer is no answer.
    #[error("the answer of {address} can't be read: {source}")]
    Decode {
        /// Whose.
        address: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// The answer belongs to another request, or is too large.
    #[error("the broker at {address} breaks the protocol: {what}")]
    Protocol {
        /// Whose.
        address: String,
        /// How.
        what: String,
    },
    /// The broker knows no version that this client knows.
    #[error("the broker at {address} serves no version of {api} that this client speaks")]
    Version {
        /// Whose.
        address: String,
        /// Which request.
        api: ApiKey,
    },
    /// An error code.
    #[error("{what}: {code}{}", detail(.message))]
    Refused {
        /// What was asked.
        what: String,
        /// The code.
        code: Code,
        /// The broker's own words.
        message: Option<String>,
    },
    /// No leader to send to.
    #[error("{topic} has no partition {partition}; see `corelane topic describe {topic}`")]
    NoPartition {
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
    },
}

fn detail(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or(String::new(), |m| format!(" ({m})"))
}

/// An error code, known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i16);

impl Code {
    /// The code, if it has a name.
    pub fn known(self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.0)
    }

    /// True where the same request may succeed later, perhaps elsewhere.
    pub fn is_retriable(self) -> bool {
        use ErrorCode::*;
        matches!(
            self.known(),
            Some(
                CorruptMessage
                    | UnknownTopicOrPartition
                    | LeaderNotAvailable
                    | NotLeaderOrFollower
                    | RequestTimedOut
                    | ReplicaNotAvailable
                    | NetworkException
                    | CoordinatorLoadInProgress
                    | CoordinatorNotAvailable
                    | NotCoordinator
                    | NotEnoughReplicas
                    | NotEnoughReplicasAfterAppend
                    | NotController
                    | KafkaStorageError
                    | FencedLeaderEpoch
                    | UnknownLeaderEpoch
                    | UnknownTopicId
                    | OffsetNotAvailable
                    | ThrottlingQuotaExceeded
            )
        )
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.known() {
            Some(code) => code.fmt(f),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl ClientError {
    /// An error unless the code is NONE.
    pub fn check(
        code: i16,
        message: Option<&str>,
        what: impl FnOnce() -> String,
    ) -> Result<(), ClientError> {
        match code {
            0 => Ok(()),
            code => Err(ClientError::Refused {
                what: what(),
                code: Code(code),
                message: message.map(str::to_owned),
            }),
        }
    }

    /// True where another try may succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Refused { code, .. } => code.is_retriable(),
            ClientError::Broken { .. } | ClientError::Connect { .. } => true,
            _ => false,
        }
    }
}
