//! Whole machines, each a list of files.

use super::machines::{level, levels, looked, metal, two_shards};
use super::*;
use crate::cli::tune::fake::{Fake, config};

#[test]
fn a_machine_that_is_set_up_has_nothing_to_change() {
    let items = looked(&metal(), &two_shards(), Some(Ok(())));
    for item in items.values() {
        assert_eq!(item.level, Level::Ok, "{item:?}");
        assert!(item.todo.is_empty() && item.settings.is_empty(), "{item:?}");
    }
    assert!(
        items["/data/log: file system"]
            .found
            .contains("xfs on /dev/nvme0n1p2")
    );
    assert!(items.contains_key("eth0: interrupts") && items.contains_key("nvme0n1: scheduler"));
}

/// Changes files of the good machine, one at a time, and tells the item that is not ok then.
fn after(changes: &[(&str, &str)]) -> Item {
    let machine = metal();
    for (path, text) in changes {
        machine.put(path, text);
    }
    let items = looked(&machine, &two_shards(), Some(Ok(())));
    let mut bad = items.into_values().filter(|item| item.level != Level::Ok);
    let only = bad
        .next()
        .unwrap_or_else(|| panic!("{changes:?} is not seen"));
    assert_eq!(bad.next(), None, "{changes:?}");
    only
}

#[test]
fn each_trouble_is_seen_alone_with_a_way_out() {
    let queue = "/sys/block/nvme0n1/queue";
    let node = "/sys/class/net/eth0";
    let mounts = |kind: &str, options: &str| {
        format!("1 0 259:2 / / rw,relatime - {kind} /dev/nvme0n1p2 rw,{options}\n")
    };
    let scheduler = format!("{queue}/scheduler");
    let irq = "/proc/irq/40/smp_affinity_list";
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let cases: [(&str, &str, &str, Level); 30] = [
        (
            "/proc/sys/kernel/osrelease",
            "6.1.0-18",
            "kernel",
            Level::Should,
        ),
        (clock, "hpet", "clock source", Level::Should),
        (
            "/sys/fs/cgroup/cpu.max",
            "150000 100000",
            "CPU quota",
            Level::Should,
        ),
        (
            "/sys/devices/system/cpu/isolated",
            "",
            "isolated cores",
            Level::Should,
        ),
        (
            "/sys/block/nvme0n1/device/numa_node",
            "1",
            "NUMA",
            Level::Should,
        ),
        (
            "/proc/sys/kernel/numa_balancing",
            "1",
            "kernel.numa_balancing",
            Level::Should,
        ),
        (
            "/sys/fs/cgroup/memory.max",
            "100000000",
            "memory",
            Level::Must,
        ),
        (
            "/proc/swaps",
            "Filename\n/swap\tfile",
            "vm.swappiness",
            Level::Should,
        ),
        (
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "[always] never",
            "transparent huge pages",
            Level::Should,
        ),
        (
            "/proc/sys/vm/zone_reclaim_mode",
            "1",
            "vm.zone_reclaim_mode",
            Level::Should,
        ),
        (
            "/proc/self/limits",
            "Max open files  1024  4096  files\nMax locked memory unlimited x bytes",
            "open files",
            Level::Should,
        ),
        (
            "/proc/self/limits",
            "Max open files  64  200  files\nMax locked memory unlimited x bytes",
            "open files",
            Level::Must,
        ),
        (
            "/proc/self/limits",
            "Max open files  1024  1048576  files\nMax locked memory  65536  unlimited  bytes",
            "locked memory",
            Level::Must,
        ),
        (
            "/proc/self/mountinfo",
            &mounts("xfs", "").replace("relatime", "nosuid"),
            "/data/log: mount options",
            Level::Should,
        ),
        (
            "/proc/sys/kernel/io_uring_disabled",
            "1",
            "io_uring",
            Level::Must,
        ),
        (
            &format!("{node}/queues/tx-1/xps_cpus"),
            "3",
            "eth0: send queues (XPS)",
            Level::Should,
        ),
        (
            &format!("{queue}/nr_requests"),
            "not a number",
            "nvme0n1: nr_requests",
            Level::Unknown,
        ),
        ("/sys/fs/cgroup/pids.max", "100", "tasks", Level::Should),
        (
            "/proc/self/mountinfo",
            &mounts("tmpfs", ""),
            "/data/log: file system",
            Level::Must,
        ),
        (
            "/proc/self/mountinfo",
            &mounts("overlay", ""),
            "/data/log: file system",
            Level::Must,
        ),
        (
            "/proc/self/mountinfo",
            &mounts("xfs", "discard"),
            "/data/log: mount options",
            Level::Should,
        ),
        (
            "/proc/self/mountinfo",
            &mounts("btrfs", ""),
            "/data/log: file system",
            Level::Should,
        ),
        (
            &scheduler,
            "none [bfq]",
            "nvme0n1: scheduler",
            Level::Should,
        ),
        (
            &format!("{queue}/nr_requests"),
            "32",
            "nvme0n1: nr_requests",
            Level::Should,
        ),
        (
            "/sys/fs/cgroup/io.max",
            "259:0 wbps=1000000",
            "IO limit",
            Level::Should,
        ),
        (
            "/proc/sys/net/core/somaxconn",
            "16",
            "net.core.somaxconn",
            Level::Should,
        ),
        (
            "/proc/sys/net/ipv4/tcp_wmem",
            "4096 16384 1048576",
            "net.ipv4.tcp_wmem",
            Level::Should,
        ),
        (
            &format!("{node}/queues/tx-1/xps_cpus"),
            "0,00000000",
            "eth0: send queues (XPS)",
            Level::Should,
        ),
        (irq, "0-3", "eth0: interrupts", Level::Should),
        ("/proc/77/comm", "irqbalance", "irqbalance", Level::Should),
    ];
    for (path, text, name, level) in cases {
        let item = after(&[(path, text)]);
        assert_eq!(
            (item.name.as_str(), item.level),
            (name, level),
            "{path}: {text}"
        );
        let has_way_out = !item.why.is_empty() && !item.todo.is_empty();
        assert!(has_way_out || level == Level::Unknown, "{item:?}");
    }
}

