//! Fetch: sessions, waiting for data, and answers whose records are never copied.

use std::rc::Rc;
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{NodeId, PartitionId, PartitionKey, ShardId, TopicId};
use crate::broker::api::create_topics::bounded_partitions;
use crate::broker::api::{CloseReason, RequestContext, Response};
use crate::broker::auth::{Operation, Resource};
use crate::broker::connection::watch;
use crate::broker::gather::{self, Limits};
use crate::broker::lanes;
use crate::broker::reads::{Found, IDS_FROM, Item};
use crate::broker::session::{Context, NamedTopic, Session, SessionTopic, SlotId, Wanted};
use crate::broker::shard::Shard;
use crate::log::partition::Part;
use crate::metadata::Image;
use crate::ring::buf::{Buf, Grant};
use crate::wire::array::Array;
use crate::wire::hot::{FetchAnswer, FetchHead};
use crate::wire::messages::{
    DivergingEpoch, FetchPartition, FetchRequest, FetchTopic, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use crate::wire::records::Records;
use crate::wire::write::Writer;
use smallvec::SmallVec;

/// How long a fetch waits at least for others to let pages go, before it is answered without those.
const HOLD_TIME: Duration = Duration::from_secs(1);
/// Most that a partition takes in the envelope, without its records and its topic.
const PARTITION_BYTES: usize = 96;
/// Most that a topic takes, without its name.
const TOPIC_BYTES: usize = 32;
/// An envelope up to this size is written into the arena. The client decides how large one gets:
/// larger ones take memory of their own, as an arena serves in the order of asking and would have
/// everybody wait for so much in one piece, or could never give it.
const PAGED_BYTES: usize = 1 << 20;
/// How long a fetch waits for that memory.
const ROOM_TIME: Duration = Duration::from_secs(5);

/// `isolation_level` of a consumer that sees whole transactions only.
const READ_COMMITTED: i8 = 1;

/// What stands on top of an answer.
#[derive(Clone, Copy)]
struct Top {
    error: ErrorCode,
    session: i32,
    /// The consumer wants to know of aborted transactions.
    committed: bool,
}

/// Answers a fetch.
pub async fn handle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: FetchRequest<'_>,
) -> Result<Response, CloseReason> {
    bounded_partitions(request.topics.iter().map(|t| t.partitions.len()))?;
    let mut items = shard.items.take();
    let by_id = ctx.version >= IDS_FROM;
    let context = shard.sessions.borrow_mut().begin(
        request.session_id,
        request.session_epoch,
        by_id,
        shard.ring.now(),
    );
    let context = prepare(shard, ctx, &request, context, &mut items);
    let mut top = Top {
        error: ErrorCode::None,
        session: 0,
        committed: request.isolation_level == READ_COMMITTED,
    };
    let (mut lent, mut pages) = (Vec::new(), None);
    if let Context::Refused(code) = context {
        top.error = code;
    } else {
        let mut limits = limits(shard, ctx, &request);
        if limits.min_bytes > 0 && limits.deadline > ctx.received {
            watch::begin(shard, ctx.connection);
            if ctx.connection.gone.get() {
                limits.deadline = ctx.received;
            }
        }
        let parked = shard.purgatory.enter();
        ctx.connection.parked.set(Some(parked.token()));
        lent = gather::gather(shard, &mut items, limits, &parked).await;
        ctx.connection.parked.set(None);
        pages = hold(shard, &mut items, limits).await;
        top.session = settle(shard, ctx, context, &mut items);
    }
    let mut response = respond(shard, ctx, &items, top).await;
    if let Ok(response) = &mut response {
        response.lent = lent;
        response.held.extend(pages);
    }
    items.clear();
    shard.items.give(items);
    response
}

