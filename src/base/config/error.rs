//! What can be wrong with a configuration.

use std::fmt;

use super::load::Origin;

/// A value that the broker cannot start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A line of a file that is no property.
    #[error("{file}, line {line}: {reason}")]
    Syntax {
        /// Name of the file.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An override without `=`.
    #[error("override {0:?} is not of the form key=value")]
    Override(String),
    /// A value out of its bounds, or that does not go with another one.
    #[error("{origin}: {key}={value}: {allowed}")]
    Invalid {
        /// Where it was set.
        origin: Origin,
        /// Name of the property.
        key: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Everything that is wrong with a configuration, so that it can be mended in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What should be looked at and does not keep the broker from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No such property; the nearest name, if one is near.
    Unknown {
        /// Where it was set.
        origin: Origin,
        /// Its name.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// Properties without effect by design, with the reason.
    Void {
        /// Name of the property.
        key: &'static str,
        /// Why it has none.
        reason: &'static str,
    },
    /// Properties of Kafka, or of this table, that steer what is not built yet.
    NotServed(Vec<String>),
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unknown {
                origin,
                key,
                nearest: Some(nearest),
            } => write!(
                f,
                "{origin}: {key} is not a known property and is ignored; did you mean {nearest}?"
            ),
            Warning::Unknown { origin, key, .. } => {
                write!(f, "{origin}: {key} is not a known property and is ignored")
            }
            Warning::Void { key, reason } => write!(f, "{key} has no effect: {reason}"),
            Warning::NotServed(keys) => write!(
                f,
                "not served by this version and ignored: {}",
                keys.join(", ")
            ),
            Warning::Other(text) => f.write_str(text),
        }
    }
}
