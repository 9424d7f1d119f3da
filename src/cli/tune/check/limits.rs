//! What a process may have: files, locked memory, tasks.

use crate::cli::serve::files;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::Item;
use crate::cli::tune::check::kernel;
use crate::cli::tune::granted::{CAP_IPC_LOCK, cgroup_v1, has_capability, least};
use crate::ring::uring::{COUNTS_LOCKED, UringOptions, locked_bytes};

/// Threads of the process itself, and some room.
const TASKS_OF_PROCESS: u64 = 64;

pub fn items(ground: &Ground) -> Vec<Item> {
    vec![open_files(ground), locked(ground), tasks(ground)]
}

/// Columns of /proc/PID/limits.
const SOFT: usize = 0;
const HARD: usize = 1;

/// A line of /proc/PID/limits; the largest number for `unlimited`.
fn limit(ground: &Ground, line: &str, column: usize) -> Option<u64> {
    let limits = ground.system.of_process("limits")?;
    let rest = limits.lines().find_map(|found| found.strip_prefix(line))?;
    match rest.split_whitespace().nth(column)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn open_files(ground: &Ground) -> Item {
    let name = "open files";
    let Some(hard) = limit(ground, "Max open files", HARD) else {
        return Item::unknown(name, "the line of open files in /proc/PID/limits");
    };
    let least = files::least(ground.shards.len() as u64, ground.config);
    let todo = "LimitNOFILE=1048576 (systemd), --ulimit nofile=1048576 (Docker), or \
                /etc/security/limits.d for a login";
    let found = format!("at most {hard}");
    if hard < least {
        let why = format!("at least {least} are needed: the broker does not start");
        return Item::must(name, found, &why, todo);
    }
    let why = "half of them are for connections, a third for segments; the broker raises its own \
               limit as far as this one";
    match hard < files::COMFORTABLE {
        true => Item::should(name, found, why, todo),
        false => Item::ok(name, found, why),
    }
}

/// Pages of rings: the kernel adds them up over all processes of a user.
fn locked(ground: &Ground) -> Item {
    let name = "locked memory";
    if kernel::number(ground).is_some_and(|version| version < COUNTS_LOCKED) {
        let why = "rings count against ulimit -l since Linux 6.14, and no buffer is registered";
        return Item::ok(name, "not counted by this kernel", why);
    }
    let Some(soft) = limit(ground, "Max locked memory", SOFT) else {
        return Item::unknown(name, "the line of locked memory in /proc/PID/limits");
    };
    let shards = ground.shards.len() as u64;
    // the ring that a start tries first is let go of late
    let needed = (shards + 1) * locked_bytes();
    let kib = |bytes: u64| bytes.div_ceil(1 << 10);
    let allowed = match soft {
        u64::MAX => "no limit".to_owned(),
        _ => format!("at most {} KiB", kib(soft)),
    };
    let found = format!("{allowed}; {} for rings", kib(needed));
    let todo =
        "LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (Docker), or ulimit -l unlimited";
    if shards == 0 {
        Item::unknown(name, "the number of shards")
    } else if soft >= needed {
        Item::ok(
            name,
            found,
            "a ring's pages count, of all processes of a user",
        )
    } else if has_capability(ground.system, CAP_IPC_LOCK) {
        let why = "it does not count for this process (CAP_IPC_LOCK), but a broker without that right \
                   does not start";
        Item::should(name, found, why, todo)
    } else {
        let why = "a ring's pages count: the broker does not start";
        Item::must(name, found, why, todo)
    }
}

/// Tasks that the process may need. A ring has up to four workers a core for what blocks on files, and
/// no more than it has entries. Source: `io_wq_create()` of io_uring/io-wq.c and its caller.
fn tasks_wanted(ground: &Ground) -> u64 {
    let cores = (ground.shards.len() + ground.spare.len()) as u64;
    let of_ring = u64::from(UringOptions::default().entries).min(4 * cores);
    TASKS_OF_PROCESS + ground.shards.len() as u64 * of_ring
}

fn tasks(ground: &Ground) -> Item {
    let name = "tasks";
    let mut limits = ground.cgroup("pids.max");
    limits.extend(cgroup_v1(ground.system, "pids", "pids.max"));
    let wanted = tasks_wanted(ground);
    let why = "flushes and cold reads run on workers of the kernel, which count as tasks of the \
               process: without one they wait for each other";
    match least(&limits) {
        None if limits.is_empty() && !ground.knows_groups() => {
            Item::unknown(name, "/proc/PID/cgroup or /sys/fs/cgroup")
        }
        None => Item::ok(name, "no limit in a cgroup", why),
        Some(limit) if limit >= wanted => Item::ok(name, format!("at most {limit}"), why),
        Some(limit) => Item::should(
            name,
            format!("at most {limit} of {wanted}"),
            why,
            "TasksMax=infinity (systemd), --pids-limit -1 (Docker)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::check::machines::{level, looked, metal, two_shards};
    use crate::cli::tune::fake::config;
    use crate::cli::tune::level::Level;

    #[test]
    fn rings_of_all_shards_together_must_be_lockable() {
        let machine = metal();
        let put = |bytes: u64| {
            let limits =
                format!("Max open files 9 1048576 files\nMax locked memory {bytes} 1 bytes\n");
            machine.put("/proc/self/limits", &limits);
        };
        let level = || level(&machine, "locked memory");
        // a completion is 16 bytes, an entry 64, in pages
        assert_eq!(locked_bytes(), 69_632 + 16_384);
        // two, and the one that is tried
        put(3 * locked_bytes());
        assert_eq!(level(), Level::Ok);
        put(3 * locked_bytes() - 1);
        assert_eq!(level(), Level::Must);
        let status = "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-3\n";
        machine.put("/proc/self/status", status);
        assert_eq!(level(), Level::Should);
        machine.put("/proc/sys/kernel/osrelease", "6.12.1");
        assert_eq!(level(), Level::Ok);
    }

    #[test]
    fn workers_of_a_ring_are_bounded_by_cores_and_by_its_entries() {
        let machine = metal();
        machine.put("/sys/fs/cgroup/pids.max", "1");
        let found = |config| looked(&machine, &config, None)["tasks"].found.clone();
        // eight cores: 32 for each of two
        assert_eq!(found(two_shards()), "at most 1 of 128");
        machine.put("/sys/devices/system/cpu/online", "0-127");
        assert_eq!(found(config(&["corelane.cores=0,1"])), "at most 1 of 576");
    }

    #[test]
    fn limits_of_groups_further_up_count() {
        let machine = metal();
        machine.put("/proc/self/cgroup", "0::/system.slice/corelane.service\n");
        machine.put("/sys/fs/cgroup/system.slice/pids.max", "90");
        machine.put(
            "/sys/fs/cgroup/system.slice/corelane.service/pids.max",
            "max",
        );
        let items = looked(&machine, &two_shards(), None);
        assert_eq!(items["tasks"].found, "at most 90 of 128");
    }
}
