//! Log directories: file system, mount options, and the disks below.

use std::path::Path;

use crate::cli::disk::{Mount, ext4_journal};
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::Item;
use crate::cli::tune::disk::{kept_figures, line, musts};
use crate::cli::tune::system::setting;

/// Fewer requests in flight and reads wait behind the writes of a drain.
const REQUESTS_MIN: u64 = 64;
/// What apply raises them to; a driver may allow less.
const REQUESTS: &str = "256";

pub fn items(ground: &Ground) -> Vec<Item> {
    let mut items = Vec::new();
    for dir in &ground.dirs {
        let shown = dir.given.display();
        let Some(mount) = &dir.mount else {
            items.push(Item::unknown(
                format!("{shown}"),
                "its mount in /proc/PID/mountinfo",
            ));
            continue;
        };
        items.push(file_system(ground, &format!("{shown}: file system"), mount));
        items.extend(options(
            ground,
            &format!("{shown}: mount options"),
            mount,
            &dir.disks,
        ));
        if dir.disks.is_empty() {
            let what = format!(
                "the disks below {} (a pool of btrfs or ZFS, or no disk)",
                mount.source
            );
            items.push(Item::unknown(format!("{shown}: disks"), &what));
        }
        if ground.system.is_real() {
            items.push(measured(&format!("{shown}: measured"), &dir.given));
        }
    }
    for disk in &ground.disks {
        let scheduler = scheduler(ground, disk);
        let requests = requests(ground, disk, &scheduler);
        items.extend([cache(ground, disk), scheduler, requests]);
    }
    items.extend(throttled(ground));
    items
}

fn file_system(ground: &Ground, name: &str, mount: &Mount) -> Item {
    let kind = mount.file_system.as_str();
    let found = format!("{kind} on {}", mount.source);
    let move_it = "put log.dirs on ext4 with a journal, or on XFS";
    match kind {
        "xfs" => Item::ok(name, found, "tested with this broker"),
        "ext4" => ext4(ground, name, mount, found),
        "tmpfs" | "ramfs" => Item::must(
            name,
            found,
            "it is memory: what was acked is gone with the power",
            move_it,
        ),
        "overlay" => Item::must(
            name,
            found,
            "it is the container's own layer: the log is gone with the container",
            "mount a volume: docker run -v /srv/corelane:/data, and log.dirs=/data",
        ),
        "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs" => Item::should(
            name,
            found,
            "a flush goes over the network or to another kernel, and means what that makes of it",
            move_it,
        ),
        "btrfs" | "zfs" | "bcachefs" | "f2fs" => Item::should(
            name,
            found,
            "the journal is overwritten in place, which a file system that copies on write turns \
             into new extents and a commit of its own for each flush",
            move_it,
        ),
        _ => Item::should(name, found, "it was not tested with this broker", move_it),
    }
}

fn ext4(ground: &Ground, name: &str, mount: &Mount, found: String) -> Item {
    match ext4_journal(&ground.system.path("/"), &mount.number) {
        None => Item::unknown(name, "whether this ext4 has a journal (/sys/fs/ext4)"),
        Some(false) => Item::must(
            name,
            format!("{found}, no journal"),
            "a power cut can leave a file system that has to be repaired by hand",
            format!("tune2fs -O has_journal {}, unmounted", mount.source),
        ),
        Some(true) => Item::ok(
            name,
            format!("{found}, with a journal"),
            "tested with this broker",
        ),
    }
}

