//! Produce: appended when it arrives, answered when it is as durable as asked.

use std::rc::Rc;
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{NodeId, PartitionId, PartitionKey, ShardId};
use crate::broker::api::create_topics::bounded_partitions;
use crate::broker::api::{CloseReason, RequestContext};
use crate::broker::append::{self, IDS_FROM};
use crate::broker::auth::{Operation, Resource};
use crate::broker::connection::amend;
use crate::broker::connection::outbox::{Answer, Durability, Place};
use crate::broker::counters::Stage;
use crate::broker::message::{Call, Message, ProduceCall, ProduceOutcome, Words};
use crate::broker::shard::Shard;
use crate::log::Ticket;
use crate::metadata::{Image, Topic};
use crate::ring::buf::Grant;
use crate::wire::hot::ProduceAnswer;
use crate::wire::messages::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use crate::wire::write::Writer;

/// Where a batch is to go.
enum Target {
    Here(PartitionKey),
    Other(ShardId, PartitionKey),
    Nowhere(ProduceOutcome, Option<(NodeId, i32)>),
}

/// Batches for one other shard, and the places of their answers.
struct Parcel {
    to: ShardId,
    batches: Vec<(PartitionKey, Box<[u8]>)>,
    places: Vec<Place>,
}

/// Appends what the request brings, here or on the shards that own it. Gives the answer for the
/// connection's outbox; none with acks=0 unless another shard may still refuse.
pub async fn take(
    shard: &Rc<Shard>,
    ctx: &RequestContext<'_>,
    request: ProduceRequest<'_>,
) -> Result<Option<Box<Answer>>, CloseReason> {
    bounded_partitions(request.topic_data.iter().map(|t| t.partition_data.len()))?;
    // in the order of asking among all connections, so that pipelined requests keep theirs
    shard.log.admit(ctx.frame_bytes).await;
    let image = shard.image();
    let durability = Durability::of_acks(request.acks);
    let mut answer = shard.answers.take();
    answer.version = ctx.version;
    answer.durability = durability.unwrap_or_default();
    answer.received = ctx.received;
    answer.request_bytes = ctx.frame_bytes;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    answer.deadline = ctx.received + timeout.max(append::TIMEOUT_MIN);
    let mut work = Work {
        shard,
        ctx,
        image: &image,
        acks_valid: durability.is_some(),
        answer: &mut answer,
        parcels: Vec::new(),
        copies: None,
        leaders: Vec::new(),
        written: 0,
        words: Words::default(),
        failed: None,
    };
    work.all(&request).await;
    let (parcels, mut copies, failed) = (work.parcels, work.copies, work.failed);
    let counters = shard.counters.api(ctx.api.code());
    answer.appended = shard.ring.now();
    counters.stage(Stage::Appended, answer.appended - ctx.received);
    if !parcels.is_empty() {
        shard.counters.forwarded_requests.add(1);
    }
    for parcel in parcels {
        let bytes = parcel.batches.iter().map(|(_, b)| b.len() as u64).sum();
        let held = copies.as_mut().map(|copies| copies.split(bytes));
        let pending = shard.calls.open_with(held);
        let call = Call::Produce(ProduceCall {
            acks: request.acks,
            version: ctx.version,
            deadline: answer.deadline,
            batches: parcel.batches,
        });
        let message = Message::Call(pending.id(), call);
        shard.post.send(parcel.to, message).await;
        answer.remote.push((pending, parcel.places));
    }
    if durability == Some(Durability::None) {
        answer.bytes.clear();
        if let Some(code) = failed {
            answer.clear();
            shard.answers.give(answer);
            return Err(CloseReason::Unacknowledged(code.name().to_owned()));
        }
        if answer.remote.is_empty() {
            counters.requests.add(1);
            answer.clear();
            shard.answers.give(answer);
            return Ok(None);
        }
    }
    Ok(Some(answer))
}

struct Work<'w, 'c> {
    shard: &'w Rc<Shard>,
    ctx: &'w RequestContext<'c>,
    image: &'w Image,
    acks_valid: bool,
    answer: &'w mut Answer,
    parcels: Vec<Parcel>,
    /// Memory for them.
    copies: Option<Grant>,
    /// Nodes that the answer names as leaders.
    leaders: Vec<NodeId>,
    /// Partitions that stand in the answer.
    written: u32,
    /// What it may still say about errors.
    words: Words,
    failed: Option<ErrorCode>,
}

impl Work<'_, '_> {
    /// Appends and writes the answer down as it goes.
    async fn all(&mut self, request: &ProduceRequest<'_>) {
        let mut bytes = std::mem::take(&mut self.answer.bytes);
        let w = &mut Writer::vec(&mut bytes);
        let topics = request.topic_data.len();
        let (version, id) = (self.ctx.version, self.ctx.correlation_id);
        let mut out = ProduceAnswer::begin(version, id, topics, w);
        for data in &request.topic_data {
            let topic = match version {
                IDS_FROM.. => self.image.topic_by_id(&data.topic_id),
                _ => self.image.topic(data.name),
            };
            out.topic(data.name, data.topic_id, data.partition_data.len(), w);
            self.topic(&data, topic.map(|t| &**t), &mut out, w).await;
        }
        let throttle_ms = self.ctx.throttle_ms(self.shard, 0);
        if self.leaders.is_empty() {
            out.end(throttle_ms, &[], w);
        } else {
            let listener = self.ctx.listener(self.shard);
            let view = self.ctx.view(self.shard);
            let rack = self.shard.config.rack.as_deref();
            let endpoints: Vec<NodeEndpoint<'_>> = view
                .nodes(self.shard.node_id(), listener.advertised_port)
                .filter(|(node, _)| self.leaders.contains(node))
                .map(|(node, port)| NodeEndpoint {
                    node_id: node.0,
                    host: &listener.advertised_host,
                    port: i32::from(port),
                    rack,
                })
                .collect();
            out.end(throttle_ms, &endpoints, w);
        }
        self.answer.bytes = bytes;
    }

