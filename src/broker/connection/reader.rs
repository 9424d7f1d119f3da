//! The task of a connection: receives, cuts into frames, works on them in order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::base::time::Monotonic;
use crate::broker::api::{self, CloseReason, RequestContext};
use crate::broker::connection::foreign::Foreign;
use crate::broker::connection::input::Input;
use crate::broker::connection::{Connection, writer};
use crate::broker::counters::Stage;
use crate::broker::message::{ConnectionParcel, Message};
use crate::broker::route;
use crate::broker::shard::Shard;
use crate::broker::transport::Transport;
use crate::wire::api::ApiKey;
use crate::wire::frame::{self, LENGTH_BYTES, Split};
use crate::wire::message::Message as _;
use crate::wire::messages::ProduceRequest;

/// Requests of one connection whose answers wait. Java sends 5, librdkafka a million at will.
const OPEN_ANSWERS: usize = 64;
/// Bytes of such requests; a single larger one still goes through.
const OPEN_BYTES: usize = 8 << 20;

enum Ended {
    /// The client sends no more; everything was answered.
    Done,
    /// It is to go to another shard, with what was received and not worked on.
    HandOff(ShardId, Vec<u8>),
}

/// Serves a connection until it ends or moves.
pub async fn serve(shard: Rc<Shard>, connection: Rc<Connection>, unread: Vec<u8>) {
    let place = shard.connections.borrow_mut().insert(connection.clone());
    shard.counters.connections.add(1);
    let transport = connection.transport.borrow().clone();
    let ended = match transport {
        Some(transport) => work(&shard, &connection, transport, unread).await,
        None => Ok(Ended::Done),
    };
    if let Err(reason) = &ended
        && reason.is_of_a_request()
    {
        // what was acked by then is answered all the same
        connection.outbox.below(0, 0).await;
    }
    shard.connections.borrow_mut().remove(place);
    shard.counters.connections.sub(1);
    match ended {
        Ok(Ended::HandOff(to, unread)) => hand_off(&shard, &connection, to, unread).await,
        Ok(Ended::Done) => close(&shard, &connection).await,
        Err(reason) => {
            report(&shard, &connection, &reason);
            connection.cut("closed");
            close(&shard, &connection).await;
        }
    }
    shard.changed.notify_all();
}

async fn close(shard: &Rc<Shard>, connection: &Rc<Connection>) {
    connection.outbox.close();
    connection.watch.borrow_mut().take();
    if let Some(writer) = connection.writer.borrow_mut().take() {
        writer.detach();
    }
    shard.close_session(connection.session.get());
    connection.transport.borrow_mut().take();
    let gone = Message::ConnectionClosed(connection.peer.ip());
    if shard.id == ShardId(0) {
        shard.acceptors.closed(connection.peer.ip());
    } else {
        shard.post.send(ShardId(0), gone).await;
    }
}

async fn hand_off(shard: &Rc<Shard>, connection: &Rc<Connection>, to: ShardId, unread: Vec<u8>) {
    // all is answered: the writer has nothing to do, and lets go of the socket
    connection.outbox.close();
    let writer = connection.writer.borrow_mut().take();
    if let Some(writer) = writer {
        writer.await;
    }
    let Some(transport) = connection.transport.borrow_mut().take() else {
        return;
    };
    let session = shard.close_session(connection.session.get());
    match transport.into_parcel() {
        Ok(socket) => {
            shard.counters.handed_off.add(1);
            let parcel = ConnectionParcel {
                socket,
                peer: connection.peer,
                listener: connection.listener,
                software: connection.software(),
                unread,
                session: session.map(Box::new),
                bound: true,
                muted_until: connection.muted_until.get(),
            };
            shard
                .post
                .send(to, Message::Connection(Box::new(parcel)))
                .await;
        }
        Err(_) => {
            tracing::error!(peer = %connection.peer, "a connection in use was to be handed over");
            close(shard, connection).await;
        }
    }
}

fn report(shard: &Shard, connection: &Connection, reason: &CloseReason) {
    let peer = connection.peer;
    if let Some(complaint) = reason.complaint() {
        shard.counters.connections_malformed.add(1);
        if let Some(more) = shard.complaints.allow(complaint, shard.ring.now()) {
            tracing::warn!(%peer, %reason, unlogged = more, "connection closed");
        }
        return;
    }
    match reason {
        CloseReason::BrokenAnswer(_) => tracing::error!(%peer, %reason, "connection closed"),
        _ => {
            tracing::debug!(%peer, %reason, "connection closed");
        }
    }
}

