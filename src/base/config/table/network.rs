//! Identity, listeners, sockets.

use super::super::property::{INT_MAX, Kind, LONG_MAX, Property, broker, optional};

const THREAD_PER_CORE: &str = "one shard a core does all the work, see corelane.cores";

pub(super) const TABLE: &[Property] = &[
    broker(
        "node.id",
        Kind::Int(0, 999_999),
        "1",
        "Number of this machine, unique in the cluster. Lanes are shown as this plus multiples of 1,000,000.",
    ),
    optional(
        "broker.id",
        Kind::Int(0, 999_999),
        "Older name of node.id.",
    ),
    optional(
        "broker.rack",
        Kind::Text,
        "Rack or zone of this machine, shown to clients.",
    ),
    broker(
        "process.roles",
        Kind::List(&["broker", "controller"]),
        "broker,controller",
        "Roles of the process. This broker is always both; a pure controller is refused.",
    ),
    broker(
        "listeners",
        Kind::List(&[]),
        "PLAINTEXT://127.0.0.1:9092",
        "Addresses to listen on, as NAME://host:port separated by commas. An empty host means every address.",
    )
    .per_broker(),
    optional(
        "advertised.listeners",
        Kind::List(&[]),
        "Addresses that clients are told, for each listener name, where they differ from listeners.",
    )
    .per_broker(),
    broker(
        "listener.security.protocol.map",
        Kind::List(&[]),
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "Protocol of each listener name, as NAME:PROTOCOL separated by commas.",
    )
    .per_broker(),
    optional(
        "inter.broker.listener.name",
        Kind::Text,
        "Listener that brokers use between themselves.",
    )
    .later(),
    broker(
        "security.inter.broker.protocol",
        Kind::Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        "PLAINTEXT",
        "Protocol that brokers use between themselves.",
    )
    .later(),
    optional(
        "controller.listener.names",
        Kind::List(&[]),
        "Listeners of the controller. They are not opened: a quorum of one needs none.",
    ),
    broker(
        "socket.request.max.bytes",
        Kind::Int(1024, INT_MAX),
        "104857600",
        "Largest request. A longer frame closes the connection.",
    ),
    broker(
        "socket.send.buffer.bytes",
        Kind::Int(-1, INT_MAX),
        "-1",
        "Send buffer of a socket in the kernel; -1 leaves it to the system. Kafka's default, 102400, doubles the CPU of large answers.",
    ),
    broker(
        "socket.receive.buffer.bytes",
        Kind::Int(-1, INT_MAX),
        "-1",
        "Receive buffer of a socket in the kernel; -1 leaves it to the system. Kafka's default is 102400.",
    ),
    broker(
        "socket.listen.backlog.size",
        Kind::Int(1, 65_535),
        "50",
        "Connections that the kernel holds before they are accepted.",
    ),
    broker(
        "connections.max.idle.ms",
        Kind::Long(-1, LONG_MAX),
        "600000",
        "Close a connection without a request for so long, never while one is being answered. Negative keeps it open.",
    ),
    broker(
        "max.connections",
        Kind::Int(0, INT_MAX),
        "2147483647",
        "Most connections of the machine. Further ones wait until one is closed. Half of the files that the process may open at most.",
    )
    .cluster_wide(),
    broker(
        "max.connections.per.ip",
        Kind::Int(0, INT_MAX),
        "2147483647",
        "Most connections from one address. Further ones are closed.",
    )
    .cluster_wide(),
    broker(
        "max.connections.per.ip.overrides",
        Kind::List(&[]),
        "",
        "Other limits for single addresses, as 10.0.0.5:100 separated by commas.",
    )
    .cluster_wide(),
    broker(
        "max.connection.creation.rate",
        Kind::Int(0, INT_MAX),
        "2147483647",
        "Most connections accepted a second.",
    )
    .cluster_wide()
    .later(),
    broker(
        "queued.max.request.bytes",
        Kind::Long(-1, LONG_MAX),
        "-1",
        "Bytes of requests in flight above which sockets are not read. -1 takes a share of corelane.memory.bytes.",
    ),
    broker(
        "queued.max.requests",
        Kind::Int(1, INT_MAX),
        "500",
        "Requests that wait for a handler thread.",
    )
    .void("requests do not queue for threads; bytes in flight are bounded instead"),
    broker(
        "num.network.threads",
        Kind::Int(1, INT_MAX),
        "3",
        "Threads that serve sockets.",
    )
    .cluster_wide()
    .void(THREAD_PER_CORE),
    broker(
        "num.io.threads",
        Kind::Int(1, INT_MAX),
        "8",
        "Threads that handle requests.",
    )
    .cluster_wide()
    .void(THREAD_PER_CORE),
    broker(
        "background.threads",
        Kind::Int(1, INT_MAX),
        "10",
        "Threads for background work.",
    )
    .cluster_wide()
    .void(THREAD_PER_CORE),
    broker(
        "request.timeout.ms",
        Kind::Int(1, INT_MAX),
        "30000",
        "How long this broker waits for the answer to a request of its own.",
    )
    .later(),
    broker(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int(0, INT_MAX),
        "1000",
        "Fetch sessions kept for all clients, split over the shards.",
    ),
    broker(
        "fetch.max.bytes",
        Kind::Int(1024, INT_MAX),
        "57671680",
        "Most bytes of records in one fetch answer, besides a first batch that is larger.",
    ),
    broker(
        "fetch.purgatory.purge.interval.requests",
        Kind::Int(0, INT_MAX),
        "1000",
        "How often finished fetches leave the purgatory.",
    )
    .void("a finished request leaves its purgatory at once"),
    broker(
        "producer.purgatory.purge.interval.requests",
        Kind::Int(0, INT_MAX),
        "1000",
        "How often finished produces leave the purgatory.",
    )
    .void("a finished request leaves its purgatory at once"),
    broker(
        "delete.records.purgatory.purge.interval.requests",
        Kind::Int(0, INT_MAX),
        "1",
        "How often finished DeleteRecords leave the purgatory.",
    )
    .void("a finished request leaves its purgatory at once"),
];
