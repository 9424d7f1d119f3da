//! The broker's configuration, typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{ConfigError, Warning};
use super::listener::{Listener, SecurityProtocol, is_wildcard, parse_endpoint, parse_protocol};
use super::load::Settings;
use super::spec::{Cores, LaneMode, Lanes, Size, parse_cores, parse_ports, parse_size};
use super::topic::TopicConfig;
use super::topic_resolve::{Overrides, resolve_topic_over};
use crate::base::ids::NodeId;
use crate::base::limits::OPEN_SEGMENTS;

/// Everything that a broker is started with; shared by all shards.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`
    pub node_id: NodeId,
    /// `broker.rack`
    pub rack: Option<String>,
    /// `corelane.cluster.id`, for a data directory made by this start.
    pub cluster_id: Option<String>,
    /// `corelane.cores`
    pub cores: Cores,
    /// `corelane.lanes` and what belongs to it.
    pub lanes: Lanes,
    /// `corelane.poll.us`
    pub poll_us: u32,
    /// `corelane.memory.bytes`
    pub memory: Size,
    /// Client listeners, at least one; names unique.
    pub listeners: Vec<Listener>,
    /// Sockets and connections.
    pub network: NetworkConfig,
    /// Data directories, journals, flushes.
    pub log: LogConfig,
    /// Fetch limits.
    pub fetch: FetchConfig,
    /// Idempotent producers.
    pub producers: ProducerConfig,
    /// What topics have that set nothing themselves.
    pub topic: TopicDefaults,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`
    pub auto_create_topics: bool,
    /// `delete.topic.enable`
    pub delete_topics: bool,
    /// The texts behind all this, for listings.
    pub settings: Settings,
}

/// Sockets and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `socket.request.max.bytes`
    pub request_max_bytes: usize,
    /// `socket.send.buffer.bytes`; `None` leaves it to the system.
    pub send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`; `None` leaves it to the system.
    pub receive_buffer_bytes: Option<u32>,
    /// `socket.listen.backlog.size`
    pub backlog: u32,
    /// `connections.max.idle.ms`; `None` never closes an idle connection.
    pub idle_max_ms: Option<u64>,
    /// `corelane.send.stall.ms`
    pub send_stall_ms: u64,
    /// `max.connections`
    pub max_connections: usize,
    /// `max.connections.per.ip`
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`
    pub per_ip_overrides: Vec<(IpAddr, usize)>,
    /// `queued.max.request.bytes`; `None` takes a share of the memory.
    pub queued_max_bytes: Option<u64>,
}

/// What an ack means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// acks=all waits for stable storage.
    Group,
    /// Acks wait for the kernel; it is flushed at intervals.
    Interval,
}

impl FlushPolicy {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            FlushPolicy::Group => "group",
            FlushPolicy::Interval => "interval",
        }
    }
}

/// Data directories, journals, flushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `log.dirs`, at least one, none twice.
    pub dirs: Vec<PathBuf>,
    /// `corelane.flush.policy`
    pub flush_policy: FlushPolicy,
    /// `corelane.journal.size`
    pub journal_size: Size,
    /// `log.flush.interval.ms`, 30 s where it is not set; for [`FlushPolicy::Interval`].
    pub flush_interval_ms: u64,
    /// Segment files that a shard keeps open, at most.
    pub open_segments: usize,
}

/// Fetch limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchConfig {
    /// `fetch.max.bytes`
    pub max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`, of the machine.
    pub session_slots: usize,
    /// `corelane.check.crcs`
    pub check_crcs: bool,
}

/// Idempotent producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// `producer.id.expiration.ms`
    pub expiration_ms: u64,
    /// `producer.id.expiration.check.interval.ms`
    pub expiration_check_ms: u64,
    /// `transaction.max.timeout.ms`
    pub transaction_max_timeout_ms: i32,
}

/// What topics have that set nothing themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDefaults {
    /// Resolved.
    pub config: Arc<TopicConfig>,
}

/// Time between flushes of `flush.policy=interval` where none is set.
const FLUSH_INTERVAL_MS: u64 = 30_000;

