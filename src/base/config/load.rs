//! From a file, the environment and overrides to a checked configuration.
//!
//! The later wins: defaults, `server.properties`, `CORELANE_...` variables, overrides.

use std::collections::BTreeMap;
use std::fmt;

use super::broker::BrokerConfig;
use super::check::{check, list, parse_boolean};
use super::error::{ConfigError, ConfigErrors, Warning};
use super::property::{Property, Scope, Status};
use super::syntax::parse_properties;
use super::table::{alias_of, find, is_known_elsewhere, properties};

/// What a configuration is read from; nothing is read behind the caller's back.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Name and text of the `server.properties`.
    pub file: Option<(String, String)>,
    /// Variables of the environment; those that do not begin with `CORELANE_` are skipped.
    pub environment: Vec<(String, String)>,
    /// Overrides of the form `key=value`.
    pub overrides: Vec<String>,
    /// This machine's name, told to clients where a listener is bound to every address.
    pub host_name: String,
}

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In a file.
    File {
        /// Name of the file.
        name: String,
        /// Line, counted from 1.
        line: usize,
    },
    /// By a variable of the environment.
    Environment(String),
    /// By an override or a flag.
    Override,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line } => write!(f, "{name}, line {line}"),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Override => f.write_str("override"),
        }
    }
}

/// The values that were set, checked one by one against the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    set: BTreeMap<&'static str, (String, Origin)>,
}

/// A configuration and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the broker runs with.
    pub config: BrokerConfig,
    /// To be logged once.
    pub warnings: Vec<Warning>,
}

/// Variables of that prefix that belong to the command line and to the tests.
const NOT_PROPERTIES: &[&str] = &["CORELANE_CONFIG", "CORELANE_LOG", "CORELANE_BOOTSTRAP"];
const NOT_PROPERTIES_PREFIXES: &[&str] = &[
    "CORELANE_TEST_",
    "CORELANE_CRASH_",
    "CORELANE_FUZZ_",
    "CORELANE_POWERCUT_",
    "CORELANE_SIM_",
];

fn is_property_variable(name: &str) -> bool {
    name.starts_with("CORELANE_")
        && !NOT_PROPERTIES.contains(&name)
        && !NOT_PROPERTIES_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Reads and checks everything.
///
/// # Errors
/// All that is wrong, not only the first of it.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut warnings = Warnings::default();
    let mut settings = Settings::default();
    for (key, value, origin) in collect(inputs, &mut errors) {
        settings.put(&key, value, origin, &mut errors, &mut warnings);
    }
    let mut warnings = warnings.finish();
    let config = BrokerConfig::build(settings, &inputs.host_name, &mut errors, &mut warnings);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(ConfigErrors(errors)),
    }
}

/// The variable that sets a property: `CORELANE_` and its name without `corelane.`, in capitals,
/// with `_` for `.`.
pub fn environment_name(property: &str) -> String {
    let short = property.strip_prefix("corelane.").unwrap_or(property);
    format!("CORELANE_{}", short.to_ascii_uppercase().replace('.', "_"))
}

fn collect(inputs: &Inputs, errors: &mut Vec<ConfigError>) -> Vec<(String, String, Origin)> {
    let mut all = Vec::new();
    if let Some((name, text)) = &inputs.file {
        match parse_properties(text) {
            Ok(lines) => all.extend(lines.into_iter().map(|l| {
                let origin = Origin::File {
                    name: name.clone(),
                    line: l.line,
                };
                (l.key, l.value, origin)
            })),
            Err(e) => errors.push(ConfigError::Syntax {
                file: name.clone(),
                line: e.line,
                reason: e.reason,
            }),
        }
    }
    for (name, value) in &inputs.environment {
        if is_property_variable(name) {
            let key = properties()
                .find(|p| environment_name(p.name) == *name)
                .map_or_else(
                    || {
                        name["CORELANE_".len()..]
                            .to_ascii_lowercase()
                            .replace('_', ".")
                    },
                    |p| p.name.to_owned(),
                );
            all.push((key, value.clone(), Origin::Environment(name.clone())));
        }
    }
    for text in &inputs.overrides {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                all.push((key.trim().to_owned(), value.to_owned(), Origin::Override));
            }
            _ => errors.push(ConfigError::Override(text.clone())),
        }
    }
    all
}

#[derive(Default)]
struct Warnings {
    list: Vec<Warning>,
    void: BTreeMap<&'static str, &'static str>,
    not_served: Vec<String>,
}

