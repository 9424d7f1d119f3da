//! The built broker on ext4 and XFS over a disk that loses, in a power cut, whatever was not
//! flushed. After each cut the file system is mounted, the broker started, and everything that
//! producers were promised and consumers saw before the cut is looked for. How it works, and how
//! to run it against another broker: `tests/powercut/README.md`.
//!
//! `CORELANE_POWERCUT_CUTS` (15 on each file system) and `CORELANE_POWERCUT_SEED` set length and
//! plan, `CORELANE_POWERCUT_BROKER` or `CORELANE_POWERCUT_START` the broker.

mod disk;
mod fuse;
mod ground;
mod image;
mod recording;
mod rounds;
mod session;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod volume;

use std::fs::File;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use rounds::Rounds;
use session::Site;
use subject::Subject;
use support::{history, wait};
use volume::FileSystem;

/// See capabilities(7).
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// Cuts until a broker that flushes late must have been caught.
const CONTROL_CUTS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Why there is no power cut on this machine.
fn missing(file_system: FileSystem) -> Option<String> {
    let mkfs = format!("mkfs.{}", file_system.name());
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to mount".to_owned());
    }
    // a container's root may be none
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|c| u64::from_str_radix(c.trim(), 16).ok());
    if capabilities.is_some_and(|c| c & CAP_SYS_ADMIN == 0) {
        return Some("needs the right to mount".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        let open = File::options().read(true).write(true).open(device);
        if let Err(error) = open {
            return Some(format!("needs {device}: {error}"));
        }
    }
    for program in [mkfs.as_str(), "losetup", "mount", "umount", "setpriv"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!("needs {program} (tests/run installs it)"));
        }
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let loaded = || {
        let modprobe = Command::new("modprobe").arg(file_system.name()).output();
        modprobe.is_ok_and(|o| o.status.success())
    };
    let named = known.lines().any(|l| l.trim() == file_system.name());
    (!named && !loaded()).then(|| format!("this kernel has no {}", file_system.name()))
}

/// What was promised before a cut is there after it.
fn power_cuts(file_system: FileSystem, subject: Subject, cuts: u64, seed: u64) -> Result<()> {
    let name = &subject.name;
    println!(
        "\n{name} on {}: seed {seed}, {cuts} cuts",
        file_system.name()
    );
    history::self_test()?;
    let mut rounds = Rounds::new(Site::new(file_system, subject, seed)?, cuts, |_| false);
    let outcome = rounds.run();
    println!("  {}", rounds.tally.line());
    for note in &rounds.tally.notes {
        println!("  {note}");
    }
    outcome?;
    let tally = &rounds.tally;
    ensure!(
        tally.hit > 0 && tally.at_stake > 0 && tally.seen > 0,
        "no cut could take what was promised: this proves nothing"
    );
    Ok(())
}

/// A broker that acks before it flushes is caught.
fn control(file_system: FileSystem, seed: u64) -> Result<()> {
    let subject = Subject::corelane("interval").counting();
    println!("\n{} on {}: seed {seed}", subject.name, file_system.name());
    let site = Site::new(file_system, subject, seed)?;
    let mut rounds = Rounds::new(site, CONTROL_CUTS, |tally| tally.with_lost > 0);
    rounds.run()?;
    println!("  {}", rounds.tally.line());
    ensure!(
        rounds.tally.with_lost > 0,
        "{CONTROL_CUTS} cuts of a broker that acks before it flushes lost nothing"
    );
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // one broker at a time
    arguments.test_threads = Some(1);
    let cuts = number("CORELANE_POWERCUT_CUTS").unwrap_or(15);
    let seed = number("CORELANE_POWERCUT_SEED").unwrap_or_else(|| wait::wall_ms() as u64);
    let rule = |name: &str, check: fn() -> Result<()>| {
        Trial::test(name, move || {
            check().map_err(|e| Failed::from(format!("{e:#}")))
        })
    };
    let mut trials = vec![
        rule(
            "legal_cuts::a_flushed_write_is_never_lost",
            recording::a_flushed_write_is_never_lost,
        ),
        rule(
            "legal_cuts::a_flush_does_not_cover_a_write_in_flight",
            recording::a_flush_does_not_cover_a_write_in_flight,
        ),
        rule(
            "legal_cuts::unflushed_writes_are_torn_and_reordered",
            recording::unflushed_writes_are_torn_and_reordered,
        ),
    ];
    let mut on = |name: String, file_system, run: Box<dyn FnOnce() -> Result<()> + Send>| {
        trials.push(Trial::ignorable_test(name, move || {
            match missing(file_system) {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => match run() {
                    Ok(()) => Ok(Completion::Completed),
                    Err(error) => Err(Failed::from(format!("seed {seed}: {error:#}"))),
                },
            }
        }));
    };
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        let name = file_system.name();
        on(
            format!("acked_records_survive_power_cuts::{name}"),
            file_system,
            Box::new(move || power_cuts(file_system, Subject::from_environment()?, cuts, seed)),
        );
    }
    on(
        "acks_before_the_flush_are_caught::ext4".to_owned(),
        FileSystem::Ext4,
        Box::new(move || control(FileSystem::Ext4, seed)),
    );
    libtest_mimic::run(&arguments, trials).exit_code()
}