/// Collects what is wrong while the values are put together.
struct Builder<'a> {
    settings: &'a Settings,
    errors: &'a mut Vec<ConfigError>,
}

impl Builder<'_> {
    fn invalid(&mut self, key: &str, allowed: impl Into<String>) {
        self.errors.push(ConfigError::Invalid {
            origin: self.settings.origin(key).clone(),
            key: key.to_owned(),
            value: self.settings.text(key).unwrap_or("").to_owned(),
            allowed: allowed.into(),
        });
    }

    /// A number that the table bounds at 0 or above and gives a default.
    fn count<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        self.settings
            .number(name)
            .and_then(|n| T::try_from(n).ok())
            .unwrap_or_default()
    }

    /// A number of which the negative ones mean none.
    fn unless_negative<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.settings.number(name).and_then(|n| T::try_from(n).ok())
    }

    fn size(&self, name: &str) -> Size {
        self.settings
            .text(name)
            .and_then(|text| parse_size(text).ok())
            .unwrap_or(Size::Auto)
    }

    fn node_id(&mut self) -> NodeId {
        let node = self.settings.explicit("node.id").map(|(v, _)| v);
        let broker = self.settings.explicit("broker.id").map(|(v, _)| v);
        match (node, broker) {
            (Some(a), Some(b)) if a != b => {
                self.invalid("broker.id", format!("node.id is {a}: set only one of them"));
            }
            (None, Some(_)) => return NodeId(self.count("broker.id")),
            _ => {}
        }
        NodeId(self.count("node.id"))
    }

    fn dirs(&mut self) -> Vec<PathBuf> {
        let (key, dirs) = match self.settings.explicit("log.dir") {
            Some((dir, _)) if self.settings.explicit("log.dirs").is_none() => {
                ("log.dir", vec![dir])
            }
            _ => ("log.dirs", self.settings.items("log.dirs")),
        };
        let mut out: Vec<PathBuf> = Vec::new();
        for dir in dirs {
            let dir = PathBuf::from(dir);
            if out.contains(&dir) {
                self.invalid(key, format!("{} stands twice", dir.display()));
            } else {
                out.push(dir);
            }
        }
        if out.is_empty() {
            self.invalid(key, "at least one directory is needed");
        }
        out
    }

    fn per_ip_overrides(&mut self) -> Vec<(IpAddr, usize)> {
        const KEY: &str = "max.connections.per.ip.overrides";
        let mut out = Vec::new();
        for item in self.settings.items(KEY) {
            let parsed = item.rsplit_once(':').and_then(|(host, n)| {
                let host = host.trim().trim_start_matches('[').trim_end_matches(']');
                Some((host.parse::<IpAddr>().ok()?, n.trim().parse().ok()?))
            });
            match parsed {
                Some(pair) => out.push(pair),
                None => self.invalid(KEY, format!("{item:?} is not address:number")),
            }
        }
        out
    }

    fn roles(&mut self) {
        let roles = self.settings.items("process.roles");
        if !roles.is_empty() && !roles.contains(&"broker") {
            self.invalid(
                "process.roles",
                "a controller without broker is not served; broker is needed",
            );
        }
    }

    fn listeners(&mut self, host_name: &str) -> Vec<Listener> {
        let mut protocols = Vec::new();
        for item in self.settings.items("listener.security.protocol.map") {
            match parse_protocol(item) {
                Ok(pair) => protocols.push(pair),
                Err(allowed) => self.invalid("listener.security.protocol.map", allowed),
            }
        }
        let controllers: Vec<String> = self
            .settings
            .items("controller.listener.names")
            .iter()
            .map(|name| name.to_ascii_uppercase())
            .collect();
        let mut advertised = Vec::new();
        for item in self.settings.items("advertised.listeners") {
            match parse_endpoint(item) {
                Ok(e) if is_wildcard(&e.host) && !e.host.is_empty() => self.invalid(
                    "advertised.listeners",
                    format!(
                        "clients cannot connect to {}: name a host they can reach",
                        e.host
                    ),
                ),
                Ok(e) => advertised.push(e),
                Err(allowed) => self.invalid("advertised.listeners", allowed),
            }
        }
        let mut out: Vec<Listener> = Vec::new();
        for item in self.settings.items("listeners") {
            let endpoint = match parse_endpoint(item) {
                Ok(endpoint) => endpoint,
                Err(allowed) => {
                    self.invalid("listeners", allowed);
                    continue;
                }
            };
            if controllers.contains(&endpoint.name) {
                continue;
            }
            let protocol = protocols
                .iter()
                .rfind(|(name, _)| *name == endpoint.name)
                .map(|(_, protocol)| *protocol)
                .or_else(|| SecurityProtocol::from_name(&endpoint.name));
            let Some(protocol) = protocol else {
                let name = &endpoint.name;
                self.invalid(
                    "listeners",
                    format!("{name} has no protocol: add {name}:PLAINTEXT to listener.security.protocol.map"),
                );
                continue;
            };
            if protocol != SecurityProtocol::Plaintext {
                self.invalid(
                    "listeners",
                    format!(
                        "{}: {protocol} is not served by this version",
                        endpoint.name
                    ),
                );
            }
            if out.iter().any(|l| l.name == endpoint.name) {
                self.invalid("listeners", format!("{} stands twice", endpoint.name));
                continue;
            }
            let told = advertised.iter().find(|a| a.name == endpoint.name);
            let advertised_host = match told {
                Some(a) if a.host.is_empty() => host_name.to_owned(),
                Some(a) => a.host.clone(),
                None if endpoint.host.is_empty() => host_name.to_owned(),
                None => {
                    if is_wildcard(&endpoint.host) {
                        self.invalid(
                            "listeners",
                            format!(
                                "clients cannot connect to {}: set advertised.listeners, or leave the host empty",
                                endpoint.host
                            ),
                        );
                    }
                    endpoint.host.clone()
                }
            };
            let port = told.map_or(endpoint.port, |a| a.port);
            out.push(Listener {
                name: endpoint.name,
                host: endpoint.host,
                port: endpoint.port,
                protocol,
                advertised_host,
                advertised_port: (port != 0).then_some(port),
            });
        }
        for a in &advertised {
            if !controllers.contains(&a.name) && !out.iter().any(|l| l.name == a.name) {
                self.invalid(
                    "advertised.listeners",
                    format!("{} is not among listeners", a.name),
                );
            }
        }
        if out.is_empty() && self.errors.is_empty() {
            self.invalid("listeners", "at least one listener for clients is needed");
        }
        out
    }

    fn lanes(&mut self, listeners: &[Listener]) -> Lanes {
        let mode = match self.settings.text("corelane.lanes") {
            Some("ports") => LaneMode::Ports,
            Some("off") => LaneMode::Off,
            _ => LaneMode::Auto,
        };
        let ports = self
            .settings
            .text("corelane.lanes.ports")
            .and_then(|text| parse_ports(text).ok())
            .unwrap_or_default();
        if mode == LaneMode::Ports {
            const KEY: &str = "corelane.lanes.ports";
            for listener in listeners {
                let matching = ports
                    .iter()
                    .filter(|r| match &r.listener {
                        Some(name) => name.eq_ignore_ascii_case(&listener.name),
                        None => listeners.len() == 1,
                    })
                    .count();
                if matching != 1 {
                    self.invalid(
                        KEY,
                        format!(
                            "corelane.lanes=ports needs one range of ports for listener {}",
                            listener.name
                        ),
                    );
                }
            }
        }
        let max: usize = self.count("corelane.lanes.max");
        Lanes {
            mode,
            max: (max > 0).then_some(max),
            ports,
        }
    }
}

