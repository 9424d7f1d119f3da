//! Taking back what was set, as far as nobody has changed it since.

use anyhow::Context;
use serde_json::json;

use crate::cli::output::{Output, counted};
use crate::cli::tune::apply::state::{FILE, State};
use crate::cli::tune::system::System;

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
    // the other way round: some settings bound others
    values.reverse();
    for value in values {
        let path = &value.path;
        match system.setting(path) {
            None => undone.left.push(format!("{path} is gone")),
            Some(now) if now == value.from => {}
            Some(now) if now == value.to => match system.write(path, &value.from) {
                Ok(()) => undone.restored.push(format!("{path}: {}", value.from)),
                Err(error) => {
                    undone.failed.push(format!("{path}: {error}"));
                    state.values.insert(0, value);
                }
            },
            Some(now) => undone
                .left
                .push(format!("{path} is {now}, not {} as set", value.to)),
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
    let mut state = State::read(system)?;
    if dry_run {
        return show(output, &state);
    }
    let undone = undo(system, &mut state);
    let written = state.write(system);
    written.with_context(|| {
        format!(
            "{} can't be written: are you root?",
            system.path(FILE).display()
        )
    })?;
    if output.json {
        output.object(&json!({
            "restored": undone.restored,
            "left": undone.left,
            "failed": undone.failed,
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
    for value in &state.values {
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
