//! What a process may use of its machine: memory and cores, as its cgroups and the kernel say.

use std::path::Path;

use crate::cli::tune::system::{System, numbers};

/// A file of the process's cgroup (v2) and of all above it, its own first.
pub fn cgroup(system: &System, what: &str) -> Vec<String> {
    of_groups(system, "", "/sys/fs/cgroup", what)
}

/// The same of a hierarchy of v1, as in `memory`.
pub fn cgroup_v1(system: &System, controller: &str, what: &str) -> Vec<String> {
    of_groups(
        system,
        controller,
        &format!("/sys/fs/cgroup/{controller}"),
        what,
    )
}

fn of_groups(system: &System, controller: &str, at: &str, what: &str) -> Vec<String> {
    let groups = system.of_process("cgroup").unwrap_or_default();
    // as in `4:cpu,cpuacct:/docker/x`; v2 has no controllers there
    let own = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let is_it = controllers.split(',').any(|name| name == controller);
        is_it.then_some(group)
    });
    // without one, or in a container that sees its host's names, what is mounted is its own
    let own = Path::new(own.unwrap_or("/"));
    own.ancestors()
        .filter_map(|group| system.text(&format!("{at}{}/{what}", group.display())))
        .collect()
}

/// The least of limits; what is no number, as `max`, is none.
pub fn least(limits: &[String]) -> Option<u64> {
    limits.iter().filter_map(|limit| limit.parse().ok()).min()
}

/// Bytes that the machine has, or the least that a cgroup above the process allows; none where the
/// machine does not tell.
pub fn memory(system: &System) -> Option<u64> {
    let total = meminfo(system, "MemTotal")?;
    let mut limits = cgroup(system, "memory.max");
    limits.extend(cgroup_v1(system, "memory", "memory.limit_in_bytes"));
    Some(least(&limits).map_or(total, |bytes| bytes.min(total)))
}

/// A line of `/proc/meminfo` in bytes.
pub fn meminfo(system: &System, field: &str) -> Option<u64> {
    let text = system.text("/proc/meminfo")?;
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = rest
        .strip_prefix(':')?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kib << 10)
}

/// Cores that threads of the process can be put on: those of its cpuset that are online, whatever the
/// affinity it was started with. With isolcpus= that lacks the cores that were set apart for it.
pub fn cores(system: &System) -> Option<Vec<usize>> {
    let online = system.numbers("/sys/devices/system/cpu/online");
    let v2 = cgroup(system, "cpuset.cpus.effective");
    let v1 = cgroup_v1(system, "cpuset", "cpuset.effective_cpus");
    let cpuset = v2.first().or(v1.first()).and_then(|list| numbers(list));
    match (online, cpuset) {
        (Some(online), Some(cpuset)) => Some(
            online
                .into_iter()
                .filter(|core| cpuset.contains(core))
                .collect(),
        ),
        (online, cpuset) => online.or(cpuset),
    }
}

/// Bits of CapEff. Source: include/uapi/linux/capability.h.
pub const CAP_IPC_LOCK: u32 = 14;
pub const CAP_SYS_ADMIN: u32 = 21;

/// Whether the process has a right of root; not where that can't be read.
pub fn has_capability(system: &System, bit: u32) -> bool {
    let mask = system.status("CapEff");
    let mask = mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_some_and(|mask| (mask >> bit) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tune::fake::Fake;

    #[test]
    fn memory_is_the_least_that_any_group_above_allows() {
        let machine = Fake::new(&[("/proc/meminfo", "MemTotal: 1048576 kB\n")]);
        let memory = || memory(&machine.system());
        assert_eq!(memory(), Some(1 << 30));
        machine.put(
            "/proc/self/cgroup",
            "4:memory:/a/b\n0::/system.slice/x.service\n",
        );
        machine.put("/sys/fs/cgroup/system.slice/x.service/memory.max", "max");
        assert_eq!(memory(), Some(1 << 30));
        machine.put("/sys/fs/cgroup/system.slice/memory.max", "8388608");
        assert_eq!(memory(), Some(8 << 20));
        machine.put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "4194304");
        assert_eq!(memory(), Some(4 << 20));
        assert_eq!(super::memory(&Fake::new(&[]).system()), None);
    }

    #[test]
    fn cores_are_those_of_the_cpuset_and_not_of_the_shell() {
        let machine = Fake::new(&[
            ("/proc/self/status", "Cpus_allowed_list:\t0-1\n"),
            ("/sys/devices/system/cpu/online", "0-7"),
        ]);
        assert_eq!(cores(&machine.system()), Some((0..8).collect()));
        machine.put("/proc/self/cgroup", "0::/user.slice\n");
        machine.put("/sys/fs/cgroup/cpuset.cpus.effective", "0-7");
        machine.put("/sys/fs/cgroup/user.slice/cpuset.cpus.effective", "2-9");
        assert_eq!(cores(&machine.system()), Some((2..8).collect()));
        assert_eq!(cores(&Fake::new(&[]).system()), None);
    }
}