impl BrokerConfig {
    /// Puts the values together; what does not fit is added to `errors`.
    pub(super) fn build(
        settings: Settings,
        host_name: &str,
        errors: &mut Vec<ConfigError>,
        warnings: &mut Vec<Warning>,
    ) -> Option<BrokerConfig> {
        let mut b = Builder {
            settings: &settings,
            errors,
        };
        b.roles();
        let listeners = b.listeners(host_name);
        let lanes = b.lanes(&listeners);
        let topic = match resolve_topic_over(&settings, &Overrides::new()) {
            Ok(config) => TopicDefaults {
                config: Arc::new(config),
            },
            Err(e) => {
                b.errors.push(ConfigError::Invalid {
                    origin: settings.origin(&e.name).clone(),
                    key: e.name,
                    value: e.value.unwrap_or_default(),
                    allowed: e.allowed,
                });
                return None;
            }
        };
        let log = LogConfig {
            dirs: b.dirs(),
            open_segments: OPEN_SEGMENTS,
            flush_policy: match settings.text("corelane.flush.policy") {
                Some("interval") => FlushPolicy::Interval,
                _ => FlushPolicy::Group,
            },
            journal_size: b.size("corelane.journal.size"),
            flush_interval_ms: b
                .unless_negative("log.flush.interval.ms")
                .unwrap_or(FLUSH_INTERVAL_MS),
        };
        if log.flush_policy == FlushPolicy::Group
            && settings.explicit("log.flush.interval.ms").is_some()
        {
            warnings.push(Warning::Other(
                "log.flush.interval.ms has no effect with corelane.flush.policy=group: every ack of acks=all is flushed"
                    .to_owned(),
            ));
        }
        let request_max_bytes = b.count("socket.request.max.bytes");
        if (topic.config.max_message_bytes as usize) > request_max_bytes {
            b.invalid(
                "message.max.bytes",
                "no request can carry such a batch: at most socket.request.max.bytes",
            );
        }
        let network = NetworkConfig {
            request_max_bytes,
            send_buffer_bytes: b.unless_negative("socket.send.buffer.bytes"),
            receive_buffer_bytes: b.unless_negative("socket.receive.buffer.bytes"),
            backlog: b.count("socket.listen.backlog.size"),
            idle_max_ms: b.unless_negative("connections.max.idle.ms"),
            send_stall_ms: b.count("corelane.send.stall.ms"),
            max_connections: b.count("max.connections"),
            max_connections_per_ip: b.count("max.connections.per.ip"),
            per_ip_overrides: b.per_ip_overrides(),
            queued_max_bytes: b.unless_negative("queued.max.request.bytes"),
        };
        let fetch = FetchConfig {
            max_bytes: b.count("fetch.max.bytes"),
            session_slots: b.count("max.incremental.fetch.session.cache.slots"),
            check_crcs: settings.flag("corelane.check.crcs"),
        };
        let producers = ProducerConfig {
            expiration_ms: b.count("producer.id.expiration.ms"),
            expiration_check_ms: b.count("producer.id.expiration.check.interval.ms"),
            transaction_max_timeout_ms: b.count("transaction.max.timeout.ms"),
        };
        let text = |name| {
            settings
                .text(name)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
        };
        Some(BrokerConfig {
            node_id: b.node_id(),
            rack: text("broker.rack"),
            cluster_id: text("corelane.cluster.id"),
            cores: settings
                .text("corelane.cores")
                .and_then(|t| parse_cores(t).ok())
                .unwrap_or(Cores::All),
            lanes,
            poll_us: b.count("corelane.poll.us"),
            memory: b.size("corelane.memory.bytes"),
            listeners,
            network,
            log,
            fetch,
            producers,
            topic,
            num_partitions: b.count("num.partitions"),
            default_replication_factor: b.count("default.replication.factor"),
            auto_create_topics: settings.flag("auto.create.topics.enable"),
            delete_topics: settings.flag("delete.topic.enable"),
            settings,
        })
    }
}

