//! What Kafka does not have: cores, lanes, the journal, memory.

use super::super::property::{INT_MAX, Kind, Property, broker, optional};

pub(super) const TABLE: &[Property] = &[
    broker(
        "corelane.cores",
        Kind::Cores,
        "all",
        "Cores to use, one shard each: all that the process may run on, a number of them, or a list such as 0,2-5.",
    ),
    broker(
        "corelane.lanes",
        Kind::Choice(&["auto", "ports", "off"]),
        "auto",
        "How shards are shown to clients. auto: as nodes on one port, to clients known to cope; ports: as nodes with a port each, to all; off: the machine is one node.",
    ),
    broker(
        "corelane.lanes.max",
        Kind::Int(0, 4096),
        "0",
        "Most lanes that a client is shown; 0 shows every shard. A client opens a connection for each lane.",
    ),
    optional(
        "corelane.lanes.ports",
        Kind::Ports,
        "Ports of the lanes with corelane.lanes=ports, first and last, at least one for each lane shown; with several listeners one range each, as NAME:9192-9199.",
    ),
    broker(
        "corelane.flush.policy",
        Kind::Choice(&["group", "interval"]),
        "group",
        "What an ack means. group: acks=all waits until the record is on stable storage, with one flush for all records that arrived meanwhile; interval: the kernel has it, flushed every log.flush.interval.ms.",
    ),
    broker(
        "corelane.journal.size",
        Kind::Size {
            min: 1 << 20,
            max: 64 << 30,
        },
        "auto",
        "Size of each shard's journal in each log directory. auto starts small and grows with the load.",
    ),
    broker(
        "corelane.memory.bytes",
        Kind::Size {
            min: 32 << 20,
            max: 1 << 44,
        },
        "auto",
        "Memory for buffers, recent records, connections and sessions of the whole machine, split over the shards, of which none gets less than 32 MiB; records kept for readers take their part of it only when consumers fall behind. auto takes a share of the machine's or the cgroup's memory.",
    ),
    broker(
        "corelane.poll.us",
        Kind::Int(0, 1_000_000),
        "0",
        "Microseconds that a shard polls for work before it sleeps. More lowers latency and burns an idle core.",
    ),
    optional(
        "corelane.cluster.id",
        Kind::Text,
        "Cluster id of a data directory that is made by this start. One is drawn where none is given; a directory of another cluster is refused.",
    ),
    broker(
        "corelane.send.stall.ms",
        Kind::Int(1000, INT_MAX),
        "60000",
        "Close a connection whose client has not taken a byte of a waiting answer for so long.",
    ),
    broker(
        "corelane.check.crcs",
        Kind::Boolean,
        "true",
        "Check what is read from a disk before it is sent for the first time in a run, so that no consumer gets what a disk made of it. Off: consumers must look at checksums themselves.",
    ),
];
