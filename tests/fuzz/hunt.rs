//! The loop: breaks good inputs of a target, hands them to it, and watches what it does.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use anyhow::{Context, Result, bail, ensure};
use corelane::base::checksum::crc32c;

use crate::mutate::{Gen, mutate};
use crate::support::wait::{Deadline, now, pause};

/// No input takes a target so long; one that does has hung.
const HANG: Duration = Duration::from_secs(20);
/// Inputs that are kept to be broken further.
const POOL: usize = 1000;
/// Outcomes that are remembered; what comes then is no news.
const OUTCOMES: usize = 1 << 18;

/// The target with faults that must be found.
pub const PLANTED: &str = "planted";

/// Breaks an input with parts of another one, within a length.
pub type Mutate = fn(&mut Gen, &mut Vec<u8>, &[u8], usize);

/// Something that reads bytes that others wrote.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Good inputs.
    pub seeds: fn(&mut Gen) -> Vec<Vec<u8>>,
    /// Breaks an input: with [`mutate`](crate::mutate::mutate) where it is one piece.
    pub mutate: Mutate,
    /// Makes lengths and checksums of a broken input right again, so that what lies behind their
    /// check is reached.
    pub repair: Option<fn(&mut Vec<u8>)>,
    /// Reads an input and panics where the result breaks a rule. Answers a number that stands for
    /// what was found: an input that gives a new one is broken further.
    pub run: fn(&[u8]) -> u64,
    /// Longest input.
    pub max_bytes: usize,
    /// Bytes that reading an input of so many bytes may allocate at the same time.
    pub memory: fn(usize) -> u64,
}

/// What a hunt did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub executions: u64,
    /// Different things that inputs were found to be.
    pub findings: usize,
    pub slowest: Duration,
    pub most_bytes: u64,
}

/// What the worker is at, for whoever watches it.
#[derive(Default)]
struct Progress {
    tally: Tally,
    input: Vec<u8>,
}

/// Hunts for as long as `limit`, from a seed.
pub fn hunt(target: Target, limit: Duration, seed: u64) -> Result<Tally> {
    let kept = regressions(target.name)?;
    let outcome = watched(target.name, HANG, move |progress| {
        let mut g = Gen::new(seed);
        let mut pool = (target.seeds)(&mut g);
        assert!(!pool.is_empty(), "a target has seeds");
        pool.extend(kept);
        let mut found = BTreeSet::new();
        for input in &pool {
            found.insert(execute(&target, input, progress));
        }
        let deadline = Deadline::after(limit);
        while !deadline.passed() {
            let mut input = pool[g.below(pool.len())].clone();
            let other = g.below(pool.len());
            (target.mutate)(&mut g, &mut input, &pool[other], target.max_bytes);
            if let Some(repair) = target.repair
                && !g.once_in(4)
            {
                lock(progress).input.clone_from(&input);
                repair(&mut input);
            }
            let outcome = execute(&target, &input, progress);
            if found.len() < OUTCOMES && found.insert(outcome) {
                match pool.len() < POOL {
                    true => pool.push(input),
                    false => pool[other] = input,
                }
                let tally = &mut lock(progress).tally;
                tally.findings = found.len();
            }
        }
    });
    outcome.map_err(|(what, input)| failure(target.name, &what, &input))
}

/// Runs one input, which `path` holds.
pub fn reproduce(target: Target, path: &Path) -> Result<Tally> {
    let input = fs::read(path).with_context(|| path.display().to_string())?;
    let outcome = watched(target.name, HANG, move |progress| {
        execute(&target, &input, progress);
    });
    outcome.map_err(|(what, _)| anyhow::anyhow!("{}: {what}", target.name))
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    // a panic is what is looked for
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn execute(target: &Target, input: &[u8], progress: &Mutex<Progress>) -> u64 {
    {
        let mut at = lock(progress);
        at.input.clear();
        at.input.extend_from_slice(input);
    }
    let begun = now();
    let mut found = 0;
    let made = measure(|| found = (target.run)(input));
    let most = (target.memory)(input.len());
    assert!(
        made.bytes_max <= most,
        "{} bytes were allocated for an input of {}, at most {most} may be",
        made.bytes_max,
        input.len(),
    );
    let tally = &mut lock(progress).tally;
    tally.executions += 1;
    tally.slowest = tally.slowest.max(begun.elapsed());
    tally.most_bytes = tally.most_bytes.max(made.bytes_max);
    found
}

/// Runs `work` on a thread of its own until it ends, panics or gets nowhere for `hang`; the error is
/// what went wrong, with the input that it was at. A thread that hangs is left behind.
fn watched(
    name: &str,
    hang: Duration,
    work: impl FnOnce(&Mutex<Progress>) + Send + 'static,
) -> Result<Tally, (String, Vec<u8>)> {
    let progress = Arc::new(Mutex::new(Progress::default()));
    let shared = Arc::clone(&progress);
    let worker = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(&shared))
        .map_err(|error| (error.to_string(), Vec::new()))?;
    let mut seen = 0;
    let mut deadline = Deadline::after(hang);
    while !worker.is_finished() {
        pause(Duration::from_millis(20));
        let executions = lock(&progress).tally.executions;
        if executions != seen {
            seen = executions;
            deadline = Deadline::after(hang);
        }
        if deadline.passed() {
            let what = format!("nothing came of an input for {hang:?}");
            return Err((what, lock(&progress).input.clone()));
        }
    }
    let ended = worker.join();
    let at = lock(&progress);
    match ended {
        Ok(()) => Ok(at.tally),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let what = text.unwrap_or("it panicked").to_owned();
            Err((what, at.input.clone()))
        }
    }
}

