//! Rows for `corelane config list` and DescribeConfigs.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::load::{Origin, Settings};
use super::property::{Change, Kind, Property, Scope, Status};
use super::table::{find, properties, topic_properties};

/// Where a value comes from, by the numbers of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set in the file, the environment or by an override.
    Static = 4,
    /// Nowhere set.
    Default = 5,
}

/// One setting as it is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name, for the listed scope.
    pub name: &'static str,
    /// Value in effect; `None` is null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Where it was set, in words.
    pub origin: Origin,
    /// False where it can be changed at run time in Kafka.
    pub read_only: bool,
    /// The row of the table.
    pub property: &'static Property,
}

/// A value that a setting has, or would have if the ones before it were taken away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synonym<'a> {
    /// Name, which may be that of the broker's default or of a coarser unit.
    pub name: &'static str,
    /// Value under that name; `None` is null.
    pub value: Option<&'a str>,
    /// Where it is set.
    pub source: Source,
}

impl Entry {
    /// The values behind this one, the one in effect first.
    pub fn synonyms<'a>(&'a self, settings: &'a Settings) -> Vec<Synonym<'a>> {
        let mut out = Vec::new();
        if self.source == Source::Topic {
            out.push(Synonym {
                name: self.name,
                value: self.value.as_deref(),
                source: Source::Topic,
            });
        }
        if self.property.scope == Scope::Topic {
            return out;
        }
        let names = || {
            let coarser = self.property.coarser.iter().map(|(name, _)| *name);
            std::iter::once(self.property.name).chain(coarser)
        };
        out.extend(names().filter_map(|name| {
            let (value, _) = settings.explicit(name)?;
            Some(Synonym {
                name,
                value: Some(value),
                source: Source::Static,
            })
        }));
        out.extend(names().filter_map(|name| {
            Some(Synonym {
                name,
                value: Some(find(name)?.default?),
                source: Source::Default,
            })
        }));
        out
    }
}

impl Kind {
    /// The number of the type in DescribeConfigs.
    pub fn code(&self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::Text | Kind::Choice(_) | Kind::Size { .. } | Kind::Cores | Kind::Ports => 2,
            Kind::Int(..) | Kind::Level { .. } => 3,
            Kind::Short(..) => 4,
            Kind::Long(..) => 5,
            Kind::Double(..) => 6,
            Kind::List(_) | Kind::Throttled => 7,
        }
    }

    /// The type and its bounds, for people.
    pub fn describe(&self) -> String {
        let range = |min: i64, max: i64| match (min, max) {
            (min, i64::MAX) => format!("{min} or more"),
            (min, max) if max == i64::from(i32::MAX) => format!("{min} or more"),
            (min, max) => format!("{min} to {max}"),
        };
        match *self {
            Kind::Boolean => "true, false".to_owned(),
            Kind::Short(min, max) | Kind::Int(min, max) | Kind::Long(min, max) => range(min, max),
            Kind::Double(min, max) => format!("{min} to {max}"),
            Kind::Text => "text".to_owned(),
            Kind::Choice(words) => words.join(", "),
            Kind::List([]) => "list".to_owned(),
            Kind::List(words) => format!("list of {}", words.join(", ")),
            Kind::Throttled => "*, partition:broker".to_owned(),
            Kind::Size { .. } => "auto, bytes, KiB, MiB, GiB".to_owned(),
            Kind::Cores => "all, a number, a list".to_owned(),
            Kind::Ports => "first-last".to_owned(),
            Kind::Level { special, min, max } => format!("{special}, {min} to {max}"),
        }
    }
}

/// The broker's settings, in the table's order.
pub fn broker_entries(settings: &Settings) -> Vec<Entry> {
    properties()
        .filter(|p| p.scope != Scope::Topic)
        .map(|property| {
            let origin = settings.origin(property.name).clone();
            Entry {
                name: property.name,
                value: settings.text(property.name).map(str::to_owned),
                source: match origin {
                    Origin::Default => Source::Default,
                    _ => Source::Static,
                },
                origin,
                read_only: property.change == Change::Restart
                    || matches!(property.status, Status::Void(_)),
                property,
            }
        })
        .collect()
}

/// A topic's settings, in the table's order, with what it sets itself.
pub fn topic_entries(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Vec<Entry> {
    let settings = &broker.settings;
    topic_properties()
        .filter_map(|property| {
            let name = property.topic_name()?;
            let (value, source) = match overrides.get(name) {
                Some(value) => (value.clone(), Source::Topic),
                None if settings.topic_default_is_set(property) => {
                    (settings.topic_default(property), Source::Static)
                }
                None => (settings.topic_default(property), Source::Default),
            };
            Some(Entry {
                name,
                value: Some(value),
                source,
                origin: settings.origin(property.name).clone(),
                read_only: false,
                property,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::load::{Inputs, load};
    use super::*;

    #[test]
    fn topics_list_values_with_their_sources() {
        let broker = load(&Inputs {
            overrides: vec!["log.retention.hours=1".to_owned()],
            ..Inputs::default()
        })
        .unwrap()
        .config;
        let own = BTreeMap::from([("segment.bytes".to_owned(), "2097152".to_owned())]);
        let entries = topic_entries(&broker, &own);
        let of = |name: &str| {
            let e = entries.iter().find(|e| e.name == name).unwrap();
            (e.value.as_deref().unwrap(), e.source)
        };
        assert_eq!(of("segment.bytes"), ("2097152", Source::Topic));
        assert_eq!(of("retention.ms"), ("3600000", Source::Static));
        assert_eq!(of("segment.ms"), ("604800000", Source::Default));
        assert_eq!(of("flush.ms"), ("9223372036854775807", Source::Default));
        let retention = entries.iter().find(|e| e.name == "retention.ms").unwrap();
        let synonyms: Vec<_> = retention
            .synonyms(&broker.settings)
            .iter()
            .map(|s| (s.name, s.value.unwrap(), s.source))
            .collect();
        let hours = "log.retention.hours";
        assert_eq!(
            synonyms,
            [
                (hours, "1", Source::Static),
                (hours, "168", Source::Default)
            ]
        );
    }

    #[test]
    fn broker_lists_every_row() {
        let entries = broker_entries(&Settings::default());
        let find = |name| entries.iter().find(|e| e.name == name).unwrap();
        assert_eq!(find("log.dirs").value.as_deref(), Some("./data"));
        assert_eq!(find("log.retention.ms").value, None);
        assert!(find("num.io.threads").read_only);
        assert!(find("node.id").read_only && !find("message.max.bytes").read_only);
    }
}