fn limits(shard: &Shard, ctx: &RequestContext<'_>, request: &FetchRequest<'_>) -> Limits {
    let bytes = |n: i32| usize::try_from(n).unwrap_or(0);
    let max_bytes = bytes(request.max_bytes).min(shard.config.fetch.max_bytes);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    Limits {
        min_bytes: bytes(request.min_bytes).min(max_bytes),
        max_bytes,
        at_least_one: true,
        deadline: ctx.received + wait,
        version: ctx.version,
        from_files: false,
    }
}

fn held_bytes(shard: &Shard, items: &[Item]) -> u64 {
    let ours = items.iter().filter(|item| item.owner == shard.id);
    ours.map(|item| item.found.held_bytes() as u64).sum()
}

/// Sees to it that the pages which answers hold until their clients have taken them are few. Where
/// they are many, what is in files comes from there, and what is not only if others let go in time.
async fn hold(shard: &Rc<Shard>, items: &mut [Item], mut limits: Limits) -> Option<Grant> {
    let bytes = held_bytes(shard, items);
    if bytes == 0 {
        return None;
    }
    let pages = &shard.pages;
    let granted = pages.try_grant(bytes.min(pages.total_bytes()));
    if granted.is_some() {
        return granted;
    }
    let found = items.iter().filter(|item| item.owner == shard.id);
    limits.max_bytes = found.map(|item| item.found.bytes).sum();
    limits.from_files = true;
    gather::read_here(shard, items, limits).await;
    let bytes = held_bytes(shard, items).min(pages.total_bytes());
    if bytes == 0 {
        return None;
    }
    let granted = pages.try_grant(bytes);
    if granted.is_some() {
        return granted;
    }
    let leave = |items: &mut [Item]| {
        let held = |item: &&mut Item| item.owner == shard.id && item.found.held_bytes() > 0;
        items
            .iter_mut()
            .filter(held)
            .for_each(|item| item.found.leave());
    };
    leave(items);
    let deadline = limits.deadline.max(shard.ring.now() + HOLD_TIME);
    let granted = shard.ring.deadline(deadline, pages.grant(bytes)).await.ok();
    gather::read_here(shard, items, limits).await;
    if granted.is_none() {
        leave(items);
    }
    granted
}

fn wanted(partition: &FetchPartition) -> Wanted {
    Wanted {
        partition: PartitionId(partition.partition),
        fetch_offset: partition.fetch_offset,
        max_bytes: partition.partition_max_bytes,
        current_leader_epoch: partition.current_leader_epoch,
        last_fetched_epoch: partition.last_fetched_epoch,
    }
}

fn named<'a>(by_id: bool, name: &'a str, id: TopicId) -> NamedTopic<'a> {
    if by_id {
        NamedTopic::Id(id)
    } else {
        NamedTopic::Name(name)
    }
}

/// Brings the session up to date and lists what is wanted.
fn prepare(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    request: &FetchRequest<'_>,
    context: Context,
    items: &mut Vec<Item>,
) -> Context {
    let by_id = ctx.version >= IDS_FROM;
    let image = shard.image();
    let mut list = List {
        shard,
        ctx,
        image: &image,
        follower: request.replica_id >= 0 || request.replica_state.replica_id >= 0,
        items,
        last: None,
    };
    match context {
        Context::Sessionless | Context::Create => {
            for topic in &request.topics {
                list.topic(&topic, by_id);
            }
        }
        Context::Incremental(ref session) => {
            let mut s = session.borrow_mut();
            for topic in &request.topics {
                let name = named(by_id, topic.topic, topic.topic_id);
                if !name.can_exist() {
                    list.topic(&topic, by_id);
                    continue;
                }
                for partition in &topic.partitions {
                    s.want(name, wanted(&partition));
                }
            }
            for topic in &request.forgotten_topics_data {
                for partition in &topic.partitions {
                    let name = named(by_id, topic.topic, topic.topic_id);
                    s.forget(name, PartitionId(partition));
                }
            }
            if s.is_too_large() {
                let id = s.id();
                drop(s);
                drop(context);
                shard.close_session(id);
                list.items.clear();
                return Context::Refused(ErrorCode::FetchSessionIdNotFound);
            }
            list.session(&s);
            let (empty, id) = (s.is_empty(), s.id());
            drop(s);
            if empty {
                drop(context);
                shard.close_session(id);
                return Context::Sessionless;
            }
        }
        Context::Refused(_) => {}
    }
    context
}

