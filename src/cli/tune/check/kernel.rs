//! The kernel: its version, io_uring, seccomp, the clock.

use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::Item;
use crate::cli::tune::granted::{CAP_SYS_ADMIN, has_capability};
use crate::cli::tune::system::sysctl_path;
use crate::ring::uring::{OLDEST, version};

/// cachestat(2).
const CACHESTAT: (u32, u32) = (6, 5);
/// Clocks that are read without entering the kernel.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "arch_sys_counter",
    "hyperv_clocksource_tsc_page",
];

pub fn items(ground: &Ground) -> Vec<Item> {
    vec![
        release(ground),
        io_uring(ground),
        seccomp(ground),
        clock(ground),
    ]
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// The kernel's major and minor number.
pub fn number(ground: &Ground) -> Option<(u32, u32)> {
    version(&ground.system.text(RELEASE)?)
}

fn release(ground: &Ground) -> Item {
    let Some(release) = ground.system.text(RELEASE) else {
        return Item::unknown("kernel", RELEASE);
    };
    match version(&release) {
        None => Item::unknown("kernel", "the version in its name"),
        // some distributions bring what is newer to an old number: a ring that works decides
        Some(version) if version < OLDEST && ground.ring == Some(Ok(())) => Item::ok(
            "kernel",
            format!("{release}; a ring was set up all the same"),
            "shards' rings need DEFER_TASKRUN, which 6.1 brought: this kernel has it too",
        ),
        Some(version) if version < OLDEST => Item::must(
            "kernel",
            release,
            "the shards' rings need DEFER_TASKRUN, which 6.1 brought: the broker does not start",
            "boot Linux 6.1 or newer",
        ),
        Some(version) if version < CACHESTAT => Item::should(
            "kernel",
            release,
            "before 6.5 a shard cannot ask what the page cache holds: every fetch from segments \
             takes the slower way for cold data",
            "boot Linux 6.5 or newer",
        ),
        Some(_) => Item::ok("kernel", release, "it has all that the broker uses"),
    }
}

const SWITCH: &str = "kernel.io_uring_disabled";
const GROUP: &str = "kernel.io_uring_group";

fn io_uring(ground: &Ground) -> Item {
    // before 6.6 there is no switch
    let switch = ground.system.sysctl(SWITCH);
    let shown = switch.clone().unwrap_or_else(|| "no switch".into());
    match (&ground.ring, switch.as_deref()) {
        (_, Some("1")) => for_some(ground),
        (Some(Ok(())), _) => Item::ok(
            "io_uring",
            format!("a ring was set up; {SWITCH}: {shown}"),
            "every shard works through one",
        ),
        (_, Some("2")) => off(
            ground,
            "2".into(),
            "it is off for everyone: the broker does not start",
        ),
        (Some(Err(refused)), _) => Item::must(
            "io_uring",
            refused.clone(),
            "every shard works through a ring: the broker does not start",
            "see what is said of it, and of seccomp",
        ),
        (None, _) => Item::untold(
            "io_uring",
            format!("no ring was tried; {SWITCH}: {shown}"),
            "every shard works through a ring",
        ),
    }
}

/// The switch stands on 1: whether the broker's user may, who is not the one that looks.
fn for_some(ground: &Ground) -> Item {
    let may = ground.system.sysctl(GROUP).unwrap_or_default();
    let is_brokers = broker_group(ground).is_some_and(|id| id == may);
    let is_ordinary =
        ground.system.status("CapEff").is_some() && !has_capability(ground.system, CAP_SYS_ADMIN);
    let found = format!("1, {GROUP}: {may}");
    let why = "it is for root and one group: a broker of another user does not start";
    match &ground.ring {
        _ if is_brokers => Item::ok("io_uring", format!("{SWITCH}: {found} (corelane)"), why),
        Some(Ok(())) if is_ordinary => {
            let found = format!("a ring was set up; {SWITCH}: {found}");
            Item::ok("io_uring", found, why)
        }
        _ => off(ground, found, why),
    }
}

/// The group of tuning/corelane.service, where there is one.
fn broker_group(ground: &Ground) -> Option<String> {
    let groups = ground.system.text("/etc/group")?;
    let line = groups
        .lines()
        .find_map(|line| line.strip_prefix("corelane:"))?;
    let id = line.split(':').nth(1)?;
    id.parse::<u32>().ok().map(|id| id.to_string())
}

fn off(ground: &Ground, found: String, why: &str) -> Item {
    let found = format!("{SWITCH}: {found}");
    let must = |todo: &str| Item::must("io_uring", found, why, todo);
    match broker_group(ground).filter(|_| ground.system.sysctl(GROUP).is_some()) {
        // the kernel stays closed for everyone else
        Some(id) => must(&format!(
            "sysctl -w {GROUP}={id} {SWITCH}=1, for the group corelane"
        ))
        .by(sysctl_path(GROUP), id)
        .by(sysctl_path(SWITCH), "1"),
        None => must(&format!(
            "sysctl -w {SWITCH}=0, or 1 and {GROUP}= the number of the broker's group"
        ))
        .by(sysctl_path(SWITCH), "0"),
    }
}

fn seccomp(ground: &Ground) -> Item {
    match ground.system.status("Seccomp").as_deref() {
        None => Item::unknown("seccomp", "/proc/PID/status"),
        Some("0") => Item::ok("seccomp", "no filter", "no system call is refused"),
        Some(_) => match &ground.ring {
            Some(Ok(())) => Item::ok("seccomp", "a filter that allows io_uring", "as it must"),
            Some(Err(_)) => Item::must(
                "seccomp",
                "a filter, and no ring can be set up",
                "Docker's own profile refuses io_uring",
                "docker run --security-opt seccomp=tuning/seccomp.json",
            ),
            None => Item::untold("seccomp", "a filter; what it allows is not told", ""),
        },
    }
}

fn clock(ground: &Ground) -> Item {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let why = "a shard reads the clock in every turn: without entering the kernel with a fast \
               source, with a system call and a slow device otherwise";
    match ground.system.text(PATH) {
        None => Item::unknown("clock source", PATH),
        Some(clock) if FAST_CLOCKS.contains(&clock.as_str()) => {
            Item::ok("clock source", clock, why)
        }
        Some(clock) => {
            let all = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
            let all = ground.system.text(all).unwrap_or_default();
            let todo = match all.split(' ').find(|name| FAST_CLOCKS.contains(name)) {
                Some(fast) => {
                    format!("look into dmesg why {fast} is not used, then: echo {fast} > {PATH}")
                }
                None => "look into dmesg why the kernel gave tsc up".into(),
            };
            Item::should("clock source", clock, why, todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::tune::check::machines::{level, looked, metal, two_shards};
    use crate::cli::tune::level::Level;

    #[test]
    fn a_ring_that_works_decides_over_an_old_number() {
        let machine = metal();
        machine.put(super::RELEASE, "5.14.0-503.el9.x86_64");
        let level = |ring| looked(&machine, &two_shards(), ring)["kernel"].level;
        assert_eq!(level(Some(Ok(()))), Level::Ok);
        assert_eq!(level(Some(Err("no".into()))), Level::Must);
        assert_eq!(level(None), Level::Must);
    }

    #[test]
    fn the_switch_is_judged_for_the_broker_and_not_for_root() {
        let machine = metal();
        machine.put("/proc/sys/kernel/io_uring_disabled", "1");
        machine.put("/proc/sys/kernel/io_uring_group", "-1");
        let status =
            |mask: &str| format!("CapEff:\t{mask}\nCpus_allowed_list:\t0-3\nSeccomp:\t0\n");
        let item = || looked(&machine, &two_shards(), Some(Ok(())))["io_uring"].clone();
        let to = || {
            item()
                .settings
                .into_iter()
                .map(|s| s.to)
                .collect::<Vec<_>>()
        };
        machine.put("/proc/self/status", &status("000001ffffffffff"));
        assert_eq!((item().level, to()), (Level::Must, vec!["0".into()]));
        // an ordinary user for whom it works is in the group
        machine.put("/proc/self/status", &status("0000000000000000"));
        assert_eq!(item().level, Level::Ok);
        machine.put("/proc/self/status", &status("000001ffffffffff"));
        machine.put("/etc/group", "root:x:0:\ncorelane:x:998:\n");
        assert_eq!(
            (item().level, to()),
            (Level::Must, vec!["998".into(), "1".into()])
        );
        machine.put("/proc/sys/kernel/io_uring_group", "998");
        assert_eq!(item().level, Level::Ok);
    }

    #[test]
    fn a_switch_alone_does_not_say_that_rings_work() {
        assert_eq!(level(&metal(), "io_uring"), Level::Unknown);
    }
}
