//! A file system on a recorded disk: loop device, mkfs, mount, and the way back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::disk::Disk;
use crate::fuse::{Disks, Served};
use crate::ground::check_interrupt;
use crate::support::process::{Output, run, run_ok};
use crate::support::wait;

/// The longest run of mkfs, mount and the like.
const TOOL_LIMIT: Duration = Duration::from_secs(60);
/// The size of every disk. XFS asks for 300 MB at least.
pub const DISK_BYTES: u64 = 512 * 1024 * 1024;

/// What the broker's directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// As mount knows it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// What makes it with its defaults, journal included, and with nothing left for later.
    fn mkfs(self) -> (&'static str, &'static [&'static str]) {
        const LAZY: &str = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        match self {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", LAZY]),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
        }
    }
}

/// A disk behind a loop device, mounted or not. Takes itself down when it goes.
pub struct Volume {
    pub disk: Arc<Disk>,
    mount_point: PathBuf,
    mounted: bool,
    device: String,
    // after the device is gone
    _served: Served,
}

impl Volume {
    /// Puts a loop device over a disk.
    pub fn attach(disks: &mut Disks, disk: Disk, mount_point: &Path) -> Result<Volume> {
        check_interrupt()?;
        let disk = Arc::new(disk);
        let served = disks.serve(Arc::clone(&disk));
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--direct-io=on"]);
        let output = run_ok(losetup.arg(&served.path), b"", TOOL_LIMIT)?;
        let device = output.text().trim().to_owned();
        let volume = Volume {
            disk,
            mount_point: mount_point.to_owned(),
            mounted: false,
            device,
            _served: served,
        };
        // through the page cache of the file a flush would say nothing
        let name = volume.device.rsplit('/').next().unwrap_or_default();
        let direct = fs::read_to_string(format!("/sys/block/{name}/loop/dio"))
            .with_context(|| format!("cannot see how {} works", volume.device))?;
        ensure!(direct.trim() == "1", "{} has no direct IO", volume.device);
        Ok(volume)
    }

    /// Makes a file system.
    pub fn format(&self, file_system: FileSystem) -> Result<()> {
        let (program, args) = file_system.mkfs();
        run_ok(
            Command::new(program).args(args).arg(&self.device),
            b"",
            TOOL_LIMIT,
        )?;
        Ok(())
    }

    /// Mounts it, which replays its journal; what the kernel said if it would not.
    pub fn mount(&mut self, file_system: FileSystem) -> Result<Result<(), String>> {
        check_interrupt()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", file_system.name(), &self.device]);
        let output = run(mount.arg(&self.mount_point), b"", TOOL_LIMIT)?;
        self.mounted = output.status.success();
        Ok(if self.mounted {
            Ok(())
        } else {
            Err(output.stderr)
        })
    }

    /// Unmounts it and takes the loop device away; answers the disk.
    pub fn detach(mut self) -> Result<Arc<Disk>> {
        if self.mounted {
            let point = self.mount_point.display().to_string();
            // what the broker had open goes a moment after it
            wait::until(TOOL_LIMIT, "the file system to be let go", || {
                Ok(umount(&[&point])?.status.success().then_some(()))
            })?;
            self.mounted = false;
        }
        Ok(Arc::clone(&self.disk))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount(&["-l", &self.mount_point.display().to_string()]);
        }
        let _ = detach_loop(&self.device);
    }
}

/// Runs umount to any end.
pub fn umount(args: &[&str]) -> Result<Output> {
    run(Command::new("umount").args(args), b"", TOOL_LIMIT)
}

/// Takes a loop device away; at once, or when its last user goes.
pub fn detach_loop(device: &str) -> Result<Output> {
    run(
        Command::new("losetup").args(["-d", device]),
        b"",
        TOOL_LIMIT,
    )
}
