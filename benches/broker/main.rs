//! The built broker against its yardsticks, in one run: `cargo bench --bench broker -- [ROW..]`.
//!
//! CPU is the whole system's minus the load's, for kernel workers hide from a process's own
//! account; the broker is pinned to core 0, the load to core 1, both ends of every connection use
//! cubic. Floors are the programs of `benches/floor`. The data directory must lie on a file system
//! with a journal for the figures to mean something: name one with `--dir`. `--set KEY=VALUE` sets a
//! property of every broker. Memory that a process touches for the first time costs a virtual machine
//! 0.1 to 2 CPU-s/GB, whoever touches it, so bulk produce is measured once the broker's cache of
//! recent records is full.
#![allow(clippy::disallowed_methods, missing_docs)]

mod rows;

use std::path::PathBuf;

use corelane::cli::rig::machine::{self, LOAD_CORE};
use corelane::ring::affinity;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let mut dir = std::env::temp_dir();
    let mut seconds = 4.0;
    let mut pairs = 3;
    let mut names = Vec::new();
    let mut settings = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} takes a value"));
        match arg.as_str() {
            "--dir" => dir = PathBuf::from(value()),
            "--seconds" => seconds = value().parse().expect("--seconds takes a number"),
            "--set" => settings.push(value()),
            "--pairs" => pairs = value().parse().expect("--pairs takes a number"),
            _ => names.push(arg),
        }
    }
    let cubic = machine::Cubic::set();
    if let Err(e) = &cubic {
        println!("# congestion control stays as it is: {e}");
    }
    println!("# {}", machine::describe());
    println!(
        "# data in {}, {seconds} s a run, {pairs} pairs, medians",
        dir.display()
    );
    let _ = affinity::pin(LOAD_CORE);
    if !settings.is_empty() {
        println!("# broker with {}", settings.join(" "));
    }
    let bench = rows::Bench {
        dir,
        seconds,
        pairs,
        settings,
    };
    println!(
        "{:<44} {:>12} {:>12} {:>8} {:>8}",
        "what", "ours", "yardstick", "ratio", "at most"
    );
    for (name, row) in rows::ALL {
        if names.is_empty() || names.iter().any(|n| name.starts_with(n.as_str())) {
            row(&bench);
            bench.clean();
        }
    }
}
