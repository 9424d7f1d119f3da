//! What the system tells of itself: files below `/proc` and `/sys`, read through one small door, so
//! that a directory of a test can stand for a machine.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::cli::disk::{Mount, mounts};

/// A machine, rooted at `/` or at a directory that looks like it.
pub struct System {
    root: PathBuf,
    process: String,
}

impl System {
    /// `process` is a pid, or `self`.
    pub fn new(root: &Path, process: &str) -> System {
        System {
            root: root.to_owned(),
            process: process.to_owned(),
        }
    }

    /// This machine, and this process.
    pub fn here() -> System {
        System::new(Path::new("/"), "self")
    }

    /// Whether it is this machine, and not a directory that stands for one.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Whether what is read of a process is this one's own.
    pub fn is_own(&self) -> bool {
        self.is_real() && self.is_self()
    }

    /// Whether no other process was named: what is looked for is where a broker would run.
    pub fn is_self(&self) -> bool {
        self.process == "self"
    }

    /// Where a path of the machine lies.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the spaces around it; none where it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file of the process: `/proc/PID/what`.
    pub fn of_process(&self, what: &str) -> Option<String> {
        self.text(&format!("/proc/{}/{what}", self.process))
    }

    /// The rest of a line of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> Option<String> {
        let status = self.of_process("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.strip_prefix(':')?.trim().to_owned())
    }

    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A value as it can be written back: the chosen word of a list as in `none [mq-deadline]`, and
    /// single spaces between numbers.
    pub fn setting(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| setting(&text))
    }

    /// A sysctl by its name, as in `vm.swappiness`.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        self.setting(&sysctl_path(name))
    }

    /// A list of numbers as the kernel writes it: `0-3,8`.
    pub fn numbers(&self, path: &str) -> Option<Vec<usize>> {
        numbers(&self.text(path)?)
    }

    /// The names in a directory, sorted; none where it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Whether something lies there that is no plain file, as a link to one.
    pub fn is_odd(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok_and(|there| !there.is_file())
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::exists(self.path(path)).unwrap_or(false)
    }

    /// Writes a value into a file that is there.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let path = self.path(path);
        // never made: a typing error must not leave a file where a setting was meant
        fs::metadata(&path)?;
        fs::write(path, format!("{value}\n"))
    }

    /// A file's whole text; none where it is not there.
    ///
    /// # Errors
    /// The system's.
    pub fn whole(&self, path: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a file there, whole or not at all, with its directories.
    ///
    /// # Errors
    /// The system's.
    pub fn replace(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.path(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // one that is there keeps its owner and its mode
        let earlier = fs::metadata(&path).ok();
        let mode = match (&earlier, text.starts_with("#!")) {
            (Some(earlier), is_script) => {
                (earlier.mode() & 0o7777) | (u32::from(is_script) * 0o111)
            }
            (None, true) => 0o755,
            (None, false) => 0o644,
        };
        let mut name = path.clone().into_os_string();
        name.push(".new");
        fs::write(&name, text)?;
        if let Some(earlier) = earlier {
            chown(&name, Some(earlier.uid()), Some(earlier.gid()))?;
        }
        fs::set_permissions(&name, fs::Permissions::from_mode(mode))?;
        fs::File::open(&name)?.sync_all()?;
        fs::rename(&name, &path)?;
        // the name is to last as well
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Takes a file away, and its directory where that is the broker's own and empty then.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.path(path);
        fs::remove_file(&path)?;
        let own = |dir: &&Path| {
            let name = dir.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("corelane")
        };
        if let Some(dir) = path.parent().filter(own) {
            // one that holds something else stays
            let _ = fs::remove_dir(dir);
        }
        Ok(())
    }

    /// The mount that holds a path of the process.
    pub fn mount(&self, path: &Path) -> Option<Mount> {
        let table = self.of_process("mountinfo")?;
        let holds = |mount: &Mount| path.starts_with(&mount.point);
        // of two at one place the later one hides the other
        mounts(&table)
            .filter(holds)
            .max_by_key(|mount| mount.point.len())
    }

    /// The disks under a mount, as in `nvme0n1`: those of a partition, a RAID or a logical volume;
    /// empty for what has none.
    pub fn disks(&self, mount: &Mount) -> Vec<String> {
        let device = |path: &str| fs::canonicalize(self.path(path)).ok();
        let by_number = match mount.number.is_empty() {
            true => None,
            false => device(&format!("/sys/dev/block/{}", mount.number)),
        };
        let by_name = || {
            // several file systems have a number of their own
            let source = mount.source.strip_prefix("/dev/")?;
            let name = match device(&mount.source) {
                Some(path) => path.file_name()?.to_str()?.to_owned(),
                None => source.to_owned(),
            };
            device(&format!("/sys/class/block/{name}"))
        };
        let mut disks = Vec::new();
        if let Some(device) = by_number.or_else(by_name) {
            leaves(&device, &mut disks, 0);
        }
        disks.sort();
        disks.dedup();
        disks
    }
}

/// Layers of devices that are followed; more than anyone stacks.
const LAYERS_MAX: u32 = 8;

/// The whole disks at the bottom of a device.
fn leaves(device: &Path, disks: &mut Vec<String>, layer: u32) {
    // what is below a partition is told by the device that it is a part of
    let whole = match device.join("partition").exists() {
        true => device.parent().unwrap_or(device),
        false => device,
    };
    let below: Vec<PathBuf> = fs::read_dir(whole.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|slave| fs::canonicalize(slave.path()).ok())
        .collect();
    if !below.is_empty() && layer < LAYERS_MAX {
        for slave in below {
            leaves(&slave, disks, layer + 1);
        }
        return;
    }
    let name = whole.file_name().and_then(|name| name.to_str());
    disks.extend(name.map(str::to_owned));
}

pub fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// See [`System::setting`].
pub fn setting(text: &str) -> String {
    let chosen = text.split_once('[').and_then(|(_, rest)| {
        let (chosen, _) = rest.split_once(']')?;
        Some(chosen.to_owned())
    });
    chosen.unwrap_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Reads `0-3,8`; an empty text has none.
pub fn numbers(text: &str) -> Option<Vec<usize>> {
    let mut list = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        list.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::fake::Fake;

    #[test]
    fn values_are_read_as_they_are_written() {
        assert_eq!(setting("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(setting("4096\t131072\t6291456"), "4096 131072 6291456");
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers(""), Some(Vec::new()));
        assert_eq!(numbers("x"), None);
    }

    #[test]
    fn the_nearest_mount_holds_a_path() {
        let machine = Fake::new(&[(
            "/proc/self/mountinfo",
            "1 0 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n\
             2 1 259:3 / /data rw - xfs /dev/nvme1n1 rw\n",
        )]);
        let of = |path: &str| machine.system().mount(Path::new(path)).unwrap().number;
        assert_eq!(of("/data/a"), "259:3");
        assert_eq!(of("/database"), "259:2");
    }

    #[test]
    fn disks_are_found_through_partitions_and_volumes() {
        let nvme = "/sys/devices/pci/nvme0n1";
        let machine = Fake::new(&[
            (&format!("{nvme}/nvme0n1p2/partition"), "2"),
            ("/sys/devices/virtual/block/dm-0/dm/name", "v"),
        ]);
        machine.link(
            "/sys/devices/virtual/block/dm-0/slaves/nvme0n1p2",
            &format!("{nvme}/nvme0n1p2"),
        );
        machine.link("/sys/dev/block/253:0", "/sys/devices/virtual/block/dm-0");
        let mount = Mount {
            number: "253:0".into(),
            ..Mount::default()
        };
        assert_eq!(machine.system().disks(&mount), ["nvme0n1"]);
        let none = Mount::default();
        assert_eq!(machine.system().disks(&none), Vec::<String>::new());
        // a partition of a RAID, which has its own disks below it
        let raid = "/sys/devices/virtual/block/md0";
        machine.put(&format!("{raid}/md0p1/partition"), "1");
        machine.link(
            &format!("{raid}/slaves/nvme0n1p2"),
            &format!("{nvme}/nvme0n1p2"),
        );
        machine.put("/sys/devices/pci/sda/size", "1");
        machine.link(&format!("{raid}/slaves/sda"), "/sys/devices/pci/sda");
        machine.link("/sys/dev/block/259:9", &format!("{raid}/md0p1"));
        let mount = Mount {
            number: "259:9".into(),
            ..Mount::default()
        };
        assert_eq!(machine.system().disks(&mount), ["nvme0n1", "sda"]);
    }

    #[test]
    fn only_what_is_there_is_written() {
        let machine = Fake::new(&[("/proc/sys/vm/swappiness", "60")]);
        let system = machine.system();
        system.write("/proc/sys/vm/swappiness", "1").unwrap();
        assert_eq!(system.sysctl("vm.swappiness").as_deref(), Some("1"));
        assert!(system.write("/proc/sys/vm/nothing", "1").is_err());
        assert!(!system.exists("/proc/sys/vm/nothing"));
    }
}
