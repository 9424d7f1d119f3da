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
use crate::broker::leader;
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
    /// What is in files comes from there.
    pub from_files: bool,
}

/// Bytes that one other shard copies for one fetch at most.
const FORWARDED_BYTES: usize = 8 << 20;

/// Bytes that another shard lent, which are told to be free when this goes.
pub struct Lent {
    shard: Rc<Shard>,
    by: ShardId,
    bytes: u64,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shard.owe(self.by, self.bytes);
    }
}

/// Fills in what there is for every item that has a key. What comes back must be held as long as
/// that is in use.
///
/// Nobody sees all shards at once, so that each is asked for a part of what is missing: when all
/// together have enough, at least one of them has its part. Then what there is is counted, and a
/// smaller rest asked for.
pub async fn gather(
    shard: &Rc<Shard>,
    items: &mut [Item],
    limits: Limits,
    parked: &Parked,
) -> Vec<Lent> {
    let mut owners: SmallVec<[ShardId; 8]> = SmallVec::new();
    for item in items.iter() {
        if item.key.is_some() && item.owner != shard.id && !owners.contains(&item.owner) {
            owners.push(item.owner);
        }
    }
    if owners.is_empty() {
        gather_here(shard, items, limits, parked).await;
        return Vec::new();
    }
    shard.counters.forwarded_requests.add(1);
    let ours = items.iter().any(|i| i.key.is_some() && i.owner == shard.id);
    let sources = owners.len() + usize::from(ours);
    // what others lend for one fetch leaves something for the next one
    let lendable = usize::try_from(shard.lent.total_bytes() / 4).unwrap_or(usize::MAX);
    let each = Limits {
        max_bytes: (limits.max_bytes / sources).min(FORWARDED_BYTES.min(lendable)),
        ..limits
    };
    let mut missing = limits.min_bytes;
    loop {
        let part = missing.div_ceil(sources);
        let lent = gather_once(shard, items, &owners, part, each, parked).await;
        let bytes: usize = items.iter().map(|i| i.found.bytes).sum();
        let urgent = items.iter().any(Item::is_urgent);
        let over = shard.ring.now() >= limits.deadline || shard.stopping.get();
        let full = |owner| bytes_of(items, owner) >= each.max_bytes / 2;
        let full = full(shard.id) || owners.iter().any(|owner| full(*owner));
        if bytes >= limits.min_bytes || urgent || over || full || parked.is_hurried() {
            return lent;
        }
        missing = limits.min_bytes - bytes;
        set_aside(shard.id, items);
        drop(lent);
    }
}

/// Lets go of what other shards copied before it is told to be free: they are about to copy it again.
/// How much it was stays, for the next question.
fn set_aside(here: ShardId, items: &mut [Item]) {
    for item in items.iter_mut().filter(|item| item.owner != here) {
        item.found.parts.clear();
    }
}

