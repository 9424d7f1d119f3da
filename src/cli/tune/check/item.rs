//! What a rule says.

use crate::cli::tune::level::Level;
use crate::cli::tune::system::{System, sysctl_path};

/// A value that makes an item good, as it is written into a file below `/proc` or `/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub path: String,
    pub to: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    pub level: Level,
    /// How it is.
    pub found: String,
    /// Why that matters to this broker, and what to expect of a change.
    pub why: String,
    /// What to do; empty where nothing is.
    pub todo: String,
    /// What `tune apply` writes for it.
    pub settings: Vec<Setting>,
}

impl Item {
    pub fn ok(name: impl Into<String>, found: impl Into<String>, why: &str) -> Item {
        Item {
            name: name.into(),
            level: Level::Ok,
            found: found.into(),
            why: why.into(),
            todo: String::new(),
            settings: Vec::new(),
        }
    }

    pub fn unknown(name: impl Into<String>, what: &str) -> Item {
        Item::untold(name, format!("not told: {what} can't be read"), "")
    }

    /// What was found does not say whether it is good.
    pub fn untold(name: impl Into<String>, found: impl Into<String>, why: &str) -> Item {
        Item {
            level: Level::Unknown,
            ..Item::ok(name, found, why)
        }
    }

    pub fn should(
        name: impl Into<String>,
        found: impl Into<String>,
        why: &str,
        todo: impl Into<String>,
    ) -> Item {
        Item {
            level: Level::Should,
            todo: todo.into(),
            ..Item::ok(name, found, why)
        }
    }

    pub fn must(
        name: impl Into<String>,
        found: impl Into<String>,
        why: &str,
        todo: impl Into<String>,
    ) -> Item {
        Item {
            level: Level::Must,
            ..Item::should(name, found, why, todo)
        }
    }

    /// Lets `tune apply` write this.
    pub fn by(mut self, path: impl Into<String>, to: impl Into<String>) -> Item {
        self.settings.push(Setting {
            path: path.into(),
            to: to.into(),
        });
        self
    }
}

/// A sysctl that should have a value, or any that is as good.
pub fn sysctl(
    system: &System,
    name: &str,
    to: &str,
    is_good: impl Fn(&str) -> bool,
    why: &str,
) -> Item {
    match system.sysctl(name) {
        None => Item::unknown(name, &sysctl_path(name)),
        Some(found) if is_good(&found) => Item::ok(name, found, why),
        Some(found) => {
            let todo = match to.contains(' ') {
                true => format!("sysctl -w {name}=\"{to}\""),
                false => format!("sysctl -w {name}={to}"),
            };
            Item::should(name, found, why, todo).by(sysctl_path(name), to)
        }
    }
}
