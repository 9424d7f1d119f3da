//! Cores: which ones shards have, what slows them, and who else uses them.

use crate::cli::serve::shards;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::{Item, sysctl};
use crate::cli::tune::granted;

/// Where the kernel tells of cores.
pub const CPUS: &str = "/sys/devices/system/cpu";
/// Waking up from a deeper state takes as long as a commit to a fast disk.
const WAKE_US_MAX: u64 = 20;

pub fn items(ground: &Ground) -> Vec<Item> {
    let mut items = vec![cores(ground), quota(ground), governor(ground), idle(ground)];
    // of cores that can't be had there is nothing to say
    if ground.cores_refused.is_none() {
        items.push(isolated(ground));
    }
    items.extend(numa(ground));
    items
}

/// Where tuning/corelane.service puts the broker.
const SLICE: &str = "corelane.slice";

/// What a cgroup of systemd may use.
fn slice(ground: &Ground, name: &str) -> Option<Vec<usize>> {
    let path = format!("/sys/fs/cgroup/{name}/cpuset.cpus.effective");
    ground.system.numbers(&path)
}

fn cores(ground: &Ground) -> Item {
    let name = "cores";
    let todo = "change corelane.cores, or the cpuset (AllowedCPUs= of systemd, --cpuset-cpus of \
                Docker); of a broker that runs `--pid` tells its own";
    let may = ground.possible.as_ref().or(ground.allowed.as_ref());
    let is_picked = !ground.shards.is_empty() || ground.cores_refused.is_some();
    let Some(may) = may.filter(|_| is_picked) else {
        return Item::unknown(name, "Cpus_allowed_list of /proc/PID/status");
    };
    let shown = shards::numbers(may);
    if let Some(why) = &ground.cores_refused {
        return Item::must(name, format!("the process may use {shown}"), why, todo);
    }
    let found = format!(
        "shards on {}; the process may use {shown}",
        shards::numbers(&ground.shards)
    );
    let why = "each shard stays on its core";
    let all_in = |cores: &[usize]| ground.shards.iter().all(|core| cores.contains(core));
    if all_in(may) {
        return Item::ok(name, found, why);
    }
    match slice(ground, SLICE).filter(|_| ground.system.is_self()) {
        Some(cores) if all_in(&cores) => Item::ok(
            name,
            format!("{found}, {SLICE} {}", shards::numbers(&cores)),
            why,
        ),
        _ => Item::must(
            name,
            found,
            "the cpuset keeps it off the others: a broker does not start there",
            todo,
        ),
    }
}

