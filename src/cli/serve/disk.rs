//! What a data directory lies on, as far as the system tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat;

/// A file system and its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// As in `ext4`.
    pub file_system: String,
    /// As in `/dev/nvme0n1p2`; empty where there is none.
    pub device: String,
    /// Whether the device has a write cache that forgets without power; `None` where the system
    /// does not tell.
    pub volatile_cache: Option<bool>,
}

impl Disk {
    /// Looks the directory's disk up; what is not found stays empty.
    pub fn of(directory: &Path) -> Disk {
        // it may be made only by this start: its nearest parent tells as well
        let there = directory.ancestors().find_map(|dir| {
            let dir = if dir.as_os_str().is_empty() {
                Path::new(".")
            } else {
                dir
            };
            fs::metadata(dir).ok()
        });
        let Some(metadata) = there else {
            return Disk::default();
        };
        let device = metadata.dev();
        let number = format!("{}:{}", stat::major(device), stat::minor(device));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (file_system, device) = mount(&mounts, &number).unwrap_or_default();
        Disk {
            file_system,
            device,
            volatile_cache: volatile_cache(&number),
        }
    }

    /// True for file systems that live in memory.
    pub fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }
}

/// File system and source of the mount with that device number.
fn mount(mountinfo: &str, number: &str) -> Option<(String, String)> {
    mountinfo.lines().find_map(|line| {
        // id parent major:minor root mount options ... - type source options
        let (before, after) = line.split_once(" - ")?;
        if before.split(' ').nth(2)? != number {
            return None;
        }
        let mut after = after.split(' ');
        Some((after.next()?.to_owned(), after.next()?.to_owned()))
    })
}

fn volatile_cache(number: &str) -> Option<bool> {
    let device = format!("/sys/dev/block/{number}");
    // a partition has its queue at the disk it is part of
    let cache = [format!("{device}/queue"), format!("{device}/../queue")]
        .into_iter()
        .find_map(|queue| fs::read_to_string(format!("{queue}/write_cache")).ok())?;
    match cache.trim() {
        "write back" => Some(true),
        "write through" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let table = "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                     30 22 0:26 / /tmp rw shared:5 - tmpfs tmpfs rw,size=1g\n";
        let ext4 = ("ext4".to_owned(), "/dev/nvme0n1p2".to_owned());
        assert_eq!(mount(table, "259:2"), Some(ext4));
        assert_eq!(mount(table, "0:26").unwrap().0, "tmpfs");
        assert_eq!(mount(table, "8:1"), None);
    }
}
