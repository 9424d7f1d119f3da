//! The files that keep settings over a boot, from the templates in `tuning/`.

use crate::cli::serve::shards::numbers;
use crate::cli::tune::apply::changes::Changes;
use crate::cli::tune::apply::state::Value;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::network::{Spread, interrupt_cores};
use crate::cli::tune::system::{System, setting, sysctl_path};

const SYSCTL: &str = include_str!("../../../../tuning/sysctl.conf");
const UDEV: &str = include_str!("../../../../tuning/udev.rules");
const BOOT: &str = include_str!("../../../../tuning/boot.sh");
const IRQ: &str = include_str!("../../../../tuning/irq.sh");
const LIMITS: &str = include_str!("../../../../tuning/limits.conf");

pub const SYSCTL_FILE: &str = "/etc/sysctl.d/90-corelane.conf";
pub const UDEV_FILE: &str = "/etc/udev/rules.d/90-corelane.rules";
pub const BOOT_FILE: &str = "/usr/local/lib/corelane/boot.sh";
pub const IRQ_FILE: &str = "/usr/local/lib/corelane/irq.sh";
pub const LIMITS_FILE: &str = "/etc/systemd/system/corelane.service.d/90-tuning.conf";
/// Where there is none of these, systemd does not start the broker.
const SYSTEMD: &str = "/etc/systemd/system";

/// A file by its path.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    pub path: &'static str,
    pub text: String,
}

/// All files that keep these values, and the limits of the broker's unit.
pub fn files(ground: &Ground, values: &[Value]) -> Vec<Rendered> {
    let mut files = Vec::new();
    let mut add = |path, text: Option<String>| {
        files.extend(text.map(|text| Rendered { path, text }));
    };
    add(SYSCTL_FILE, sysctl(values));
    add(UDEV_FILE, udev(ground.system, values));
    if has_systemd(ground.system) {
        // first what the unit's lines run
        let scripts = [(BOOT_FILE, boot(values)), (IRQ_FILE, irq(ground, values))];
        let named: Vec<&str> = scripts
            .iter()
            .filter(|(_, text)| text.is_some())
            .map(|(path, _)| *path)
            .collect();
        scripts.into_iter().for_each(|(path, text)| add(path, text));
        add(LIMITS_FILE, Some(limits(ground, named.into_iter())));
    }
    files
}

pub fn has_systemd(system: &System) -> bool {
    system.exists(SYSTEMD)
}

/// Whether only a script that the unit runs keeps it over a boot.
pub fn needs_script(value: &Value) -> bool {
    is_of_boot(value) || is_of_irq(value)
}

fn is_of_boot(value: &Value) -> bool {
    value.path.starts_with("/sys/") && of_queue(value).is_none()
}

fn is_of_irq(value: &Value) -> bool {
    value.path.starts_with("/proc/irq/")
}

