//! Where a run works: one directory under the temporary one, and nothing outside it. What a
//! killed run left there is found by its name, and taken down by the next one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fuse;
use crate::support::wait;
use crate::volume::{detach_loop, umount};

/// Before a mount is detached from the tree while something still uses it.
const LET_GO_LIMIT: Duration = Duration::from_secs(3);

/// The broker that runs, for the way out of an interrupted run; 0 is none.
pub static BROKER: AtomicI32 = AtomicI32::new(0);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// An error once the run is being taken down: nothing is to be set up any more.
pub fn check_interrupt() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// The directory of one run. Taken down when it goes.
pub struct Ground {
    path: PathBuf,
    // held as long as the run lives, however it ends
    _lock: File,
}

impl Ground {
    /// Removes what killed runs left, makes a directory, and sees to it that an interrupt takes it
    /// down.
    pub fn prepare() -> Result<Ground> {
        remove_stale()?;
        let path = prefix().with_extension(std::process::id().to_string());
        for part in ["disks", "volume", "home"] {
            fs::create_dir_all(path.join(part))
                .with_context(|| format!("cannot make {}", path.display()))?;
        }
        let lock = File::create(path.join("lock"))?;
        lock.try_lock().context("a new lock file is locked")?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let own = path.clone();
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                INTERRUPTED.store(true, Ordering::SeqCst);
                // what was just being set up is found by the second time
                for _ in 0..2 {
                    let broker = BROKER.load(Ordering::SeqCst);
                    if broker > 0 {
                        let _ = kill(Pid::from_raw(broker), Signal::SIGKILL);
                    }
                    take_down(&own);
                }
                exit(128 + signal);
            }
        });
        Ok(Ground { path, _lock: lock })
    }

    /// Where FUSE is mounted.
    pub fn disks(&self) -> PathBuf {
        self.path.join("disks")
    }

    /// Where the file system under test is mounted.
    pub fn volume(&self) -> PathBuf {
        self.path.join("volume")
    }

    /// Outside the file system under test.
    pub fn home(&self) -> PathBuf {
        self.path.join("home")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        take_down(&self.path);
    }
}

fn prefix() -> PathBuf {
    std::env::temp_dir().join(fuse::NAME)
}

fn remove_stale() -> Result<()> {
    let prefix = prefix().with_extension("");
    let stem = prefix.file_name().unwrap_or_default().to_owned();
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        if !path.is_dir() || path.file_stem() != Some(&stem) || path.extension().is_none() {
            continue;
        }
        // the kernel lets go of the lock of a killed run
        let free = match File::open(path.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if free {
            println!("removing what a killed run left in {}", path.display());
            take_down(&path);
        }
    }
    Ok(())
}

/// Unmounts what is mounted below a run's directory, takes its loop devices away and removes it.
/// Goes on whatever fails, and leaves the directory where something is still mounted.
fn take_down(path: &Path) {
    let volume = path.join("volume").display().to_string();
    let disks = path.join("disks").display().to_string();
    let unmount = |point: &str| {
        if !is_mounted(point) {
            return;
        }
        // what a killed broker had open goes a moment after it
        let gone = wait::until(LET_GO_LIMIT, "the file system to be let go", || {
            Ok(umount(&[point])?.status.success().then_some(()))
        });
        if gone.is_err() {
            let _ = umount(&["-l", point]);
        }
    };
    unmount(&volume);
    for device in loops_below(&disks) {
        let _ = detach_loop(&device);
    }
    unmount(&disks);
    if !is_mounted(&volume) && !is_mounted(&disks) {
        let _ = fs::remove_dir_all(path);
    }
}

fn is_mounted(point: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(point))
}

/// The loop devices whose file lies below a directory.
fn loops_below(directory: &str) -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let ours = devices.flatten().filter(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file"));
        file.is_ok_and(|file| Path::new(&file).starts_with(directory))
    });
    ours.map(|device| format!("/dev/{}", device.file_name().to_string_lossy()))
        .collect()
}