fn bytes_of(items: &[Item], owner: ShardId) -> usize {
    let its = items.iter().filter(|item| item.owner == owner);
    its.map(|item| item.found.bytes).sum()
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

/// Reads what this shard has now: bytes, and whether something must be answered at once.
pub async fn read_here(shard: &Rc<Shard>, items: &mut [Item], limits: Limits) -> (usize, bool) {
    let mut round = Round {
        max_bytes: limits.max_bytes,
        at_least_one: limits.at_least_one,
        version: limits.version,
        from_files: limits.from_files,
    };
    // as with Kafka, what cannot be served at all is no reason not to wait for the rest
    let (mut bytes, mut urgent) = (0, items.iter().all(|item| item.key.is_none()));
    for item in items {
        if let Some(key) = item.key
            && item.owner == shard.id
        {
            item.found = round.read(shard, &key, &item.wanted).await;
        }
        bytes += item.found.bytes;
        urgent |= item.is_urgent();
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
            let high_watermark = leader::of(&partition).high_watermark();
            moved |= high_watermark.0 > item.found.high_watermark;
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

/// One round over all shards, until one of them has `part` more than it had in the round before.
async fn gather_once(
    shard: &Rc<Shard>,
    items: &mut [Item],
    owners: &[ShardId],
    part: usize,
    each: Limits,
    parked: &Parked,
) -> Vec<Lent> {
    // one that cannot give more is not asked for more
    let enough = |had: usize| (had + part).min(each.max_bytes / 2);
    let ours = enough(bytes_of(items, shard.id));
    let theirs: SmallVec<[usize; 8]> = owners
        .iter()
        .map(|owner| enough(bytes_of(items, *owner)))
        .collect();
    let (_, urgent) = read_here(shard, items, each).await;
    let at_once = urgent || bytes_of(items, shard.id) >= ours;
    let mut asked: Vec<Asked> = Vec::with_capacity(owners.len());
    for (owner, enough) in owners.iter().zip(theirs) {
        let of_owner = |item: &Item| item.key.is_some() && item.owner == *owner;
        let indices: Vec<usize> = (0..items.len()).filter(|n| of_owner(&items[*n])).collect();
        let wanted = indices
            .iter()
            .filter_map(|n| Some((items[*n].key?, items[*n].wanted)))
            .collect();
        let pending = shard.calls.open();
        let call = Call::Fetch(FetchCall {
            wanted,
            min_bytes: if at_once { 0 } else { enough },
            max_bytes: each.max_bytes,
            at_least_one: each.at_least_one,
            deadline: each.deadline,
            version: each.version,
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
    if !at_once {
        shard.counters.parked_fetches.add(1);
        let mut look = watch(shard, items, parked);
        loop {
            if look {
                let (_, urgent) = read_here(shard, items, each).await;
                if urgent || bytes_of(items, shard.id) >= ours {
                    break;
                }
            }
            // the others know the deadline
            first(&mut asked, parked).await;
            let replied = asked.iter().any(|one| one.reply.is_some());
            if replied || parked.is_hurried() || shard.stopping.get() {
                read_here(shard, items, each).await;
                break;
            }
            look = true;
        }
        shard.counters.parked_fetches.sub(1);
        unwatch(shard, items, parked);
    }
    for one in asked.iter().filter(|one| one.reply.is_none()) {
        let hurry = Message::Hurry(one.pending.id());
        shard.post.send(one.to, hurry).await;
    }
    let mut lent = Vec::new();
    for one in asked {
        let reply = match one.reply {
            Some(reply) => reply,
            None => one.pending.await,
        };
        let Reply::Fetch(outcomes, bytes) = reply else {
            one.items.into_iter().for_each(|n| items[n].found.leave());
            continue;
        };
        if bytes > 0 {
            lent.push(Lent {
                shard: shard.clone(),
                by: one.to,
                bytes,
            });
        }
        for (n, outcome) in one.items.into_iter().zip(outcomes) {
            items[n].found = copied(outcome);
        }
    }
    lent
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
        last_stable: outcome.last_stable,
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
        last_stable: found.last_stable,
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
            outcome.last_stable = -1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PartitionId;
    use crate::broker::session::{SessionTopic, Wanted};

    fn item(owner: u16) -> Item {
        let mut found = Found::failed(ErrorCode::None);
        found.bytes = 2000;
        found
            .parts
            .push(Part::Memory(Buf::from(vec![0; found.bytes])));
        Item {
            topic: SessionTopic::Name("t".into()),
            slot: None,
            key: None,
            owner: ShardId(owner),
            wanted: Wanted {
                partition: PartitionId(0),
                fetch_offset: 0,
                max_bytes: 0,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
            },
            found,
            included: true,
        }
    }

    #[test]
    fn copies_of_other_shards_go_before_they_are_told_to_be_free() {
        let mut items = [item(0), item(1)];
        set_aside(ShardId(0), &mut items);
        let held = items.each_ref().map(|item| item.found.held_bytes());
        assert_eq!(held, [2000, 0]);
        assert_eq!(bytes_of(&items, ShardId(1)), 2000, "what it had");
    }
}
