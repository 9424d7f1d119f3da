//! `corelane tune disk`: is a disk's flush true, and what does it cost?

use std::fs::{self, TryLockError};
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::cli::disk::Disk;
use crate::cli::output::Output;
use crate::cli::run::Usage;
use crate::cli::tune::TuneDisk;
use crate::cli::tune::level::Level;
use crate::cli::tune::measure::{Measured, measure};

/// Where the result is kept in the directory.
const FILE: &str = "corelane.disk";
const FILE_BYTES_MAX: u64 = 64 << 10;
/// A broker's, and Kafka's.
const LOCK: &str = ".lock";
/// No device with a cache that forgets takes a write to flash or to a platter in less.
const IMPLAUSIBLE_MS: f64 = 0.04;
/// A flush of the file system makes one of the device, or two where it has to write its journal.
const FLUSHES_LEAST: f64 = 0.5;
/// The part of the highest rate that makes a commit large enough.
const ENOUGH: f64 = 0.8;
/// A device that falls below this part of its first rate has a cache that was full.
const FALLS: f64 = 0.6;

struct Verdict {
    level: Level,
    text: String,
}

pub fn run(options: &TuneDisk, output: &Output) -> anyhow::Result<()> {
    let dir = &options.dir;
    if !dir.exists() {
        fs::create_dir(dir).with_context(|| format!("{}", dir.display()))?;
    }
    let disk = Disk::of(dir);
    if disk.is_memory() {
        let what = format!("{} is in memory ({})", dir.display(), disk.file_system);
        return Err(Usage(what).into());
    }
    leaves_room(dir, options.size_mib << 20)?;
    let talks = !output.json && io::stderr().is_terminal();
    let mut says = |what: &str| {
        if talks {
            output.note(what);
        }
    };
    let size = options.size_mib << 20;
    let measured = measure(dir, &disk, options.time, size, &mut says)?;
    let verdicts = judge(&disk, &measured);
    let result = result(&disk, &measured, &verdicts);
    if !options.no_keep {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(&result)? + "\n";
        fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
    }
    if output.json {
        return Ok(output.object(&result)?);
    }
    tell(output, dir, &disk, &measured, &verdicts)?;
    Ok(())
}

/// Neither a broker that works there may be slowed, nor its disk filled.
fn leaves_room(dir: &Path, size: u64) -> anyhow::Result<()> {
    let lock = fs::File::open(dir.join(LOCK));
    if lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock))) {
        let what = format!("a broker works in {}: stop it first", dir.display());
        return Err(Usage(what).into());
    }
    let space = statvfs(dir).with_context(|| format!("{}", dir.display()))?;
    let free = space.blocks_available() * space.fragment_size();
    if size > free / 10 * 9 {
        let what = format!(
            "{} has {} MiB free, the file would take {}: lower --size-mib",
            dir.display(),
            free >> 20,
            size >> 20
        );
        return Err(Usage(what).into());
    }
    Ok(())
}

/// The size from which on commits reach what the disk can do.
fn best_size(measured: &Measured) -> usize {
    let rates = measured.flushed.iter().map(|writes| writes.mb_per_s());
    let most = rates.fold(0.0, f64::max);
    let enough = |writes: &&_| crate::cli::tune::measure::Writes::mb_per_s(writes) >= ENOUGH * most;
    let found = measured.flushed.iter().find(enough);
    found.map_or(0, |writes| writes.bytes)
}

