//! What was set, and what was there before: kept so that it can be taken back.

use std::fs::{self, File, TryLockError};
use std::io;

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};

use crate::cli::tune::system::System;

/// Beside the broker's own directory: only root may say what root puts back.
pub const FILE: &str = "/var/lib/corelane-tune/applied.json";
const VERSION: u64 = 1;

/// A value below `/proc` or `/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub path: String,
    pub from: String,
    pub to: String,
    /// Of what has another name after a boot, as an interrupt or a disk: the boot that it was set in.
    pub boot: Option<String>,
}

impl Value {
    pub fn new(system: &System, path: String, from: String, to: String) -> Value {
        let is_named_anew = ["/proc/irq/", "/sys/block/"]
            .iter()
            .any(|dir| path.starts_with(dir));
        let boot = is_named_anew.then(|| boot(system)).flatten();
        Value {
            path,
            from,
            to,
            boot,
        }
    }

    /// Not written: it is only put back, after another value that the kernel changes it with.
    pub fn is_kept(&self) -> bool {
        self.from == self.to
    }
}

/// The boot that the machine runs since.
pub fn boot(system: &System) -> Option<String> {
    system.text("/proc/sys/kernel/random/boot_id")
}

/// Keeps other runs away, as long as the answer lives; none where there is no state yet and none is made.
///
/// # Errors
/// The system's; if another one runs, too.
pub fn lock(system: &System, make: bool) -> anyhow::Result<Option<File>> {
    let file = system.path(FILE);
    let dir = file.parent().unwrap_or(&file);
    if make {
        let named = || format!("{} can't be made: are you root?", dir.display());
        fs::create_dir_all(dir).with_context(named)?;
    }
    let dir = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        dir => dir?,
    };
    match dir.try_lock() {
        Ok(()) => Ok(Some(dir)),
        Err(TryLockError::WouldBlock) => bail!("another `tune apply` runs"),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// A file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub path: String,
    /// What was there; none if there was no such file.
    pub before: Option<String>,
    pub wrote: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub values: Vec<Value>,
    pub files: Vec<Kept>,
}

impl State {
    /// Adds a value to those of earlier runs, of which the first one knows what was there before: as long as
    /// it stayed as that one set it.
    pub fn add(&mut self, value: &Value) {
        match self
            .values
            .iter_mut()
            .find(|known| known.path == value.path)
        {
            // somebody has set another one since, or it is another thing of that name
            Some(known) if known.to != value.from || known.boot != value.boot => {
                known.clone_from(value);
            }
            Some(known) => known.to.clone_from(&value.to),
            None => self.values.push(value.clone()),
        }
    }

    /// A file was, or will be, written over `current`.
    pub fn add_file(&mut self, path: &str, current: Option<String>, wrote: &str) {
        match self.files.iter_mut().find(|known| known.path == path) {
            Some(known) => known.wrote = wrote.to_owned(),
            None => self.files.push(Kept {
                path: path.to_owned(),
                before: current,
                wrote: wrote.to_owned(),
            }),
        }
    }

    /// A value was written, and is this now.
    pub fn found(&mut self, path: &str, now: &str) {
        if let Some(known) = self.values.iter_mut().find(|known| known.path == path) {
            known.to = now.to_owned();
        }
    }

    /// Nothing came of this path: it is as `earlier` had it.
    pub fn forget(&mut self, path: &str, earlier: &State) {
        self.values.retain(|known| known.path != path);
        let known = earlier.values.iter().find(|known| known.path == path);
        self.values.extend(known.cloned());
        self.files.retain(|known| known.path != path);
        let known = earlier.files.iter().find(|known| known.path == path);
        self.files.extend(known.cloned());
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.files.is_empty()
    }

    /// What earlier runs left; nothing if there were none.
    pub fn read(system: &System) -> anyhow::Result<State> {
        let named = || format!("{}", system.path(FILE).display());
        match system.whole(FILE).with_context(named)? {
            None => Ok(State::default()),
            Some(text) => {
                let told = "it is not what `tune apply` wrote: move it away to begin anew";
                State::parse(&text).context(told).with_context(named)
            }
        }
    }