fn options(ground: &Ground, name: &str, mount: &Mount, disks: &[String]) -> Vec<Item> {
    let all: Vec<&str> = mount
        .options
        .split(',')
        .chain(mount.super_options.split(','))
        .collect();
    let has = |options: &[&str]| all.iter().copied().find(|option| options.contains(option));
    let remount = |option: &str, instead: &str| {
        format!(
            "mount without {option}: mount -o remount,{instead} {}, and in /etc/fstab",
            mount.point
        )
    };
    let mut items = Vec::new();
    if let Some(option) = has(&["ro"]) {
        items.push(Item::must(
            name,
            option,
            "nothing can be written there",
            remount(option, "rw"),
        ));
    }
    if let Some(option) = has(&["nobarrier", "barrier=0"]) {
        let keeps = |disk: &String| write_cache(ground, disk).as_deref() == Some("write through");
        let why = "the file system does not flush the device's cache: acks are not durable";
        items.push(match !disks.is_empty() && disks.iter().all(keeps) {
            true => Item::ok(
                name,
                option,
                "the device says that its cache keeps without power",
            ),
            false => Item::must(name, option, why, remount(option, "barrier")),
        });
    }
    if let Some(option) = has(&["sync", "dirsync", "data=journal"]) {
        let why = "everything is written once more, or flushed on its own, besides the broker's \
                   own flushes";
        let todo = format!(
            "take {option} out of /etc/fstab, and mount {} anew",
            mount.point
        );
        items.push(Item::should(name, option, why, todo));
    }
    if let Some(option) = has(&["discard", "discard=sync"]) {
        let why = "the device is told of deleted segments in the commits that other flushes wait for: \
                   acks wait as long when a log is cut";
        let todo = format!(
            "{}; systemctl enable --now fstrim.timer",
            remount(option, "nodiscard")
        );
        items.push(Item::should(name, option, why, todo));
    }
    // strictatime is never shown: it is what there is without the others
    if has(&["ro", "noatime", "relatime"]).is_none() {
        let why = "every read of a segment changes its inode";
        let todo = remount("strictatime", "relatime");
        items.push(Item::should(name, "strictatime", why, todo));
    }
    if items.is_empty() {
        let shown = format!("{} {}", mount.options, mount.super_options);
        items.push(Item::ok(name, shown, "none that costs durability or time"));
    }
    items
}

fn measured(name: &str, dir: &Path) -> Item {
    let todo = format!("corelane tune disk {}", dir.display());
    let found = kept_figures(dir).and_then(|found| Some((line(&found)?, musts(&found))));
    match found {
        Some((found, 0)) => Item::ok(name, found, "measured there"),
        Some((found, _)) => Item::must(name, found, "acks may not be durable there", todo),
        None => Item::should(
            name,
            "not yet",
            "whether flushes are true, and what they take, is only seen by trying",
            todo,
        ),
    }
}

fn queue(disk: &str, what: &str) -> String {
    format!("/sys/block/{disk}/queue/{what}")
}

fn write_cache(ground: &Ground, disk: &str) -> Option<String> {
    ground.system.text(&queue(disk, "write_cache"))
}

fn cache(ground: &Ground, disk: &str) -> Item {
    let name = format!("{disk}: write cache");
    let fua = match ground.system.number(&queue(disk, "fua")) {
        Some(0) => "no FUA",
        Some(_) => "FUA",
        None => "FUA not told",
    };
    match write_cache(ground, disk).as_deref() {
        None => Item::unknown(name, &queue(disk, "write_cache")),
        Some("write through") => Item::ok(
            name,
            format!("keeps without power, or none; {fua}"),
            "flushes cost nothing there; tune disk tells whether that can be true",
        ),
        Some(_) => Item::ok(
            name,
            format!("forgets without power; {fua}"),
            "each commit flushes it, which an ack waits for: a disk with power-loss protection saves \
             most of that time. FUA shortens commits of the file system, for the broker uses fdatasync",
        ),
    }
}

fn scheduler(ground: &Ground, disk: &str) -> Item {
    let name = format!("{disk}: scheduler");
    let path = queue(disk, "scheduler");
    let Some(list) = ground.system.text(&path) else {
        return Item::unknown(name, &path);
    };
    let found = setting(&list);
    // a virtual disk says that it rotates, whatever is behind it
    let is_virtual = ["vd", "xvd"].iter().any(|prefix| disk.starts_with(prefix));
    let rotates = ground.system.number(&queue(disk, "rotational")) == Some(1) && !is_virtual;
    let (good, to): (&[&str], _) = match rotates {
        true => (&["mq-deadline", "bfq"], "mq-deadline"),
        false => (&["none"], "none"),
    };
    let why = match rotates {
        true => "the order of requests saves ways of the head",
        false => {
            "the disk, or the host, orders requests itself: a second queue adds a lock and lets \
                  commits wait behind reads"
        }
    };
    let offered = list.split(['[', ']', ' ']).any(|word| word == to);
    if good.contains(&found.as_str()) || !offered {
        return Item::ok(name, found, why);
    }
    Item::should(name, found, why, format!("echo {to} > {path}")).by(path, to)
}