/// What a topic that the client names is here.
#[derive(Clone)]
struct Resolved {
    topic: SessionTopic,
    known: Option<(TopicId, u64, i32)>,
    error: ErrorCode,
}

struct List<'l, 'c> {
    shard: &'l Shard,
    ctx: &'l RequestContext<'c>,
    image: &'l Image,
    follower: bool,
    items: &'l mut Vec<Item>,
    last: Option<Resolved>,
}

impl List<'_, '_> {
    fn topic(&mut self, topic: &FetchTopic<'_>, by_id: bool) {
        let resolved = self.resolve(named(by_id, topic.topic, topic.topic_id));
        for partition in &topic.partitions {
            self.push(&resolved, None, wanted(&partition));
        }
    }

    fn session(&mut self, session: &Session) {
        for (slot, topic, wanted) in session.iter() {
            let resolved = match &self.last {
                Some(last) if last.topic == *topic => last.clone(),
                _ => {
                    let resolved = self.resolve(topic.named());
                    self.last = Some(resolved.clone());
                    resolved
                }
            };
            self.push(&resolved, Some(slot), wanted);
        }
    }

    fn resolve(&self, name: NamedTopic<'_>) -> Resolved {
        let (found, missing) = match name {
            NamedTopic::Id(id) => (self.image.topic_by_id(&id), ErrorCode::UnknownTopicId),
            NamedTopic::Name(name) => {
                let found = self.image.topic(name);
                (found, ErrorCode::UnknownTopicOrPartition)
            }
        };
        let topic = match (name, found) {
            (NamedTopic::Id(id), _) => SessionTopic::Id(id),
            (NamedTopic::Name(_), Some(topic)) => SessionTopic::Name(topic.name.clone()),
            (NamedTopic::Name(name), None) => SessionTopic::Name(name.into()),
        };
        let error = match found {
            None => missing,
            Some(found) => {
                let on = Resource::Topic(&found.name);
                if self.ctx.allows(self.shard, Operation::Read, on) {
                    ErrorCode::None
                } else {
                    ErrorCode::TopicAuthorizationFailed
                }
            }
        };
        let partitions = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Resolved {
            topic,
            known: found.map(|t| (t.id, t.ordinal, partitions(t.partitions.len()))),
            error,
        }
    }

    fn push(&mut self, of: &Resolved, slot: Option<SlotId>, wanted: Wanted) {
        let id = wanted.partition;
        let (mut key, mut owner, mut error) = (None, self.shard.id, of.error);
        if let (Some((topic, ordinal, partitions)), true) = (of.known, error.is_none()) {
            if !(0..partitions).contains(&id.0) {
                error = ErrorCode::UnknownTopicOrPartition;
            } else if self.follower {
                // no other machine is a replica of anything here
                error = ErrorCode::UnknownLeaderEpoch;
            } else {
                let partition = id;
                key = Some(PartitionKey { topic, partition });
                owner = self.shard.placement.owner(ordinal, id);
            }
        }
        self.items.push(Item {
            topic: of.topic.clone(),
            slot,
            key,
            owner,
            wanted,
            found: Found::failed(error),
            included: true,
        });
    }
}

