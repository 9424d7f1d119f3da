//! How topics are made, and what only topics have.

use super::super::property::{INT_MAX, Kind, LONG_MAX, Property, broker, optional, topic_only};

pub(super) const TABLE: &[Property] = &[
    broker(
        "num.partitions",
        Kind::Int(1, 10_000),
        "1",
        "Partitions of a topic whose creator does not say how many.",
    ),
    broker(
        "default.replication.factor",
        Kind::Int(1, 32_767),
        "1",
        "Replicas of a topic whose creator does not say how many.",
    ),
    broker(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        "Make a topic when a client that allows it asks for one that does not exist.",
    ),
    broker(
        "delete.topic.enable",
        Kind::Boolean,
        "true",
        "Let clients delete topics.",
    ),
    optional(
        "create.topic.policy.class.name",
        Kind::Text,
        "A class that checks new topics.",
    )
    .void("classes cannot be loaded"),
    optional(
        "alter.config.policy.class.name",
        Kind::Text,
        "A class that checks new settings.",
    )
    .void("classes cannot be loaded"),
    topic_only(
        "leader.replication.throttled.replicas",
        Kind::Throttled,
        "",
        "Replicas throttled on the leader's side, as partition:broker, or *.",
    ),
    topic_only(
        "follower.replication.throttled.replicas",
        Kind::Throttled,
        "",
        "Replicas throttled on the follower's side, as partition:broker, or *.",
    ),
    topic_only(
        "remote.storage.enable",
        Kind::Choice(&["false"]),
        "false",
        "Tiered storage of the topic. Not served: only false is allowed.",
    ),
    topic_only(
        "local.retention.ms",
        Kind::Long(-2, LONG_MAX),
        "-2",
        "Age at which tiered segments leave the local disk; -2 is retention.ms.",
    ),
    topic_only(
        "local.retention.bytes",
        Kind::Long(-2, LONG_MAX),
        "-2",
        "Size above which tiered segments leave the local disk; -2 is retention.bytes.",
    ),
    topic_only(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        "Stop copying segments to tiered storage.",
    ),
    topic_only(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        "Delete what is in tiered storage when it is switched off.",
    ),
    broker(
        "unclean.leader.election.interval.ms",
        Kind::Int(1, INT_MAX),
        "300000",
        "How often partitions without leader are looked for where unclean election is allowed.",
    )
    .later(),
];
