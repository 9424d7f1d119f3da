//! Instructions of the paths that every request takes, held against `benches/instructions.json`.
//!
//! ```text
//! cargo run --release --bin corelane-instructions [-- [PATH..] [--update] [--json]]
//! ```
//!
//! Each path runs alone under valgrind's callgrind, which counts what the processor would execute:
//! the same on every run and on every machine with AVX2, however busy it is. Counted are the
//! broker's own code and the libraries that it calls; the kernel is not. A path of the whole shard
//! is the real broker over the simulated driver: what driver, simulator and client execute is left
//! out. System calls that a shard makes beside its driver's are counted too. They are the allocator's
//! where it takes memory; what else waits in the kernel (a lock, a sleep, a file) would hold up every
//! connection of the shard. See [`mod@judge`] for when a count is a loss.
#![allow(missing_docs)]

#[allow(dead_code)]
#[path = "../../tests/sim/world/client.rs"]
mod client;
mod codec;
mod counted;
mod judge;
mod kept;
mod log;
mod run;
mod shard;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serde_json::json;

use judge::{Counts, Row, judge};

/// A path: its name, and what runs it and gives the number of its operations.
type Path = (&'static str, fn() -> u64);

/// Every path, as the table and the kept file name them.
fn paths() -> Vec<Path> {
    [codec::PATHS, log::PATHS, shard::PATHS].concat()
}

/// Counts the instructions of the paths that every request takes, and compares with a kept file
#[derive(Parser)]
struct Arguments {
    /// Count only these paths [default: all]
    paths: Vec<String>,
    /// Keep what is counted
    #[arg(long)]
    update: bool,
    /// Write an object, not a table
    #[arg(long)]
    json: bool,
    /// The kept counts
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json"))]
    file: PathBuf,
    /// Run a path and tell the number of its operations: what callgrind is given
    #[arg(long, hide = true, value_name = "PATH")]
    child: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match told(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing changed.
fn told(arguments: &Arguments) -> anyhow::Result<bool> {
    let all = paths();
    if let Some(name) = &arguments.child {
        let path = all.iter().find(|(its, _)| its == name);
        let (_, run) = path.with_context(|| format!("no path {name}"))?;
        writeln!(io::stdout(), "{}", run())?;
        return Ok(true);
    }
    let asked = |name: &str| arguments.paths.iter().any(|asked| name.contains(&**asked));
    let names: Vec<&str> = all
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| arguments.paths.is_empty() || asked(name))
        .collect();
    anyhow::ensure!(
        !names.is_empty(),
        "no such path; there are: {}",
        all.iter().map(|path| path.0).collect::<Vec<_>>().join(", ")
    );
    let now = Counts {
        tools: kept::tools()?,
        paths: run::all(&names)?,
    };
    let kept = kept::read(&arguments.file)?;
    if arguments.update {
        let whole = arguments.paths.is_empty();
        kept::write(&arguments.file, &kept.merged(now.clone(), whole))?;
    }
    let rows = judge(&now, &kept, arguments.paths.is_empty());
    let failed = rows.iter().any(|row| row.verdict.fails());
    match arguments.json {
        true => writeln!(io::stdout(), "{}", object(&now, &kept, &rows))?,
        false => table(&now, &kept, &rows, arguments.update)?,
    }
    if arguments.update {
        eprintln!("kept in {}", arguments.file.display());
    } else if failed {
        eprintln!(
            "if that is meant, keep it: cargo run --release --bin corelane-instructions -- --update"
        );
    }
    Ok(arguments.update || !failed)
}

fn table(now: &Counts, kept: &Counts, rows: &[Row], keeps: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if kept.tools != now.tools && !kept.tools.is_empty() {
        let (ours, theirs) = (now.tools.join(", "), kept.tools.join(", "));
        writeln!(out, "counted with {ours}; kept with {theirs}")?;
    }
    writeln!(
        out,
        "{:<38} {:>12} {:>12} {:>8}  ",
        "instructions of one", "now", "kept", "change"
    )?;
    let cell = |count: Option<f64>| match count {
        None => "-".to_owned(),
        // of system calls
        Some(n) if n < 1.0 => format!("{n:.4}"),
        Some(n) => format!("{n:.1}"),
    };
    for row in rows {
        let change = row
            .change()
            .map_or("-".to_owned(), |c| format!("{:+.2} %", 100.0 * c));
        let line = format!(
            "{:<38} {:>12} {:>12} {change:>8}  {}",
            row.path,
            cell(row.now),
            cell(row.kept),
            if keeps { "kept" } else { row.verdict.word() }
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn object(now: &Counts, kept: &Counts, rows: &[Row]) -> serde_json::Value {
    let paths: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "path": row.path,
                "now": row.now,
                "kept": row.kept,
                "change": row.change(),
                "verdict": row.verdict.word(),
            })
        })
        .collect();
    json!({
        "tools": now.tools,
        "kept_tools": kept.tools,
        "failed": rows.iter().any(|row| row.verdict.fails()),
        "paths": paths,
    })
}