fn judge(disk: &Disk, measured: &Measured) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut say = |level, text: String| verdicts.push(Verdict { level, text });
    let small = &measured.flushed[0];
    let (p50, flushes) = (small.quantile_ms(0.5), small.flushes());
    let ever = disk.counters().and_then(|counters| counters.flushes);
    match (disk.volatile_cache, flushes) {
        (Some(true), Some(_)) if ever == Some(0) => say(
            Level::Should,
            "no flush was ever counted at the device: the kernel does not count them for it \
             (several paths, or layers), or none reaches it (mounted with nobarrier)"
                .into(),
        ),
        (Some(true), Some(flushes)) if flushes < FLUSHES_LEAST => say(
            Level::Must,
            format!(
                "the device saw {flushes:.2} flushes for each fdatasync, and has a cache that \
                 forgets without power: acks are not durable here (mounted with nobarrier, or a \
                 layer in between drops flushes)"
            ),
        ),
        (Some(true), _) if p50 < IMPLAUSIBLE_MS => say(
            Level::Should,
            format!(
                "write and flush of a page take {p50:.3} ms: too fast for a device whose cache \
                 forgets without power. Either it has power-loss protection and does not say so, \
                 or its flush (or the hypervisor's) is not true: pull its plug before you trust it"
            ),
        ),
        (Some(true), Some(flushes)) => say(
            Level::Ok,
            format!("flushes reach the device ({flushes:.2} for each fdatasync)"),
        ),
        (Some(true), None) => say(
            Level::Should,
            "the system does not tell whether flushes reach the device".into(),
        ),
        (Some(false), _) => say(
            Level::Ok,
            "the device says that it has no cache that forgets (power-loss protection, or write \
             through): a flush costs nothing, if that is true"
                .into(),
        ),
        (None, _) => say(
            Level::Should,
            "the system does not tell whether the device has a cache that forgets without power"
                .into(),
        ),
    }
    match disk.ext4_journal() {
        Some(false) => say(
            Level::Must,
            "this ext4 has no journal: a power cut can leave a file system that has to be repaired \
             by hand, and flushes look cheaper than they are elsewhere (tune2fs -O has_journal)"
                .into(),
        ),
        Some(true) => say(Level::Ok, "ext4 with a journal".into()),
        None if disk.file_system == "xfs" => say(Level::Ok, "XFS".into()),
        None if disk.file_system == "ext4" => say(
            Level::Should,
            "the system does not tell whether this ext4 has a journal".into(),
        ),
        None => say(
            Level::Should,
            format!(
                "{} was not tested with this broker as ext4 and XFS were",
                disk.file_system
            ),
        ),
    }
    let dsync = measured.dsync.quantile_ms(0.5);
    if dsync < 0.8 * p50 {
        say(
            Level::Ok,
            format!(
                "O_DSYNC writes take {:.2} times what write and flush take: the device has forced \
                 unit access, or a cache that keeps",
                dsync / p50
            ),
        );
    }
    let (first, last) = measured.sustained;
    if last < FALLS * first {
        say(
            Level::Should,
            format!(
                "long writing falls from {first:.0} to {last:.0} MB/s: plan with the second (a \
                 cache of the device was full)"
            ),
        );
    }
    let tail = small.quantile_ms(0.999);
    if tail > 20.0 * p50 && tail > 10.0 {
        say(
            Level::Should,
            format!(
                "one flush in a thousand takes {tail:.1} ms where half take {p50:.2}: acks wait \
                 as long. Look for other writers on the device, and for trim (discard) on mount"
            ),
        );
    }
    verdicts
}

fn result(disk: &Disk, measured: &Measured, verdicts: &[Verdict]) -> Value {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let commits: Vec<Value> = measured
        .flushed
        .iter()
        .map(|writes| {
            json!({
                "bytes": writes.bytes,
                "mb_per_s": writes.mb_per_s(),
                "p50_ms": writes.quantile_ms(0.5),
                "p99_ms": writes.quantile_ms(0.99),
                "p999_ms": writes.quantile_ms(0.999),
                "flushes": writes.flushes(),
            })
        })
        .collect();
    let verdicts: Vec<Value> = verdicts
        .iter()
        .map(|verdict| json!({ "level": verdict.level.name(), "text": verdict.text }))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at_s": since.map_or(0, |since| since.as_secs()),
        "file_system": disk.file_system,
        "device": disk.device,
        "options": disk.options,
        "ext4_journal": disk.ext4_journal(),
        "volatile_cache": disk.volatile_cache,
        "fua": disk.fua,
        "commits": commits,
        "dsync_p50_ms": measured.dsync.quantile_ms(0.5),
        "dsync_p99_ms": measured.dsync.quantile_ms(0.99),
        "best_commit_bytes": best_size(measured),
        "sustained_first_mb_per_s": measured.sustained.0,
        "sustained_mb_per_s": measured.sustained.1,
        "verdicts": verdicts,
    })
}

