//! What is found wrong, in the words of the one who must mend it.

use std::fmt;
use std::path::PathBuf;

use crate::base::ids::Offset;
use crate::log::recovery::Fault;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to worry about: said so that nobody wonders.
    Note,
    /// Not what was written.
    Damage,
}

impl Severity {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Damage => "damage",
        }
    }
}

/// One thing that is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory.
    pub path: PathBuf,
    /// The byte of it where it begins, where that means something.
    pub at: Option<u64>,
    /// `topic-partition` that it touches; `None`: the whole directory, or none.
    pub partition: Option<String>,
    /// The offsets that it touches, both of them included; no last one where that is not known.
    pub offsets: Option<(Offset, Option<Offset>)>,
    /// What is wrong and what it means.
    pub what: String,
    /// What to do.
    pub todo: String,
}

impl Finding {
    /// Damage of a file.
    pub fn damage(path: impl Into<PathBuf>, what: impl fmt::Display) -> Finding {
        Finding {
            severity: Severity::Damage,
            path: path.into(),
            at: None,
            partition: None,
            offsets: None,
            what: what.to_string(),
            todo: String::new(),
        }
    }

    /// A harmless thing.
    pub fn note(path: impl Into<PathBuf>, what: impl fmt::Display) -> Finding {
        Finding {
            severity: Severity::Note,
            ..Finding::damage(path, what)
        }
    }

    /// A file that cannot be used.
    pub fn fault(fault: &Fault) -> Finding {
        Finding {
            at: fault.at,
            ..Finding::damage(&fault.path, &fault.what)
        }
    }

    /// Names the byte.
    #[must_use]
    pub fn at(mut self, at: u64) -> Finding {
        self.at = Some(at);
        self
    }

    /// Names the partition.
    #[must_use]
    pub fn of(mut self, partition: &str) -> Finding {
        self.partition = Some(partition.to_owned());
        self
    }

    /// Names the offsets.
    #[must_use]
    pub fn offsets(mut self, first: Offset, last: Option<Offset>) -> Finding {
        self.offsets = Some((first, last));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn todo(mut self, todo: impl fmt::Display) -> Finding {
        self.todo = todo.to_string();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.name(), self.path.display())?;
        if let Some(at) = self.at {
            write!(f, ", byte {at}")?;
        }
        write!(f, ": {}", self.what)?;
        let mut touched: Vec<String> = self.partition.iter().cloned().collect();
        touched.extend(self.offsets.map(|(first, last)| match last {
            Some(last) if last == first => format!("offset {first}"),
            Some(last) => format!("offsets {first} to {last}"),
            None => format!("from offset {first} on"),
        }));
        if !touched.is_empty() {
            write!(f, " ({})", touched.join(", "))?;
        }
        match self.todo.is_empty() {
            true => Ok(()),
            false => write!(f, ". {}", self.todo),
        }
    }
}