/// `cpu.max` of cgroup v2, or what v1 has for it.
fn quota(ground: &Ground) -> Item {
    let name = "CPU quota";
    let why = "a quota below the number of shards stops them for the rest of each period (100 ms), \
               with all acks that are due";
    let v1 = |what: &str| {
        let file = format!("cpu.cfs_{what}_us");
        granted::cgroup_v1(ground.system, "cpu", &file)
    };
    let mut limits = ground.cgroup("cpu.max");
    limits.extend(
        v1("quota")
            .iter()
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
        None if limits.is_empty() && !ground.knows_groups() => {
            Item::unknown(name, "/proc/PID/cgroup or /sys/fs/cgroup")
        }
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

/// Whether what is not there for a core is not there at all.
fn knows_cores(ground: &Ground) -> bool {
    let known = |core: &usize| ground.system.exists(&format!("{CPUS}/cpu{core}"));
    ground.shards.first().is_some_and(known)
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
    if seen.is_empty() && !knows_cores(ground) {
        return Item::unknown(name, CPUS);
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
        (false, _) if !knows_cores(ground) => Item::unknown(name, CPUS),
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
    let shards = &ground.shards;
    if shards.is_empty() {
        return Item::unknown(name, "which cores shards have");
    }
    let why = "what runs beside a shard on its core holds up all its partitions";
    let shown = match isolated.is_empty() {
        true => "none".to_owned(),
        false => shards::numbers(&isolated),
    };
    if shards.iter().all(|core| isolated.contains(core)) {
        return Item::ok(name, shown, why);
    }
    let others = ["system.slice", "user.slice"].map(|other| (other, slice(ground, other)));
    let keeps_off = |cores: &Option<Vec<usize>>| {
        let cores = cores.as_ref();
        cores.is_some_and(|cores| !cores.iter().any(|core| shards.contains(core)))
    };
    if others.iter().all(|(_, cores)| keeps_off(cores)) {
        let shown = format!("{shown}; system.slice and user.slice are kept off the shards' cores");
        return Item::ok(name, shown, why);
    }
    // on all cores of a machine there is nothing to keep the rest on
    if ground.spare.is_empty() {
        let why = "shards have every core: there is none to keep the rest on";
        return Item::ok(name, shown, why);
    }
    let (cores, spare) = (shards::numbers(shards), shards::numbers(&ground.spare));
    let todo = format!(
        "systemctl set-property system.slice AllowedCPUs={spare}, and user.slice too, with the broker in \
         {SLICE} as tuning/corelane.service has it; or isolcpus={cores} nohz_full={cores} on the \
         kernel's command line, after a test"
    );
    Item::should(name, shown, why, todo)
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
    // a kernel without NUMA has no such directory
    if nodes.is_empty() && !ground.system.exists(CPUS) {
        return vec![Item::unknown("NUMA", "/sys/devices/system/node")];
    }
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
    let mut untold: Vec<&str> = Vec::new();
    let nics = ground.nics.iter().map(|nic| (nic, "/sys/class/net"));
    let disks = ground.disks.iter().map(|disk| (disk, "/sys/block"));
    for (device, class) in nics.chain(disks) {
        match ground.node_of(&format!("{class}/{device}/device")) {
            None => untold.push(device),
            Some(node) if used.contains(&node) => {}
            Some(node) => far.push(format!("{device} on node {node}")),
        }
    }
    let mut found = format!(
        "{} nodes, shards on {}",
        nodes.len(),
        shards::numbers(&used)
    );
    if !untold.is_empty() {
        found = format!("{found}; the node of {} is not told", untold.join(", "));
    }
    let item = match (far.is_empty(), untold.is_empty()) {
        (true, true) => Item::ok("NUMA", found, why),
        (true, false) => Item::untold("NUMA", found, why),
        (false, _) => Item::should(
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

#[cfg(test)]
mod tests {
    use crate::cli::tune::check::machines::{looked, metal, two_shards};
    use crate::cli::tune::level::Level;

    const CPUSET: &str = "cpuset.cpus.effective";

    #[test]
    fn cores_that_the_shell_is_kept_off_can_be_a_brokers() {
        let machine = metal();
        // after isolcpus=0-1
        let status = "Cpus_allowed_list:\t2-7\nSeccomp:\t0\n";
        machine.put("/proc/self/status", status);
        let level = || looked(&machine, &two_shards(), Some(Ok(())))["cores"].level;
        assert_eq!(level(), Level::Ok);
        // a cpuset holds, unless it is not the broker's
        machine.put("/proc/self/cgroup", "0::/user.slice\n");
        machine.put(&format!("/sys/fs/cgroup/user.slice/{CPUSET}"), "2-7");
        assert_eq!(level(), Level::Must);
        machine.put(&format!("/sys/fs/cgroup/corelane.slice/{CPUSET}"), "0-7");
        assert_eq!(level(), Level::Ok);
    }

    #[test]
    fn others_that_are_kept_off_by_their_slices_are_as_good_as_isolation() {
        let machine = metal();
        machine.put("/sys/devices/system/cpu/isolated", "");
        let level = || looked(&machine, &two_shards(), Some(Ok(())))["isolated cores"].level;
        machine.put(&format!("/sys/fs/cgroup/system.slice/{CPUSET}"), "2-7");
        machine.put(&format!("/sys/fs/cgroup/user.slice/{CPUSET}"), "0-7");
        assert_eq!(level(), Level::Should);
        machine.put(&format!("/sys/fs/cgroup/user.slice/{CPUSET}"), "2-7");
        assert_eq!(level(), Level::Ok);
    }

    #[test]
    fn the_node_of_a_disk_is_told_by_what_it_hangs_on_or_said_to_be_unknown() {
        let machine = metal();
        let numa = || looked(&machine, &two_shards(), Some(Ok(())))["NUMA"].clone();
        std::fs::remove_file(machine.system().path("/sys/block/nvme0n1/device/numa_node")).unwrap();
        assert_eq!(numa().level, Level::Unknown);
        assert!(numa().found.contains("nvme0n1 is not told"), "{:?}", numa());
        machine.put("/sys/block/nvme0n1/numa_node", "1");
        assert_eq!(numa().level, Level::Should);
    }
}
