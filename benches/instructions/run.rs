//! Runs paths under callgrind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, anyhow};

/// The methods of the driver. Entering a function that callgrind toggles turns counting on or off,
/// leaving it turns it back: on in [`COUNTED`], off in there where the simulated driver works at what
/// it is handed. (In clients the driver turns it on. That is why the sum is [`COUNTED`]'s and not the
/// program's.)
const DRIVER: [&str; 36] = [
    "now",
    "wall",
    "random",
    "submit",
    "cancel",
    "turn",
    "doorbell",
    "listen",
    "socket",
    "adopt",
    "local_addr",
    "peer_addr",
    "acknowledged",
    "tune_socket",
    "shutdown",
    "send_file",
    "hold",
    "set_congestion",
    "residency",
    "open",
    "try_lock",
    "len",
    "set_len",
    "read_now",
    "read_cached",
    "write_now",
    "create_dir_all",
    "read_dir",
    "rename",
    "remove_file",
    "remove_dir_all",
    "exists",
    "sync_fs",
    "space",
    "boot_id",
    "canonical",
];

/// Methods that a shard cannot do without: where a profile does not name them, the driver was counted.
const NEEDED: [&str; 2] = ["submit", "turn"];

/// A method that calls others of the driver: counting is on again in those. No path may need it.
const NESTED: &str = "read_cached";

/// Callgrind's name of a method of the simulated driver.
fn method(name: &str) -> String {
    format!("<corelane::ring::sim::driver::SimDriver as corelane::ring::driver::Driver>::{name}")
}

/// What names of paths of a whole shard begin with.
const SHARD: &str = "shard: ";

/// Callgrind's name of the function whose instructions are counted, with all that it calls.
const COUNTED: &str = "corelane_instructions::counted::counted";

/// `rep movsb` counts once a byte, and the C library takes it from a size on that depends on the
/// processor: it takes vector instructions at every size instead.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=1073741824:\
                        glibc.cpu.x86_rep_stosb_threshold=1073741824:\
                        glibc.cpu.x86_non_temporal_threshold=1073741824";

/// What is added to a path's name for the system calls that it makes beside the driver's.
const SYSTEM_CALLS: &str = ": system calls";

/// Columns of a profile's costs, by callgrind's `events:` line.
const INSTRUCTIONS_COLUMN: usize = 0;
const SYSTEM_CALLS_COLUMN: usize = 1;
const EVENTS: &str = "events: Ir sysCount";

/// Instructions of one operation of each path, and of a whole shard its system calls. As many run at a
/// time as there are cores.
pub fn all(names: &[&str]) -> anyhow::Result<BTreeMap<String, f64>> {
    let left = Mutex::new(names.iter().rev());
    let work = || {
        let mut counts = Vec::new();
        loop {
            let next = left
                .lock()
                .map_err(|_| anyhow!("a thread panicked"))?
                .next();
            let Some(name) = next else { return Ok(counts) };
            let count = one(name).with_context(|| format!("path {name}"))?;
            counts.push(((*name).to_owned(), count.instructions));
            if name.starts_with(SHARD) {
                counts.push((format!("{name}{SYSTEM_CALLS}"), count.system_calls));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut counts = BTreeMap::new();
        for thread in threads {
            let result: anyhow::Result<Vec<_>> = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            counts.extend(result?);
        }
        Ok(counts)
    })
}

/// A program of the PATH by its whole name.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|place| place.join(program));
    places.find(|file| file.is_file())
}

/// Of one operation.
struct Count {
    instructions: f64,
    system_calls: f64,
}

