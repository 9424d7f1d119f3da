//! Sending answers.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::base::time::Monotonic;
use crate::broker::api::{CloseReason, Response};
use crate::broker::connection::outbox::{Answer, Durability};
use crate::broker::connection::{Connection, amend};
use crate::broker::counters::Stage;
use crate::broker::message::{Reply, Words};
use crate::broker::shard::Shard;
use crate::broker::transport::{Transport, is_of_the_peer};
use crate::log::StorageError;
use crate::log::Ticket;
use crate::log::partition::Part;
use crate::ring::buf::Buf;
use crate::ring::driver::Chain;
use crate::wire::api::ApiKey;

/// Answers of pipelined requests that became true together leave in one piece up to this size.
const TOGETHER_BYTES: usize = 4096;
/// A larger answer leaves from where it was written down: the arena serves in the order of asking, and
/// would have everybody wait for so much in one piece.
const COPIED_BYTES: usize = 64 * 1024;
/// A file range is sent in pieces of this size, so that a slow reader is told from a dead one.
const FILE_BYTES: u64 = 1 << 20;

/// Sends what the connection's outbox holds, each answer when it is true, until the connection
/// ends.
pub async fn run(shard: Rc<Shard>, connection: Rc<Connection>, transport: Transport) {
    let outbox = &connection.outbox;
    let mut together: Vec<Box<Answer>> = Vec::new();
    while let Some(mut answer) = outbox.next().await {
        let refused = settle(&shard, &mut answer).await;
        if let Some(code) = refused {
            tracing::debug!(peer = %connection.peer, %code, "a produce with acks=0 failed");
            connection.cut("a produce with acks=0 failed");
            shard.answers.give(answer);
            break;
        }
        let settled = shard.ring.now();
        answer.settled = settled;
        let mut bytes = answer.bytes.len();
        together.push(answer);
        while bytes < TOGETHER_BYTES
            && let Some(mut next) = outbox.next_if(|a| is_true(&shard, a))
        {
            next.settled = settled;
            bytes += next.bytes.len();
            together.push(next);
        }
        let sent = send_answers(&shard, &connection, &transport, &mut together, bytes).await;
        let now = shard.ring.now();
        connection.last_active.set(now);
        for mut answer in together.drain(..) {
            let counters = shard.counters.api(ApiKey::Produce.code());
            counters.requests.add(1);
            match answer.durability {
                Durability::None => {}
                Durability::Written => {
                    counters.stage(Stage::Written, answer.settled - answer.appended);
                }
                Durability::Flushed => {
                    counters.stage(Stage::Flushed, answer.settled - answer.appended);
                    // the only replica has it
                    counters.stage(Stage::Replicated, Duration::ZERO);
                }
            }
            counters.stage(Stage::Sent, now - answer.settled);
            outbox.done(&answer);
            answer.clear();
            shard.answers.give(answer);
        }
        if let Err(error) = sent {
            tracing::debug!(peer = %connection.peer, %error, "cannot send");
            connection.cut("the client is gone");
            break;
        }
    }
}

async fn send_answers(
    shard: &Shard,
    connection: &Connection,
    transport: &Transport,
    answers: &mut [Box<Answer>],
    bytes: usize,
) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let mut chain = Chain::new();
    if bytes <= COPIED_BYTES {
        let mut buf = shard.ring.arena().alloc(bytes).await;
        let mut at = 0;
        for answer in answers {
            buf[at..at + answer.bytes.len()].copy_from_slice(&answer.bytes);
            at += answer.bytes.len();
        }
        chain.push(buf.freeze(0..at));
    } else {
        for answer in answers.iter_mut().filter(|a| !a.bytes.is_empty()) {
            chain.push(Buf::from(std::mem::take(&mut answer.bytes)));
        }
    }
    connection.sending_since.set(Some(shard.ring.now()));
    let sent = transport.send(chain).await;
    connection.sending_since.set(None);
    sent
}

