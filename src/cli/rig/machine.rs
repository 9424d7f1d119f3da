//! What the machine says: CPU of the whole system and of a process, memory, pinning.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::ring::affinity;

/// Ticks of `/proc` in a second: the kernel's USER_HZ, 100 on every Linux that runs this.
pub const TICKS: f64 = 100.0;

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
            system: machine_seconds().unwrap_or(0.0),
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

/// CPU seconds that the whole machine spent, since a moment that is the same for each reading.
pub fn machine_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let now = ClockId::CLOCK_MONOTONIC.now().ok()?;
    busy_seconds(&stat, Duration::from(now))
}

/// Writes what is dirty and forgets what files are in memory; root may.
pub fn drop_page_cache() -> io::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "1")
}

/// Time of all cores that was not idle, since a moment that is the same for each reading. The kernel
/// takes idle time from a clock (`CONFIG_NO_HZ_COMMON`); what is not idle it gives at each tick to
/// whoever runs just then, and of a core that is seldom busy that is off by a tenth in two seconds.
fn busy_seconds(stat: &str, now: Duration) -> Option<f64> {
    let mut lines = stat.lines();
    let ticks: Vec<u64> = lines
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    let cores = lines.take_while(|line| line.starts_with("cpu")).count();
    // idle, waiting for a device, and another machine's
    let not_ours = ticks.get(3)? + ticks.get(4)? + ticks.get(7)?;
    Some(cores as f64 * now.as_secs_f64() - not_ours as f64 / TICKS)
}

/// CPU seconds of all threads that a process has or had, to the nanosecond.
pub fn process_seconds(pid: u32) -> f64 {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32));
    let spent = clock.and_then(ClockId::now).map(Duration::from);
    spent.map_or(0.0, |spent| spent.as_secs_f64())
}

/// Resident memory of a process in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    resident_bytes(pid).unwrap_or(0) as f64 / f64::from(1 << 20)
}

/// The same in bytes; none without the process.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    Some(field(&format!("/proc/{pid}/status"), "VmRSS:")? << 10)
}

/// The number of a line that begins with this.
pub fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The core of the load of programs in `benches/`; their servers have the others.
pub const LOAD_CORE: usize = 1;

/// Runs something with every core allowed, as a child process should begin, then goes to the load's
/// core. Where that is none of the machine's it stays with all.
pub fn unpinned<T>(load_core: usize, what: impl FnOnce() -> T) -> T {
    let _ = allow_all();
    let done = what();
    let _ = affinity::pin(load_core);
    done
}

fn allow_all() -> nix::Result<()> {
    let mut all = CpuSet::new();
    (0..CpuSet::count()).try_for_each(|core| all.set(core))?;
    sched_setaffinity(Pid::from_raw(0), &all)
}

/// One line on kernel, CPU and cores, for the head of a report.
pub fn describe() -> String {
    let kernel = kernel().unwrap_or_default();
    let cpu = cpu_model().unwrap_or_default();
    format!("Linux {kernel}, {cpu}, {} cores", cores())
}

/// As in `6.18.0`.
pub fn kernel() -> Option<String> {
    first_line("/proc/sys/kernel/osrelease")
}

/// As the processor calls itself.
pub fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// That this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// The congestion control of sockets that ask for none.
pub fn congestion_control() -> Option<String> {
    first_line(CONGESTION)
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting_nor_stolen() {
        let stat = "cpu  9 9 9 150 30 9 9 20 9 9\ncpu0 1 1\ncpu1 1 1\nintr 5\n";
        let busy = busy_seconds(stat, Duration::from_secs(7)).unwrap();
        assert!((busy - 12.0).abs() < 1e-9, "{busy}");
        assert_eq!(busy_seconds("", Duration::ZERO), None);
    }

    #[test]
    fn a_process_has_what_its_ended_threads_spent() {
        let own = std::process::id();
        let before = process_seconds(own);
        let spin = move || while process_seconds(own) < before + 0.02 {};
        std::thread::spawn(spin).join().unwrap();
        assert!(process_seconds(own) >= before + 0.02);
        assert!(Cpu::now(own).since(Cpu::default()).system > 0.0);
    }
}
