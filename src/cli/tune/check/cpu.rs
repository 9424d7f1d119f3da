//! Cores: which ones shards have, what slows them, and who else uses them.

use crate::cli::serve::shards;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::{Item, sysctl};

/// Where the kernel tells of cores.
pub const CPUS: &str = "/sys/devices/system/cpu";
/// Waking up from a deeper state takes as long as a commit to a fast disk.
const WAKE_US_MAX: u64 = 20;

pub fn items(ground: &Ground) -> Vec<Item> {
    let mut items = vec![
        cores(ground),
        quota(ground),
        governor(ground),
        idle(ground),
        isolated(ground),
    ];
    items.extend(numa(ground));
    items
}

fn cores(ground: &Ground) -> Item {
    let name = "cores";
    let Some(allowed) = &ground.allowed else {
        return Item::unknown(name, "Cpus_allowed_list of /proc/PID/status");
    };
    let may = shards::numbers(allowed);
    match &ground.cores_refused {
        Some(why) => Item::must(
            name,
            format!("the process may use {may}"),
            why,
            "change corelane.cores, or the cpuset (CPUAffinity= of systemd, --cpuset-cpus of Docker)",
        ),
        None => Item::ok(
            name,
            format!(
                "shards on {}; the process may use {may}",
                shards::numbers(&ground.shards)
            ),
            "each shard stays on its core",
        ),
    }
}

/// `cpu.max` of cgroup v2, or what v1 has for it.
fn quota(ground: &Ground) -> Item {
    let name = "CPU quota";
    let why = "a quota below the number of shards stops them for the rest of each period (100 ms), \
               with all acks that are due";
    let v1 = |what: &str| {
        let path = format!("/sys/fs/cgroup/cpu/cpu.cfs_{what}_us");
        ground.system.text(&path)
    };
    let mut limits = ground.cgroup("cpu.max");
    limits.extend(
        v1("quota")
            .zip(v1("period"))
            .map(|(quota, period)| format!("{quota} {period}")),
    );
    let cores = |limit: &String| {
        let (quota, period) = limit.split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0).then_some(quota / period)
    };
    let granted = limits.iter().filter_map(cores).reduce(f64::min);
    let shards = ground.shards.len();
    match granted {
        None => Item::ok(name, "none", why),
        Some(cores) if cores >= shards as f64 => Item::ok(name, format!("{cores:.1} cores"), why),
        Some(cores) => Item::should(
            name,
            format!("{cores:.1} cores for {shards} shards"),
            why,
            "give whole cores by cpuset instead (AllowedCPUs=, --cpuset-cpus), or run fewer shards",
        ),
    }
}

fn governor(ground: &Ground) -> Item {
    let name = "CPU governor";
    let why = "load comes in bursts between which a core clocks down: requests after a pause are \
               served at the low clock";
    let file = |core: usize, what: &str| format!("{CPUS}/cpu{core}/cpufreq/{what}");
    let mut slow = Vec::new();
    let mut seen = Vec::new();
    for &core in &ground.shards {
        let Some(governor) = ground.system.text(&file(core, "scaling_governor")) else {
            continue;
        };
        let preference = ground
            .system
            .text(&file(core, "energy_performance_preference"));
        let is_fast = governor == "performance" || preference.as_deref() == Some("performance");
        let shown = match preference {
            Some(preference) => format!("{governor} ({preference})"),
            None => governor,
        };
        if !seen.contains(&shown) {
            seen.push(shown);
        }
        if !is_fast {
            slow.push(core);
        }
    }
    if seen.is_empty() {
        return Item::ok(
            name,
            "no clock to set",
            "a virtual machine, or a fixed clock",
        );
    }
    if slow.is_empty() {
        return Item::ok(name, seen.join(", "), why);
    }
    let cores = shards::numbers(&slow);
    let todo = format!("cpupower -c {cores} frequency-set -g performance");
    let item = Item::should(name, format!("{} on {cores}", seen.join(", ")), why, todo);
    slow.iter().fold(item, |item, core| {
        item.by(file(*core, "scaling_governor"), "performance")
    })
}

