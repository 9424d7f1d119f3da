//! Log directories of one broker, looked through together.

use std::path::PathBuf;

use crate::cli::log::metadata::{self, Metadata};
use crate::cli::progress::Progress;
use crate::cli::run::Usage;
use crate::log::verify::{Finding, Severity, Survey, survey, total_bytes};
use crate::ring::Ring;

/// Buffers of a command that works on files alone.
pub const ARENA_BYTES: usize = 16 << 20;
/// How far the looking is.
const BAR: &str = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// What a set of directories holds.
pub struct Looked {
    pub surveys: Vec<Survey>,
    pub metadata: Metadata,
}

impl Looked {
    /// All that is found, directory by directory, then what no directory shows by itself.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_directories = self.surveys.iter().flat_map(|survey| &survey.findings);
        of_directories.chain(&self.metadata.findings)
    }

    /// How many tell of damage.
    pub fn damage(&self) -> u64 {
        let damage = |f: &&Finding| f.severity == Severity::Damage;
        self.findings().filter(damage).count() as u64
    }
}

/// Looks through directories whose broker is stopped.
pub async fn look(ring: &Ring, dirs: &[PathBuf]) -> anyhow::Result<Looked> {
    let total = dirs.iter().map(|dir| total_bytes(ring, dir)).sum();
    let mut progress = Progress::new(Some(total), BAR);
    let mut surveys = Vec::new();
    for dir in dirs {
        let looked = survey(ring, dir, &mut |bytes| progress.add(bytes)).await;
        surveys.push(looked.map_err(|error| Usage(error.to_string()))?);
    }
    progress.end();
    let metadata = metadata::check(ring, dirs, &surveys);
    Ok(Looked { surveys, metadata })
}
