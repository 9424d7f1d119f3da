//! Taking back what was set, as far as nobody has changed it since.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::output::{Output, counted};
use crate::cli::tune::apply::render::LIMITS_FILE;
use crate::cli::tune::apply::state::{State, boot, lock};
use crate::cli::tune::system::System;

/// Systemd runs what it has read, files that are gone too.
const RELOAD: &str = "systemctl daemon-reload, or systemd goes on with what it has read of corelane.service; \
                      a restart takes its limits back";

/// What became of all that was set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Undone {
    pub restored: Vec<String>,
    /// Changed by someone else since: what, and how it is.
    pub left: Vec<String>,
    pub failed: Vec<String>,
}

/// Puts everything back; what fails stays in the state.
pub fn undo(system: &System, state: &mut State) -> Undone {
    let mut undone = Undone::default();
    let mut values = std::mem::take(&mut state.values);
    // the other way round: some settings bound others, and a scheduler sets the number of requests
    values.reverse();
    values.sort_by_key(|value| value.path.ends_with("/nr_requests"));
    let boot = boot(system);
    // which ones were put back, or could not be: a number of requests goes with its scheduler
    let mut written: BTreeMap<String, bool> = BTreeMap::new();
    let before: Vec<Option<String>> = values
        .iter()
        .map(|value| system.setting(&value.path))
        .collect();
    for (value, before) in values.into_iter().zip(before) {
        let path = &value.path;
        let Some(before) = before else {
            undone.left.push(format!("{path} is gone"));
            continue;
        };
        if value.boot.is_some() && value.boot != boot {
            let what = "was set before the last boot, and may be another one now";
            undone.left.push(format!("{path} {what}"));
            continue;
        }
        let is_ours = match value.is_kept() {
            // with its scheduler or not at all
            true => match written.get(&path.replace("/nr_requests", "/scheduler")) {
                Some(true) => true,
                Some(false) => {
                    state.values.insert(0, value);
                    continue;
                }
                None => continue,
            },
            false => before == value.to || before == value.from,
        };
        match system.setting(path) {
            Some(now) if now == value.from => {}
            _ if is_ours => {
                let done = system.write(path, &value.from);
                written.insert(path.clone(), done.is_ok());
                match done {
                    Ok(()) => undone.restored.push(format!("{path}: {}", value.from)),
                    Err(error) => {
                        undone.failed.push(format!("{path}: {error}"));
                        state.values.insert(0, value);
                    }
                }
            }
            _ => undone
                .left
                .push(format!("{path} is {before}, not {} as set", value.to)),
        }
    }
    for file in std::mem::take(&mut state.files) {
        let path = &file.path;
        let done = match (system.whole(path), &file.before) {
            (Err(error), _) => Err(error),
            (Ok(None), _) => continue,
            (Ok(now), before) if now == *before => continue,
            (Ok(Some(now)), _) if now != file.wrote => {
                undone.left.push(format!("{path} was changed"));
                continue;
            }
            (Ok(_), Some(before)) => system.replace(path, before),
            (Ok(_), None) => system.remove(path),
        };
        match (done, &file.before) {
            (Ok(()), Some(_)) => undone.restored.push(format!("{path}: as it was")),
            (Ok(()), None) => undone.restored.push(format!("{path}: gone")),
            (Err(error), _) => {
                undone.failed.push(format!("{path}: {error}"));
                state.files.push(file);
            }
        }
    }
    undone
}

pub fn run(system: &System, output: &Output, dry_run: bool) -> anyhow::Result<()> {
    if dry_run {
        return show(output, &State::read(system)?);
    }
    let _lock = lock(system, false)?;
    let mut state = State::read(system)?;
    let undone = undo(system, &mut state);
    state.write(system)?;
    let of_unit = |line: &String| line.starts_with(LIMITS_FILE);
    let notes: Vec<&str> = match undone.restored.iter().any(of_unit) {
        true => vec![RELOAD],
        false => Vec::new(),
    };
    if output.json {
        output.object(&json!({
            "restored": undone.restored,
            "left": undone.left,
            "failed": undone.failed,
            "notes": notes,
        }))?;
    } else {
        for (word, lines) in [
            ("restored", &undone.restored),
            ("left", &undone.left),
            ("failed", &undone.failed),
        ] {
            for line in lines {
                output.line(&format!("{word:<8}  {line}"))?;
            }
        }
        notes.iter().for_each(|note| output.note(note));
        if undone == Undone::default() {
            output.line("nothing to take back")?;
        }
    }
    match undone.failed.len() as u64 {
        0 => Ok(()),
        n => anyhow::bail!(
            "{} could not be put back: are you root?",
            counted(n, "setting")
        ),
    }
}

fn show(output: &Output, state: &State) -> anyhow::Result<()> {
    for value in state.values.iter().filter(|value| !value.is_kept()) {
        let line = format!("{}: {} -> {}", value.path, value.to, value.from);
        output.item(
            &line,
            || json!({ "path": value.path, "from": value.to, "to": value.from }),
        )?;
    }
    for file in &state.files {
        let what = match file.before {
            Some(_) => "as it was",
            None => "gone",
        };
        let line = format!("{}: {what}", file.path);
        output.item(&line, || json!({ "path": file.path, "text": file.before }))?;
    }
    Ok(())
}
