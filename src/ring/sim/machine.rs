//! Machines, their processes, and what a process has open.

use std::collections::VecDeque;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::fs::Fs;
use super::disk::names::Ino;
use super::rng::Rng;
use crate::ring::driver::{Completion, Doorbell};

/// A machine of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub usize);

/// A process on a machine; a process that was started again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub usize);

pub(super) struct Machine {
    /// Powered.
    pub(super) up: bool,
    pub(super) boot: u64,
    pub(super) power_cuts: u64,
    pub(super) wall_offset_ms: i64,
    pub(super) disks: Vec<Fs>,
    pub(super) next_port: u16,
}

pub(super) struct Process {
    pub(super) machine: usize,
    pub(super) alive: bool,
    /// Calls that change something until it dies, and whether the machine goes with it.
    pub(super) calls_left: Option<(u64, bool)>,
}

pub(super) struct Shard {
    pub(super) process: usize,
    pub(super) ready: VecDeque<Completion>,
    pub(super) bell: Arc<Bell>,
    pub(super) rng: Rng,
}

/// Rung from anywhere; looked at by the world when it chooses whom to run.
pub(super) struct Bell(AtomicBool);

impl Bell {
    pub(super) fn new() -> Bell {
        Bell(AtomicBool::new(false))
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Doorbell for Bell {
    fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) machine: usize,
    pub(super) disk: usize,
    pub(super) ino: Ino,
}

/// An open file description.
pub(super) struct Description {
    pub(super) place: Place,
    pub(super) direct: bool,
    pub(super) write: bool,
    /// Failed flushes of the file that this description has reported.
    pub(super) failed_seen: u32,
    /// Those of any file of the file system.
    pub(super) failed_seen_of_all: u32,
    /// Closed, but for direct writes of a killed process that are still on their way.
    pub(super) orphan: bool,
}

/// What is behind a descriptor's number. Numbers are never used twice.
pub(super) enum What {
    File(Description),
    Socket(u64),
}

pub(super) struct Handle {
    pub(super) process: usize,
    pub(super) what: What,
}

/// A direct write on its way to the device.
pub(super) struct DiskWrite {
    pub(super) place: Place,
    pub(super) fd: i32,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Vec<std::ops::Range<usize>>,
    /// The process that wanted to know is gone.
    pub(super) orphan: bool,
}

/// The components of a path; relative ones begin at the root.
pub(super) fn components(path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

impl Machine {
    /// The disk that holds a path, and the path below its mount.
    pub(super) fn disk_of(&self, path: &Path) -> (usize, Vec<String>) {
        let parts = components(path);
        let disk = (0..self.disks.len())
            .filter(|d| parts.starts_with(&self.disks[*d].mount))
            .max_by_key(|d| self.disks[*d].mount.len())
            .expect("every machine has a disk at the root");
        let below = parts[self.disks[disk].mount.len()..].to_vec();
        (disk, below)
    }
}
