//! What a process may have: files, tasks.

use crate::cli::serve::files;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::Item;

/// Each ring may have a few dozen kernel workers for what blocks: flushes, files that grow, cold reads.
const TASKS_OF_SHARD: u64 = 64;
const TASKS_OF_PROCESS: u64 = 64;

pub fn items(ground: &Ground) -> Vec<Item> {
    vec![open_files(ground), tasks(ground)]
}

fn open_files(ground: &Ground) -> Item {
    let name = "open files";
    let Some(limits) = ground.system.of_process("limits") else {
        return Item::unknown(name, "/proc/PID/limits");
    };
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().nth(1).map(str::to_owned));
    let hard = match hard.as_deref() {
        Some("unlimited") => Some(u64::MAX),
        Some(number) => number.parse().ok(),
        None => None,
    };
    let Some(hard) = hard else {
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

/// Tasks that the process may need, workers of the kernel among them.
pub fn tasks_wanted(ground: &Ground) -> u64 {
    TASKS_OF_PROCESS + ground.shards.len() as u64 * TASKS_OF_SHARD
}

fn tasks(ground: &Ground) -> Item {
    let name = "tasks";
    let limits = ground.cgroup("pids.max");
    let limit = limits
        .iter()
        .filter_map(|limit| limit.parse::<u64>().ok())
        .min();
    let wanted = tasks_wanted(ground);
    let why = "flushes and cold reads run on workers of the kernel, which count as tasks of the \
               process: without one they wait for each other";
    match limit {
        None => Item::ok(name, "no limit in a cgroup", why),
        Some(limit) if limit >= wanted => Item::ok(name, format!("at most {limit}"), why),
        Some(limit) => Item::should(
            name,
            format!("at most {limit}"),
            why,
            format!("TasksMax={wanted} (systemd), --pids-limit {wanted} (Docker)"),
        ),
    }
}