fn idle(ground: &Ground) -> Item {
    let name = "idle states";
    let why = "a shard sleeps when it has no work: waking up from a deep state comes on top of \
               every request at low load (corelane.poll.us avoids it at the price of a busy core)";
    let mut deep = Vec::new();
    let mut worst_us = 0;
    let mut seen = false;
    for &core in &ground.shards {
        let states = format!("{CPUS}/cpu{core}/cpuidle");
        for state in ground.system.names(&states) {
            let file = |what: &str| format!("{states}/{state}/{what}");
            let Some(latency_us) = ground.system.number(&file("latency")) else {
                continue;
            };
            seen = true;
            let is_off = ground
                .system
                .number(&file("disable"))
                .is_some_and(|off| off != 0);
            if latency_us > WAKE_US_MAX && !is_off {
                worst_us = worst_us.max(latency_us);
                deep.push(file("disable"));
            }
        }
    }
    match (seen, deep.is_empty()) {
        (false, _) => Item::ok(name, "none to set", "a virtual machine, or none but halt"),
        (_, true) => Item::ok(name, format!("awake within {WAKE_US_MAX} us"), why),
        _ => {
            let found = format!("up to {worst_us} us to wake up");
            let todo = format!(
                "cpupower -c {} idle-set -D {WAKE_US_MAX}",
                shards::numbers(&ground.shards)
            );
            let item = Item::should(name, found, why, todo);
            deep.into_iter().fold(item, |item, path| item.by(path, "1"))
        }
    }
}

fn isolated(ground: &Ground) -> Item {
    let name = "isolated cores";
    let path = format!("{CPUS}/isolated");
    let Some(isolated) = ground.system.numbers(&path) else {
        return Item::unknown(name, &path);
    };
    let why = "what runs beside a shard on its core holds up all its partitions";
    let shards = &ground.shards;
    let apart = shards.iter().filter(|core| isolated.contains(core)).count();
    let shown = match isolated.is_empty() {
        true => "none".to_owned(),
        false => shards::numbers(&isolated),
    };
    // on all cores of a machine there is nothing to keep the rest on
    if apart == shards.len() && apart > 0 {
        Item::ok(name, shown, why)
    } else if ground.spare.is_empty() {
        Item::ok(
            name,
            shown,
            "shards have every core: there is none to keep the rest on",
        )
    } else {
        let cores = shards::numbers(shards);
        let todo = format!(
            "AllowedCPUs={} for system.slice and user.slice of systemd; or isolcpus={cores} \
             nohz_full={cores} on the kernel's command line, after a test",
            shards::numbers(&ground.spare)
        );
        Item::should(name, shown, why, todo)
    }
}

fn numa(ground: &Ground) -> Vec<Item> {
    let nodes: Vec<(usize, Vec<usize>)> = ground
        .system
        .names("/sys/devices/system/node")
        .iter()
        .filter_map(|name| {
            let path = format!("/sys/devices/system/node/{name}/cpulist");
            Some((
                name.strip_prefix("node")?.parse().ok()?,
                ground.system.numbers(&path)?,
            ))
        })
        .collect();
    if nodes.len() < 2 {
        return vec![Item::ok("NUMA", "one node", "all memory is as near")];
    }
    let used: Vec<usize> = nodes
        .iter()
        .filter(|(_, cores)| cores.iter().any(|core| ground.shards.contains(core)))
        .map(|(node, _)| *node)
        .collect();
    let why = "a shard's memory lies on its own node; what comes from a device of another one \
               crosses the link between them";
    let mut far: Vec<String> = Vec::new();
    let devices = ground
        .nics
        .iter()
        .map(|nic| (nic, format!("/sys/class/net/{nic}/device/numa_node")));
    let disks = ground
        .disks
        .iter()
        .map(|disk| (disk, format!("/sys/block/{disk}/device/numa_node")));
    for (device, path) in devices.chain(disks) {
        // -1 where the firmware does not tell
        let node = ground
            .system
            .text(&path)
            .and_then(|node| node.parse::<i64>().ok());
        let node = node.and_then(|node| usize::try_from(node).ok());
        if let Some(node) = node.filter(|node| !used.contains(node)) {
            far.push(format!("{device} on node {node}"));
        }
    }
    let found = format!(
        "{} nodes, shards on {}",
        nodes.len(),
        shards::numbers(&used)
    );
    let item = match far.is_empty() {
        true => Item::ok("NUMA", found, why),
        false => Item::should(
            "NUMA",
            format!("{found}; {}", far.join(", ")),
            why,
            "choose corelane.cores from the node of disk and network card",
        ),
    };
    let balancing = sysctl(
        ground.system,
        "kernel.numa_balancing",
        "0",
        |found| found == "0",
        "shards are pinned and their memory is local from the first touch: to look for better \
         places only costs page faults",
    );
    vec![item, balancing]
}
