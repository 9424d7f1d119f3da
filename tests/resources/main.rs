//! What a machine runs out of, as a client of the built broker sees it: space, a disk that takes
//! writes, a log directory. Loop devices need root: without it those cases are skipped by
//! name.
#![allow(clippy::disallowed_methods)] // a test may read the clock

#[path = "../broker/client.rs"]
#[allow(dead_code)]
mod client;
mod mount;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use client::{Client, Fetching, fetched, put, until};
use mount::Mount;
use support::broker::{Broker, Setup};
use support::process::run_ok;

const KAFKA_STORAGE_ERROR: i16 = 56;
const TOOL_LIMIT: Duration = Duration::from_secs(60);

/// Reads a partition to its end and gives how many records it has.
fn count(client: &mut Client, topic: &str, partition: i32) -> Result<i64> {
    let mut next = 0;
    loop {
        let answer = Fetching::new(topic, &[(partition, next)]).with(|f| client.ask(11, f));
        let found = fetched(&answer, 11).2.remove(0);
        ensure!(found.error == 0, "error {} at {next}", found.error);
        if found.values.is_empty() {
            return Ok(next);
        }
        next += found.values.len() as i64;
    }
}

fn said(setup: &Setup) -> String {
    fs::read_to_string(setup.log()).unwrap_or_default()
}

fn delete_topic(broker: &Broker, topic: &str) -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["topic", "delete", topic, "-b", &broker.address()]);
    run_ok(&mut command, b"", TOOL_LIMIT).map(drop)
}

/// Two directories, the second on a path of its own, and a topic with partitions in both.
fn on_two(second: &Path) -> Result<(Setup, Broker, Client)> {
    let mut setup = Setup::new(&[
        ("corelane.cores", "1"),
        ("corelane.journal.size", "4194304"),
    ])?;
    let dirs = [setup.data().join("first"), second.to_owned()];
    let both = format!("{},{}", dirs[0].display(), dirs[1].display());
    setup.set("log.dirs", &both);
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    client.create("t", 4, &[]);
    for n in 0..4 {
        ensure!(
            put(&mut client, "t", n, &["before"]) == (0, 0),
            "partition {n}"
        );
    }
    Ok((setup, broker, client))
}

/// The second directory fails from now on: its partitions say so, the others serve, and the stop
/// names it.
fn goes_offline(setup: &Setup, broker: Broker, mut client: Client, second: &Path) -> Result<()> {
    let first = setup.data().join("first");
    let homes: Vec<bool> = (0..4)
        .map(|n| first.join(format!("t-{n}")).exists())
        .collect();
    let lost = homes.iter().position(|first| !first).context("one there")? as i32;
    let kept = homes.iter().position(|first| *first).context("one here")? as i32;
    until("its partitions to say so", || {
        put(&mut client, "t", lost, &["x"]).0 == KAFKA_STORAGE_ERROR
    });
    ensure!(
        put(&mut client, "t", kept, &["after"]) == (0, 1),
        "the other goes on"
    );
    ensure!(count(&mut client, "t", kept)? == 2, "and is read");
    let name = second.display().to_string();
    let told = said(setup);
    let told = told
        .lines()
        .find(|l| l.contains("goes offline") && l.contains(&name));
    ensure!(told.is_some(), "no line says it: {}", said(setup));
    let (status, last) = broker.terminate()?;
    ensure!(status.code() == Some(1), "{status}: {last}");
    ensure!(last.contains("no clean marker"), "{last}");
    Ok(())
}

