//! Accepting connections: on shard 0, which deals them to all shards in turn and counts them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::base::config::NetworkConfig;
use crate::base::ids::ShardId;
use crate::broker::complaints::Complaint;
use crate::broker::connection;
use crate::broker::listener::Binding;
use crate::broker::message::{ConnectionParcel, Message};
use crate::broker::shard::Shard;
use crate::broker::transport::is_of_the_peer;
use crate::ring::sync::Event;
use crate::ring::{Listener, Socket};

/// After an error that waiting may cure: no file descriptors left.
const RETRY: Duration = Duration::from_millis(100);

/// Counts of connections of the whole machine; kept on shard 0, unused elsewhere. `max.connections`
/// and the bound of an address are the machine's and never split: shard 0 accepts, and hears of
/// every end.
#[derive(Default)]
pub struct Acceptors {
    total: Cell<usize>,
    by_ip: RefCell<BTreeMap<IpAddr, usize>>,
    freed: Event,
    turn: Cell<u16>,
}

impl Acceptors {
    /// A connection from that address is gone.
    pub fn closed(&self, ip: IpAddr) {
        let ip = ip.to_canonical();
        self.total.set(self.total.get().saturating_sub(1));
        let mut by_ip = self.by_ip.borrow_mut();
        if let Some(n) = by_ip.get_mut(&ip) {
            *n -= 1;
            if *n == 0 {
                by_ip.remove(&ip);
            }
        }
        drop(by_ip);
        self.freed.notify_all();
    }

    /// Connections open on this machine.
    pub fn total(&self) -> usize {
        self.total.get()
    }

    /// Counts a connection in, unless its address has its share already.
    fn admit(&self, ip: IpAddr, network: &NetworkConfig) -> bool {
        let ip = ip.to_canonical();
        let most = network
            .per_ip_overrides
            .iter()
            .find(|(of, _)| of.to_canonical() == ip)
            .map_or(network.max_connections_per_ip, |(_, most)| *most);
        let mut by_ip = self.by_ip.borrow_mut();
        let n = by_ip.get(&ip).copied().unwrap_or(0);
        if n >= most {
            return false;
        }
        by_ip.insert(ip, n + 1);
        self.total.set(self.total.get() + 1);
        true
    }

    /// Waits until the machine may have one more. As with Kafka, those above `max.connections` are
    /// not refused but wait in the listener's backlog.
    async fn slot(&self, network: &NetworkConfig) {
        while self.total.get() >= network.max_connections {
            self.freed.wait().await;
        }
    }

    fn deal(&self, shards: u16) -> ShardId {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % shards);
        ShardId(turn % shards)
    }
}

/// Accepts on one bound address for ever.
pub async fn run(shard: Rc<Shard>, binding: Binding, listener: Listener) {
    let shards = shard.placement.shards();
    let acceptors = &shard.acceptors;
    loop {
        acceptors.slot(&shard.config.network).await;
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // reset before it was taken in: others must not wait for that
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                let now = shard.ring.now();
                if let Some(more) = shard.complaints.allow(Complaint::Accept, now) {
                    tracing::warn!(%error, unlogged = more, "cannot accept a connection");
                }
                shard.ring.sleep(RETRY).await;
                continue;
            }
        };
        if !acceptors.admit(peer.ip(), &shard.config.network) {
            shard.counters.connections_refused.add(1);
            let now = shard.ring.now();
            if let Some(more) = shard.complaints.allow(Complaint::Refused, now) {
                tracing::warn!(%peer, unlogged = more, "refused: max.connections.per.ip is reached");
            }
            continue;
        }
        tune(&shard, &socket);
        let to = binding.lane.map_or_else(|| acceptors.deal(shards), ShardId);
        give(&shard, to, socket, peer, binding.listener).await;
    }
}

fn tune(shard: &Shard, socket: &Socket) {
    let network = &shard.config.network;
    let size = |bytes: Option<u32>| bytes.map(|n| n as usize);
    let tuned = socket.tune(
        size(network.send_buffer_bytes),
        size(network.receive_buffer_bytes),
    );
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot set the buffer sizes of a socket");
    }
}

async fn give(shard: &Rc<Shard>, to: ShardId, socket: Socket, peer: SocketAddr, listener: usize) {
    if to == shard.id {
        connection::start(shard, socket, peer, listener);
        return;
    }
    match socket.into_parcel() {
        Ok(socket) => {
            let parcel = ConnectionParcel {
                socket,
                peer,
                listener,
                software: None,
                unread: Vec::new(),
                session: None,
                bound: false,
                muted_until: None,
            };
            shard
                .post
                .send(to, Message::Connection(Box::new(parcel)))
                .await;
        }
        Err(socket) => connection::start(shard, socket, peer, listener),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::BrokerConfig;

    fn network() -> NetworkConfig {
        NetworkConfig {
            max_connections: 3,
            max_connections_per_ip: 2,
            per_ip_overrides: vec![([10, 0, 0, 9].into(), 0)],
            ..BrokerConfig::default().network
        }
    }

    #[test]
    fn each_address_has_its_share() {
        let (acceptors, network) = (Acceptors::default(), network());
        let one: IpAddr = [10, 0, 0, 1].into();
        assert!(acceptors.admit(one, &network));
        assert!(acceptors.admit(one, &network));
        assert!(!acceptors.admit(one, &network));
        assert!(
            !acceptors.admit([10, 0, 0, 9].into(), &network),
            "overridden to none"
        );
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert!(!acceptors.admit(mapped, &network), "the same address");
        acceptors.closed(mapped);
        assert!(acceptors.admit(one, &network));
        assert_eq!(acceptors.total(), 2);
    }

    #[test]
    fn connections_are_dealt_in_turn() {
        let acceptors = Acceptors::default();
        let dealt: Vec<u16> = (0..5).map(|_| acceptors.deal(3).0).collect();
        assert_eq!(dealt, [0, 1, 2, 0, 1]);
    }
}
