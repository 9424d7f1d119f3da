//! The log and the topic defaults that steer it.

use super::super::property::{INT_MAX, Kind, LONG_MAX, Property, broker, optional, topic_default};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

pub(super) const TABLE: &[Property] = &[
    broker(
        "log.dirs",
        Kind::List(&[]),
        "./data",
        "Directories for data, separated by commas; a new partition goes to the emptiest one.",
    ),
    optional(
        "log.dir",
        Kind::Text,
        "One directory for data, where log.dirs is not set.",
    ),
    topic_default(
        "log.segment.bytes",
        "segment.bytes",
        Kind::Int(1 << 20, INT_MAX),
        "1073741824",
        "Size at which a new segment begins.",
    ),
    topic_default(
        "log.roll.ms",
        "segment.ms",
        Kind::Long(1, LONG_MAX),
        "",
        "Age of the first batch at which a new segment begins.",
    )
    .or_coarser(&[("log.roll.hours", HOUR)], None),
    broker(
        "log.roll.hours",
        Kind::Int(1, INT_MAX),
        "168",
        "log.roll.ms in hours.",
    ),
    topic_default(
        "log.roll.jitter.ms",
        "segment.jitter.ms",
        Kind::Long(0, LONG_MAX),
        "",
        "Random time taken off segment.ms so that segments do not all begin at once.",
    )
    .or_coarser(&[("log.roll.jitter.hours", HOUR)], None),
    broker(
        "log.roll.jitter.hours",
        Kind::Int(0, INT_MAX),
        "0",
        "log.roll.jitter.ms in hours.",
    ),
    topic_default(
        "log.retention.ms",
        "retention.ms",
        Kind::Long(-1, LONG_MAX),
        "",
        "Age of the newest record above which a segment is deleted; -1 keeps it.",
    )
    .or_coarser(
        &[
            ("log.retention.minutes", MINUTE),
            ("log.retention.hours", HOUR),
        ],
        None,
    )
    .later(),
    optional(
        "log.retention.minutes",
        Kind::Int(-1, INT_MAX),
        "log.retention.ms in minutes.",
    )
    .later(),
    broker(
        "log.retention.hours",
        Kind::Int(-1, INT_MAX),
        "168",
        "log.retention.ms in hours.",
    )
    .later(),
    topic_default(
        "log.retention.bytes",
        "retention.bytes",
        Kind::Long(-1, LONG_MAX),
        "-1",
        "Size of a partition above which its oldest segments are deleted; -1 keeps them.",
    )
    .later(),
    broker(
        "log.retention.check.interval.ms",
        Kind::Long(1, LONG_MAX),
        "300000",
        "How often partitions are looked through for segments to delete.",
    )
    .later(),
    topic_default(
        "log.cleanup.policy",
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        "What happens to old records: delete by age and size, compact to the newest of each key, both, or nothing where empty.",
    )
    .later(),
    topic_default(
        "log.cleaner.delete.retention.ms",
        "delete.retention.ms",
        Kind::Long(0, LONG_MAX),
        "86400000",
        "How long a compacted topic keeps the marks of deleted keys.",
    )
    .later(),
    topic_default(
        "log.cleaner.min.compaction.lag.ms",
        "min.compaction.lag.ms",
        Kind::Long(0, LONG_MAX),
        "0",
        "Age below which records are not compacted.",
    )
    .later(),
    topic_default(
        "log.cleaner.max.compaction.lag.ms",
        "max.compaction.lag.ms",
        Kind::Long(1, LONG_MAX),
        "9223372036854775807",
        "Age at which records are compacted whatever the ratio.",
    )
    .later(),
    topic_default(
        "log.cleaner.min.cleanable.ratio",
        "min.cleanable.dirty.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        "Share of a log that must be uncompacted before it is compacted.",
    )
    .later(),
    topic_default(
        "log.segment.delete.delay.ms",
        "file.delete.delay.ms",
        Kind::Long(0, LONG_MAX),
        "60000",
        "Time between the removal of a segment and that of its file.",
    )
    .later(),
    topic_default(
        "log.index.size.max.bytes",
        "segment.index.bytes",
        Kind::Int(4, INT_MAX),
        "10485760",
        "Size of an index at which a new segment begins.",
    ),
    topic_default(
        "log.index.interval.bytes",
        "index.interval.bytes",
        Kind::Int(0, INT_MAX),
        "4096",
        "Bytes of log for each index entry.",
    ),
    topic_default(
        "log.flush.interval.messages",
        "flush.messages",
        Kind::Long(1, LONG_MAX),
        "9223372036854775807",
        "Flush after so many records. A topic that sets it is acknowledged from stable storage whatever corelane.flush.policy says.",
    ),
    Property {
        topic_default: Some("9223372036854775807"),
        default: None,
        ..topic_default(
            "log.flush.interval.ms",
            "flush.ms",
            Kind::Long(0, LONG_MAX),
            "",
            "Flush after so long. For the broker with corelane.flush.policy=interval (30 s where not set); a topic that sets it is acknowledged from stable storage.",
        )
    },
    broker(
        "log.flush.scheduler.interval.ms",
        Kind::Long(1, LONG_MAX),
        "9223372036854775807",
        "How often Kafka looks for logs to flush.",
    )
    .void("flushes follow corelane.flush.policy"),
    broker(
        "log.flush.offset.checkpoint.interval.ms",
        Kind::Int(0, INT_MAX),
        "60000",
        "How often Kafka notes what is flushed.",
    )
    .void("the journal's checkpoints note it"),
    broker(
        "log.flush.start.offset.checkpoint.interval.ms",
        Kind::Int(0, INT_MAX),
        "60000",
        "How often Kafka notes where logs begin.",
    )
    .void("the journal's checkpoints note it"),
    topic_default(
        "log.preallocate",
        "preallocate",
        Kind::Boolean,
        "false",
        "Reserve a segment's whole space when it begins.",
    ),
    topic_default(
        "message.max.bytes",
        "max.message.bytes",
        Kind::Int(0, INT_MAX),
        "1048588",
        "Largest record batch, as compressed by the producer.",
    ),
    topic_default(
        "log.message.timestamp.type",
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose clock stamps records: the producer's or the broker's.",
    ),
    topic_default(
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
        Kind::Long(0, LONG_MAX),
        "9223372036854775807",
        "Refuse records stamped so much earlier than the broker's clock.",
    ),
    topic_default(
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
        Kind::Long(0, LONG_MAX),
        "3600000",
        "Refuse records stamped so much later than the broker's clock.",
    ),
    topic_default(
        "compression.type",
        "compression.type",
        Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "Codec in which batches are stored; producer keeps the one they came in.",
    )
    .later(),
    topic_default(
        "compression.gzip.level",
        "compression.gzip.level",
        Kind::Level {
            special: -1,
            min: 1,
            max: 9,
        },
        "-1",
        "Level where the broker compresses with gzip.",
    )
    .later(),
    topic_default(
        "compression.lz4.level",
        "compression.lz4.level",
        Kind::Int(1, 17),
        "9",
        "Level where the broker compresses with lz4.",
    )
    .later(),
    topic_default(
        "compression.zstd.level",
        "compression.zstd.level",
        Kind::Int(-131_072, 22),
        "3",
        "Level where the broker compresses with zstd.",
    )
    .later(),
    topic_default(
        "min.insync.replicas",
        "min.insync.replicas",
        Kind::Int(1, INT_MAX),
        "1",
        "In-sync replicas that a produce with acks=all needs.",
    ),
    topic_default(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "Let a replica that is not in sync become leader when no other is left.",
    )
    .later(),
    broker(
        "num.recovery.threads.per.data.dir",
        Kind::Int(1, INT_MAX),
        "2",
        "Threads that recover a log directory.",
    )
    .cluster_wide()
    .void("recovery runs on the shards"),
    broker(
        "log.dir.failure.timeout.ms",
        Kind::Long(1, LONG_MAX),
        "30000",
        "How long the controller may stay ignorant of a failed log directory.",
    )
    .later(),
    broker(
        "log.initial.task.delay.ms",
        Kind::Long(0, LONG_MAX),
        "30000",
        "Wait after the start before retention and the like begin.",
    )
    .later(),
];