fn a_full_disk_refuses_produce_and_heals_by_itself() -> Result<()> {
    let disk = Mount::ext4(160 << 20)?;
    let mut setup = Setup::new(&[
        ("corelane.cores", "1"),
        ("corelane.journal.size", "4194304"),
    ])?;
    setup.set("log.dirs", &disk.path().display().to_string());
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    client.create("kept", 1, &[]);
    client.create("gone", 1, &[]);
    let value = "x".repeat(400_000);
    for _ in 0..30 {
        ensure!(
            put(&mut client, "gone", 0, &[&value]).0 == 0,
            "there is space at first"
        );
    }
    // by small steps
    let mut acked = 0;
    let refused = loop {
        match put(&mut client, "kept", 0, &[&value]) {
            (0, _) => acked += 1,
            (error, _) => break error,
        }
        ensure!(acked < 1000, "the disk never fills");
    };
    ensure!(refused == KAFKA_STORAGE_ERROR, "refused with {refused}");
    ensure!(count(&mut client, "kept", 0)? == acked, "reads go on");
    // at once, by somebody else
    let filler = disk.path().join("filler");
    disk.fill(&filler)?;
    // a small one may have its place still: its segment was promised that much before
    if put(&mut client, "kept", 0, &["y"]).0 == 0 {
        acked += 1;
    }
    let (error, _) = put(&mut client, "kept", 0, &[&value]);
    ensure!(error == KAFKA_STORAGE_ERROR, "not refused: {error}");
    ensure!(count(&mut client, "kept", 0)? == acked, "reads go on");
    fs::remove_file(&filler)?;
    // deleting goes on, and makes the space
    delete_topic(&broker, "gone")?;
    until("a produce to be taken again", || {
        put(&mut client, "kept", 0, &["z"]).0 == 0
    });
    ensure!(
        count(&mut client, "kept", 0)? == acked + 1,
        "all that was acked"
    );
    broker.stop()?;
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    ensure!(
        count(&mut client, "kept", 0)? == acked + 1,
        "after a restart too"
    );
    broker.stop()
}

fn a_disk_that_turns_read_only_takes_its_directory_offline() -> Result<()> {
    let disk = Mount::ext4(128 << 20)?;
    let second = disk.path().join("second");
    let (setup, broker, client) = on_two(&second)?;
    disk.abort()?;
    goes_offline(&setup, broker, client, &second)
}

fn a_directory_that_is_removed_goes_offline() -> Result<()> {
    let home = tempfile::Builder::new()
        .prefix("corelane-test-")
        .tempdir()?;
    let second = home.path().join("second");
    let (setup, broker, client) = on_two(&second)?;
    fs::remove_dir_all(&second)?;
    goes_offline(&setup, broker, client, &second)
}

fn a_mount_that_is_taken_away_goes_offline() -> Result<()> {
    let disk = Mount::ext4(128 << 20)?;
    let second = disk.path().join("second");
    let (setup, broker, client) = on_two(&second)?;
    disk.detach()?;
    goes_offline(&setup, broker, client, &second)
}

/// Nothing is opened, made or removed there meanwhile.
fn a_directory_that_is_removed_is_missed_though_nobody_asks_for_its_files() -> Result<()> {
    let home = tempfile::Builder::new()
        .prefix("corelane-test-")
        .tempdir()?;
    let second = home.path().join("second");
    let (setup, broker, client) = on_two(&second)?;
    fs::remove_dir_all(&second)?;
    until("a line that says so", || {
        said(&setup).contains("goes offline")
    });
    goes_offline(&setup, broker, client, &second)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, needs: Option<&str>, run: fn() -> Result<()>| {
        let name = match needs {
            Some(why) => format!("{name}: {why}"),
            None => name.to_owned(),
        };
        Trial::test(name, move || {
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
        .with_ignored_flag(needs.is_some())
    };
    let disk = mount::missing();
    let trials = vec![
        trial(
            "a_full_disk_refuses_produce_and_heals_by_itself",
            disk,
            a_full_disk_refuses_produce_and_heals_by_itself,
        ),
        trial(
            "a_disk_that_turns_read_only_takes_its_directory_offline",
            disk,
            a_disk_that_turns_read_only_takes_its_directory_offline,
        ),
        trial(
            "a_mount_that_is_taken_away_goes_offline",
            disk,
            a_mount_that_is_taken_away_goes_offline,
        ),
        trial(
            "a_directory_that_is_removed_is_missed_though_nobody_asks_for_its_files",
            None,
            a_directory_that_is_removed_is_missed_though_nobody_asks_for_its_files,
        ),
        trial(
            "a_directory_that_is_removed_goes_offline",
            None,
            a_directory_that_is_removed_goes_offline,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
