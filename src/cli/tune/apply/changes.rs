//! What would be written, and writing it.

use anyhow::{Context, bail};

use crate::cli::tune::apply::render::{BOOT_FILE, IRQ_FILE, LIMITS_FILE, Rendered, files};
use crate::cli::tune::apply::state::{State, Value};
use crate::cli::tune::check::{Ground, look};
use crate::cli::tune::system::System;

/// What would be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    pub values: Vec<Value>,
    /// Those that are not there as they should be; with what is there.
    pub files: Vec<(Rendered, Option<String>)>,
}

impl Changes {
    /// Against the machine as it is, and what earlier runs have set.
    ///
    /// # Errors
    /// If a file can't be read, is no plain one, or was edited since an earlier run wrote it.
    pub fn new(ground: &Ground, state: &State) -> anyhow::Result<Changes> {
        let values = values(ground);
        // a file keeps what earlier runs have set, too
        let mut all = state.clone();
        values.iter().for_each(|value| all.add(value));
        let mut changed = Vec::new();
        for file in files(ground, &all.values) {
            if ground.system.is_odd(file.path) {
                bail!("{} is a link or no file: move it away first", file.path);
            }
            let now = ground.system.whole(file.path).with_context(|| file.path)?;
            if now.as_ref() == Some(&file.text) {
                continue;
            }
            let known = state.files.iter().find(|known| known.path == file.path);
            let is_edited = |wrote: &String| now.as_ref().is_some_and(|now| now != wrote);
            if known.is_some_and(|known| is_edited(&known.wrote)) {
                bail!(
                    "{} was edited since `tune apply` wrote it: keep your lines in a file of their own, \
                     and remove this one",
                    file.path
                );
            }
            changed.push((file, now));
        }
        Ok(Changes {
            values,
            files: changed,
        })
    }

    /// Values that are written.
    pub fn set(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(|value| !value.is_kept())
    }

    pub fn count(&self) -> u64 {
        (self.set().count() + self.files.len()) as u64
    }

    /// Writes everything; answers what failed, of which the state knows what it knew before.
    ///
    /// # Errors
    /// If the state can't be written.
    pub fn write(&self, system: &System, state: &mut State) -> anyhow::Result<Vec<String>> {
        let earlier = state.clone();
        // whoever is stopped in between can take back what was done: it is known first
        self.values.iter().for_each(|value| state.add(value));
        for (file, now) in &self.files {
            state.add_file(file.path, now.clone(), &file.text);
        }
        state.write(system)?;
        let mut failed = Vec::new();
        for value in self.set() {
            let Err(error) = system.write(&value.path, &value.to) else {
                // the kernel may take it and do something else
                let now = system.setting(&value.path).unwrap_or_default();
                if now != value.to {
                    failed.push(format!("{}: it is {now} after {}", value.path, value.to));
                    state.found(&value.path, &now);
                }
                continue;
            };
            failed.push(format!("{}: {error}", value.path));
            state.forget(&value.path, &earlier);
        }
        let mut missing = Vec::new();
        for (file, now) in &self.files {
            let text = match file.path {
                LIMITS_FILE => without(&file.text, &missing),
                _ => file.text.clone(),
            };
            match system.replace(file.path, &text) {
                Ok(()) => state.add_file(file.path, now.clone(), &text),
                Err(error) => {
                    failed.push(format!("{}: {error}", file.path));
                    state.forget(file.path, &earlier);
                    if [BOOT_FILE, IRQ_FILE].contains(&file.path) && !system.exists(file.path) {
                        missing.push(file.path);
                    }
                }
            }
        }
        state.write(system)?;
        Ok(failed)
    }
}

/// The unit's lines but for those that run scripts which are not there.
fn without(text: &str, scripts: &[&str]) -> String {
    let lines = text
        .lines()
        .filter(|line| !scripts.iter().any(|script| line.ends_with(script)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn values(ground: &Ground) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for (_, items) in look(ground) {
        for setting in items.into_iter().flat_map(|item| item.settings) {
            let known = values.iter().any(|value| value.path == setting.path);
            let now = ground.system.setting(&setting.path);
            let Some(from) = now.filter(|from| *from != setting.to && !known) else {
                continue;
            };
            values.push(Value::new(ground.system, setting.path, from, setting.to));
        }
    }
    // a switch of the scheduler sets the number of requests anew, which then comes back with it
    let schedulers = values.iter().filter_map(|value| {
        let queue = value.path.strip_suffix("/scheduler")?;
        Some(format!("{queue}/nr_requests"))
    });
    let kept: Vec<Value> = schedulers
        .filter(|path| !values.iter().any(|value| value.path == *path))
        .filter_map(|path| {
            let now = ground.system.setting(&path)?;
            Some(Value::new(ground.system, path, now.clone(), now))
        })
        .collect();
    values.extend(kept);
    values
}