/// Files that are read after ours, and set the same to something else.
pub fn overruled(system: &System, changes: &Changes) -> Vec<String> {
    let dirs = ["/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"];
    let later = dirs.iter().flat_map(|dir| {
        let names = system.names(dir).into_iter();
        let later =
            names.filter(|name| name.as_str() > "90-corelane.conf" && name.ends_with(".conf"));
        later.map(move |name| format!("{dir}/{name}"))
    });
    let mut notes = Vec::new();
    for file in later.chain(["/etc/sysctl.conf".to_owned()]) {
        let text = system.text(&file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        for (name, to) in lines {
            let name = name.trim().trim_start_matches('-').replace('/', ".");
            let ours = changes
                .values
                .iter()
                .find(|ours| ours.path == sysctl_path(&name));
            if ours.is_some_and(|ours| ours.to != setting(to)) {
                notes.push(format!(
                    "{file} is read after 90-corelane.conf and sets {name} = {} at the next boot: change it \
                     there",
                    setting(to)
                ));
            }
        }
    }
    notes
}

/// The blocks of the template whose setting is among the values, with these.
fn sysctl(values: &[Value]) -> Option<String> {
    let mut blocks = SYSCTL.trim_end().split("\n\n");
    let head = blocks.next()?;
    let wanted = |block: &str| {
        let setting = block.lines().find(|line| !line.starts_with('#'))?;
        let (name, _) = setting.split_once(" = ")?;
        let path = sysctl_path(name);
        let value = values.iter().find(|value| value.path == path)?;
        Some(block.replace(setting, &format!("{name} = {}", value.to)))
    };
    let kept: Vec<String> = blocks.filter_map(wanted).collect();
    // the first line alone says what it is here
    let head = head.lines().next()?;
    (!kept.is_empty()).then(|| format!("{head}\n\n{}\n", kept.join("\n\n")))
}

/// The template with its line that holds `mark` once for each of the lines instead.
fn with_lines(template: &str, mark: &str, lines: impl Iterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines.collect();
    let line = template.lines().find(|line| line.contains(mark))?;
    (!lines.is_empty()).then(|| template.replace(line, &lines.join("\n")))
}

/// A setting of a disk's queue: the disk and the attribute.
fn of_queue(value: &Value) -> Option<(&str, &str)> {
    let rest = value.path.strip_prefix("/sys/block/")?;
    rest.split_once("/queue/")
}

/// How a rule of udev tells the disk: by a number of its own, where it has one, for names are given
/// in the order in which disks are found.
fn is_disk(system: &System, disk: &str) -> String {
    // of NVMe, of SCSI and SATA, of virtio
    let numbers = [
        ("wwid", "ATTR{wwid}"),
        ("device/wwid", "ATTRS{wwid}"),
        ("serial", "ATTR{serial}"),
    ];
    // nothing that udev takes for a pattern
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " .-_:".contains(c);
    let by_number = numbers.iter().find_map(|(file, key)| {
        let number = system.text(&format!("/sys/block/{disk}/{file}"))?;
        let is_one = !number.is_empty() && number.chars().all(is_plain);
        is_one.then(|| format!("{key}==\"{number}\""))
    });
    by_number.unwrap_or_else(|| format!("KERNEL==\"{disk}\""))
}

fn udev(system: &System, values: &[Value]) -> Option<String> {
    let line = UDEV.lines().find(|line| line.contains("@disk@"))?;
    let set = values.iter().filter(|value| !value.is_kept());
    let filled = set.filter_map(|value| {
        let (disk, attribute) = of_queue(value)?;
        let line = line
            .replace("@disk@", &is_disk(system, disk))
            .replace("@attribute@", attribute);
        Some(line.replace("@value@", &value.to))
    });
    with_lines(UDEV, "@disk@", filled)
}

fn boot(values: &[Value]) -> Option<String> {
    let others = values.iter().filter(|value| is_of_boot(value));
    let put = others.map(|value| format!("put {} {}", value.path, value.to));
    with_lines(BOOT, "@path@", put)
}

fn irq(ground: &Ground, values: &[Value]) -> Option<String> {
    if !values.iter().any(is_of_irq) {
        return None;
    }
    let line = |nic: &String| {
        let cores: String = match interrupt_cores(ground, nic) {
            Spread::Off(cores) => numbers(&cores),
            Spread::Over(cores) => {
                let each: Vec<String> = cores.iter().map(usize::to_string).collect();
                each.join(" ")
            }
        };
        (!cores.is_empty()).then(|| format!("spread {nic} {cores}"))
    };
    with_lines(IRQ, "@nic@", ground.nics.iter().filter_map(line))
}

fn limits<'a>(ground: &Ground, scripts: impl Iterator<Item = &'a str>) -> String {
    let text = match ground.shards.is_empty() {
        false => LIMITS.replace("@cores@", &numbers(&ground.shards)),
        // neither the line nor what is said of it
        true => {
            let lines = LIMITS.lines();
            let kept =
                lines.filter(|line| !line.contains("@cores@") && !line.contains("corelane.cores"));
            kept.flat_map(|line| [line, "\n"]).collect()
        }
    };
    let lines = scripts.map(|script| format!("ExecStartPre=-+{script}"));
    with_lines(&text, "@script@", lines).unwrap_or_else(|| {
        // neither the line nor what is said of it
        let (before, _) = text.split_once("# Run as root").unwrap_or((&text, ""));
        before.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::fake::Fake;

    fn value(path: &str, to: &str) -> Value {
        Value {
            path: path.into(),
            from: String::new(),
            to: to.into(),
            boot: None,
        }
    }

    #[test]
    fn a_file_of_sysctls_has_what_was_set_and_nothing_else() {
        let values = [
            value("/proc/sys/net/core/somaxconn", "8192"),
            value("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 16777216"),
        ];
        let text = sysctl(&values).unwrap();
        let settings: Vec<&str> = text.lines().filter(|line| line.contains(" = ")).collect();
        let expected = [
            "net.core.somaxconn = 8192",
            "net.ipv4.tcp_rmem = 4096 131072 16777216",
        ];
        assert_eq!(settings, expected);
        assert!(text.starts_with("# Kernel settings"));
        assert!(text.contains("# Connections that the kernel holds"));
        assert_eq!(
            sysctl(&[value("/sys/block/a/queue/scheduler", "none")]),
            None
        );
    }

    #[test]
    fn queues_go_to_udev_and_the_rest_of_sys_to_the_script() {
        let values = [
            value("/sys/block/nvme0n1/queue/scheduler", "none"),
            value(
                "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "performance",
            ),
            value("/proc/sys/vm/swappiness", "1"),
        ];
        let machine = Fake::new(&[]);
        let udev = udev(&machine.system(), &values).unwrap();
        let rules: Vec<&str> = udev.lines().filter(|line| !line.starts_with('#')).collect();
        let rule = "ACTION==\"add|change\", SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", \
                    KERNEL==\"nvme0n1\", ATTR{queue/scheduler}=\"none\"";
        assert_eq!(rules, ["", rule]);
        let boot = boot(&values).unwrap();
        let put = "put /sys/devices/system/cpu/cpu1/cpufreq/scaling_governor performance";
        let puts: Vec<&str> = boot
            .lines()
            .filter(|line| line.starts_with("put /"))
            .collect();
        assert_eq!(puts, [put]);
        assert!(boot.starts_with("#!/bin/sh\n") && !boot.contains('@'));
    }

    #[test]
    fn a_disk_is_told_by_its_own_number_where_it_has_one() {
        let machine = Fake::new(&[
            ("/sys/block/nvme0n1/wwid", "eui.0025385b71b0c3a1\n"),
            ("/sys/block/sda/device/wwid", "naa.5002538d40a1b2c3\n"),
            ("/sys/block/vda/serial", "data-7"),
            ("/sys/block/vdb/serial", ""),
            ("/sys/block/sdb/device/wwid", "t10.*[x]"),
        ]);
        for (disk, told) in [
            ("nvme0n1", "ATTR{wwid}==\"eui.0025385b71b0c3a1\""),
            ("sda", "ATTRS{wwid}==\"naa.5002538d40a1b2c3\""),
            ("vda", "ATTR{serial}==\"data-7\""),
            ("vdb", "KERNEL==\"vdb\""),
            ("sdb", "KERNEL==\"sdb\""),
        ] {
            assert_eq!(is_disk(&machine.system(), disk), told);
        }
    }
}