/// Makes or updates the session, decides what the answer names. Gives the session's number.
fn settle(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    context: Context,
    items: &mut [Item],
) -> i32 {
    match context {
        Context::Sessionless | Context::Refused(_) => 0,
        Context::Create => {
            let by_id = ctx.version >= IDS_FROM;
            let kept = items.iter().filter(|i| i.topic.named().can_exist()).count();
            if kept == 0 && !items.is_empty() {
                return 0;
            }
            let now = shard.ring.now();
            let random = || shard.ring.random();
            let made = shard.sessions.borrow_mut().create(kept, by_id, now, random);
            shard.count_sessions();
            let Some(session) = made else {
                return 0;
            };
            let mut s = session.borrow_mut();
            for item in items.iter_mut() {
                let topic = item.topic.named();
                if !topic.can_exist() {
                    continue;
                }
                let slot = s.want(topic, item.wanted);
                s.tell(slot, item.found.told());
            }
            let (id, too_large) = (s.id(), s.is_too_large());
            drop(s);
            if too_large {
                drop(session);
                shard.close_session(id);
                return 0;
            }
            ctx.connection.session.set(id);
            id
        }
        Context::Incremental(session) => {
            let mut session = session.borrow_mut();
            let mut served = false;
            for item in items.iter_mut() {
                // what cannot exist is not kept: its error is told whenever it is named
                let Some(slot) = item.slot else {
                    continue;
                };
                item.included = session.tell(slot, item.found.told());
                served |= item.found.bytes > 0;
            }
            if served {
                session.send_back();
            }
            session.id()
        }
    }
}

async fn respond(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    items: &[Item],
    top: Top,
) -> Result<Response, CloseReason> {
    let record_bytes: usize = items.iter().map(|i| i.found.bytes).sum();
    let throttle_ms = ctx.throttle_ms(shard, record_bytes);
    let head = FetchHead {
        throttle_time_ms: throttle_ms,
        error_code: top.error.code(),
        session_id: top.session,
    };
    let mut holes: SmallVec<[usize; 4]> = SmallVec::new();
    let mut write = |w: &mut Writer<'_>| {
        encode(shard, ctx, items, head, top.committed, w);
        debug_assert!(!w.overflowed(), "the envelope is sized from above");
        holes.extend(w.holes().iter().map(|hole| hole.at));
        w.len()
    };
    let bytes = envelope_bytes(ctx, shard, items);
    let mut own = None;
    let envelope = if bytes <= PAGED_BYTES {
        let mut buf = shard.ring.arena().alloc(bytes).await;
        let len = write(&mut Writer::slice(&mut buf));
        buf.freeze(0..len)
    } else {
        own = Some(room(shard, bytes).await?);
        let mut vec = Vec::with_capacity(bytes);
        write(&mut Writer::vec(&mut vec));
        Buf::from(vec)
    };
    let len = envelope.len();
    let mut response = Response {
        record_bytes,
        ..Response::default()
    };
    response.held.extend(own);
    let mut from = 0;
    let with_records = items.iter().filter(|i| i.included && !i.found.is_inline());
    for (at, item) in holes.iter().zip(with_records.filter(|i| i.found.bytes > 0)) {
        if *at > from {
            response
                .pieces
                .push(Part::Memory(envelope.slice(from..*at)));
            from = *at;
        }
        response.pieces.extend(item.found.parts.iter().cloned());
    }
    if len > from {
        response
            .pieces
            .push(Part::Memory(envelope.slice(from..len)));
    }
    Ok(response)
}

/// Room for an envelope that takes memory of its own. This fetch holds what others wait for, so that
/// it does not wait for ever itself.
async fn room(shard: &Shard, bytes: usize) -> Result<Grant, CloseReason> {
    let budget = &shard.lent;
    let bytes = (bytes as u64).min(budget.total_bytes());
    let deadline = shard.ring.now() + ROOM_TIME;
    let granted = shard.ring.deadline(deadline, budget.grant(bytes)).await;
    granted.map_err(|_| CloseReason::Cut("no memory for an answer about so many partitions"))
}