/// Saves the input, and says how to come back to it.
fn failure(name: &str, what: &str, input: &[u8]) -> anyhow::Error {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let path = folder.join(format!("{name}-{:08x}", crc32c(input)));
    let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
    let path = path.display();
    match saved {
        Ok(()) => anyhow::anyhow!(
            "{what}\nthe input is saved; again with \
             CORELANE_FUZZ_INPUT={path} cargo test --test fuzz -- --exact {name}"
        ),
        Err(error) => anyhow::anyhow!("{what}\nthe input could not be saved in {path}: {error}"),
    }
}

/// Inputs that once broke the target.
fn regressions(name: &str) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/fuzz")
        .join(name);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    paths.iter().map(read).collect()
}

/// A number for what a value says, numbers and bytes in it left aside.
pub fn shape(value: &impl fmt::Debug) -> u64 {
    struct Hash(u64);
    impl fmt::Write for Hash {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes().filter(|b| !b.is_ascii_digit()) {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    // a hash takes all
    let _ = write!(hash, "{value:?}");
    hash.0
}

/// The magnitude of a number, for what differs by its size only.
pub fn magnitude(n: usize) -> u64 {
    u64::from(usize::BITS - n.leading_zeros())
}

/// Planted faults of each kind are found, and the input that shows one does so again.
pub fn self_test() -> Result<()> {
    const SEED: &[u8] = b"\0\0\0\x05hello\0\0\0\0";
    fn repair(bytes: &mut [u8]) {
        if let Some(at) = bytes.len().checked_sub(4) {
            let crc = crc32c(&bytes[..at]);
            bytes[at..].copy_from_slice(&crc.to_be_bytes());
        }
    }
    fn trusted(bytes: &[u8]) -> Option<&[u8]> {
        let at = bytes.len().checked_sub(4)?;
        (bytes[at..] == crc32c(&bytes[..at]).to_be_bytes()).then_some(&bytes[..at])
    }
    let planted = |run| Target {
        name: PLANTED,
        seeds: |_| vec![SEED.to_vec()],
        mutate,
        repair: Some(|bytes| repair(bytes)),
        run,
        max_bytes: 1000,
        memory: |n| 10 * n as u64,
    };
    let limit = Duration::from_secs(10);
    // a length is believed, behind a checksum
    let panics = planted(|bytes| match trusted(bytes) {
        Some([0, 0, 0, n, rest @ ..]) => u64::from(rest[..usize::from(*n)].len() as u8),
        _ => 0,
    });
    let error = hunt(panics, limit, 1).err().context("no panic was found")?;
    let text = error.to_string();
    let path = text.split("CORELANE_FUZZ_INPUT=").nth(1);
    let path = path.and_then(|rest| rest.split(' ').next());
    let path = Path::new(path.with_context(|| format!("no input is named: {text}"))?);
    ensure!(reproduce(panics, path).is_err(), "{text}: not again");
    fs::remove_file(path)?;
    let allocates = planted(|bytes| match trusted(bytes) {
        Some([a, b, c, d, ..]) => {
            let n = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            Vec::<u8>::with_capacity(n.min(1 << 20)).capacity() as u64
        }
        _ => 0,
    });
    let error = hunt(allocates, limit, 2).err();
    let text = error.context("no allocation was found")?.to_string();
    ensure!(text.contains("were allocated"), "{text}");
    if let Some(path) = text.split("CORELANE_FUZZ_INPUT=").nth(1) {
        fs::remove_file(path.split(' ').next().unwrap_or(path))?;
    }
    let hangs = watched(PLANTED, Duration::from_millis(300), |progress| {
        lock(progress).input = b"endless".to_vec();
        pause(Duration::from_secs(5));
    });
    match hangs {
        Err((what, input)) if input == b"endless" && what.contains("nothing came") => Ok(()),
        other => bail!("a hang ended as {other:?}"),
    }
}
