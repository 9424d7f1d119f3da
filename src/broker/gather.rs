//! Collecting what a fetch wants, from this shard and from others, waiting until there is enough.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use smallvec::SmallVec;

use crate::base::error_code::ErrorCode;
use crate::base::ids::ShardId;
use crate::base::time::Monotonic;
use crate::broker::calls::Pending;
use crate::broker::message::{Call, FetchCall, FetchOutcome, Message, Reply};
use crate::broker::purgatory::Parked;
use crate::broker::reads::{Code, Found, Item, Round};
use crate::broker::shard::Shard;
use crate::log::partition::Part;
use crate::ring::buf::Buf;

/// What a fetch may take and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wait until so many bytes are there.
    pub min_bytes: usize,
    /// Stop at so many.
    pub max_bytes: usize,
    /// A first batch is given even above that.
    pub at_least_one: bool,
    /// Wait until then at most.
    pub deadline: Monotonic,
    /// Version of the request.
    pub version: i16,
}

/// Bytes that one other shard copies for one fetch at most.
const FORWARDED_BYTES: usize = 8 << 20;

/// Fills in what there is for every item that has a key.
pub async fn gather(shard: &Rc<Shard>, items: &mut [Item], limits: Limits) {
    let mut owners: SmallVec<[ShardId; 8]> = SmallVec::new();
    for item in items.iter() {
        if item.key.is_some() && item.owner != shard.id && !owners.contains(&item.owner) {
            owners.push(item.owner);
        }
    }
    if owners.is_empty() {
        let parked = shard.purgatory.enter();
        gather_here(shard, items, limits, &parked).await;
        return;
    }
    shard.counters.forwarded_requests.add(1);
    let ours = items.iter().any(|i| i.key.is_some() && i.owner == shard.id);
    let sources = owners.len() + usize::from(ours);
    let mut enough = limits.min_bytes.div_ceil(sources);
    loop {
        let bytes = gather_once(shard, items, &owners, sources, enough, limits).await;
        let urgent = items.iter().any(|i| i.found.is_urgent());
        let over = shard.ring.now() >= limits.deadline || shard.stopping.get();
        if urgent || over || bytes >= limits.min_bytes || enough >= limits.min_bytes {
            return;
        }
        // each source had its share, all together not enough: ask for more of each
        enough = (enough * 2).min(limits.min_bytes);
    }
}

/// Fills in what this shard has, and waits here until that is enough.
pub async fn gather_here(shard: &Rc<Shard>, items: &mut [Item], limits: Limits, parked: &Parked) {
    let mut watching = false;
    loop {
        let (bytes, urgent) = read_here(shard, items, limits).await;
        let enough = bytes >= limits.min_bytes || urgent;
        let over = shard.ring.now() >= limits.deadline || shard.stopping.get();
        if enough || over || parked.is_hurried() || items.is_empty() {
            break;
        }
        if !watching {
            watching = true;
            shard.counters.parked_fetches.add(1);
            if watch(shard, items, parked) {
                continue;
            }
        }
        if shard
            .ring
            .deadline(limits.deadline, parked.moved())
            .await
            .is_err()
        {
            read_here(shard, items, limits).await;
            break;
        }
    }
    if watching {
        shard.counters.parked_fetches.sub(1);
        unwatch(shard, items, parked);
    }
}

async fn read_here(shard: &Rc<Shard>, items: &mut [Item], limits: Limits) -> (usize, bool) {
    let mut round = Round {
        max_bytes: limits.max_bytes,
        at_least_one: limits.at_least_one,
        version: limits.version,
    };
    let (mut bytes, mut urgent) = (0, false);
    for item in items {
        if let Some(key) = item.key
            && item.owner == shard.id
        {
            item.found = round.read(shard, &key, &item.wanted).await;
        }
        bytes += item.found.bytes;
        urgent |= item.found.is_urgent();
    }
    (bytes, urgent)
}

/// From now on what moves is told. True if something did since it was read, which can only be
/// where a read had to wait for the disk.
fn watch(shard: &Rc<Shard>, items: &[Item], parked: &Parked) -> bool {
    let mut moved = false;
    for item in items.iter().filter(|item| item.owner == shard.id) {
        if let Some(partition) = item.key.and_then(|key| shard.partition(&key)) {
            partition.observe(&shard.observer, parked.token());
            moved |= partition.durable_end().0 > item.found.high_watermark;
        }
    }
    moved
}

fn unwatch(shard: &Rc<Shard>, items: &[Item], parked: &Parked) {
    for item in items.iter().filter(|item| item.owner == shard.id) {
        if let Some(partition) = item.key.and_then(|key| shard.partition(&key)) {
            partition.unobserve(parked.token());
        }
    }
}

/// A question to another shard, and which items it is about.
struct Asked {
    to: ShardId,
    pending: Pending<Reply>,
    items: Vec<usize>,
    reply: Option<Reply>,
}