fn requests(ground: &Ground, disk: &str, scheduler: &Item) -> Item {
    let name = format!("{disk}: nr_requests");
    let path = queue(disk, "nr_requests");
    let why = "commits, drains, and reads of those who are behind share these";
    let Some(n) = ground.system.number(&path) else {
        return Item::unknown(name, &path);
    };
    // with a switch of the scheduler the kernel sets the number anew
    let ahead = scheduler.settings.first().map(|ahead| ahead.to.clone());
    let now = ground.system.setting(&queue(disk, "scheduler"));
    if ahead.or(now).as_deref() != Some("none") {
        return match n >= REQUESTS_MIN {
            true => Item::ok(name, n.to_string(), why),
            false => {
                let todo = format!("echo {REQUESTS} > {path}");
                Item::should(name, n.to_string(), why, todo).by(path, REQUESTS)
            }
        };
    }
    // without a scheduler the disk's own queue is the most that is taken
    let depth = format!("/sys/block/{disk}/device/queue_depth");
    match ground.system.number(&depth) {
        Some(depth) if n < depth.min(REQUESTS_MIN) && scheduler.settings.is_empty() => {
            let to = depth.min(REQUESTS_MIN);
            let found = format!("{n} of the {depth} that the disk takes");
            Item::should(name, found, why, format!("echo {to} > {path}")).by(path, to.to_string())
        }
        Some(depth) => Item::ok(name, format!("{n}; the disk takes {depth}"), why),
        None if n >= REQUESTS_MIN => Item::ok(name, n.to_string(), why),
        None => Item::should(
            name,
            n.to_string(),
            why,
            format!("echo {REQUESTS_MIN} > {path}, if the disk takes as many"),
        ),
    }
}

/// `io.max` of cgroup v2.
fn throttled(ground: &Ground) -> Option<Item> {
    let limits = ground.cgroup("io.max");
    let limit = limits.iter().find(|limit| !limit.is_empty())?;
    Some(Item::should(
        "IO limit",
        limit.lines().collect::<Vec<_>>().join("; "),
        "commits and the drains behind them share it, and every byte is written twice: acks wait when \
         it is spent",
        "give at least what tune plan says, or lift io.max (IOWriteBandwidthMax= of systemd)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::check::machines::{level, looked, metal, two_shards};
    use crate::cli::tune::level::Level;

    #[test]
    fn a_disk_without_scheduler_is_asked_for_no_more_than_its_queue() {
        let machine = metal();
        let item = || looked(&machine, &two_shards(), None)["nvme0n1: nr_requests"].clone();
        let put = |what: &str, text: &str| machine.put(&format!("/sys/block/nvme0n1/{what}"), text);
        put("device/queue_depth", "32");
        put("queue/nr_requests", "32");
        assert_eq!(item().level, Level::Ok);
        put("queue/nr_requests", "4");
        assert_eq!(item().settings[0].to, "32");
        // the switch to none sets it
        put("queue/scheduler", "none [bfq]");
        assert_eq!((item().level, item().settings), (Level::Ok, Vec::new()));
        put("queue/rotational", "1");
        put("queue/scheduler", "none [mq-deadline]");
        assert_eq!(item().settings[0].to, REQUESTS);
    }

    #[test]
    fn disks_that_are_not_found_are_said_to_be_unknown() {
        let machine = metal();
        let mounts = "1 0 0:44 / / rw,noatime - btrfs /dev/none rw\n";
        machine.put("/proc/self/mountinfo", mounts);
        assert_eq!(level(&machine, "/data/log: disks"), Level::Unknown);
    }
}
