//! Idempotent producers and transactions.

use super::super::property::{INT_MAX, Kind, Property, broker};

pub(super) const TABLE: &[Property] = &[
    broker(
        "producer.id.expiration.ms",
        Kind::Int(1, INT_MAX),
        "86400000",
        "Forget what an idempotent producer last wrote to a partition after so long without a record of it.",
    )
    .cluster_wide(),
    broker(
        "producer.id.expiration.check.interval.ms",
        Kind::Int(1, INT_MAX),
        "600000",
        "How often producers are looked through for expired ones.",
    ),
    broker(
        "transaction.max.timeout.ms",
        Kind::Int(1, INT_MAX),
        "900000",
        "Longest transaction timeout that a producer may ask for.",
    )
    .later(),
    broker(
        "transactional.id.expiration.ms",
        Kind::Int(1, INT_MAX),
        "604800000",
        "Forget a transactional id after so long without a transaction.",
    )
    .later(),
    broker(
        "transaction.state.log.num.partitions",
        Kind::Int(1, INT_MAX),
        "50",
        "Partitions of __transaction_state.",
    )
    .later(),
    broker(
        "transaction.state.log.replication.factor",
        Kind::Short(1, 32_767),
        "3",
        "Replicas of __transaction_state.",
    )
    .later(),
    broker(
        "transaction.state.log.min.isr",
        Kind::Int(1, INT_MAX),
        "2",
        "In-sync replicas that a write to __transaction_state needs.",
    )
    .later(),
    broker(
        "transaction.state.log.segment.bytes",
        Kind::Int(1, INT_MAX),
        "104857600",
        "Segment size of __transaction_state.",
    )
    .later(),
    broker(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Kind::Int(1, INT_MAX),
        "10000",
        "How often transactions are looked through for timed out ones.",
    )
    .later(),
    broker(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Kind::Int(1, INT_MAX),
        "3600000",
        "How often transactional ids are looked through for expired ones.",
    )
    .later(),
    broker(
        "transaction.partition.verification.enable",
        Kind::Boolean,
        "true",
        "Check that a partition was added to a transaction before its records are appended.",
    )
    .cluster_wide()
    .later(),
    broker(
        "transaction.two.phase.commit.enable",
        Kind::Boolean,
        "false",
        "Let an outside coordinator keep transactions open without a timeout.",
    )
    .later(),
    broker(
        "add.partitions.to.txn.retry.backoff.ms",
        Kind::Int(0, INT_MAX),
        "20",
        "Wait before the broker tries again to add a partition to a transaction.",
    )
    .later(),
    broker(
        "add.partitions.to.txn.retry.backoff.max.ms",
        Kind::Int(0, INT_MAX),
        "100",
        "Longest wait for adding a partition to a transaction.",
    )
    .later(),
];
