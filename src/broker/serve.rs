//! Working on calls of other shards (and of this one).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::ids::ShardId;
use crate::broker::append;
use crate::broker::calls::CallId;
use crate::broker::connection::outbox::Durability;
use crate::broker::connection::{self, writer};
use crate::broker::control;
use crate::broker::gather::{self, Limits};
use crate::broker::message::{Call, FetchCall, Message, ProduceCall, ProduceOutcome, Reply, Words};
use crate::broker::offsets;
use crate::broker::purgatory::Parked;
use crate::broker::reads::{Found, Item};
use crate::broker::session::SessionTopic;
use crate::broker::shard::Shard;
use crate::log::Ticket;

/// Records up to this size are copied for another shard without being counted: they are bounded by
/// the requests in flight.
const UNCOUNTED_BYTES: usize = 4096;
/// How long a fetch for another shard waits at least for memory before it is answered without
/// records.
const LEND_TIME: Duration = Duration::from_secs(1);

/// Receives for ever. Never waits for anything but the next message, so that mailboxes drain.
pub async fn receive(shard: Rc<Shard>) {
    loop {
        let (from, message) = shard.post.recv().await;
        take(&shard, from, message);
    }
}

fn take(shard: &Rc<Shard>, from: ShardId, message: Message) {
    match message {
        Message::Call(id, call) => {
            let parked = match &call {
                Call::Fetch(_) => {
                    let parked = shard.purgatory.enter();
                    let mut served = shard.served.borrow_mut();
                    served.insert((from, id), parked.token());
                    Some(parked)
                }
                _ => None,
            };
            shard.counters.served_calls.add(1);
            let task = answer(shard.clone(), from, id, call, parked);
            shard.ring.spawn(task).detach();
        }
        Message::Reply(id, reply) => shard.calls.deliver(id, reply),
        Message::Hurry(id) => {
            if let Some(token) = shard.served.borrow().get(&(from, id)) {
                shard.purgatory.hurry(*token);
            }
        }
        Message::Returned(bytes) => shard.lent.give_back(bytes),
        Message::Connection(parcel) => connection::adopt(shard, *parcel),
        Message::ConnectionClosed(ip) => shard.acceptors.closed(ip),
        Message::Ready => shard.stages.ready(),
        Message::Stop => shard.stop(),
        Message::Drained => shard.stages.drained(),
        Message::Close => shard.stages.close(),
        Message::Closed => shard.stages.closed(),
        Message::Begin(_) | Message::Abort => debug_assert!(false, "a shard begins once"),
    }
}

async fn answer(shard: Rc<Shard>, from: ShardId, id: CallId, call: Call, parked: Option<Parked>) {
    let reply = match (call, parked) {
        (Call::Fetch(call), Some(parked)) => {
            let reply = fetch(&shard, call, &parked).await;
            shard.served.borrow_mut().remove(&(from, id));
            reply
        }
        (call, _) => serve(&shard, from, call).await,
    };
    shard.post.send(from, Message::Reply(id, reply)).await;
}

/// Works on a call that shard `from` makes, and gives its reply.
pub async fn serve(shard: &Rc<Shard>, from: ShardId, call: Call) -> Reply {
    match call {
        Call::Produce(call) => produce(shard, from, call).await,
        Call::Fetch(call) => {
            let parked = shard.purgatory.enter();
            fetch(shard, call, &parked).await
        }
        Call::Offsets(queries) => {
            let mut outcomes = Vec::with_capacity(queries.len());
            for query in queries {
                outcomes.push(offsets::offset(shard, query).await);
            }
            Reply::Offsets(outcomes)
        }
        Call::Epochs(queries) => Reply::Epochs(
            queries
                .into_iter()
                .map(|query| offsets::epoch_end(shard, query))
                .collect(),
        ),
        Call::Control(request) => Reply::Control(control::serve(shard, request).await),
        Call::Apply(image) => Reply::Applied(crate::broker::apply::apply(shard, image).await),
    }
}

async fn produce(shard: &Rc<Shard>, from: ShardId, call: ProduceCall) -> Reply {
    // Where there is no room an append waits in the middle of a call, and what was let in later
    // could go on before it. Calls come in the order in which a connection's requests did, and
    // tasks begin in the order in which they were made: whoever waits here first came first.
    let turn = shard.appending[usize::from(from.0)].acquire(1).await;
    let bytes = call.batches.iter().map(|(_, batch)| batch.len()).sum();
    shard.log.admit(bytes).await;
    let mut outcomes: Vec<ProduceOutcome> = Vec::with_capacity(call.batches.len());
    let mut tickets: SmallVec<[(Ticket, usize); 8]> = SmallVec::new();
    let mut words = Words::default();
    for (key, batch) in &call.batches {
        let (mut outcome, ticket) = append::append(shard, key, call.version, batch).await;
        if let Some(ticket) = ticket {
            tickets.push((ticket, outcomes.len()));
        }
        words.bound(&mut outcome);
        outcomes.push(outcome);
    }
    drop(turn);
    drop(call.batches);
    let durability = Durability::of_acks(call.acks).unwrap_or_default();
    if durability != Durability::None {
        for (ticket, place) in tickets {
            if let Err(code) = writer::wait(shard, ticket, durability, call.deadline).await {
                outcomes[place] = ProduceOutcome::failed(code);
            }
        }
    }
    Reply::Produce(outcomes)
}

async fn fetch(shard: &Rc<Shard>, call: FetchCall, parked: &Parked) -> Reply {
    // the connection's shard knows what the topics are called
    let nameless: Arc<str> = "".into();
    let mut items: Vec<Item> = call
        .wanted
        .into_iter()
        .map(|(key, wanted)| Item {
            topic: SessionTopic::Name(nameless.clone()),
            slot: None,
            key: Some(key),
            owner: shard.id,
            wanted,
            found: Found::default(),
            included: true,
        })
        .collect();
    let limits = Limits {
        min_bytes: call.min_bytes,
        max_bytes: call.max_bytes,
        at_least_one: call.at_least_one,
        deadline: call.deadline,
        version: call.version,
        from_files: false,
    };
    gather::gather_here(shard, &mut items, limits, parked).await;
    let lent = lend(shard, &mut items, limits).await;
    let mut outcomes = Vec::with_capacity(items.len());
    for item in items {
        let found = gather::into_outcome(shard, item.found).await;
        shard.counters.bytes_out.add(found.records.len() as u64);
        outcomes.push(found);
    }
    Reply::Fetch(outcomes, lent)
}

/// Sees to memory for copies of what was found. Where there is none for long, nothing is found.
async fn lend(shard: &Rc<Shard>, items: &mut [Item], limits: Limits) -> u64 {
    let found = |items: &[Item]| items.iter().map(|i| i.found.bytes).sum::<usize>();
    let bytes = found(items);
    if bytes <= UNCOUNTED_BYTES {
        return 0;
    }
    let lent = (bytes as u64).min(shard.lent.total_bytes());
    if shard.lent.try_lend(lent) {
        return lent;
    }
    // what waits holds nothing meanwhile
    for item in items.iter_mut() {
        item.found.leave();
    }
    let deadline = limits.deadline.max(shard.ring.now() + LEND_TIME);
    let came = shard.ring.deadline(deadline, shard.lent.lend(lent)).await;
    if came.is_err() {
        return 0;
    }
    let limits = Limits {
        max_bytes: bytes,
        ..limits
    };
    gather::read_here(shard, items, limits).await;
    lent
}
