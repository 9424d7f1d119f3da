//! Listeners as they stand once bound, and the seam under a connection where TLS goes.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::base::config::{BrokerConfig, LaneMode, SecurityProtocol};
use crate::broker::lanes::LaneView;

/// A listener after binding; plain data, the same on all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundListener {
    /// Its name, in capitals.
    pub name: String,
    /// What is spoken there.
    pub protocol: SecurityProtocol,
    /// Where it listens.
    pub address: SocketAddr,
    /// Host that clients are told.
    pub advertised_host: String,
    /// Port that clients are told (of lane 0, where each lane has one).
    pub advertised_port: u16,
    /// How many lanes the listener can show.
    pub lanes: u16,
    /// Lanes have ports of their own, from `advertised_port` on, and are shown to everybody.
    pub lane_ports: bool,
}

impl BoundListener {
    /// What a client on this listener is shown; `may_see_lanes` says whether it is known to cope.
    pub fn view(&self, may_see_lanes: bool) -> LaneView {
        match (self.lane_ports, may_see_lanes) {
            (true, _) => LaneView {
                lanes: self.lanes,
                first_port: Some(self.advertised_port),
            },
            (false, true) => LaneView {
                lanes: self.lanes,
                first_port: None,
            },
            (false, false) => LaneView::ONE_NODE,
        }
    }
}

/// A socket to bind: a listener's own, or one lane's port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Place of the listener in the configuration.
    pub listener: usize,
    /// Where to bind.
    pub address: SocketAddr,
    /// The shard that its connections go to; `None` deals them to all in turn.
    pub lane: Option<u16>,
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host has no address.
    #[error("listener {name}: {host:?} has no address: {reason}")]
    NoAddress {
        /// Of the listener.
        name: String,
        /// As configured.
        host: String,
        /// From the resolver.
        reason: String,
    },
    /// The address is taken, or not ours.
    #[error("listener {name} cannot listen on {address}: {source}{}", advice(.source))]
    Bind {
        /// Of the listener.
        name: String,
        /// As resolved.
        address: SocketAddr,
        /// From the system.
        source: std::io::Error,
    },
}

fn advice(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; stop what listens there (`ss -ltnp` names it), or choose another with --listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        }
        std::io::ErrorKind::AddrNotAvailable => "; the address is none of this machine",
        _ => "",
    }
}

/// What is to be bound, in the order of the configuration.
pub fn bindings(config: &BrokerConfig, shards: u16) -> Result<Vec<Binding>, ListenError> {
    let mut out = Vec::new();
    for (listener, spec) in config.listeners.iter().enumerate() {
        let address = resolve(&spec.name, &spec.host, spec.port)?;
        match lane_ports(config, &spec.name) {
            Some((first, ports)) => {
                let lanes = shards.min(ports).min(lanes_max(config));
                // lane 0 is reached by the listener's own port too
                out.push(Binding {
                    listener,
                    address,
                    lane: None,
                });
                out.extend((0..lanes).map(|n| Binding {
                    listener,
                    address: SocketAddr::new(address.ip(), first + n),
                    lane: Some(n),
                }));
            }
            None => out.push(Binding {
                listener,
                address,
                lane: None,
            }),
        }
    }
    Ok(out)
}

/// What clients are told of a listener that was bound at `address`.
pub fn bound(
    config: &BrokerConfig,
    listener: usize,
    address: SocketAddr,
    shards: u16,
) -> BoundListener {
    let spec = &config.listeners[listener];
    let ports = lane_ports(config, &spec.name);
    let lanes = match (config.lanes.mode, ports) {
        (LaneMode::Off, _) => 1,
        (_, Some((_, ports))) => shards.min(ports).min(lanes_max(config)),
        (_, None) => shards.min(lanes_max(config)),
    };
    BoundListener {
        name: spec.name.clone(),
        protocol: spec.protocol,
        address,
        advertised_host: spec.advertised_host.clone(),
        advertised_port: ports.map_or_else(
            || spec.advertised_port.unwrap_or(address.port()),
            |(first, _)| first,
        ),
        lanes: lanes.max(1),
        lane_ports: ports.is_some(),
    }
}

fn lanes_max(config: &BrokerConfig) -> u16 {
    config
        .lanes
        .max
        .map_or(u16::MAX, |n| u16::try_from(n).unwrap_or(u16::MAX).max(1))
}

fn lane_ports(config: &BrokerConfig, name: &str) -> Option<(u16, u16)> {
    if config.lanes.mode != LaneMode::Ports {
        return None;
    }
    let range = config.lanes.ports.iter().find(|r| match &r.listener {
        Some(listener) => listener.eq_ignore_ascii_case(name),
        None => config.listeners.len() == 1,
    })?;
    Some((range.first, range.last - range.first + 1))
}

fn resolve(name: &str, host: &str, port: u16) -> Result<SocketAddr, ListenError> {
    if host.is_empty() {
        return Ok(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let fail = |reason: String| ListenError::NoAddress {
        name: name.to_owned(),
        host: host.to_owned(),
        reason,
    };
    (host, port)
        .to_socket_addrs()
        .map_err(|e| fail(e.to_string()))?
        .next()
        .ok_or_else(|| fail("none found".to_owned()))
}
