//! What the machine says: CPU of the whole system and of a process, memory, pinning.

use std::fs;
use std::io;

/// CPU time spent, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// By everything on the machine, kernel threads and interrupts included.
    pub system: f64,
    /// By this process: the load.
    pub load: f64,
    /// By the server's process.
    pub server: f64,
}

impl Cpu {
    /// Reads the counters.
    pub fn now(server: u32) -> Cpu {
        Cpu {
            system: system_seconds(),
            load: process_seconds(std::process::id()),
            server: process_seconds(server),
        }
    }

    /// What was spent since.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            system: self.system - earlier.system,
            load: self.load - earlier.load,
            server: self.server - earlier.server,
        }
    }

    /// Whole system minus the load: kernel workers hide from the server's own account.
    pub fn cost(&self) -> f64 {
        (self.system - self.load).max(self.server)
    }
}

fn system_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|t| t.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq: all but idle and iowait, in hundredths of a second
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|i| ticks.get(*i)).sum();
    busy as f64 / 100.0
}

/// CPU seconds of all threads of a process, from the scheduler's nanosecond counters.
pub fn process_seconds(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0;
    };
    tasks
        .flatten()
        .filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok())
        .filter_map(|s| s.split_whitespace().next()?.parse::<u64>().ok())
        .sum::<u64>() as f64
        / 1e9
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The core of the load of programs in `benches/`; their servers have the others.
pub const LOAD_CORE: usize = 1;

/// Runs something with every core allowed, as a child process should begin, then goes to the load's
/// core. Where that is none of the machine's it stays with all.
pub fn unpinned<T>(load_core: usize, what: impl FnOnce() -> T) -> T {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    let cores = online.ok().flatten().unwrap_or(1) as usize;
    let _ = allow(0..cores);
    let done = what();
    let _ = allow(load_core..load_core + 1);
    done
}

fn allow(cores: std::ops::Range<usize>) -> nix::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    for core in cores {
        set.set(core)?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}

/// One line on kernel, CPU and cores, for the head of a report.
pub fn describe() -> String {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| {
            l.strip_prefix("model name")?
                .split_once(':')
                .map(|x| x.1.trim().to_string())
        })
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Linux {}, {cpu}, {cores} cores",
        read("/proc/sys/kernel/osrelease")
    )
}

/// Makes cubic the machine's congestion control until dropped, so that accepted sockets use it.
pub struct Cubic(String);

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

impl Cubic {
    /// Sets it; needs root.
    pub fn set() -> io::Result<Cubic> {
        let before = fs::read_to_string(CONGESTION)?;
        fs::write(CONGESTION, "cubic")?;
        Ok(Cubic(before))
    }
}

impl Drop for Cubic {
    fn drop(&mut self) {
        let _ = fs::write(CONGESTION, self.0.trim());
    }
}
