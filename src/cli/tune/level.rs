//! How much is wrong with what a broker stands on.

use crate::cli::output::Output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It could not be read.
    Unknown,
    /// The broker works, worse than it could.
    Should,
    /// The broker does not start, or does not keep what it promises.
    Must,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Should => "should",
            Level::Must => "must",
        }
    }

    /// Its name in so many characters at least, strong where something is to be changed.
    pub fn shown(self, output: &Output, width: usize) -> String {
        let name = format!("{:<width$}", self.name());
        match self {
            Level::Ok | Level::Unknown => name,
            Level::Should | Level::Must => output.strong(&name),
        }
    }
}
