//! A shard: everything that one thread owns.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use crate::base::config::BrokerConfig;
use crate::base::error_code::ErrorCode;
use crate::base::ids::{NodeId, PartitionId, PartitionKey, ShardId};
use crate::broker::acceptor::Acceptors;
use crate::broker::api::init_producer_id::ProducerIds;
use crate::broker::auth::Authorizer;
use crate::broker::calls::{CallId, Calls};
use crate::broker::complaints::{Complaint, Complaints};
use crate::broker::connection::Connection;
use crate::broker::connection::input::SMALL_BYTES;
use crate::broker::connection::outbox::Answer;
use crate::broker::control;
use crate::broker::counters::Counters;
use crate::broker::listener::BoundListener;
use crate::broker::message::{Call, Message, Reply};
use crate::broker::placement::Placement;
use crate::broker::purgatory::Purgatory;
use crate::broker::quota::Quotas;
use crate::broker::reads::Item;
use crate::broker::recycle::Pool;
use crate::broker::refusals::Refusals;
use crate::broker::serve;
use crate::broker::session::{Session, SessionCache};
use crate::broker::stages::Stages;
use crate::log::LogStore;
use crate::log::partition::{Observer, Partition, ReadError};
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::ring::Ring;
use crate::ring::buf::Budget;
use crate::ring::mailbox::Post;
use crate::ring::sync::{Event, Semaphore};
use crate::wire::batch::Scratch;

/// One shard. Tasks share it by `Rc`; nothing in it is borrowed across an await.
pub struct Shard {
    /// Its runtime.
    pub ring: Ring,
    /// Which one it is.
    pub id: ShardId,
    /// The machine's settings.
    pub config: Arc<BrokerConfig>,
    /// Owners of partitions.
    pub placement: Placement,
    /// Listeners, in the order of the configuration.
    pub listeners: Vec<BoundListener>,
    /// The partitions it owns.
    pub log: Rc<LogStore>,
    /// Who may do what.
    pub authorizer: Box<dyn Authorizer>,
    /// Who may use how much.
    pub quotas: Box<dyn Quotas>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Fetch sessions of its connections.
    pub sessions: RefCell<SessionCache>,
    /// Fetches that wait.
    pub purgatory: Rc<Purgatory>,
    /// What the control task keeps; on shard 0 alone.
    pub control: Option<control::State>,
    /// Producer ids that it may hand out.
    pub producer_ids: ProducerIds,
    /// Memory for checking compressed batches.
    pub(crate) scratch: RefCell<Scratch>,
    /// What of idempotent producers has to come before anything else of them.
    pub(crate) refusals: RefCell<Refusals>,
    pub(crate) observer: Rc<dyn Observer>,
    pub(crate) image: RefCell<Arc<Image>>,
    pub(crate) post: Post<Message>,
    pub(crate) calls: Rc<Calls<Reply>>,
    /// Fetches that are served for other shards, with their places in the purgatory.
    pub(crate) served: RefCell<BTreeMap<(ShardId, CallId), u32>>,
    /// By shard that calls: held while one of its produces is appended. Batches of one connection
    /// come to a partition in the order of its requests, however long one of them waits for room.
    pub(crate) appending: Box<[Semaphore]>,
    pub(crate) connections: RefCell<Slab<Rc<Connection>>>,
    pub(crate) acceptors: Acceptors,
    pub(crate) stages: Stages,
    pub(crate) complaints: Complaints,
    /// `socket.request.max.bytes`, or less where memory is scarce.
    pub(crate) request_max_bytes: usize,
    /// Memory for large requests that are being received.
    pub(crate) input: Budget,
    /// Memory for batches on their way to other shards, until those have answered.
    pub(crate) parcels: Budget,
    /// Memory for records copied for other shards, until those have sent them, and for answers that
    /// are too large for the arena.
    pub(crate) lent: Budget,
    /// Pages of the log that answers may hold until their clients have taken them.
    pub(crate) pages: Budget,
    /// By shard: bytes that it lent to this one and that are not in use any more.
    pub(crate) owed: Box<[Cell<u64>]>,
    pub(crate) answers: Pool<Box<Answer>>,
    pub(crate) items: Pool<Vec<Item>>,
    /// No new requests are taken.
    pub(crate) stopping: Cell<bool>,
    /// A connection ended, or the shard began to stop.
    pub(crate) changed: Event,
    /// Some of its partitions could not be made yet: see [`crate::broker::apply`].
    pub(crate) unmade: Cell<bool>,
    /// A new image is being taken, and not shown yet.
    pub(crate) applying: Cell<bool>,
}