impl Warnings {
    fn not_served(&mut self, key: &str) {
        if !self.not_served.iter().any(|k| k == key) {
            self.not_served.push(key.to_owned());
        }
    }

    fn finish(mut self) -> Vec<Warning> {
        let void = self.void.into_iter();
        self.list
            .extend(void.map(|(key, reason)| Warning::Void { key, reason }));
        if !self.not_served.is_empty() {
            self.list.push(Warning::NotServed(self.not_served));
        }
        self.list
    }
}

impl Settings {
    fn put(
        &mut self,
        key: &str,
        value: String,
        origin: Origin,
        errors: &mut Vec<ConfigError>,
        warnings: &mut Warnings,
    ) {
        let Some(property) = find(key).or_else(|| alias_of(key)) else {
            if is_known_elsewhere(key) {
                if let Some(allowed) = refused(key, &value) {
                    errors.push(ConfigError::Invalid {
                        origin,
                        key: key.to_owned(),
                        value,
                        allowed,
                    });
                } else {
                    warnings.not_served(key);
                }
            } else {
                warnings.list.push(Warning::Unknown {
                    nearest: nearest(key),
                    origin,
                    key: key.to_owned(),
                });
            }
            return;
        };
        match property.status {
            Status::Void(reason) => drop(warnings.void.insert(property.name, reason)),
            Status::Later => warnings.not_served(property.name),
            Status::Served => {}
        }
        let value = value.trim().to_owned();
        match check(&property.kind, &value) {
            Ok(()) => drop(self.set.insert(property.name, (value, origin))),
            Err(allowed) => errors.push(ConfigError::Invalid {
                origin,
                key: key.to_owned(),
                value,
                allowed,
            }),
        }
    }

    /// The text that was set for a property, and where.
    pub fn explicit(&self, name: &str) -> Option<(&str, &Origin)> {
        self.set
            .get(name)
            .map(|(value, origin)| (value.as_str(), origin))
    }

    /// Where a property was set.
    pub fn origin(&self, name: &str) -> &Origin {
        self.set
            .get(name)
            .map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// The text in effect; `None` is null.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.explicit(name)
            .map(|(value, _)| value)
            .or_else(|| find(name).and_then(|p| p.default))
    }

    /// The whole number in effect; `None` is null.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).and_then(parse_boolean).unwrap_or(false)
    }

    pub(super) fn items(&self, name: &str) -> Vec<&str> {
        self.text(name).map(list).into_iter().flatten().collect()
    }

    /// What a topic has that does not set the property itself.
    pub(super) fn topic_default(&self, property: &Property) -> String {
        let broker_sets = match property.scope {
            Scope::TopicDefault(_) => self.explicit(property.name),
            _ => None,
        };
        if let Some((value, _)) = broker_sets {
            return value.to_owned();
        }
        // of the coarser units the first that is set wins, else the one with a default
        let coarser = property.coarser.iter();
        let set = coarser
            .clone()
            .find(|(name, _)| self.explicit(name).is_some())
            .or_else(|| coarser.clone().find(|(name, _)| self.text(name).is_some()));
        if let Some((name, factor)) = set
            && let Some(n) = self.number(name)
        {
            let value = if n < 0 { -1 } else { n.saturating_mul(*factor) };
            return value.to_string();
        }
        property
            .topic_default
            .or(property.default)
            .unwrap_or("")
            .to_owned()
    }

    /// Where a topic's default comes from: set for the broker, or Kafka's default.
    pub(super) fn topic_default_is_set(&self, property: &Property) -> bool {
        matches!(property.scope, Scope::TopicDefault(_))
            && (self.explicit(property.name).is_some()
                || property
                    .coarser
                    .iter()
                    .any(|(name, _)| self.explicit(name).is_some()))
    }
}

/// What would be dangerous to ignore.
fn refused(key: &str, value: &str) -> Option<String> {
    let value = value.trim();
    match key {
        "authorizer.class.name" if !value.is_empty() => {
            Some("authorisation is not served by this version; remove it to run without".into())
        }
        "controller.quorum.voters" | "controller.quorum.bootstrap.servers"
            if list(value).count() > 1 =>
        {
            Some("clusters are not served by this version: one machine is its own quorum".into())
        }
        _ => None,
    }
}