fn tell(
    output: &Output,
    dir: &Path,
    disk: &Disk,
    measured: &Measured,
    verdicts: &[Verdict],
) -> io::Result<()> {
    let yes = |known: Option<bool>| match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not told",
    };
    output.line(&output.strong(&format!(
        "{}: {} on {}; volatile cache: {}; forced unit access: {}",
        dir.display(),
        disk.file_system,
        disk.device,
        yes(disk.volatile_cache),
        yes(disk.fua)
    )))?;
    let best = best_size(measured);
    let rows: Vec<Vec<String>> = measured
        .flushed
        .iter()
        .map(|writes| {
            vec![
                format!("{} KiB", writes.bytes >> 10),
                format!("{:.3}", writes.quantile_ms(0.5)),
                format!("{:.3}", writes.quantile_ms(0.99)),
                format!("{:.3}", writes.quantile_ms(0.999)),
                format!("{:.1}", writes.mb_per_s()),
                match writes.bytes == best {
                    true => format!("from here on {:.0} % of the most", ENOUGH * 100.0),
                    false => String::new(),
                },
            ]
        })
        .collect();
    let head = ["write+flush", "p50 ms", "p99 ms", "p99.9 ms", "MB/s", ""];
    output.table(&head, &rows)?;
    output.line(&format!(
        "4 KiB with O_DSYNC: p50 {:.3} ms, p99 {:.3} ms",
        measured.dsync.quantile_ms(0.5),
        measured.dsync.quantile_ms(0.99)
    ))?;
    output.line(&format!(
        "long writing without flushes: {:.0} MB/s at first, {:.0} at the end",
        measured.sustained.0, measured.sustained.1
    ))?;
    for verdict in verdicts {
        let word = verdict.level.shown(output, 0);
        output.line(&format!("{word}: {}", verdict.text))?;
    }
    Ok(())
}

/// What an earlier run found in a directory; none where it came from another disk.
pub fn kept_figures(dir: &Path) -> Option<Value> {
    // nothing that lies there may hold a start up
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let file = fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(dir.join(FILE))
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let found: Value = serde_json::from_str(&text).ok()?;
    (found["device"] == Disk::of(dir).device).then_some(found)
}

/// How many faults it found.
pub fn musts(found: &Value) -> usize {
    let verdicts = found["verdicts"].as_array().into_iter().flatten();
    verdicts
        .filter(|verdict| verdict["level"] == "must")
        .count()
}

/// What an earlier run found, in a line.
pub fn kept(dir: &Path) -> Option<String> {
    line(&kept_figures(dir)?)
}

