//! Finding rows of the table.

use super::super::property::{Property, Scope};
use super::{later, log, network, ours, producers, topics};

/// All rows, themes in a fixed order.
pub fn properties() -> impl Iterator<Item = &'static Property> {
    [
        network::TABLE,
        ours::TABLE,
        topics::TABLE,
        log::TABLE,
        producers::TABLE,
    ]
    .into_iter()
    .flatten()
}

/// The rows that topics can set.
pub fn topic_properties() -> impl Iterator<Item = &'static Property> {
    properties().filter(|p| p.topic_name().is_some())
}

/// The row of a broker's property.
pub fn find(name: &str) -> Option<&'static Property> {
    properties().find(|p| p.name == name && p.scope != Scope::Topic)
}

/// The row of a topic's property, by the topic's name of it.
pub fn find_topic(name: &str) -> Option<&'static Property> {
    topic_properties().find(|p| p.topic_name() == Some(name))
}

/// The full name of what may be written without the prefix `corelane.`: no property of Kafka has
/// such a name.
pub fn alias_of(name: &str) -> Option<&'static Property> {
    ours::TABLE
        .iter()
        .find(|p| p.name.strip_prefix("corelane.") == Some(name))
}

/// True for properties of Kafka that steer what this broker does not have.
pub fn is_known_elsewhere(name: &str) -> bool {
    later::NAMES.contains(&name) || later::PREFIXES.iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::super::super::check::check;
    use super::*;

    #[test]
    fn names_are_unique_and_short_names_of_ours_clash_with_none() {
        let mut names: Vec<_> = properties().map(|p| p.name).collect();
        names.extend(later::NAMES);
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name stands twice");
        for p in ours::TABLE {
            let short = p.name.strip_prefix("corelane.").expect("prefix of ours");
            assert!(!names.contains(&short), "{short} is Kafka's");
            assert!(find_topic(short).is_none(), "{short} is a topic's");
        }
        let mut topics: Vec<_> = topic_properties().filter_map(|p| p.topic_name()).collect();
        let all = topics.len();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), all, "a topic's name stands twice");
    }

    #[test]
    fn every_default_is_allowed_and_every_row_is_documented() {
        for p in properties() {
            for text in [p.default, p.topic_default].into_iter().flatten() {
                check(&p.kind, text).unwrap_or_else(|e| panic!("{}={text}: {e}", p.name));
            }
            assert!(p.doc.len() > 20 && p.doc.ends_with('.'), "{}", p.name);
            for (coarser, factor) in p.coarser {
                assert!(find(coarser).is_some() && *factor > 1, "{}", p.name);
            }
        }
    }
}
