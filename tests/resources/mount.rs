//! A small file system of its own on a loop device.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::support::process::run_ok;

const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// Unmounted when it goes.
pub struct Mount {
    home: TempDir,
    /// The image is in memory that has a bound.
    thin: bool,
}

/// Why none can be made here.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to mount");
    }
    let there = |path: &str| Path::new(path).exists();
    if !there("/dev/loop-control") {
        return Some("needs loop devices");
    }
    let mkfs = Command::new("mkfs.ext4").arg("-V").output();
    mkfs.is_err().then_some("needs mkfs.ext4 (e2fsprogs)")
}

impl Mount {
    /// Makes an ext4 of so many bytes, nothing of it kept for root.
    pub fn ext4(bytes: u64) -> Result<Mount> {
        Mount::ext4_over(bytes, None)
    }

    /// The same on a device that has only `backing` bytes: [`Mount::exhaust`].
    pub fn ext4_on_thin_device(bytes: u64, backing: u64) -> Result<Mount> {
        Mount::ext4_over(bytes, Some(backing))
    }

    fn ext4_over(bytes: u64, backing: Option<u64>) -> Result<Mount> {
        let home = tempfile::Builder::new()
            .prefix("corelane-test-")
            .tempdir()?;
        let mount = Mount {
            home,
            thin: backing.is_some(),
        };
        fs::create_dir(mount.device())?;
        fs::create_dir(mount.path())?;
        if let Some(backing) = backing {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", &format!("size={backing}"), "tmpfs"]);
            run_ok(command.arg(mount.device()), b"", TOOL_LIMIT)?;
        }
        let image = mount.device().join("image");
        File::create(&image)?.set_len(bytes)?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-m", "0"]).arg(&image);
        run_ok(&mut mkfs, b"", TOOL_LIMIT)?;
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).arg(&image).arg(mount.path());
        run_ok(&mut command, b"", TOOL_LIMIT)?;
        Ok(mount)
    }

    /// Where the image is.
    fn device(&self) -> PathBuf {
        self.home.path().join("device")
    }

    /// Takes the rest of what is behind a thin device: from now on writes to blocks that were never
    /// written fail with EIO.
    pub fn exhaust(&self) -> Result<()> {
        let mut filler = File::create(self.device().join("filler"))?;
        let chunk = vec![1; 1 << 16];
        loop {
            match filler.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// Makes it read-only under whoever writes there, as an error of the device does.
    pub fn abort(&self) -> Result<()> {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,abort"]).arg(self.path());
        // it may say that it is read-only now: that is what was asked for
        let _ = run_ok(&mut command, b"", TOOL_LIMIT);
        Ok(())
    }

    /// Takes it away from its path; whoever has files open there goes on with them.
    pub fn detach(&self) -> Result<()> {
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(self.path());
        run_ok(&mut command, b"", TOOL_LIMIT).map(drop)
    }

    /// Takes all the space that is left.
    pub fn fill(&self, path: &Path) -> Result<()> {
        let space = nix::sys::statvfs::statvfs(&self.path())?;
        let mut left = space.blocks_available() * space.fragment_size();
        // metadata takes a little of it
        while left > 1 << 20 {
            let mut command = Command::new("fallocate");
            command.args(["--length", &left.to_string()]).arg(path);
            if run_ok(&mut command, b"", TOOL_LIMIT).is_ok() {
                break;
            }
            left -= 1 << 20;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // it may have been taken away already
        let mut umount = Command::new("umount");
        let _ = umount.arg("--lazy").arg(self.path()).output();
        if self.thin {
            let mut umount = Command::new("umount");
            let _ = umount.arg("--lazy").arg(self.device()).output();
        }
    }
}