fn one(name: &str) -> anyhow::Result<Count> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let profile = format!("corelane-instructions-{}-{run}", std::process::id());
    let profile = std::env::temp_dir().join(profile);
    let valgrind = found("valgrind").context("no valgrind: apt-get install valgrind")?;
    let program = std::env::current_exe()?;
    let (home, file) = program
        .parent()
        .zip(program.file_name())
        .context("no path")?;
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--collect-atstart=no"]);
    command.arg("--collect-systime=usec");
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(format!("--toggle-collect={COUNTED}"));
    command.args(DRIVER.map(|name| format!("--toggle-collect={}", method(name))));
    // environment and arguments lie on the stack: their size would move what is counted
    command.env_clear().env("GLIBC_TUNABLES", TUNABLES);
    command.current_dir(home).arg(Path::new(".").join(file));
    command.args(["--child", name]);
    let output = command.output().context("can't run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let written = fs::read_to_string(&profile);
    let _ = fs::remove_file(&profile);
    anyhow::ensure!(output.status.success(), "it fails under valgrind:\n{said}");
    let written = written.context("no profile from valgrind")?;
    if name.starts_with(SHARD) {
        for method in NEEDED.map(method) {
            anyhow::ensure!(
                written.contains(&method),
                "the driver is counted: {method} is not in the profile"
            );
        }
    }
    anyhow::ensure!(
        !written.contains(&method(NESTED)),
        "{} was called, and what it calls of the driver is counted",
        method(NESTED)
    );
    anyhow::ensure!(
        written.lines().any(|line| line.starts_with(EVENTS)),
        "the profile's costs are not {EVENTS:?}"
    );
    let instructions = inclusive(&written, COUNTED, INSTRUCTIONS_COLUMN);
    let system_calls = inclusive(&written, COUNTED, SYSTEM_CALLS_COLUMN);
    let operations: u64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    anyhow::ensure!(
        instructions > 0 && operations > 0,
        "nothing was counted: {COUNTED} is not in the profile"
    );
    let each = |count: u64| count as f64 / operations as f64;
    Ok(Count {
        // a tenth of an instruction says enough
        instructions: (each(instructions) * 10.0).round() / 10.0,
        system_calls: (each(system_calls) * 1e4).round() / 1e4,
    })
}

/// A column of a function's costs and of what it calls, from a profile in callgrind's format: the costs
/// in the function's blocks, of which those behind a `calls` line are of what was called. Columns
/// that a line leaves out are 0.
fn inclusive(profile: &str, function: &str, column: usize) -> u64 {
    let mut sum = 0;
    let mut number = None;
    let mut inside = false;
    for line in profile.lines() {
        let named = line.strip_prefix('c').unwrap_or(line).strip_prefix("fn=");
        if let Some(named) = named {
            // `(7) name` the first time, `(7)` after that
            let (its, name) = named.split_once(' ').unwrap_or((named, ""));
            if name == function {
                number = Some(its);
            }
            if line.starts_with('f') {
                inside = number == Some(its);
            }
        } else if inside && line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line
                .split(' ')
                .nth(1 + column)
                .and_then(|cost| cost.parse::<u64>().ok());
            sum += cost.unwrap_or(0);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_method_of_the_driver_is_left_out() {
        let source = include_str!("../../src/ring/driver/mod.rs");
        let (_, methods) = source.split_once("pub trait Driver {\n").unwrap();
        let (methods, _) = methods.split_once("\n}\n").unwrap();
        let methods: Vec<&str> = methods
            .lines()
            .filter_map(|line| line.strip_prefix("    fn ")?.split_once('('))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(methods, super::DRIVER);
    }

    #[test]
    fn what_a_function_calls_is_its_own_and_what_others_call_is_not() {
        let profile = "events: Ir\n\nfl=(1) a.rs\nfn=(1) main\n5 1000\ncfn=(2) of\ncalls=2 9\n+1 700\n\n\
                       fn=(2) of\n9 10 2\ncfi=(3) b.rs\ncfn=(3) other\ncalls=4 1\n* 300\n\n\
                       fn=(3) other\n1 300\n\nfn=(2)\n-3 7\n\ntotals: 9999\n";
        assert_eq!(super::inclusive(profile, "of", 0), 317);
        assert_eq!(super::inclusive(profile, "main", 0), 1700);
        assert_eq!(super::inclusive(profile, "nothing", 0), 0);
        assert_eq!(super::inclusive(profile, "of", 1), 2);
    }
}