    async fn topic(
        &mut self,
        data: &TopicProduceData<'_>,
        topic: Option<&Topic>,
        out: &mut ProduceAnswer,
        w: &mut Writer<'_>,
    ) {
        let may = topic.is_none_or(|topic| {
            let on = Resource::Topic(&topic.name);
            self.ctx.allows(self.shard, Operation::Write, on)
        });
        for part in &data.partition_data {
            let partition = PartitionId(part.index);
            let records = part.records.bytes();
            let at = u32::try_from(w.len() + 4).unwrap_or(u32::MAX);
            let place = Place {
                at,
                number: self.written,
            };
            self.written += 1;
            let mut hint = None;
            let (mut outcome, ticket) = match self.target(topic, may, partition) {
                Target::Here(key) => {
                    append::append(self.shard, &key, self.ctx.version, records).await
                }
                Target::Other(to, key) => {
                    self.reserve().await;
                    self.forward(to, key, records, place);
                    (ProduceOutcome::failed(ErrorCode::None), None)
                }
                Target::Nowhere(outcome, leader) => {
                    hint = leader;
                    (outcome, None)
                }
            };
            self.note(&outcome, ticket, at);
            self.words.bound(&mut outcome);
            write(part.index, &outcome, hint, out, w);
        }
    }

    fn target(&self, topic: Option<&Topic>, may: bool, partition: PartitionId) -> Target {
        let nowhere = |code| Target::Nowhere(ProduceOutcome::failed(code), None);
        let Some(topic) = topic else {
            return nowhere(match self.ctx.version {
                IDS_FROM.. => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            });
        };
        if !may {
            return nowhere(ErrorCode::TopicAuthorizationFailed);
        }
        let Some(state) = topic.partition(partition) else {
            return nowhere(ErrorCode::UnknownTopicOrPartition);
        };
        if !self.acks_valid {
            return nowhere(ErrorCode::InvalidRequiredAcks);
        }
        if state.leader != Some(self.shard.node_id()) {
            let leader = state.leader.map(|node| (node, state.leader_epoch.0));
            let outcome = ProduceOutcome::failed(ErrorCode::NotLeaderOrFollower);
            return Target::Nowhere(outcome, leader);
        }
        let key = PartitionKey {
            topic: topic.id,
            partition,
        };
        match self.shard.owner(topic, partition) {
            owner if owner == self.shard.id => Target::Here(key),
            owner => Target::Other(owner, key),
        }
    }

    /// Sees to memory for copies of all batches of the request, at once: who held some of it and
    /// waited for more could wait for ever.
    async fn reserve(&mut self) {
        if self.copies.is_none() {
            let budget = &self.shard.parcels;
            let bytes = (self.ctx.frame_bytes as u64).min(budget.total_bytes());
            self.copies = Some(budget.grant(bytes).await);
        }
    }

    fn forward(&mut self, to: ShardId, key: PartitionKey, records: &[u8], place: Place) {
        let at = self.parcels.iter().position(|p| p.to == to);
        let at = at.unwrap_or_else(|| {
            self.parcels.push(Parcel {
                to,
                batches: Vec::new(),
                places: Vec::new(),
            });
            self.parcels.len() - 1
        });
        let parcel = &mut self.parcels[at];
        parcel.batches.push((key, records.into()));
        parcel.places.push(place);
    }

    fn note(&mut self, outcome: &ProduceOutcome, ticket: Option<Ticket>, place: u32) {
        if !outcome.error.is_none() {
            self.failed = self.failed.or(Some(outcome.error));
        }
        if let Some(ticket) = ticket
            && self.answer.durability != Durability::None
        {
            self.answer.promise(ticket, place);
        }
    }
}

fn write(
    index: i32,
    outcome: &ProduceOutcome,
    hint: Option<(NodeId, i32)>,
    out: &mut ProduceAnswer,
    w: &mut Writer<'_>,
) {
    let blamed = amend::blamed(outcome);
    let mut response = PartitionProduceResponse {
        index,
        error_code: outcome.error.code(),
        base_offset: outcome.base_offset,
        log_append_time_ms: outcome.log_append_time_ms,
        log_start_offset: outcome.log_start_offset,
        record_errors: blamed[..].into(),
        error_message: outcome.message.as_deref(),
        ..PartitionProduceResponse::default()
    };
    if let Some((node, epoch)) = hint {
        response.current_leader = LeaderIdAndEpoch {
            leader_id: node.0,
            leader_epoch: epoch,
        };
    }
    out.partition(&response, w);
}