async fn work(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    transport: Transport,
    unread: Vec<u8>,
) -> Result<Ended, CloseReason> {
    let arena = shard.ring.arena();
    let max = shard.request_max_bytes;
    let mut input = Input::new();
    input.carry(&unread, arena, &shard.input).await;
    drop(unread);
    // when the first byte of the next frame came, and when the last byte of all
    let mut begun = shard.ring.now();
    let mut latest = begun;
    // it has sent a request, here or where it comes from
    let mut served = connection.bound.get();
    loop {
        match input.split(max) {
            Split::Frame(range) => {
                if shard.stopping.get() {
                    return finish(connection).await;
                }
                let frame_bytes = range.end;
                let frame = &input.unread()[range];
                if !connection.bound.get()
                    && let Some(to) = route::lane_of(shard, connection, frame)
                {
                    connection.bound.set(true);
                    if to != shard.id {
                        connection.outbox.below(0, 0).await;
                        if connection.outbox.is_closed() {
                            return Err(cut(connection));
                        }
                        return Ok(Ended::HandOff(to, input.unread().to_vec()));
                    }
                }
                request(shard, connection, &transport, frame, (begun, latest)).await?;
                input.consume(frame_bytes);
                served = true;
                begun = latest;
                connection.last_active.set(shard.ring.now());
                if connection.outbox.is_closed() {
                    return Err(cut(connection));
                }
                if let Some(until) = connection.muted_until.take() {
                    shard.ring.sleep_until(until).await;
                }
            }
            Split::Incomplete(need) => {
                if shard.stopping.get() && input.is_empty() {
                    return finish(connection).await;
                }
                input.trim();
                connection.outbox.below(OPEN_ANSWERS, OPEN_BYTES).await;
                let pressure = shard.under_pressure();
                let len = input
                    .make_room(&transport, need, pressure, arena, &shard.input)
                    .await?;
                if input.holds() {
                    // only from now on is it the client that others wait for
                    connection.last_active.set(shard.ring.now());
                    connection.receiving.set(true);
                }
                let received = input.receive(&transport, len).await;
                connection.receiving.set(false);
                let n = received?;
                if n == 0 {
                    // the client may only have ended its own side: it still gets its answers
                    return finish(connection).await;
                }
                shard.counters.bytes_received.add(n as u64);
                latest = shard.ring.now();
                if input.unread().len() == n {
                    begun = latest;
                }
                connection.last_active.set(latest);
            }
            Split::TooLarge(length) => {
                let foreign = Foreign::of(input.unread()).filter(|_| !served);
                return Err(match foreign {
                    Some(what) => CloseReason::Foreign {
                        what,
                        protocol: shard.listeners[connection.listener].protocol,
                    },
                    None => CloseReason::FrameTooLarge { length, max },
                });
            }
        }
    }
}

/// Waits until all is answered.
async fn finish(connection: &Connection) -> Result<Ended, CloseReason> {
    connection.outbox.below(0, 0).await;
    if connection.outbox.is_closed() {
        return Err(cut(connection));
    }
    Ok(Ended::Done)
}

fn cut(connection: &Connection) -> CloseReason {
    CloseReason::Cut(connection.closing.get().unwrap_or("closed"))
}

async fn request(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    transport: &Transport,
    frame: &[u8],
    (begun, came): (Monotonic, Monotonic),
) -> Result<(), CloseReason> {
    let frame_bytes = frame.len() + LENGTH_BYTES;
    let received = shard.ring.now();
    let (header, mut body) = frame::request_header(frame)?;
    let (api, version) = (header.api_key, header.api_version);
    if !api.serves(version) && api != ApiKey::ApiVersions {
        return Err(CloseReason::Unsupported { api, version });
    }
    let counters = shard.counters.api(api.code());
    counters.stage(Stage::Received, came - begun);
    let ctx = RequestContext {
        connection,
        api,
        version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        received,
        frame_bytes,
        throttle: Cell::new(Duration::ZERO),
    };
    if api == ApiKey::Produce {
        let request = ProduceRequest::decode(&mut body, version)?;
        // it may have to wait for room in the journal: not idle then
        connection.working.set(true);
        let answer = api::produce::take(shard, &ctx, request).await;
        connection.working.set(false);
        let answer = answer?;
        if let Some(answer) = answer {
            connection.outbox.push(answer);
            let mut running = connection.writer.borrow_mut();
            if running.is_none() {
                let task = writer::run(shard.clone(), connection.clone(), transport.clone());
                *running = Some(shard.ring.spawn(task));
            }
        }
    } else {
        connection.outbox.below(0, 0).await;
        if connection.outbox.is_closed() {
            return Err(cut(connection));
        }
        let turn = shard.ring.now();
        counters.stage(Stage::Decoded, turn - received);
        connection.working.set(true);
        let outcome = api::dispatch(shard, &ctx, body).await;
        let worked = shard.ring.now();
        counters.stage(Stage::Appended, worked - turn);
        let sent = match outcome {
            Ok(mut response) => {
                shard.counters.bytes_out.add(response.record_bytes as u64);
                writer::send(shard, connection, transport, &mut response).await
            }
            Err(reason) => Err(reason),
        };
        connection.working.set(false);
        sent?;
        counters.requests.add(1);
        counters.stage(Stage::Sent, shard.ring.now() - worked);
    }
    if !ctx.throttle.get().is_zero() {
        connection
            .muted_until
            .set(Some(shard.ring.now() + ctx.throttle.get()));
    }
    Ok(())
}