/// Figures that were kept, in a line.
pub fn line(found: &Value) -> Option<String> {
    let number = |value: &Value| value.as_f64();
    let small = &found["commits"][0];
    let warning = match musts(found) {
        0 => "",
        _ => "; it has faults: see `corelane tune disk`",
    };
    Some(format!(
        "write+flush of a page p50 {:.2} ms, p99 {:.2} ms; {:.0} MB/s for long (tune disk){warning}",
        number(&small["p50_ms"])?,
        number(&small["p99_ms"])?,
        number(&found["sustained_mb_per_s"])?,
    ))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::cli::disk::Counters;
    use crate::cli::tune::measure::{SIZES, Writes};

    fn writes(bytes: usize, ms: f64, flushes: u64) -> Writes {
        let mut latency = Histogram::new(3).unwrap();
        latency.record_n((ms * 1e6) as u64, 100).unwrap();
        Writes {
            bytes,
            count: 100,
            seconds: 0.1 * ms,
            latency,
            device: Some(Counters {
                flushes: Some(flushes),
                ..Counters::default()
            }),
        }
    }

    fn measured(ms: f64, flushes: u64, sustained: (f64, f64)) -> Measured {
        let by_size = |bytes: &usize| writes(*bytes, ms + *bytes as f64 / 1e6, flushes);
        Measured {
            flushed: SIZES.iter().map(by_size).collect(),
            dsync: writes(4096, ms, 0),
            sustained,
        }
    }

    fn disk(volatile_cache: Option<bool>) -> Disk {
        Disk {
            file_system: "xfs".into(),
            volatile_cache,
            ..Disk::default()
        }
    }

    fn worst(disk: &Disk, measured: &Measured) -> (Level, String) {
        let verdicts = judge(disk, measured);
        let worst = verdicts.into_iter().max_by_key(|verdict| verdict.level);
        worst.map(|verdict| (verdict.level, verdict.text)).unwrap()
    }

    #[test]
    fn disks_that_lie_are_told_from_disks_that_do_not() {
        let steady = (500.0, 490.0);
        let honest = worst(&disk(Some(true)), &measured(0.5, 100, steady));
        assert_eq!(honest.0, Level::Ok);
        let swallowed = worst(&disk(Some(true)), &measured(0.5, 3, steady));
        assert_eq!(swallowed.0, Level::Must);
        assert!(swallowed.1.contains("0.03 flushes"));
        let fast = worst(&disk(Some(true)), &measured(0.01, 100, steady));
        assert_eq!(fast.0, Level::Should);
        assert!(fast.1.contains("pull its plug"));
        let protected = worst(&disk(Some(false)), &measured(0.01, 0, steady));
        assert_eq!(protected.0, Level::Ok);
        let unknown = worst(&disk(None), &measured(0.5, 100, steady));
        assert_eq!(unknown.0, Level::Should);
        let tired = worst(&disk(Some(true)), &measured(0.5, 100, (500.0, 80.0)));
        assert!(tired.1.contains("500 to 80"), "{}", tired.1);
    }

    #[test]
    fn commits_are_large_enough_where_the_rate_grows_no_more() {
        // half a millisecond each and 1 GB/s: 4 MiB take 4.7 ms, 1 MiB 1.5
        assert_eq!(best_size(&measured(0.5, 100, (1.0, 1.0))), 4 << 20);
        // nothing but the bytes costs
        assert_eq!(best_size(&measured(0.0001, 100, (1.0, 1.0))), 4 << 10);
    }

    #[test]
    fn what_was_kept_is_told_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept(dir.path()), None);
        let found = measured(0.5, 3, (500.0, 490.0));
        let disk = Disk {
            device: Disk::of(dir.path()).device,
            ..disk(Some(true))
        };
        let verdicts = judge(&disk, &found);
        let text = result(&disk, &found, &verdicts).to_string();
        fs::write(dir.path().join(FILE), &text).unwrap();
        let line = kept(dir.path()).unwrap();
        assert!(
            line.starts_with("write+flush of a page p50 0.50 ms"),
            "{line}"
        );
        assert!(
            line.contains("490 MB/s") && line.contains("faults"),
            "{line}"
        );
        let elsewhere = text.replacen("\"device\":\"", "\"device\":\"/elsewhere", 1);
        assert_ne!(elsewhere, text);
        for other in [elsewhere.as_str(), "{\"commits\": 1}", "", "\0"] {
            fs::write(dir.path().join(FILE), other).unwrap();
            assert_eq!(kept(dir.path()), None, "{other}");
        }
        fs::remove_file(dir.path().join(FILE)).unwrap();
        nix::unistd::mkfifo(&dir.path().join(FILE), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(kept(dir.path()), None, "nobody writes to it");
    }
}
