//! What a run was made with: without it a figure says nothing.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::bench::args::Load;
use crate::cli::disk::Disk;
use crate::cli::rig::machine::{congestion_control, cores, cpu_model, field, kernel};

/// The file systems of a process's files.
fn file_systems(pid: u32) -> Vec<Value> {
    let disks = Disk::of_process(pid);
    let told = disks.iter().map(|disk| {
        json!({
            "type": disk.file_system,
            "device": disk.device,
            "options": disk.options,
            "journal": disk.ext4_journal(),
            "volatile_cache": disk.volatile_cache,
        })
    });
    told.collect()
}

/// The machine.
pub fn machine() -> Value {
    let memory_kib = field("/proc/meminfo", "MemTotal:");
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(),
        "cpu": cpu_model(),
        "cpus": cores(),
        "memory_bytes": memory_kib.map(|kib| kib << 10),
        "congestion_control": congestion_control(),
    })
}

/// The command line, of the program its name alone: where it lay is nothing to whoever runs it again.
pub fn command() -> Value {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(program).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    json!(words)
}

/// The machine, the command, and what was asked for.
pub fn describe(load: &Load) -> Value {
    let mut told = json!({
        "command": command(),
        "file_systems": load.run.broker_pid.map(file_systems),
        "bootstrap": load.broker.bootstrap,
        "topic": load.topic,
        "topic_configs": load.configs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        "replication_factor": load.replication_factor,
        "producers": load.producers,
        "consumers": load.consumers,
        "replayers": load.replayers,
        "replay_mb_s": load.replay_mb_s,
        "rate": load.rate,
        "depth": load.depth,
        "in_flight": load.in_flight,
        "record_bytes": [load.record_bytes.start(), load.record_bytes.end()],
        "keys": load.keys,
        "compressible": load.compressible,
        "codec": format!("{:?}", load.codec).to_lowercase(),
        "batch_bytes": load.batch_bytes,
        "request_bytes": load.request_bytes,
        "fetch_bytes": load.fetch_bytes,
        "linger_ms": load.linger_ms,
        "acks": load.acks.code(),
        "idempotent": load.idempotent,
        "fill": load.fill,
        "cold": load.cold,
        "duration_s": load.run.duration.as_secs_f64(),
        "warmup_s": load.run.warmup.as_secs_f64(),
        "core": load.run.core,
    });
    if let (Value::Object(told), Value::Object(machine)) = (&mut told, machine()) {
        told.extend(machine);
    }
    if let Some(name) = &load.run.congestion {
        told["congestion_control"] = json!(name);
    }
    told
}
