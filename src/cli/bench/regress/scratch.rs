//! Where broker and floor keep their files, and what an interrupt does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::Ordering;
use std::thread;

use anyhow::Context;
use nix::sys::signal::SigSet;

use super::pairs::INTERRUPTED;
use crate::cli::bench::INTERRUPTS;
use crate::cli::disk::Disk;
use crate::cli::run::Usage;
use crate::ring::process::block_signals;

/// As a shell tells of an end by SIGINT.
const INTERRUPTED_CODE: i32 = 130;

/// A directory that is gone at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(parent: &Path) -> anyhow::Result<Scratch> {
        let disk = Disk::of(parent);
        if disk.is_memory() {
            let what = format!("{} is in memory ({})", parent.display(), disk.file_system);
            return Err(Usage(format!("{what}: name a directory on a disk with --dir")).into());
        }
        let dir = parent.join(format!("corelane-regress-{}", process::id()));
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An interrupt ends the load that runs, so that servers and files go, too. A second one ends all at
/// once: servers go with this process.
pub fn watch_for_interrupts() -> anyhow::Result<()> {
    block_signals(&INTERRUPTS).context("signals can't be blocked")?;
    thread::spawn(|| {
        let signals: SigSet = INTERRUPTS.into_iter().collect();
        while signals.wait().is_ok() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                process::exit(INTERRUPTED_CODE);
            }
        }
    });
    Ok(())
}
