//! What files lie on, as far as the system tells.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat;

const SECTOR_BYTES: u64 = 512;

/// A file system and its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// As in `ext4`.
    pub file_system: String,
    /// As in `/dev/nvme0n1p2`; empty where there is none.
    pub device: String,
    /// As it was mounted.
    pub options: String,
    /// Whether the device has a write cache that forgets without power; `None` where the system
    /// does not tell.
    pub volatile_cache: Option<bool>,
    /// Whether the device takes writes that are durable by themselves (forced unit access).
    pub fua: Option<bool>,
    /// Major and minor number, as in `259:2`.
    pub number: String,
}

/// What a device did since it is there, by the kernel's `Documentation/block/stat.rst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub written_bytes: u64,
    /// Counted since Linux 5.5, for whole disks that have a request queue: not for partitions (these
    /// show their disk's), the device mapper, or md.
    pub flushes: Option<u64>,
}

impl Counters {
    /// What was done since then.
    pub fn since(self, before: Counters) -> Counters {
        Counters {
            writes: self.writes.saturating_sub(before.writes),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            flushes: self
                .flushes
                .zip(before.flushes)
                .map(|(after, before)| after.saturating_sub(before)),
        }
    }

    /// Of two devices together.
    pub fn and(self, other: Counters) -> Counters {
        Counters {
            writes: self.writes + other.writes,
            written_bytes: self.written_bytes + other.written_bytes,
            flushes: self.flushes.zip(other.flushes).map(|(a, b)| a + b),
        }
    }
}

impl Disk {
    /// Looks the directory's disk up; what is not found stays empty.
    pub fn of(directory: &Path) -> Disk {
        let there = nearest(directory).and_then(|dir| fs::metadata(dir).ok());
        there.map_or_else(Disk::default, |metadata| Disk::numbered(metadata.dev()))
    }

    /// The disks of the files that a process may write, but for what it says to.
    pub fn of_process(pid: u32) -> Vec<Disk> {
        let said = |fd: &fs::DirEntry| ["0", "1", "2"].iter().any(|n| fd.file_name() == *n);
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return Vec::new();
        };
        // how it was opened, as open(2) takes it: the last two bits tell of writing
        let writes = |fd: &fs::DirEntry| {
            let path = format!("/proc/{pid}/fdinfo/{}", fd.file_name().to_string_lossy());
            let text = fs::read_to_string(path).unwrap_or_default();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
            flags.is_some_and(|flags| flags & 3 != 0)
        };
        let open = open.flatten().filter(|fd| !said(fd) && writes(fd));
        let files = open.filter_map(|fd| fs::metadata(fd.path()).ok());
        let files = files.filter(|file| file.is_file());
        let devices: BTreeSet<u64> = files.map(|file| file.dev()).collect();
        devices.into_iter().map(Disk::numbered).collect()
    }

    fn numbered(device: u64) -> Disk {
        let number = format!("{}:{}", stat::major(device), stat::minor(device));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = self::mounts(&mounts).find(|mount| mount.number == number);
        let mount = mount.unwrap_or_default();
        let cache = queue(&number, "write_cache");
        Disk {
            file_system: mount.file_system,
            device: mount.source,
            options: mount.super_options,
            volatile_cache: match cache.as_deref() {
                Some("write back") => Some(true),
                Some("write through") => Some(false),
                _ => None,
            },
            fua: queue(&number, "fua").map(|fua| fua != "0"),
            number,
        }
    }

    /// True for file systems that live in memory.
    pub fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }

    /// Whether an ext4 has a journal; `None` for others, and where the system does not tell.
    pub fn ext4_journal(&self) -> Option<bool> {
        match self.file_system.as_str() {
            "ext4" => ext4_journal(Path::new("/"), &self.number),
            _ => None,
        }
    }

    /// What its device did; none where there is no device.
    pub fn counters(&self) -> Option<Counters> {
        let device = format!("/sys/dev/block/{}", self.number);
        let stat = |path: String| counters(&fs::read_to_string(path).ok()?);
        let its = stat(format!("{device}/stat"))?;
        let is = |what: &str| fs::exists(format!("{device}/{what}")).unwrap_or(false);
        let flushes = match (is("dm") || is("md"), is("partition")) {
            (true, _) => None,
            (_, true) => stat(format!("{device}/../stat")).and_then(|disk| disk.flushes),
            _ => its.flushes,
        };
        Some(Counters { flushes, ..its })
    }
}

