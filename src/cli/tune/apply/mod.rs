//! `corelane tune apply`: sets what `check` found wanting, and takes it back.

mod render;
mod state;
#[cfg(test)]
mod tests;
mod undo;

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::{Value as Json, json};

use crate::cli::output::{Output, counted};
use crate::cli::run::Usage;
use crate::cli::serve::settings;
use crate::cli::tune::TuneApply;
use crate::cli::tune::apply::render::{LIMITS_FILE, Rendered, files};
use crate::cli::tune::apply::state::{State, Value};
use crate::cli::tune::check::{Ground, look};
use crate::cli::tune::system::System;

/// What would be written.
struct Changes {
    values: Vec<Value>,
    /// Those that are not there as they should be; with what is there.
    files: Vec<(Rendered, Option<String>)>,
}

impl Changes {
    /// Against the machine as it is, and what earlier runs have set.
    fn new(ground: &Ground, state: &State) -> anyhow::Result<Changes> {
        let system = ground.system;
        let mut values: Vec<Value> = Vec::new();
        for (_, items) in look(ground) {
            for setting in items.into_iter().flat_map(|item| item.settings) {
                let known = values.iter().any(|value| value.path == setting.path);
                let Some(from) = system
                    .setting(&setting.path)
                    .filter(|from| *from != setting.to)
                else {
                    continue;
                };
                if !known {
                    values.push(Value {
                        path: setting.path,
                        from,
                        to: setting.to,
                    });
                }
            }
        }
        // a file keeps what earlier runs have set, too
        let mut all = state.clone();
        values.iter().for_each(|value| all.add(value));
        let mut changed = Vec::new();
        for file in files(ground, &all.values) {
            let now = system.whole(file.path).with_context(|| file.path)?;
            if now.as_ref() != Some(&file.text) {
                changed.push((file, now));
            }
        }
        Ok(Changes {
            values,
            files: changed,
        })
    }

    fn count(&self) -> u64 {
        (self.values.len() + self.files.len()) as u64
    }

    /// Writes everything; answers what failed, of which the state knows what it knew before.
    fn write(&self, system: &System, state: &mut State) -> io::Result<Vec<String>> {
        let earlier = state.clone();
        // whoever is stopped in between can take back what was done: it is known first
        self.values.iter().for_each(|value| state.add(value));
        for (file, now) in &self.files {
            state.add_file(file.path, now.clone(), &file.text);
        }
        state.write(system)?;
        let mut failed = Vec::new();
        for value in &self.values {
            if let Err(error) = system.write(&value.path, &value.to) {
                failed.push(format!("{}: {error}", value.path));
                state.forget(&value.path, &earlier);
            }
        }
        for (file, _) in &self.files {
            if let Err(error) = system.replace(file.path, &file.text) {
                failed.push(format!("{}: {error}", file.path));
                state.forget(file.path, &earlier);
            }
        }
        state.write(system)?;
        Ok(failed)
    }
}

pub fn run(options: &TuneApply, output: &Output) -> anyhow::Result<()> {
    let system = System::new(&options.root, "self");
    if options.undo {
        return undo::run(&system, output, options.dry_run);
    }
    let config = settings::load(&options.settings)?.config;
    let ground = Ground::new(&system, &config);
    if let Some(why) = &ground.cores_refused {
        return Err(Usage(why.clone()).into());
    }
    let mut state = State::read(&system)?;
    let changes = Changes::new(&ground, &state)?;
    if !output.json {
        tell(output, &changes)?;
    }
    let writes = !options.dry_run && changes.count() > 0;
    if writes && !options.yes && !agreed()? {
        bail!("nothing was written");
    }
    let failed = match writes {
        true => changes.write(&system, &mut state).with_context(|| {
            format!(
                "{} can't be written: are you root?",
                system.path(state::FILE).display()
            )
        })?,
        false => Vec::new(),
    };
    if output.json {
        output.object(&object(&changes, writes, &failed))?;
    } else {
        for line in &failed {
            output.line(&format!("failed  {line}"))?;
        }
        if writes {
            let set = counted(changes.count() - failed.len() as u64, "thing");
            output.line(&format!(
                "{set} set; `corelane tune apply --undo` takes them back"
            ))?;
        }
        if writes
            && changes
                .files
                .iter()
                .any(|(file, _)| file.path == LIMITS_FILE)
        {
            output.note(
                "systemctl daemon-reload, and a restart of corelane.service, bring its limits in",
            );
        }
    }
    match failed.len() as u64 {
        0 => Ok(()),
        n => bail!(
            "{} could not be set: see above, and whether you are root",
            counted(n, "thing")
        ),
    }
}

fn tell(output: &Output, changes: &Changes) -> io::Result<()> {
    if changes.count() == 0 {
        return output
            .line("nothing to set: `corelane tune check` says what is left to do by hand");
    }
    if !changes.values.is_empty() {
        let rows: Vec<Vec<String>> = changes
            .values
            .iter()
            .map(|value| vec![value.path.clone(), value.from.clone(), value.to.clone()])
            .collect();
        output.table(&["value", "from", "to"], &rows)?;
    }
    for (file, now) in &changes.files {
        let what = match now {
            Some(_) => "replaced",
            None => "new",
        };
        output.line(&output.strong(&format!("{} ({what})", file.path)))?;
        for line in file.text.lines() {
            output.line(format!("    {line}").trim_end())?;
        }
    }
    Ok(())
}

fn object(changes: &Changes, written: bool, failed: &[String]) -> Json {
    let values = changes.values.iter();
    let values: Vec<Json> = values
        .map(|value| json!({ "path": value.path, "from": value.from, "to": value.to }))
        .collect();
    let files = changes.files.iter();
    let files: Vec<Json> = files
        .map(|(file, now)| json!({ "path": file.path, "replaced": now.is_some(), "text": file.text }))
        .collect();
    json!({ "values": values, "files": files, "written": written, "failed": failed })
}

/// Asks whoever sits there.
fn agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let what = "nobody can be asked here: say --yes to write, or --dry-run to look only";
        return Err(Usage(what.into()).into());
    }
    eprint!("write this? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
