//! Beginning to serve a connection.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::broker::connection::{Connection, reader};
use crate::broker::message::ConnectionParcel;
use crate::broker::shard::Shard;
use crate::broker::transport::Transport;
use crate::ring::Socket;

/// Serves a connection that was just accepted.
pub fn start(shard: &Rc<Shard>, socket: Socket, peer: SocketAddr, listener: usize) {
    shard.counters.connections_opened.add(1);
    let transport = Transport::over(socket, shard.listeners[listener].protocol);
    let connection = Connection::new(transport, peer, listener, shard.ring.now());
    let task = reader::serve(shard.clone(), Rc::new(connection), Vec::new());
    shard.ring.spawn(task).detach();
}

/// Serves a connection that another shard gave away.
pub fn adopt(shard: &Rc<Shard>, parcel: ConnectionParcel) {
    shard.counters.connections_opened.add(1);
    let socket = shard.ring.adopt(parcel.socket);
    let transport = Transport::over(socket, shard.listeners[parcel.listener].protocol);
    let now = shard.ring.now();
    let connection = Connection::new(transport, parcel.peer, parcel.listener, now);
    if let Some((name, version)) = parcel.software {
        connection.set_software(&name, &version);
    }
    connection.bound.set(parcel.bound);
    connection.muted_until.set(parcel.muted_until);
    if let Some(session) = parcel.session {
        let id = session.id();
        if shard.sessions.borrow_mut().adopt(*session) {
            connection.session.set(id);
            shard.count_sessions();
        }
    }
    let task = reader::serve(shard.clone(), Rc::new(connection), parcel.unread);
    shard.ring.spawn(task).detach();
}
