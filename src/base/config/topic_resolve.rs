//! A topic's settings: its own where it has some, else the broker's.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::check::{check, list, parse_boolean};
use super::load::Settings;
use super::table::{find_topic, topic_properties};
use super::topic::{CleanupPolicy, CompressionType, TimestampType, TopicConfig};

/// What a topic sets itself, by the topic's names of the properties.
pub(super) type Overrides = BTreeMap<String, String>;

/// A setting that a topic cannot have (INVALID_CONFIG).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct InvalidTopicConfig {
    /// Name of the property.
    pub name: String,
    /// Its value, if it had one.
    pub value: Option<String>,
    /// What is allowed.
    pub allowed: String,
}

impl InvalidTopicConfig {
    fn message(&self) -> String {
        match &self.value {
            Some(value) => format!(
                "Invalid value {value} for configuration {}: {}",
                self.name, self.allowed
            ),
            None => format!("Configuration {}: {}", self.name, self.allowed),
        }
    }
}

/// The effective settings of a topic with these of its own.
///
/// # Errors
/// The first setting that is unknown or out of bounds, or that contradicts another.
pub fn resolve_topic(
    broker: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
) -> Result<TopicConfig, InvalidTopicConfig> {
    resolve_topic_over(&broker.settings, overrides)
}

pub(super) fn resolve_topic_over(
    settings: &Settings,
    overrides: &Overrides,
) -> Result<TopicConfig, InvalidTopicConfig> {
    for (name, value) in overrides {
        let invalid = |allowed| InvalidTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
            allowed,
        };
        let property = find_topic(name).ok_or_else(|| InvalidTopicConfig {
            name: name.clone(),
            value: None,
            allowed: "no such configuration of a topic".to_owned(),
        })?;
        check(&property.kind, value).map_err(invalid)?;
    }
    let all: BTreeMap<&str, String> = topic_properties()
        .filter_map(|p| {
            let name = p.topic_name()?;
            let value = match overrides.get(name) {
                Some(value) => value.trim().to_owned(),
                None => settings.topic_default(p),
            };
            Some((name, value))
        })
        .collect();
    let values = Values { all };
    let (min_lag, max_lag) = (
        values.number("min.compaction.lag.ms"),
        values.number("max.compaction.lag.ms"),
    );
    if min_lag > max_lag {
        return Err(InvalidTopicConfig {
            name: "min.compaction.lag.ms".to_owned(),
            value: Some(min_lag.to_string()),
            allowed: format!("at most max.compaction.lag.ms, which is {max_lag}"),
        });
    }
    Ok(values.resolve(overrides, settings))
}

struct Values<'a> {
    all: BTreeMap<&'a str, String>,
}

impl Values<'_> {
    fn text(&self, name: &str) -> &str {
        self.all.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        // checked against the table before, so only a null default is no number
        self.text(name).parse().unwrap_or(i64::MAX)
    }

    fn bounded<T: TryFrom<i64>>(&self, name: &str, max: T) -> T {
        T::try_from(self.number(name)).unwrap_or(max)
    }

    /// `None` for negative numbers and for the largest one, which Kafka uses for "without limit".
    fn limit(&self, name: &str) -> Option<u64> {
        match self.number(name) {
            i64::MAX => None,
            n => u64::try_from(n).ok(),
        }
    }

    fn resolve(&self, overrides: &Overrides, settings: &Settings) -> TopicConfig {
        // a broker-wide flush interval belongs to the broker's policy, it is no wish of the topic
        let own = |name: &str, of_broker: &str| {
            (overrides.contains_key(name) || settings.explicit(of_broker).is_some())
                .then(|| self.limit(name))
                .flatten()
        };
        let policy = self.text("cleanup.policy");
        TopicConfig {
            segment_bytes: self.bounded("segment.bytes", u64::MAX),
            segment_ms: self.bounded("segment.ms", u64::MAX),
            segment_jitter_ms: self.bounded("segment.jitter.ms", 0),
            segment_index_bytes: self.bounded("segment.index.bytes", u32::MAX),
            index_interval_bytes: self.bounded("index.interval.bytes", u32::MAX),
            max_message_bytes: self.bounded("max.message.bytes", u32::MAX),
            timestamp_type: match self.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: self.limit("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: self.limit("message.timestamp.after.max.ms"),
            compression_type: match self.text("compression.type") {
                "uncompressed" => CompressionType::Uncompressed,
                "gzip" => CompressionType::Gzip,
                "snappy" => CompressionType::Snappy,
                "lz4" => CompressionType::Lz4,
                "zstd" => CompressionType::Zstd,
                _ => CompressionType::Producer,
            },
            cleanup_policy: CleanupPolicy {
                delete: list(policy).any(|p| p == "delete"),
                compact: list(policy).any(|p| p == "compact"),
            },
            retention_ms: self.limit("retention.ms"),
            retention_bytes: self.limit("retention.bytes"),
            flush_messages: own("flush.messages", "log.flush.interval.messages"),
            flush_ms: overrides
                .contains_key("flush.ms")
                .then(|| self.limit("flush.ms"))
                .flatten(),
            min_insync_replicas: self.bounded("min.insync.replicas", u32::MAX),
            preallocate: parse_boolean(self.text("preallocate")).unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn topics_see_their_own_values_over_the_brokers() {
        let broker = BrokerConfig::default();
        let own = overrides(&[
            ("retention.ms", "-1"),
            ("cleanup.policy", "compact,delete"),
            ("message.timestamp.type", "LogAppendTime"),
            ("flush.messages", "1"),
            ("segment.bytes", " 1048576 "),
        ]);
        let config = resolve_topic(&broker, &own).unwrap();
        assert_eq!(config.retention_ms, None);
        assert!(config.cleanup_policy.compact && config.cleanup_policy.delete);
        assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(config.flush_messages, Some(1));
        assert_eq!(config.segment_bytes, 1 << 20);
        assert_eq!(config.index_interval_bytes, 4096);
        let empty = resolve_topic(&broker, &overrides(&[("cleanup.policy", "")])).unwrap();
        assert!(!empty.cleanup_policy.compact && !empty.cleanup_policy.delete);
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused() {
        let broker = BrokerConfig::default();
        let error = |k, v| resolve_topic(&broker, &overrides(&[(k, v)])).unwrap_err();
        assert_eq!(
            error("no.such", "1").to_string(),
            "Configuration no.such: no such configuration of a topic"
        );
        // the broker's name of a topic's property is not the topic's
        assert_eq!(error("log.retention.ms", "1").value, None);
        assert_eq!(
            error("segment.bytes", "10").to_string(),
            "Invalid value 10 for configuration segment.bytes: expected a whole number of at least 1048576"
        );
        error("max.message.bytes", "-1");
        error("cleanup.policy", "vanish");
        error("remote.storage.enable", "true");
        let lags = overrides(&[
            ("min.compaction.lag.ms", "10"),
            ("max.compaction.lag.ms", "5"),
        ]);
        assert_eq!(
            resolve_topic(&broker, &lags).unwrap_err().name,
            "min.compaction.lag.ms"
        );
    }
}
