//! The kernel: its version, io_uring, seccomp, the clock.

use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::Item;
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

fn release(ground: &Ground) -> Item {
    const PATH: &str = "/proc/sys/kernel/osrelease";
    let Some(release) = ground.system.text(PATH) else {
        return Item::unknown("kernel", PATH);
    };
    match version(&release) {
        None => Item::unknown("kernel", "the version in its name"),
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

fn io_uring(ground: &Ground) -> Item {
    const NAME: &str = "kernel.io_uring_disabled";
    // before 6.6 there is no switch
    let switch = ground.system.sysctl(NAME);
    let shown = switch.clone().unwrap_or_else(|| "no switch".into());
    match (&ground.ring, switch.as_deref()) {
        (Some(Ok(())), _) => Item::ok(
            "io_uring",
            format!("a ring was set up; {NAME}: {shown}"),
            "every shard works through one",
        ),
        (_, Some("2")) => off(
            NAME,
            shown,
            "it is off for everyone: the broker does not start",
        ),
        (_, Some("1")) => off(
            NAME,
            shown,
            "it is off for all but root and kernel.io_uring_group: the broker does not start as \
             another user",
        ),
        (Some(Err(refused)), _) => Item::must(
            "io_uring",
            refused.clone(),
            "every shard works through a ring: the broker does not start",
            "see what is said of it, and of seccomp",
        ),
        (None, _) => Item::ok(
            "io_uring",
            format!("{NAME}: {shown}"),
            "every shard works through a ring",
        ),
    }
}

fn off(name: &str, found: String, why: &str) -> Item {
    let todo = format!("sysctl -w {name}=0");
    Item::must("io_uring", format!("{name}: {found}"), why, todo)
        .by(crate::cli::tune::system::sysctl_path(name), "0")
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
            None => Item {
                level: crate::cli::tune::level::Level::Unknown,
                ..Item::ok("seccomp", "a filter; what it allows is not told", "")
            },
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