/// What the envelope takes at most; a name counts once where partitions of its topic stand together,
/// as it is written.
fn envelope_bytes(ctx: &RequestContext<'_>, shard: &Shard, items: &[Item]) -> usize {
    let host = ctx.listener(shard).advertised_host.len();
    let rack = shard.config.rack.as_deref().unwrap_or("").len();
    let nodes = usize::from(ctx.view(shard).lanes) * (host + rack + 32);
    let mut of_items = 0;
    let mut last: Option<&SessionTopic> = None;
    for item in items.iter().filter(|i| i.included) {
        if last != Some(&item.topic) {
            last = Some(&item.topic);
            of_items += TOPIC_BYTES
                + match &item.topic {
                    SessionTopic::Id(_) => 16,
                    SessionTopic::Name(name) => name.len(),
                };
        }
        of_items += PARTITION_BYTES;
        if item.found.is_inline() {
            of_items += item.found.bytes;
        }
    }
    64 + nodes + of_items
}

fn encode(
    shard: &Shard,
    ctx: &RequestContext<'_>,
    items: &[Item],
    head: FetchHead,
    committed: bool,
    w: &mut Writer<'_>,
) {
    let shown = || items.iter().filter(|i| i.included);
    let mut topics = 0;
    let mut last: Option<&SessionTopic> = None;
    for item in shown() {
        if last != Some(&item.topic) {
            topics += 1;
            last = Some(&item.topic);
        }
    }
    let mut out = FetchAnswer::begin(ctx.version, ctx.correlation_id, head, topics, w);
    let mut hinted = false;
    let mut rest = shown().peekable();
    while let Some(first) = rest.peek() {
        let topic = &first.topic;
        let n = rest.clone().take_while(|i| i.topic == *topic).count();
        match topic {
            SessionTopic::Id(id) => out.topic("", *id, n, w),
            SessionTopic::Name(name) => out.topic(name, TopicId::ZERO, n, w),
        }
        for item in rest.by_ref().take(n) {
            let hint = hint(shard, ctx, item);
            hinted |= hint.is_some();
            out.partition(&partition_data(item, hint, committed), w);
        }
    }
    if !hinted {
        out.end(&[], w);
        return;
    }
    let listener = ctx.listener(shard);
    let endpoints: Vec<NodeEndpoint<'_>> = ctx
        .view(shard)
        .nodes(shard.node_id(), listener.advertised_port)
        .map(|(node, port)| NodeEndpoint {
            node_id: node.0,
            host: &listener.advertised_host,
            port: i32::from(port),
            rack: shard.config.rack.as_deref(),
        })
        .collect();
    out.end(&endpoints, w);
}

/// The leader that an answer names beside an error about leadership (KIP-951).
fn hint(shard: &Shard, ctx: &RequestContext<'_>, item: &Item) -> Option<(NodeId, i32)> {
    let about_leader = matches!(
        item.found.error.0,
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
    );
    if ctx.version < 16 || !about_leader || item.key.is_none() {
        return None;
    }
    let lane = ShardId(item.owner.0 % ctx.view(shard).lanes);
    Some((lanes::node(shard.node_id(), lane), item.found.leader_epoch))
}

fn partition_data<'i>(
    item: &'i Item,
    hint: Option<(NodeId, i32)>,
    committed: bool,
) -> PartitionData<'i> {
    let found = &item.found;
    let records = match &found.parts[..] {
        [Part::Memory(buf)] if found.is_inline() => Records::Bytes(buf),
        [] => Records::Bytes(&[]),
        _ => Records::Hole(found.bytes),
    };
    let mut data = PartitionData {
        partition_index: item.wanted.partition.0,
        error_code: found.error.0.code(),
        high_watermark: found.high_watermark,
        last_stable_offset: found.last_stable,
        log_start_offset: found.log_start,
        aborted_transactions: if committed && found.error.0.is_none() {
            Array::EMPTY
        } else {
            Array::Null
        },
        preferred_read_replica: -1,
        records,
        ..PartitionData::default()
    };
    if let Some((epoch, end_offset)) = found.diverging {
        data.diverging_epoch = DivergingEpoch { epoch, end_offset };
    }
    if let Some((node, epoch)) = hint {
        data.current_leader = LeaderIdAndEpoch {
            leader_id: node.0,
            leader_epoch: epoch,
        };
    }
    data
}