/// A directory by its real path, or the nearest of its parents that is there: a start may be the first to
/// make it.
pub fn nearest(directory: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(directory).ok()?;
    path.ancestors().find_map(|dir| fs::canonicalize(dir).ok())
}

/// Whether the ext4 on a device of the machine below `root` has a journal; `None` where that does not tell.
pub fn ext4_journal(root: &Path, number: &str) -> Option<bool> {
    // by the kernel's name of it, which may differ from the one that was mounted
    let device = fs::canonicalize(root.join("sys/dev/block").join(number)).ok()?;
    let task = root.join("sys/fs/ext4").join(device.file_name()?);
    // the thread that writes it, where there is one
    let thread = fs::read_to_string(task.join("journal_task")).ok()?;
    Some(thread.trim() != "<none>")
}

fn counters(text: &str) -> Option<Counters> {
    let fields: Vec<u64> = text
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    Some(Counters {
        writes: *fields.get(4)?,
        written_bytes: fields.get(6)? * SECTOR_BYTES,
        flushes: fields.get(15).copied(),
    })
}

/// A line of a process's `mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number, as in `259:2`.
    pub number: String,
    /// Where it is mounted; octal escapes stay as they are.
    pub point: String,
    /// Options of this mount, as in `rw,relatime`.
    pub options: String,
    /// As in `ext4`.
    pub file_system: String,
    /// As in `/dev/nvme0n1p2`.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// All mounts, in the order of the table.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    mountinfo.lines().filter_map(|line| {
        // id parent major:minor root mount options ... - type source options
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2).map(str::to_owned);
        let mut after = after.split(' ').map(str::to_owned);
        Some(Mount {
            number: before.next()?,
            point: before.nth(1)?,
            options: before.next()?,
            file_system: after.next()?,
            source: after.next()?,
            super_options: after.next().unwrap_or_default(),
        })
    })
}

fn queue(number: &str, what: &str) -> Option<String> {
    let device = format!("/sys/dev/block/{number}");
    // a partition has its queue at the disk it is part of
    let found = [format!("{device}/queue"), format!("{device}/../queue")]
        .into_iter()
        .find_map(|queue| fs::read_to_string(format!("{queue}/{what}")).ok())?;
    Some(found.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let table = "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                     30 22 0:26 / /tmp rw shared:5 - tmpfs tmpfs rw,size=1g\n";
        let found = |number: &str| mounts(table).find(|mount| mount.number == number);
        let root = Mount {
            number: "259:2".into(),
            point: "/".into(),
            options: "rw,relatime".into(),
            file_system: "ext4".into(),
            source: "/dev/nvme0n1p2".into(),
            super_options: "rw".into(),
        };
        assert_eq!(found("259:2"), Some(root));
        let tmp = found("0:26").unwrap();
        assert_eq!(
            (tmp.point.as_str(), tmp.file_system.as_str()),
            ("/tmp", "tmpfs")
        );
        assert_eq!(found("8:1"), None);
    }

    #[test]
    fn a_devices_counters_are_read() {
        let line = "  1 2 3 4 50 6 700 8 0 10 11 12 13 14 15 160 17\n";
        let found = Counters {
            writes: 50,
            written_bytes: 700 * 512,
            flushes: Some(160),
        };
        assert_eq!(counters(line), Some(found));
        let old = "1 2 3 4 50 6 700 8 0 10 11";
        assert_eq!(counters(old).unwrap().flushes, None);
        assert_eq!(counters(""), None);
    }
}
