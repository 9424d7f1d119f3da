//! `corelane tune apply`: sets what `check` found wanting, and takes it back.

mod changes;
mod render;
mod state;
#[cfg(test)]
mod tests;
mod undo;

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;
use serde_json::{Value as Json, json};

use crate::cli::output::{Output, counted};
use crate::cli::run::Usage;
use crate::cli::serve::settings;
use crate::cli::tune::TuneApply;
use crate::cli::tune::apply::changes::Changes;
use crate::cli::tune::apply::render::LIMITS_FILE;
use crate::cli::tune::apply::state::State;
use crate::cli::tune::check::Ground;
use crate::cli::tune::system::System;

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
    let changes = Changes::new(&ground, &State::read(&system)?)?;
    let notes = notes(options, &ground, &changes);
    if !output.json {
        tell(output, &changes)?;
        notes.iter().for_each(|note| output.note(note));
    }
    let writes = !options.dry_run && changes.count() > 0;
    if writes && !options.yes && !agreed()? {
        bail!("nothing was written");
    }
    let failed = match writes {
        true => write(&ground, &changes)?,
        false => Vec::new(),
    };
    if output.json {
        output.object(&object(&changes, writes, &failed, &notes))?;
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
        let has_unit = changes
            .files
            .iter()
            .any(|(file, _)| file.path == LIMITS_FILE);
        if writes && has_unit {
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

/// Writes what was shown, if it is still what there is to write.
fn write(ground: &Ground, shown: &Changes) -> anyhow::Result<Vec<String>> {
    let system = ground.system;
    let _lock = state::lock(system, true)?;
    let mut state = State::read(system)?;
    // time went by while somebody read it
    let now = Ground::new(system, ground.config);
    if Changes::new(&now, &state)? != *shown {
        bail!("the machine has changed meanwhile, and nothing was written: look again");
    }
    shown.write(system, &mut state)
}

/// What is not to be seen from the changes.
fn notes(options: &TuneApply, ground: &Ground, changes: &Changes) -> Vec<String> {
    let mut notes = Vec::new();
    let settings = &options.settings;
    if settings.config.is_none() && settings.file.is_none() {
        notes.push(
            "no server.properties was named: cores and log.dirs are what flags, environment and \
             defaults say"
                .into(),
        );
    }
    notes.extend(render::overruled(ground.system, changes));
    if !render::has_systemd(ground.system) && changes.values.iter().any(render::needs_script) {
        notes.push(
            "no systemd here: cores, interrupts and huge pages are set until the next boot only, see \
             tuning/boot.sh and tuning/irq.sh"
                .into(),
        );
    }
    notes
}

fn tell(output: &Output, changes: &Changes) -> io::Result<()> {
    if changes.count() == 0 {
        return output
            .line("nothing to set: `corelane tune check` says what is left to do by hand");
    }
    if !changes.values.is_empty() {
        let rows: Vec<Vec<String>> = changes
            .set()
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

fn object(changes: &Changes, written: bool, failed: &[String], notes: &[String]) -> Json {
    let values: Vec<Json> = changes
        .set()
        .map(|value| json!({ "path": value.path, "from": value.from, "to": value.to }))
        .collect();
    let files = changes.files.iter();
    let files: Vec<Json> = files
        .map(|(file, now)| json!({ "path": file.path, "replaced": now.is_some(), "text": file.text }))
        .collect();
    json!({
        "values": values,
        "files": files,
        "written": written,
        "failed": failed,
        "notes": notes,
    })
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
