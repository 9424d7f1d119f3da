//! Corelane: a streaming broker for Linux bare metal that speaks the Apache Kafka protocol.
//!
//! # One core, one lane
//!
//! A *shard* is one pinned thread. It owns, alone and without locks: one io_uring ring and the
//! executor over it ([`ring`]), an arena of page-aligned buffers, the connections placed on it, a
//! set of partitions with their segments and indexes, and one *journal* in each log directory
//! where it has partitions ([`log`]). Shards talk by bounded mailboxes, and only to hand a
//! connection over, to forward what arrived on the wrong core, and for control.
//!
//! Nothing that is stored names a core. A replica lives on a machine (Kafka's `node.id`); which of
//! its shards owns a partition is a table in memory, rebuilt when the number of cores changes.
//!
//! Clients already send each partition's requests to the node that leads it. Each shard can be
//! shown to them as such a node, a *lane*, all on one host and port: the connection is then handed
//! to the core that owns what it asks for ([`broker`]). Only clients that are known to keep one
//! leader a connection are shown lanes; everyone else sees one node, and what lands on the wrong
//! core is forwarded.
//!
//! # What an ack means
//!
//! A commit of a shard is one entry of its journal: all batches that arrived while earlier
//! entries were written and flushed, whatever their partitions, written in one piece and flushed
//! once; the next entry is written while this one is flushed. With
//! `acks=all` the answer waits for that flush, with `acks=1` for the write. Nothing above the
//! flushed end of a partition is ever shown to a consumer, so that a power cut cannot unsee a
//! record. Full pages are drained from memory into segments in Kafka's own format off that path.
//! `corelane.flush.policy=interval` gives up the flush for Kafka's own promise (an ack survives a
//! killed process).
//!
//! # Layers
//!
//! Arrows point down only; `tests/layering.rs` fails on an import that points up.
//!
//! | layer | what it is |
//! |---|---|
//! | [`cli`] | subcommands of the one binary |
//! | [`broker`] | the shard: listeners, connections, dispatch, one file an API |
//! | [`replica`] | a partition as leader: high watermark, epochs; no IO |
//! | [`metadata`] | topics, configs, producer ids: one committed log, immutable images; decisions without IO |
//! | [`log`] | journal, group commit, drain, segments, indexes, page cache, recovery |
//! | [`wire`] | the Kafka protocol: schema-driven codec, frames, record batches, compression |
//! | [`ring`] | the runtime of a core: executor, timers, files, sockets, buffers, mailboxes; drivers |
//! | [`base`] | ids, time, error codes, configuration, bounds |
//!
//! Two rules carry the design. State machines do no IO: they take input and time as arguments and
//! give decisions back, so that they are tested with literals. IO is awaited in thin shells on our
//! executor, and everything that a shard does to the world goes through one seam,
//! [`ring::driver::Driver`]: io_uring in production, a simulated disk, network and clock in tests,
//! where the whole broker runs on one thread from one seed.
#![cfg_attr(not(test), warn(missing_docs))]

pub mod base;
pub mod broker;
pub mod cli;
pub mod log;
pub mod metadata;
pub mod replica;
pub mod ring;
pub mod wire;
