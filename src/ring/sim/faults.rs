//! Faults that strike from outside, and what may be looked at from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::{MachineId, ProcessId};
use super::options::SimOptions;
use super::world::SimWorld;
use crate::base::ids::ShardId;

/// Memory of one shard's buffers.
#[derive(Clone, Copy, Debug)]
pub struct ArenaUse {
    /// Bytes handed out now.
    pub used_bytes: usize,
    /// The bound.
    pub budget_bytes: usize,
}

impl SimWorld {
    /// Stops a process, or the thread of one of its shards, as SIGSTOP does; it goes on by itself
    /// after this time. What its disks and its network do goes on.
    pub fn stop_for(&self, process: ProcessId, shard: Option<ShardId>, time: Duration) {
        let until = (self.now() + time).0;
        for r in self.running.borrow_mut().iter_mut() {
            let which = shard.is_none_or(|shard| r.executor.ring().shard() == shard);
            if r.process == process.0 && which {
                r.stopped_until = r.stopped_until.max(until);
            }
        }
    }

    /// Turns that the shards of a process have made.
    pub fn turns(&self, process: ProcessId) -> u64 {
        let running = self.running.borrow();
        let its = running.iter().filter(|r| r.process == process.0);
        its.map(|r| r.turns).sum()
    }

    /// Memory of each shard of a process.
    pub fn arenas(&self, process: ProcessId) -> Vec<ArenaUse> {
        let running = self.running.borrow();
        let its = running.iter().filter(|r| r.process == process.0);
        its.map(|r| {
            let ring = r.executor.ring();
            ArenaUse {
                used_bytes: ring.arena().used_bytes(),
                budget_bytes: ring.arena().budget_bytes(),
            }
        })
        .collect()
    }

    /// Operations that ended so far, in the whole world.
    pub fn operations(&self) -> u64 {
        self.shared.with(|s| s.operations)
    }

    /// How often a machine lost its power.
    pub fn power_cuts(&self, machine: MachineId) -> u64 {
        self.shared.with(|s| s.machines[machine.0].power_cuts)
    }

    /// Every file below a directory, with its length, in the order of names.
    pub fn files(&self, machine: MachineId, dir: &Path) -> Vec<(PathBuf, u64)> {
        let entries = self.with_disk(machine, dir, |fs, below| fs.read_dir(below));
        let mut files = Vec::new();
        for entry in entries.unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => files.extend(self.files(machine, &path)),
                false => files.push((path, entry.len)),
            }
        }
        files
    }

    /// What a file holds, as a reader on its machine sees it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn read_file(&self, machine: MachineId, path: &Path) -> Vec<u8> {
        self.with_disk(machine, path, |fs, below| {
            let ino = fs.lookup(below).expect("a file to read");
            let content = &fs.file(ino).expect("found").content;
            let mut bytes = vec![0; content.size() as usize];
            content.read(0, &mut bytes);
            bytes
        })
    }

    /// Lets two machines not reach each other any more, or again.
    pub fn part(&self, a: MachineId, b: MachineId, parted: bool) {
        let pair = (a.0.min(b.0), a.0.max(b.0));
        self.shared.with(|s| match parted {
            true => s.parted.insert(pair),
            false => s.parted.remove(&pair),
        });
    }

    /// Breaks every connection of a machine.
    pub fn reset_connections(&self, machine: MachineId) {
        self.shared.with(|s| {
            let ids: Vec<u64> = s.sockets.keys().copied().collect();
            for id in ids {
                let ends = s.stream(id).map(|x| (x.machine, x.remote_machine));
                if ends.is_some_and(|(a, b)| a == machine.0 || b == machine.0) {
                    s.break_stream(id);
                }
            }
        });
    }

    /// Moves a machine's wall clock.
    pub fn jump_wall(&self, machine: MachineId, ms: i64) {
        self.shared
            .with(|s| s.machines[machine.0].wall_offset_ms += ms);
    }

    /// Changes how the world is from now on.
    pub fn tune(&self, change: impl FnOnce(&mut SimOptions)) {
        self.shared.with(|s| change(&mut s.options));
    }

    /// The next `n` flushes on the disk that holds `path` fail, lose data, and are reported once.
    pub fn fail_flushes(&self, machine: MachineId, path: &Path, n: u32) {
        self.shared.with(|s| {
            let disk = s.machines[machine.0].disk_of(path).0;
            s.failing_flushes.insert((machine.0, disk), n);
        });
    }

    /// The next `n` direct writes on the disk that holds `path` fail with EIO.
    pub fn fail_writes(&self, machine: MachineId, path: &Path, n: u32) {
        self.fail_writes_with(machine, path, n, libc::EIO);
    }

    /// The next `n` direct writes there find no space, overwrites too: a file system that copies on
    /// write needs some for them.
    pub fn refuse_writes(&self, machine: MachineId, path: &Path, n: u32) {
        self.fail_writes_with(machine, path, n, libc::ENOSPC);
    }

    fn fail_writes_with(&self, machine: MachineId, path: &Path, n: u32, errno: i32) {
        self.shared.with(|s| {
            let disk = s.machines[machine.0].disk_of(path).0;
            s.failing_writes.insert((machine.0, disk), (n, errno));
        });
    }

    /// Sets the size of the disk that holds `path`.
    pub fn set_disk_bytes(&self, machine: MachineId, path: &Path, total_bytes: u64) {
        self.with_disk(machine, path, |fs, _| fs.total_bytes = total_bytes);
    }

    /// Bytes taken on the disk that holds `path`.
    pub fn used_disk_bytes(&self, machine: MachineId, path: &Path) -> u64 {
        self.with_disk(machine, path, |fs, _| fs.used_bytes())
    }

    /// Pulls the disk that holds `path`, or plugs it in again.
    pub fn vanish_disk(&self, machine: MachineId, path: &Path, vanished: bool) {
        self.with_disk(machine, path, |fs, _| fs.vanished = vanished);
    }

    /// Flips a bit of a file, on the medium and in every cache.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn rot(&self, machine: MachineId, path: &Path, offset: u64, bit: u8) {
        self.with_disk(machine, path, |fs, below| {
            let ino = fs.lookup(below).expect("a file to rot");
            fs.file(ino).expect("found").content.rot(offset, bit);
        });
    }

    fn with_disk<T>(
        &self,
        machine: MachineId,
        path: &Path,
        f: impl FnOnce(&mut super::disk::fs::Fs, &[String]) -> T,
    ) -> T {
        self.shared.with(|s| {
            let machine = &mut s.machines[machine.0];
            let (disk, below) = machine.disk_of(path);
            f(&mut machine.disks[disk], &below)
        })
    }
}
