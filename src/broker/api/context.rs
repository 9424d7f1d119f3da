//! What a handler gets beside its request, and what it gives back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::config::SecurityProtocol;
use crate::base::time::Monotonic;
use crate::broker::auth::{Operation, Principal, Resource};
use crate::broker::complaints::Complaint;
use crate::broker::connection::Connection;
use crate::broker::connection::foreign::Foreign;
use crate::broker::gather::Lent;
use crate::broker::lanes::LaneView;
use crate::broker::listener::BoundListener;
use crate::broker::quota::Usage;
use crate::broker::shard::Shard;
use crate::log::partition::Part;
use crate::ring::buf::{Buf, Grant};
use crate::wire::api::ApiKey;
use crate::wire::error::DecodeError;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::write::Writer;

/// Why a connection is closed by us.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// A request that is not what its version says.
    #[error("malformed request: {0}")]
    Malformed(#[from] DecodeError),
    /// A length that no frame may have.
    #[error("a frame of {length} bytes, at most {max} are taken")]
    FrameTooLarge {
        /// As announced.
        length: i32,
        /// `socket.request.max.bytes`
        max: usize,
    },
    /// The first bytes are those of another protocol.
    #[error("this looks like {what}: the listener speaks {protocol}")]
    Foreign {
        /// What came.
        what: Foreign,
        /// What the listener was made for.
        protocol: SecurityProtocol,
    },
    /// An API or a version of it that is not served.
    #[error("{api} version {version} is not served")]
    Unsupported {
        /// Which.
        api: ApiKey,
        /// Which version.
        version: i16,
    },
    /// With acks=0 that is the only way to say that a produce failed.
    #[error("a produce with acks=0 failed: {0}")]
    Unacknowledged(String),
    /// The length of an answer was sent, its records could not be read.
    #[error("an answer could not be completed: {0}")]
    BrokenAnswer(String),
    /// The socket.
    #[error("socket: {0}")]
    Socket(#[from] std::io::Error),
    /// Decided elsewhere: idle for too long, too slow, the broker stops.
    #[error("{0}")]
    Cut(&'static str),
}

impl CloseReason {
    /// A request is to blame, and no earlier one: those are answered before the end.
    pub fn is_of_a_request(&self) -> bool {
        match self {
            CloseReason::Malformed(_)
            | CloseReason::FrameTooLarge { .. }
            | CloseReason::Foreign { .. }
            | CloseReason::Unsupported { .. }
            | CloseReason::Unacknowledged(_) => true,
            CloseReason::BrokenAnswer(_) | CloseReason::Socket(_) | CloseReason::Cut(_) => false,
        }
    }

    /// What the operator is told of, if the client is to blame for sending what cannot be served.
    pub fn complaint(&self) -> Option<Complaint> {
        Some(match self {
            CloseReason::Malformed(_) => Complaint::Malformed,
            CloseReason::FrameTooLarge { .. } => Complaint::Oversized,
            CloseReason::Foreign { what, .. } => match what {
                Foreign::Tls => Complaint::Tls,
                Foreign::Http => Complaint::Http,
                Foreign::Proxy | Foreign::Ssh => Complaint::OtherProtocol,
            },
            CloseReason::Unsupported { .. } => Complaint::Unsupported,
            _ => return None,
        })
    }
}

/// A request as its handler sees it, without its body.
pub struct RequestContext<'a> {
    /// Whose connection it came on.
    pub connection: &'a Rc<Connection>,
    /// What is asked.
    pub api: ApiKey,
    /// In which version, which is served unless the API is ApiVersions.
    pub version: i16,
    /// Goes back with the answer.
    pub correlation_id: i32,
    /// How the client calls itself.
    pub client_id: Option<&'a str>,
    /// When its last byte had arrived.
    pub received: Monotonic,
    /// Bytes of its frame.
    pub frame_bytes: usize,
    /// How long the connection is muted after the answer.
    pub(crate) throttle: Cell<Duration>,
}

impl RequestContext<'_> {
    /// Who asks.
    pub fn principal(&self) -> &Principal {
        &self.connection.principal
    }

    /// The listener it came to.
    pub fn listener<'s>(&self, shard: &'s Shard) -> &'s BoundListener {
        &shard.listeners[self.connection.listener]
    }

    /// What this client is shown of the shards.
    pub fn view(&self, shard: &Shard) -> LaneView {
        self.connection.view(self.listener(shard))
    }

    /// Whether the principal may.
    pub fn allows(&self, shard: &Shard, operation: Operation, on: Resource<'_>) -> bool {
        shard.authorizer.allows(self.principal(), operation, on)
    }

    /// Charges the request to its quotas; the throttle time for the answer, in ms. The connection
    /// is muted for it after the answer.
    pub fn throttle_ms(&self, shard: &Shard, response_bytes: usize) -> i32 {
        let pause = shard.quotas.charge(Usage {
            principal: self.principal(),
            client_id: self.client_id,
            api: self.api,
            request_bytes: self.frame_bytes,
            response_bytes,
            busy: shard.ring.now() - self.received,
        });
        self.throttle.set(pause);
        i32::try_from(pause.as_millis()).unwrap_or(i32::MAX)
    }

    /// An answer with this body, in the request's version.
    pub async fn respond<'m, M: Message<'m>>(&self, shard: &Shard, body: &M) -> Response {
        self.respond_as(shard, self.version, body).await
    }

    /// An answer with this body in another version: ApiVersions answers unknown ones in 0.
    pub async fn respond_as<'m, M: Message<'m>>(
        &self,
        shard: &Shard,
        version: i16,
        body: &M,
    ) -> Response {
        let size = frame::response_size(version, body);
        if size > PAGED_BYTES {
            let budget = &shard.lent;
            let held = (size as u64).min(budget.total_bytes());
            let held = budget.grant(held).await;
            let mut bytes = Vec::with_capacity(size);
            frame::response(
                version,
                self.correlation_id,
                body,
                &mut Writer::vec(&mut bytes),
            );
            let mut response = Response::from(Buf::from(bytes));
            response.held.push(held);
            return response;
        }
        let mut buf = shard.ring.arena().alloc(size).await;
        let mut writer = Writer::slice(&mut buf);
        frame::response(version, self.correlation_id, body, &mut writer);
        debug_assert!(!writer.overflowed(), "a message knows its size");
        let len = writer.len();
        Response::from(buf.freeze(0..len))
    }
}

/// Answers up to this size are written into the arena; larger ones (Metadata of many partitions)
/// are rare and take memory of their own.
const PAGED_BYTES: usize = 256 * 1024;

/// A whole answer: the frame's bytes in order, some of them still in files.
#[derive(Default)]
pub struct Response {
    /// The pieces.
    pub(crate) pieces: SmallVec<[Part; 4]>,
    /// Bytes of record batches in it.
    pub(crate) record_bytes: usize,
    /// Memory of other shards that it is made of.
    pub(crate) lent: Vec<Lent>,
    /// Memory that it is made of and that answers must not use up.
    pub(crate) held: SmallVec<[Grant; 2]>,
}

impl From<Buf> for Response {
    fn from(frame: Buf) -> Response {
        let mut response = Response::default();
        response.pieces.push(Part::Memory(frame));
        response
    }
}

impl Response {
    /// Bytes of the frame, its length included.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(Part::len).sum()
    }

    /// It has no bytes: nothing is sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}