    /// # Errors
    /// The system's.
    pub fn write(&self, system: &System) -> anyhow::Result<()> {
        let written = match (self.is_empty(), system.exists(FILE)) {
            (true, true) => system.remove(FILE),
            (true, false) => Ok(()),
            (false, _) => system.replace(FILE, &self.text()),
        };
        let file = system.path(FILE);
        written.with_context(|| format!("{} can't be written: are you root?", file.display()))
    }

    fn text(&self) -> String {
        let values = self.values.iter();
        let values: Vec<Json> = values
            .map(|value| {
                json!({ "path": value.path, "from": value.from, "to": value.to, "boot": value.boot })
            })
            .collect();
        let files = self.files.iter();
        let files: Vec<Json> = files
            .map(|file| json!({ "path": file.path, "before": file.before, "wrote": file.wrote }))
            .collect();
        let all = json!({ "version": VERSION, "values": values, "files": files });
        format!("{all:#}\n")
    }

    fn parse(text: &str) -> Option<State> {
        let all: Json = serde_json::from_str(text).ok()?;
        if all["version"] != VERSION {
            return None;
        }
        let string = |json: &Json| json.as_str().map(str::to_owned);
        let values = all["values"].as_array()?.iter().map(|value| {
            Some(Value {
                path: string(&value["path"])?,
                from: string(&value["from"])?,
                to: string(&value["to"])?,
                boot: string(&value["boot"]),
            })
        });
        let files = all["files"].as_array()?.iter().map(|file| {
            Some(Kept {
                path: string(&file["path"])?,
                before: string(&file["before"]),
                wrote: string(&file["wrote"])?,
            })
        });
        Some(State {
            values: values.collect::<Option<_>>()?,
            files: files.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, from: &str, to: &str) -> Value {
        let [path, from, to] = [path, from, to].map(str::to_owned);
        Value {
            path,
            from,
            to,
            boot: None,
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = State {
            values: vec![value("/proc/sys/vm/swappiness", "60", "1")],
            files: vec![Kept {
                path: "/etc/x".into(),
                before: None,
                wrote: "a\n".into(),
            }],
        };
        assert_eq!(State::parse(&state.text()), Some(state));
        assert_eq!(State::parse("{}"), None);
        assert_eq!(State::parse("rubbish"), None);
    }

    #[test]
    fn a_failed_write_does_not_lose_what_was_there_at_first() {
        let mut state = State::default();
        state.add(&value("/p", "60", "10"));
        let earlier = state.clone();
        state.add(&value("/p", "10", "1"));
        state.add(&value("/q", "0", "1"));
        state.forget("/p", &earlier);
        state.forget("/q", &earlier);
        assert_eq!(state, earlier);
    }

    #[test]
    fn what_was_there_at_first_is_what_comes_back() {
        let mut state = State::default();
        state.add(&value("/p", "60", "10"));
        state.add(&value("/p", "10", "1"));
        assert_eq!(state.values, [value("/p", "60", "1")]);
        state.add_file("/f", Some("theirs".into()), "one");
        state.add_file("/f", Some("one".into()), "two");
        assert_eq!(state.files[0].before.as_deref(), Some("theirs"));
        assert_eq!(state.files[0].wrote, "two");
    }

    #[test]
    fn what_somebody_set_meanwhile_is_what_comes_back() {
        let mut state = State::default();
        state.add(&value("/p", "60", "1"));
        state.add(&value("/p", "30", "1"));
        assert_eq!(state.values, [value("/p", "30", "1")]);
        // after a boot it is another interrupt
        let of = |boot: &str, from: &str| Value {
            boot: Some(boot.into()),
            ..value("/proc/irq/9/smp_affinity_list", from, "2")
        };
        state.add(&of("a", "0"));
        state.add(&of("b", "2"));
        assert_eq!(state.values[1], of("b", "2"));
    }

    #[test]
    fn two_do_not_write_at_once() {
        let machine = crate::cli::tune::fake::Fake::new(&[]);
        let system = machine.system();
        assert!(lock(&system, false).unwrap().is_none());
        let first = lock(&system, true).unwrap();
        let second = lock(&system, true).unwrap_err().to_string();
        assert!(second.contains("another"), "{second}");
        drop(first);
        assert!(lock(&system, true).unwrap().is_some());
    }
}