impl Shard {
    /// What the cluster knows now. Hold it for one request, not longer.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Shows a newer image to all requests that begin from now on.
    pub(crate) fn show(&self, image: Arc<Image>) {
        self.image.replace(image);
    }

    /// Says that a partition's files cannot be read, unless that was said: who asks asks again.
    pub(crate) fn cannot_read(&self, partition: &Partition, error: &ReadError) {
        let unlogged = match error {
            ReadError::Corrupt { news, .. } => news.then_some(0),
            ReadError::Gone => None, // it was just deleted
            _ => self
                .complaints
                .allow(Complaint::Unreadable, self.ring.now()),
        };
        if let Some(unlogged) = unlogged {
            let partition = partition.dir();
            tracing::error!(partition = %partition.display(), %error, unlogged, "cannot read");
        }
    }

    /// Why this shard does not have a partition that it was asked for.
    pub(crate) fn missing(&self, key: &PartitionKey, by_id: bool) -> ErrorCode {
        if self.log.is_offline(key) {
            return ErrorCode::KafkaStorageError;
        }
        let image = self.image.borrow();
        let topic = image.topic_by_id(&key.topic);
        match topic.is_some_and(|topic| topic.partition(key.partition).is_some()) {
            // not yet, or made in vain
            true => ErrorCode::NotLeaderOrFollower,
            // deleted since it was looked up
            false if by_id => ErrorCode::UnknownTopicId,
            false => ErrorCode::UnknownTopicOrPartition,
        }
    }

    /// Takes no new requests, and answers those that wait for data.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.purgatory.wake_all();
        self.changed.notify_all();
    }

    /// Memory for requests is scarce: idle connections hold none.
    pub(crate) fn under_pressure(&self) -> bool {
        let connections = self.connections.borrow().len() * SMALL_BYTES;
        connections > self.ring.arena().budget_bytes() / 8
    }

    /// This machine's node id.
    pub fn node_id(&self) -> NodeId {
        self.config.node_id
    }

    /// Takes a fetch session out, if it is there and nobody works with it.
    pub fn close_session(&self, id: i32) -> Option<Session> {
        let session = self.sessions.borrow_mut().remove(id);
        self.count_sessions();
        session
    }

    /// Tells the counters how many fetch sessions there are.
    pub fn count_sessions(&self) {
        let sessions = self.sessions.borrow();
        let counted = &self.counters.fetch_sessions;
        counted.add((sessions.len() as u64).wrapping_sub(counted.read()));
        let evicted = &self.counters.fetch_sessions_evicted;
        evicted.add(sessions.evicted().wrapping_sub(evicted.read()));
    }

    /// The shard that owns a partition of a topic.
    pub fn owner(&self, topic: &Topic, partition: PartitionId) -> ShardId {
        self.placement.owner(topic.ordinal, partition)
    }

    /// A partition that this shard owns.
    pub fn partition(&self, key: &PartitionKey) -> Option<Rc<Partition>> {
        self.log.partition(key)
    }

    /// Bytes that another shard lent are not in use any more. It is told once they are many.
    pub(crate) fn owe(&self, to: ShardId, bytes: u64) {
        let owed = &self.owed[usize::from(to.0)];
        owed.set(owed.get() + bytes);
        if owed.get() >= self.lent.total_bytes() / 16 {
            self.repay(to);
        }
    }

    /// Tells another shard what is owed to it. If its mailbox is full it is told another time.
    fn repay(&self, to: ShardId) {
        let owed = &self.owed[usize::from(to.0)];
        let bytes = owed.get();
        if bytes > 0 && self.post.try_send(to, Message::Returned(bytes)).is_ok() {
            owed.set(0);
        }
    }

    /// Tells all others what is owed to them.
    pub(crate) fn repay_all(&self) {
        for n in 0..self.placement.shards() {
            self.repay(ShardId(n));
        }
    }

    /// Asks a shard, possibly this one, and waits for its answer.
    pub async fn call(self: &Rc<Shard>, to: ShardId, call: Call) -> Reply {
        if to == self.id {
            return Box::pin(serve::serve(self, self.id, call)).await;
        }
        let pending = self.calls.open();
        self.post.send(to, Message::Call(pending.id(), call)).await;
        pending.await
    }
}