impl Default for BrokerConfig {
    /// What a start without any setting runs with.
    fn default() -> BrokerConfig {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        BrokerConfig::build(Settings::default(), "localhost", &mut errors, &mut warnings)
            .expect("the table's defaults go together, as a test shows")
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Inputs, load};
    use super::*;

    fn config(overrides: &[&str]) -> Result<BrokerConfig, String> {
        load(&Inputs {
            overrides: overrides.iter().map(|o| (*o).to_owned()).collect(),
            host_name: "box".to_owned(),
            ..Inputs::default()
        })
        .map(|loaded| loaded.config)
        .map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_set_gives_a_broker_on_loopback_with_data_in_the_current_directory() {
        let c = BrokerConfig::default();
        assert_eq!(c.node_id, NodeId(1));
        assert_eq!(c.log.dirs, [PathBuf::from("./data")]);
        assert_eq!(c.listeners.len(), 1);
        let l = &c.listeners[0];
        assert_eq!((l.host.as_str(), l.port), ("127.0.0.1", 9092));
        assert_eq!(l.advertised_port, Some(9092));
        assert_eq!(*c.topic.config, TopicConfig::default());
        assert_eq!(c.network.request_max_bytes, 104_857_600);
        assert_eq!(c.network.idle_max_ms, Some(600_000));
        assert!(c.auto_create_topics && c.delete_topics);
    }

    #[test]
    fn kafkas_own_combined_file_starts() {
        let c = config(&[
            "process.roles=broker,controller",
            "node.id=7",
            "controller.quorum.bootstrap.servers=localhost:9093",
            "listeners=PLAINTEXT://:9092,CONTROLLER://:9093",
            "inter.broker.listener.name=PLAINTEXT",
            "advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
            "log.dirs=/tmp/kraft-combined-logs",
        ])
        .unwrap();
        assert_eq!(c.listeners.len(), 1);
        assert_eq!(c.listeners[0].host, "");
        assert_eq!(c.listeners[0].advertised_host, "localhost");
        assert_eq!(c.node_id, NodeId(7));
    }

    #[test]
    fn wildcard_listeners_need_an_address_that_clients_can_reach() {
        let c = config(&["listeners=PLAINTEXT://:9092"]).unwrap();
        assert_eq!(c.listeners[0].advertised_host, "box");
        let e = config(&["listeners=PLAINTEXT://0.0.0.0:9092"]).unwrap_err();
        assert!(e.contains("set advertised.listeners"), "{e}");
        let e = config(&["advertised.listeners=PLAINTEXT://0.0.0.0:9092"]).unwrap_err();
        assert!(e.contains("cannot connect to 0.0.0.0"), "{e}");
        let c = config(&[
            "listeners=PLAINTEXT://0.0.0.0:9092",
            "advertised.listeners=PLAINTEXT://h:19092",
        ])
        .unwrap();
        assert_eq!(c.listeners[0].advertised_port, Some(19_092));
    }

    #[test]
    fn listeners_that_do_not_fit_are_refused() {
        for (set, said) in [
            ("listeners=A://h:1", "A has no protocol"),
            ("listeners=SSL://h:1", "SSL is not served"),
            ("listeners=PLAINTEXT://h:1,PLAINTEXT://h:2", "stands twice"),
            ("listeners=", "at least one listener"),
            ("advertised.listeners=B://h:1", "B is not among listeners"),
            ("process.roles=controller", "broker is needed"),
            ("log.dirs=", "at least one directory"),
            ("log.dirs=a,b,a", "a stands twice"),
            (
                "max.connections.per.ip.overrides=x:1",
                "is not address:number",
            ),
            (
                "message.max.bytes=200000000",
                "at most socket.request.max.bytes",
            ),
        ] {
            let e = config(&[set]).unwrap_err();
            assert!(e.contains(said), "{set}: {e}");
        }
        let e = config(&["node.id=1", "broker.id=2"]).unwrap_err();
        assert!(e.contains("node.id is 1"), "{e}");
        assert_eq!(config(&["broker.id=2"]).unwrap().node_id, NodeId(2));
    }

    #[test]
    fn lanes_by_port_need_ports_for_each_listener() {
        let e = config(&["lanes=ports"]).unwrap_err();
        assert!(
            e.contains("one range of ports for listener PLAINTEXT"),
            "{e}"
        );
        let c = config(&["lanes=ports", "lanes.ports=9192-9195"]).unwrap();
        assert_eq!(c.lanes.mode, LaneMode::Ports);
        assert_eq!(c.lanes.ports[0].last, 9195);
        let two = "listeners=PLAINTEXT://h:1,B://h:2";
        let map = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,B:PLAINTEXT";
        assert!(config(&[two, map, "lanes=ports", "lanes.ports=3-4"]).is_err());
        let named = "lanes.ports=PLAINTEXT:3-4,B:5-6";
        assert!(config(&[two, map, "lanes=ports", named]).is_ok());
    }
}
