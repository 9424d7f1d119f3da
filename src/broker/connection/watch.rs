//! Seeing that a client is gone while its fetch waits for data.
//!
//! Nobody receives meanwhile, so that an end would only be seen after the fetch. One wait, begun by
//! the first fetch that may wait and kept for the connection's life, costs the others nothing.

use std::rc::Rc;

use crate::broker::connection::Connection;
use crate::broker::shard::Shard;
use crate::broker::transport::Transport;

/// From now on fetches of this connection wait no longer than the client is there. One that only
/// ended its own side is answered with what there is.
pub fn begin(shard: &Rc<Shard>, connection: &Rc<Connection>) {
    // a connection that may still move must have nothing in flight
    let stays = connection.bound.get() || shard.placement.shards() == 1;
    if !stays || connection.watch.borrow().is_some() {
        return;
    }
    let Some(transport) = connection.transport.borrow().clone() else {
        return;
    };
    let task = wait(shard.clone(), connection.clone(), transport);
    *connection.watch.borrow_mut() = Some(shard.ring.spawn(task));
}

async fn wait(shard: Rc<Shard>, connection: Rc<Connection>, transport: Transport) {
    // an error is an end too
    let _ = transport.hung_up().await;
    connection.gone.set(true);
    if let Some(token) = connection.parked.get() {
        shard.purgatory.hurry(token);
    }
}
