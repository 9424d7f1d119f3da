//! A machine for the tests of rules: everything good, to be made worse.

use std::collections::BTreeMap;

use super::item::Item;
use super::{Ground, look};
use crate::base::config::BrokerConfig;
use crate::cli::tune::fake::{Fake, config};
use crate::cli::tune::level::Level;

/// Everything by its name.
pub fn looked(
    machine: &Fake,
    config: &BrokerConfig,
    ring: Option<Result<(), String>>,
) -> BTreeMap<String, Item> {
    let system = machine.system();
    let mut ground = Ground::new(&system, config);
    ground.ring = ring;
    let items = look(&ground).into_iter().flat_map(|(_, items)| items);
    items.map(|item| (item.name.clone(), item)).collect()
}

/// Of one item, where no ring was tried.
pub fn level(machine: &Fake, name: &str) -> Level {
    looked(machine, &two_shards(), None)[name].level
}

pub fn levels(items: &BTreeMap<String, Item>, level: Level) -> Vec<&str> {
    let of = items.values().filter(|item| item.level == level);
    of.map(|item| item.name.as_str()).collect()
}

/// Eight cores in two nodes, the shards on the first two; an NVMe disk and a card with two queues.
pub fn metal() -> Fake {
    let machine = Fake::new(&[
        ("/proc/sys/kernel/osrelease", "6.18.1-amd64\n"),
        ("/proc/sys/kernel/io_uring_disabled", "0\n"),
        ("/proc/sys/kernel/numa_balancing", "0"),
        (
            "/proc/self/status",
            "Name:\tx\nSeccomp:\t0\nCpus_allowed_list:\t0-3\n",
        ),
        (
            "/proc/self/limits",
            "Max open files            1024                 1048576              files     \n\
             Max locked memory         8388608              unlimited            bytes     \n",
        ),
        (
            "/proc/self/mountinfo",
            "1 0 259:2 / / rw,relatime - ext4 /dev/nvme0n1p2 rw\n\
             2 1 259:2 / /data rw,noatime shared:1 - xfs /dev/nvme0n1p2 rw,attr2\n",
        ),
        ("/proc/self/cgroup", "0::/\n"),
        ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
        ("/proc/meminfo", "MemTotal:       67108864 kB\n"),
        ("/proc/swaps", "Filename\tType\n"),
        ("/proc/sys/vm/overcommit_memory", "0"),
        ("/proc/sys/vm/swappiness", "60"),
        ("/proc/sys/vm/zone_reclaim_mode", "0"),
        (
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never",
        ),
        (
            "/sys/kernel/mm/transparent_hugepage/defrag",
            "always [madvise] never",
        ),
        (
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc",
        ),
        ("/sys/devices/system/cpu/online", "0-7"),
        ("/sys/devices/system/cpu/isolated", "0-1"),
        ("/sys/devices/system/node/node0/cpulist", "0-3"),
        ("/sys/devices/system/node/node1/cpulist", "4-7"),
        ("/sys/block/nvme0n1/queue/write_cache", "write through"),
        ("/sys/block/nvme0n1/queue/fua", "1"),
        ("/sys/block/nvme0n1/queue/rotational", "0"),
        ("/sys/block/nvme0n1/queue/scheduler", "[none] mq-deadline"),
        ("/sys/block/nvme0n1/queue/nr_requests", "1023"),
        ("/sys/block/nvme0n1/device/numa_node", "0"),
        ("/sys/devices/pci/nvme0n1/nvme0n1p2/partition", "2"),
        ("/proc/sys/net/core/somaxconn", "4096"),
        ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
        ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
        ("/proc/sys/net/ipv4/tcp_congestion_control", "cubic"),
        ("/proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
        ("/sys/class/net/eth0/operstate", "up"),
        ("/sys/class/net/eth0/device/numa_node", "0"),
        ("/sys/class/net/eth0/device/msi_irqs/40", "msix"),
        ("/sys/class/net/eth0/device/msi_irqs/41", "msix"),
        ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
        ("/sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
        ("/sys/class/net/eth0/queues/tx-0/xps_cpus", "1"),
        ("/sys/class/net/eth0/queues/tx-1/xps_cpus", "2"),
        ("/proc/irq/40/smp_affinity_list", "2-3"),
        ("/proc/irq/41/smp_affinity_list", "2-3"),
        ("/proc/77/comm", "sshd\n"),
    ]);
    for core in 0..4 {
        let cpu = format!("/sys/devices/system/cpu/cpu{core}");
        machine.put(&format!("{cpu}/cpufreq/scaling_governor"), "performance\n");
        machine.put(&format!("{cpu}/cpuidle/state0/latency"), "0");
        machine.put(&format!("{cpu}/cpuidle/state1/latency"), "2");
        machine.put(&format!("{cpu}/cpuidle/state1/disable"), "0");
    }
    machine.link("/sys/dev/block/259:2", "/sys/devices/pci/nvme0n1/nvme0n1p2");
    machine
}

pub fn two_shards() -> BrokerConfig {
    config(&[
        "corelane.cores=0-1",
        "log.dirs=/data/log",
        "listeners=PLAINTEXT://:9092",
    ])
}
