//! What a run cost: CPU of the machine without the load, of the broker's process, its memory, and
//! what it wrote. From `/proc`; what cannot be read is left out.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::disk::{Counters, Disk};
use crate::cli::rig::machine::{TICKS, field, machine_seconds, resident_bytes};

#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    user: f64,
    system: f64,
}

impl Cpu {
    fn since(self, before: Cpu) -> Cpu {
        Cpu {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }

    fn sum(self) -> f64 {
        self.user + self.system
    }

    /// So much in all, in the same parts.
    fn scaled_to(self, sum: f64) -> Cpu {
        let by = sum / self.sum().max(f64::MIN_POSITIVE);
        Cpu {
            user: self.user * by,
            system: self.system * by,
        }
    }
}

/// Counters at one moment.
pub struct Snapshot {
    at: Instant,
    machine: Option<Cpu>,
    machine_s: Option<f64>,
    load: Option<Cpu>,
    broker: Option<Cpu>,
    resident_bytes: Option<u64>,
    written_bytes: Option<u64>,
    device: Option<Counters>,
}

/// What was spent from one moment to another.
#[derive(Debug)]
pub struct Cost {
    pub seconds: f64,
    /// CPU of the whole machine less that of the load, in s: user and system.
    pub machine_cpu_s: Option<(f64, f64)>,
    pub load_cpu_s: Option<f64>,
    pub broker_cpu_s: Option<(f64, f64)>,
    pub broker_resident_bytes: Option<u64>,
    pub broker_written_bytes: Option<u64>,
    pub device: Option<Counters>,
}

impl Snapshot {
    pub fn take(broker: Option<u32>) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            machine: machine_ticks(),
            machine_s: machine_seconds(),
            load: process_cpu("self"),
            broker: broker.and_then(|pid| process_cpu(&pid.to_string())),
            resident_bytes: broker.and_then(resident_bytes),
            written_bytes: broker.and_then(written_bytes),
            device: broker.and_then(device),
        }
    }

    /// From then until this moment.
    pub fn since(&self, before: &Snapshot) -> Cost {
        let load = self.load.zip(before.load).map(|(a, b)| a.since(b));
        let ticks = self.machine.zip(before.machine).map(|(a, b)| a.since(b));
        let spent = self.machine_s.zip(before.machine_s).map(|(a, b)| a - b);
        let machine = ticks
            .zip(spent)
            .map(|(ticks, spent)| ticks.scaled_to(spent));
        let broker = self.broker.zip(before.broker).map(|(a, b)| a.since(b));
        Cost {
            seconds: (self.at - before.at).as_secs_f64(),
            machine_cpu_s: machine
                .zip(load)
                .map(|(machine, load)| machine.since(load))
                .map(|cpu| (cpu.user.max(0.0), cpu.system.max(0.0))),
            load_cpu_s: load.map(Cpu::sum),
            broker_cpu_s: broker.map(|cpu| (cpu.user, cpu.system)),
            broker_resident_bytes: self.resident_bytes,
            broker_written_bytes: self
                .written_bytes
                .zip(before.written_bytes)
                .map(|(after, before)| after - before),
            device: self.device.zip(before.device).map(|(a, b)| a.since(b)),
        }
    }
}

impl Cost {
    /// With amounts by gigabyte of batches on the wire, both ways, and by request.
    pub fn json(&self, gigabytes: f64, requests: u64) -> Value {
        let each = |cpu: f64| (requests > 0).then(|| cpu * 1e6 / requests as f64);
        let by_gb = |cpu: Option<f64>| cpu.filter(|_| gigabytes > 0.0).map(|cpu| cpu / gigabytes);
        json!({
            "seconds": self.seconds,
            "machine_without_load_cpu_user_s": self.machine_cpu_s.map(|cpu| cpu.0),
            "machine_without_load_cpu_system_s": self.machine_cpu_s.map(|cpu| cpu.1),
            "machine_without_load_cpu_s_per_gb": by_gb(self.machine_cpu_s.map(|cpu| cpu.0 + cpu.1)),
            "machine_without_load_cpu_us_each": self.machine_cpu_s.and_then(|cpu| each(cpu.0 + cpu.1)),
            "load_cpu_s": self.load_cpu_s,
            "broker_cpu_user_s": self.broker_cpu_s.map(|cpu| cpu.0),
            "broker_cpu_system_s": self.broker_cpu_s.map(|cpu| cpu.1),
            "broker_cpu_s_per_gb": by_gb(self.broker_cpu_s.map(|cpu| cpu.0 + cpu.1)),
            "broker_resident_bytes": self.broker_resident_bytes,
            "broker_written_bytes": self.broker_written_bytes,
            "device_writes": self.device.map(|device| device.writes),
            "device_written_bytes": self.device.map(|device| device.written_bytes),
            "device_flushes": self.device.and_then(|device| device.flushes),
        })
    }
}

/// Who ran at ticks: how much of what the machine spent is the kernel's.
fn machine_ticks() -> Option<Cpu> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let ticks = |n: usize| fields.get(n).copied().unwrap_or(0.0) / TICKS;
    Some(Cpu {
        user: ticks(0) + ticks(1),
        system: ticks(2) + ticks(5) + ticks(6),
    })
}

fn process_cpu(pid: &str) -> Option<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name may have spaces and brackets of its own
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some(Cpu {
        user: ticks()? / TICKS,
        system: ticks()? / TICKS,
    })
}

fn written_bytes(pid: u32) -> Option<u64> {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// What the disks of its files did.
fn device(pid: u32) -> Option<Counters> {
    let disks = Disk::of_process(pid);
    let counters = disks.iter().filter_map(Disk::counters);
    counters.reduce(Counters::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_costs() {
        let before = Snapshot::take(Some(std::process::id()));
        let mut sum = 0u64;
        while before.at.elapsed().as_millis() < 50 {
            sum = sum.wrapping_add(1);
        }
        let cost = Snapshot::take(Some(std::process::id())).since(&before);
        assert!(sum > 0 && cost.seconds >= 0.05);
        assert!(cost.load_cpu_s.is_some() && cost.machine_cpu_s.is_some());
        assert!(
            cost.broker_resident_bytes
                .is_some_and(|bytes| bytes > 1 << 20)
        );
        let json = cost.json(2.0, 10);
        let amount = |name: &str| json[name].as_f64().unwrap();
        let all =
            amount("machine_without_load_cpu_user_s") + amount("machine_without_load_cpu_system_s");
        assert!((amount("machine_without_load_cpu_s_per_gb") - all / 2.0).abs() < 1e-9);
        assert!((amount("machine_without_load_cpu_us_each") - all * 1e5).abs() < 1e-3);
    }
}