/// One round over all shards, until one of them has `enough`.
async fn gather_once(
    shard: &Rc<Shard>,
    items: &mut [Item],
    owners: &[ShardId],
    sources: usize,
    enough: usize,
    limits: Limits,
) -> usize {
    let each = Limits {
        max_bytes: (limits.max_bytes / sources).min(FORWARDED_BYTES),
        ..limits
    };
    let (bytes, urgent) = read_here(shard, items, each).await;
    let satisfied = bytes >= limits.min_bytes || urgent;
    let mut asked: Vec<Asked> = Vec::with_capacity(owners.len());
    for owner in owners {
        let of_owner = |item: &Item| item.key.is_some() && item.owner == *owner;
        let indices: Vec<usize> = (0..items.len()).filter(|n| of_owner(&items[*n])).collect();
        let wanted = indices
            .iter()
            .filter_map(|n| Some((items[*n].key?, items[*n].wanted)))
            .collect();
        let pending = shard.calls.open();
        let call = Call::Fetch(FetchCall {
            wanted,
            min_bytes: if satisfied { 0 } else { enough },
            max_bytes: each.max_bytes,
            at_least_one: limits.at_least_one,
            deadline: limits.deadline,
            version: limits.version,
        });
        let message = Message::Call(pending.id(), call);
        shard.post.send(*owner, message).await;
        asked.push(Asked {
            to: *owner,
            pending,
            items: indices,
            reply: None,
        });
    }
    if asked.len() > 1 || sources > 1 {
        let parked = shard.purgatory.enter();
        let bytes = if satisfied {
            0
        } else {
            read_here(shard, items, each).await.0
        };
        if !satisfied && bytes < enough {
            shard.counters.parked_fetches.add(1);
            if !watch(shard, items, &parked) {
                // either way what is there is taken
                let _ = shard
                    .ring
                    .deadline(limits.deadline, first(&mut asked, &parked))
                    .await;
            }
            shard.counters.parked_fetches.sub(1);
            unwatch(shard, items, &parked);
            read_here(shard, items, each).await;
        }
        for one in asked.iter().filter(|one| one.reply.is_none()) {
            let hurry = Message::Hurry(one.pending.id());
            shard.post.send(one.to, hurry).await;
        }
    }
    let mut total: usize = items
        .iter()
        .filter(|i| i.owner == shard.id)
        .map(|i| i.found.bytes)
        .sum();
    for one in asked {
        let reply = match one.reply {
            Some(reply) => reply,
            None => one.pending.await,
        };
        let Reply::Fetch(outcomes) = reply else {
            continue;
        };
        for (n, outcome) in one.items.into_iter().zip(outcomes) {
            total += outcome.records.len();
            items[n].found = copied(outcome);
        }
    }
    total
}

/// Waits for the first reply, or until something moves here.
async fn first(asked: &mut [Asked], parked: &Parked) {
    let mut moved = pin!(parked.moved());
    poll_fn(|cx| {
        let mut any = moved.as_mut().poll(cx).is_ready();
        for one in asked.iter_mut().filter(|one| one.reply.is_none()) {
            if let Poll::Ready(reply) = Pin::new(&mut one.pending).poll(cx) {
                one.reply = Some(reply);
                any = true;
            }
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn copied(outcome: FetchOutcome) -> Found {
    let mut found = Found {
        error: Code(outcome.error),
        high_watermark: outcome.high_watermark,
        log_start: outcome.log_start,
        diverging: outcome.diverging,
        leader_epoch: outcome.leader_epoch,
        bytes: outcome.records.len(),
        parts: SmallVec::new(),
    };
    if !outcome.records.is_empty() {
        found.parts.push(Part::Memory(Buf::from(outcome.records)));
    }
    found
}

/// What a read found, with its bytes copied so that they can cross to another shard. A file that
/// cannot be read fails its partition.
pub async fn into_outcome(shard: &Rc<Shard>, found: Found) -> FetchOutcome {
    let mut outcome = FetchOutcome {
        error: found.error.0,
        high_watermark: found.high_watermark,
        log_start: found.log_start,
        diverging: found.diverging,
        leader_epoch: found.leader_epoch,
        records: Vec::with_capacity(found.bytes),
    };
    for part in found.parts {
        let read = match part {
            Part::Memory(buf) => {
                outcome.records.extend_from_slice(&buf);
                Ok(())
            }
            Part::File {
                file,
                position,
                len,
            } => copy_file(shard, &file, position, len, &mut outcome.records).await,
        };
        if let Err(error) = read {
            tracing::error!(%error, "cannot read a segment for another shard");
            outcome.records.clear();
            outcome.error = ErrorCode::KafkaStorageError;
            outcome.high_watermark = -1;
            outcome.log_start = -1;
            break;
        }
    }
    outcome
}

/// Bytes that one read of a file brings.
const READ_BYTES: usize = 256 * 1024;

async fn copy_file(
    shard: &Rc<Shard>,
    file: &crate::ring::File,
    position: u64,
    len: u64,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done)
            .unwrap_or(READ_BYTES)
            .min(READ_BYTES);
        let buf = shard.ring.arena().alloc(want).await;
        let (read, buf) = file.read_at(buf, 0, want, position + done).await;
        match read? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                out.extend_from_slice(&buf[..n]);
                done += n as u64;
            }
        }
    }
    Ok(())
}