/// The known name with the fewest edits, if there are few.
fn nearest(key: &str) -> Option<&'static str> {
    let bound = (key.len() / 4).clamp(1, 4);
    properties()
        .filter(|p| p.scope != Scope::Topic)
        .flat_map(|p| [Some((p.name, p.name)), p.topic_name().map(|t| (t, p.name))])
        .flatten()
        .map(|(candidate, name)| (edits(key, candidate), name))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance, for names of a hundred bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(file: &str, environment: &[(&str, &str)], overrides: &[&str]) -> Inputs {
        Inputs {
            file: Some(("server.properties".to_owned(), file.to_owned())),
            environment: environment
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            overrides: overrides.iter().map(|o| (*o).to_owned()).collect(),
            host_name: "box".to_owned(),
        }
    }

    #[test]
    fn overrides_win_over_environment_over_file() {
        let file = "num.partitions=2\nfetch.max.bytes=2048\nmessage.max.bytes=5000\n";
        let env = [
            ("CORELANE_FETCH_MAX_BYTES", "4096"),
            ("CORELANE_MESSAGE_MAX_BYTES", "6000"),
            ("CORELANE_LOG", "debug"),
            ("CORELANE_TEST_KEEP", "1"),
            ("PATH", "/bin"),
        ];
        let loaded = load(&inputs(file, &env, &["message.max.bytes=7000"])).unwrap();
        let config = loaded.config;
        assert_eq!(config.num_partitions, 2);
        assert_eq!(config.fetch.max_bytes, 4096);
        assert_eq!(config.topic.config.max_message_bytes, 7000);
        assert_eq!(loaded.warnings, []);
        assert_eq!(
            config.settings.origin("fetch.max.bytes").to_string(),
            "environment variable CORELANE_FETCH_MAX_BYTES"
        );
    }

    #[test]
    fn ours_are_known_with_and_without_prefix() {
        let loaded = load(&inputs(
            "lanes=off\n",
            &[("CORELANE_FLUSH_POLICY", "interval")],
            &["corelane.poll.us=5"],
        ))
        .unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.config.poll_us, 5);
        assert_eq!(loaded.config.lanes.mode, super::super::LaneMode::Off);
        assert_eq!(
            loaded.config.log.flush_policy,
            super::super::FlushPolicy::Interval
        );
    }

    #[test]
    fn errors_name_file_line_key_value_and_what_is_allowed_and_come_all_at_once() {
        let file = "\nnum.partitions=0\nlanes=many\n";
        let error = load(&inputs(file, &[], &["novalue"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "override \"novalue\" is not of the form key=value\n\
             server.properties, line 2: num.partitions=0: expected a whole number from 1 to 10000\n\
             server.properties, line 3: lanes=many: expected auto, ports or off"
        );
    }

    #[test]
    fn unknown_keys_warn_with_the_nearest_name() {
        let file = "num.partitoins=3\nnothing.like.it.at.all=1\nretention.ms=5\n";
        let warnings = load(&inputs(file, &[], &[])).unwrap().warnings;
        let text: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            text[0],
            "server.properties, line 1: num.partitoins is not a known property and is ignored; \
             did you mean num.partitions?"
        );
        assert!(text[1].ends_with("is ignored"), "{}", text[1]);
        assert!(
            text[2].ends_with("did you mean log.retention.ms?"),
            "{}",
            text[2]
        );
    }

    #[test]
    fn keys_without_effect_are_reported_once() {
        let file = "num.io.threads=4\nnum.io.threads=5\nsasl.enabled.mechanisms=PLAIN\n";
        let warnings = load(&inputs(file, &[], &[])).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(matches!(
            warnings[0],
            Warning::Void {
                key: "num.io.threads",
                ..
            }
        ));
        assert_eq!(
            warnings[1],
            Warning::NotServed(vec!["sasl.enabled.mechanisms".to_owned()])
        );
    }

    #[test]
    fn an_authoriser_is_not_ignored_silently() {
        let file = "authorizer.class.name=org.apache.kafka.X\n";
        assert!(load(&inputs(file, &[], &[])).is_err());
        assert!(load(&inputs("authorizer.class.name=\n", &[], &[])).is_ok());
    }

    #[test]
    fn finer_units_win_over_coarser_ones() {
        let of = |file: &str| {
            let config = load(&inputs(file, &[], &[])).unwrap().config;
            config.topic.config.retention_ms
        };
        assert_eq!(of(""), Some(168 * 3_600_000));
        assert_eq!(of("log.retention.hours=2"), Some(7_200_000));
        assert_eq!(
            of("log.retention.hours=2\nlog.retention.minutes=5"),
            Some(300_000)
        );
        assert_eq!(of("log.retention.minutes=5\nlog.retention.ms=7"), Some(7));
        assert_eq!(of("log.retention.hours=-1"), None);
    }
}