/// Waits until an answer is true, or makes it say why not. An error comes back only for an answer
/// that is not sent.
async fn settle(shard: &Shard, answer: &mut Answer) -> Option<ErrorCode> {
    // first what stands at fixed places: words of other shards move what comes after them
    for n in 0..answer.tickets.len() {
        let ticket = answer.tickets[n];
        if let Err(code) = wait(shard, ticket, answer.durability, answer.deadline).await {
            answer.fail_group(n, code);
        }
    }
    let mut refused = None;
    let (mut words, mut left) = (BTreeMap::new(), Words::default());
    for (pending, places) in std::mem::take(&mut answer.remote) {
        let Reply::Produce(outcomes) = pending.await else {
            continue;
        };
        for (place, mut outcome) in places.into_iter().zip(outcomes) {
            if answer.bytes.is_empty() {
                refused = refused.or((!outcome.error.is_none()).then_some(outcome.error));
                continue;
            }
            answer.put(place.at, &outcome);
            left.bound(&mut outcome);
            if outcome.message.is_some() || !outcome.bad_records.is_empty() {
                words.insert(place.number, outcome);
            }
        }
    }
    if !words.is_empty()
        && answer.version >= amend::WORDS_FROM
        && let Some(bytes) = amend::with_words(&answer.bytes, answer.version, &words)
    {
        answer.bytes = bytes;
    }
    refused
}

/// Waits until a group is as durable as was asked.
pub async fn wait(
    shard: &Shard,
    ticket: Ticket,
    durability: Durability,
    deadline: Monotonic,
) -> Result<(), ErrorCode> {
    if shard.log.reached(ticket, durability == Durability::Flushed) {
        return Ok(());
    }
    let ended = match durability {
        Durability::None => return Ok(()),
        Durability::Written => {
            shard
                .ring
                .deadline(deadline, shard.log.written(ticket))
                .await
        }
        Durability::Flushed => {
            shard
                .ring
                .deadline(deadline, shard.log.flushed(ticket))
                .await
        }
    };
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(StorageError::Deleted)) => Err(ErrorCode::UnknownTopicOrPartition),
        Ok(Err(_)) => Err(ErrorCode::KafkaStorageError),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

fn is_true(shard: &Shard, answer: &Answer) -> bool {
    let flushed = answer.durability == Durability::Flushed;
    answer.remote.is_empty()
        && !answer.bytes.is_empty()
        && answer
            .tickets
            .iter()
            .all(|t| shard.log.reached(*t, flushed))
}

/// Sends a whole answer: envelope, pages and file ranges, in order.
pub async fn send(
    shard: &Shard,
    connection: &Connection,
    transport: &Transport,
    response: &mut Response,
) -> Result<(), CloseReason> {
    // memory alone leaves in one piece anyway
    let hold = response.pieces.len() > 1
        && response
            .pieces
            .iter()
            .any(|piece| matches!(piece, Part::File { .. }));
    if hold {
        transport.hold(true)?;
    }
    let mut sent = send_pieces(shard, connection, transport, response).await;
    if hold && sent.is_ok() {
        sent = transport.hold(false).map_err(CloseReason::from);
    }
    connection.sending_since.set(None);
    sent
}

async fn send_pieces(
    shard: &Shard,
    connection: &Connection,
    transport: &Transport,
    response: &mut Response,
) -> Result<(), CloseReason> {
    let progress = || connection.sending_since.set(Some(shard.ring.now()));
    let mut chain = Chain::new();
    let mut pieces = response.pieces.drain(..).peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Part::Memory(buf) => chain.push(buf),
            Part::File {
                file,
                position,
                len,
            } => {
                if !chain.is_empty() {
                    progress();
                    transport.send(std::mem::take(&mut chain)).await?;
                }
                let mut sent = 0;
                while sent < len {
                    progress();
                    let want = (len - sent).min(FILE_BYTES);
                    // what follows is read while this goes out
                    let end = sent + want;
                    if end < len {
                        file.read_ahead(position + end, (len - end).min(FILE_BYTES));
                    } else if let Some(Part::File {
                        file,
                        position,
                        len,
                    }) = pieces.peek()
                    {
                        file.read_ahead(*position, (*len).min(FILE_BYTES));
                    }
                    let moved = transport.send_file(&file, position + sent, want).await;
                    match moved {
                        Ok(0) => {
                            shard.counters.broken_answers.add(1);
                            return Err(CloseReason::BrokenAnswer(
                                "the segment ends before its recorded length".to_owned(),
                            ));
                        }
                        Ok(n) => sent += n,
                        Err(error) if is_of_the_peer(&error) => return Err(error.into()),
                        Err(error) => {
                            shard.counters.broken_answers.add(1);
                            return Err(CloseReason::BrokenAnswer(error.to_string()));
                        }
                    }
                }
            }
        }
    }
    if !chain.is_empty() {
        progress();
        transport.send(chain).await?;
    }
    Ok(())
}