#[test]
fn what_can_be_written_is_named_with_its_file() {
    let one = |changes: &[(&str, &str)]| {
        let item = after(changes);
        let settings = item.settings.iter();
        settings
            .map(|s| format!("{}={}", s.path, s.to))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        one(&[("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t1000000")]),
        "/proc/sys/net/ipv4/tcp_rmem=4096 131072 16777216"
    );
    assert_eq!(
        one(&[(
            "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave"
        )]),
        "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor=performance"
    );
    assert_eq!(
        one(&[("/sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "133")]),
        "/sys/devices/system/cpu/cpu0/cpuidle/state1/disable=1"
    );
    assert_eq!(
        one(&[("/proc/irq/41/smp_affinity_list", "0")]),
        "/proc/irq/40/smp_affinity_list=2-3 /proc/irq/41/smp_affinity_list=2-3"
    );
    // a disk that does not offer it keeps what it has
    let machine = metal();
    machine.put("/sys/block/nvme0n1/queue/scheduler", "[mq-deadline] bfq");
    assert_eq!(level(&machine, "nvme0n1: scheduler"), Level::Ok);
}

#[test]
fn a_powersaving_governor_that_is_told_to_perform_is_good() {
    let machine = metal();
    for core in 0..2 {
        let cpu = format!("/sys/devices/system/cpu/cpu{core}/cpufreq");
        machine.put(&format!("{cpu}/scaling_governor"), "powersave");
        machine.put(
            &format!("{cpu}/energy_performance_preference"),
            "performance",
        );
    }
    assert_eq!(level(&machine, "CPU governor"), Level::Ok);
}

#[test]
fn a_container_of_docker_is_told_what_its_defaults_refuse() {
    let machine = metal();
    machine.put(
        "/proc/self/status",
        "Seccomp:\t2\nCpus_allowed_list:\t0-3\n",
    );
    machine.put("/proc/self/cgroup", "0::/\n");
    machine.put(
        "/proc/self/mountinfo",
        "1 0 0:50 / / rw,relatime - overlay overlay rw\n",
    );
    machine.put("/sys/fs/cgroup/cpu.max", "max 100000");
    let items = looked(&machine, &two_shards(), Some(Err("not permitted".into())));
    let musts = ["/data/log: file system", "io_uring", "seccomp"];
    assert_eq!(levels(&items, Level::Must), musts);
    assert!(items["seccomp"].todo.contains("--security-opt seccomp="));
    assert_eq!(items["CPU quota"].level, Level::Ok);
    // of a process that is only looked at nothing was tried
    assert_eq!(level(&machine, "seccomp"), Level::Unknown);
}

#[test]
fn cores_that_the_process_may_not_use_are_named() {
    let machine = metal();
    machine.put("/sys/devices/system/cpu/online", "1-3");
    let items = looked(&machine, &two_shards(), Some(Ok(())));
    assert_eq!(levels(&items, Level::Must), ["cores"]);
    let why = &items["cores"].why;
    assert!(why.contains("core 0 is none"), "{why}");
    // nobody is told to keep others off cores that are not there
    assert!(!items.contains_key("isolated cores"));
}

#[test]
fn with_a_shard_on_every_core_interrupts_are_spread() {
    let machine = metal();
    let config = config(&["log.dirs=/data/log", "listeners=PLAINTEXT://:9092"]);
    for irq in [40, 41] {
        machine.put(&format!("/proc/irq/{irq}/effective_affinity_list"), "3");
    }
    let items = looked(&machine, &config, None);
    let item = &items["eth0: interrupts"];
    assert_eq!(item.level, Level::Should);
    let to: Vec<&str> = item
        .settings
        .iter()
        .map(|setting| setting.to.as_str())
        .collect();
    assert_eq!(to, ["0", "1"]);
    assert_eq!(items["eth0: receive queues (RSS)"].level, Level::Should);
}

#[test]
fn strict_accounting_of_memory_must_leave_room_for_the_buffers() {
    let machine = metal();
    machine.put("/proc/sys/vm/overcommit_memory", "2");
    let memory =
        |free: u64| format!("MemTotal: 67108864 kB\nCommitLimit: {free} kB\nCommitted_AS: 0 kB\n");
    machine.put("/proc/meminfo", &memory(8 << 20));
    assert_eq!(level(&machine, "vm.overcommit_memory"), Level::Must);
    machine.put("/proc/meminfo", &memory(32 << 20));
    assert_eq!(level(&machine, "vm.overcommit_memory"), Level::Ok);
}

#[test]
fn an_ext4_is_asked_for_its_journal() {
    let machine = metal();
    machine.put(
        "/proc/self/mountinfo",
        "1 0 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n",
    );
    let level = || level(&machine, "/data/log: file system");
    assert_eq!(level(), Level::Unknown);
    machine.put("/sys/fs/ext4/nvme0n1p2/journal_task", "<none>");
    assert_eq!(level(), Level::Must);
    machine.put("/sys/fs/ext4/nvme0n1p2/journal_task", "312");
    assert_eq!(level(), Level::Ok);
}

#[test]
fn flushes_may_be_dropped_only_where_the_cache_keeps() {
    let machine = metal();
    machine.put(
        "/proc/self/mountinfo",
        "1 0 259:2 / / rw,noatime - xfs /dev/nvme0n1p2 rw,nobarrier\n",
    );
    assert_eq!(level(&machine, "/data/log: mount options"), Level::Ok);
    machine.put("/sys/block/nvme0n1/queue/write_cache", "write back");
    assert_eq!(level(&machine, "/data/log: mount options"), Level::Must);
}

#[test]
fn a_machine_that_tells_nothing_is_looked_through_to_the_end() {
    let items = looked(&Fake::new(&[]), &two_shards(), None);
    assert_eq!(levels(&items, Level::Should), Vec::<&str>::new());
    assert_eq!(levels(&items, Level::Must), Vec::<&str>::new());
    // nothing is called good that was not read
    let good = levels(&items, Level::Ok);
    assert_eq!(good, Vec::<&str>::new());
    let expected = "/data/log, CPU governor, CPU quota, NUMA, clock source, cores, idle states, io_uring, \
                    isolated cores, kernel, locked memory, memory, net.core.somaxconn, \
                    net.ipv4.tcp_congestion_control, net.ipv4.tcp_rmem, \
                    net.ipv4.tcp_slow_start_after_idle, net.ipv4.tcp_wmem, network cards, open files, \
                    seccomp, swap, tasks, transparent huge pages, vm.overcommit_memory, \
                    vm.zone_reclaim_mode";
    assert_eq!(levels(&items, Level::Unknown).join(", "), expected);
}

#[test]
fn cards_do_not_matter_to_a_broker_that_only_this_machine_reaches() {
    let items = looked(
        &metal(),
        &config(&["corelane.cores=0-1", "log.dirs=/data"]),
        None,
    );
    assert!(!items.contains_key("eth0: interrupts"));
    assert_eq!(items["network cards"].level, Level::Ok);
}
