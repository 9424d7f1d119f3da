//! Bytes that rot in every kind of file, on the built broker: it either does not matter, or it is
//! found and named, what is not touched is served whole, and nothing wrong is ever served. `corelane
//! log verify` names it too, and `corelane log repair` brings back what is left.
//!
//! `CORELANE_DAMAGE_ROUNDS` flips more, `CORELANE_DAMAGE_SEED` elsewhere, `CORELANE_DAMAGE_ONLY` in
//! one kind of file.
#![allow(clippy::disallowed_methods)] // a test may read the clock

#[path = "../broker/client.rs"]
#[allow(dead_code)]
mod client;
mod data;
mod serving;
#[path = "../support/mod.rs"]
mod support;
mod trial;

use std::path::Path;

use anyhow::{Result, ensure};

use corelane::ring::sim::Rng;
use data::{End, Template};
use trial::{Flip, Trial};

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a file is, by its name: one of each kind is hit in every round.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.len() > 20 && name[..20].bytes().all(|b| b.is_ascii_digit());
    match (digits, name.starts_with("corelane-")) {
        (true, _) => {
            let active = match name.starts_with("00000000000000000000") {
                true => "first",
                false => "later",
            };
            format!("{active}{}", &name[20..])
        }
        (_, true) => name.rsplit('.').next().unwrap_or_default().to_owned(),
        _ => name.into_owned(),
    }
}

fn wanted(kind: &str) -> bool {
    std::env::var("CORELANE_DAMAGE_ONLY").map_or(true, |only| kind == only)
}

fn rounds(end: End) -> Result<()> {
    let template = Template::make(end)?;
    let mut random = Rng::new(number("CORELANE_DAMAGE_SEED", 1));
    let mut failures = Vec::new();
    let mut kinds: Vec<(String, Vec<std::path::PathBuf>)> = Vec::new();
    for file in template.files()? {
        let kind = kind(&file);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, files)) => files.push(file),
            None => kinds.push((kind, vec![file])),
        }
    }
    for round in 0..number("CORELANE_DAMAGE_ROUNDS", 1) {
        for (kind, files) in kinds.iter().filter(|(kind, _)| wanted(kind)) {
            let file = &files[random.below(files.len() as u64) as usize];
            let Some(flip) = Flip::draw(&template, file, &mut random)? else {
                continue; // it is empty
            };
            let what = format!("round {round}, {end:?}, {kind}: {flip}");
            if let Err(error) = Trial::new(&template, &flip).run() {
                failures.push(format!("{what}: {error:#}"));
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[test]
fn rot_after_a_clean_stop_is_found_or_does_not_matter() -> Result<()> {
    rounds(End::Clean)
}

#[test]
fn rot_after_a_kill_is_found_or_does_not_matter() -> Result<()> {
    rounds(End::Killed)
}
