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
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use client::{Client, Fetching, fetched, offsets, put, until};
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

/// The device answers with errors, the file system above it does not notice at first.
fn a_disk_that_cannot_write_takes_its_directory_offline() -> Result<()> {
    let disk = Mount::ext4_on_thin_device(256 << 20, 64 << 20)?;
    let second = disk.path().join("second");
    let (setup, broker, client) = on_two(&second)?;
    disk.exhaust()?;
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

/// Files that the broker has open.
fn descriptors(broker: &Broker) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", broker.id()))?.count())
}

fn set_limit(broker: &Broker, files: usize) -> Result<()> {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &broker.id().to_string()]);
    command.arg(format!("--nofile={files}:{files}"));
    run_ok(&mut command, b"", TOOL_LIMIT).map(drop)
}

/// More clients and segments than there are descriptors, then a limit that is lowered below what is
/// open: the log finds one for every file that it needs.
fn without_a_free_descriptor_every_segment_is_still_written() -> Result<()> {
    const PARTITIONS: i32 = 100;
    let mut setup = Setup::new(&[
        ("corelane.cores", "1"),
        ("corelane.journal.size", "4194304"),
    ])?;
    setup.limit_open_files(500);
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    client.create("t", PARTITIONS, &[("segment.bytes", "1048576")]);
    let crowd: Vec<TcpStream> = (0..190)
        .map(|_| TcpStream::connect(broker.address()))
        .collect::<Result<_, _>>()?;
    let value = "x".repeat(250_000);
    let mut sent = 0;
    let mut round = |client: &mut Client| {
        for n in 0..PARTITIONS {
            let (error, offset) = put(client, "t", n, &[&value]);
            ensure!((error, offset) == (0, sent), "partition {n}: {error}");
        }
        sent += 1;
        Ok(sent)
    };
    for _ in 0..3 {
        round(&mut client)?;
    }
    let open = descriptors(&broker)?;
    set_limit(&broker, open.saturating_sub(40))?;
    let mut sent = 0;
    for _ in 0..4 {
        sent = round(&mut client)?; // past the end of each first segment
    }
    for n in 0..PARTITIONS {
        ensure!(count(&mut client, "t", n)? == sent, "partition {n}");
    }
    let told = said(&setup);
    ensure!(!told.contains("goes offline"), "{told}");
    ensure!(told.contains("no file descriptor is left"), "{told}");
    drop(crowd);
    broker.stop()
}

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The wall clock jumps by hours, both ways: nothing is rolled or refused for it, and what waits
/// goes on waiting as long as it was told to.
fn a_wall_clock_that_jumps_rolls_nothing_and_stops_no_timer() -> Result<()> {
    let home = tempfile::Builder::new()
        .prefix("corelane-test-")
        .tempdir()?;
    let clock = home.path().join("clock");
    fs::write(&clock, "+0")?;
    let mut setup = Setup::new(&[
        ("corelane.cores", "1"),
        ("corelane.journal.size", "4194304"),
        ("log.message.timestamp.type", "LogAppendTime"),
        ("log.roll.hours", "100"),
        ("corelane.flush.policy", "interval"),
        ("log.flush.interval.ms", "200"),
    ])?;
    setup.set_env("LD_PRELOAD", FAKETIME);
    setup.set_env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
    setup.set_env("FAKETIME_NO_CACHE", "1");
    setup.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let mut sent = 0;
    for jump in ["+0", "+7h", "-7h", "+30h", "+0"] {
        fs::write(&clock, jump)?;
        for _ in 0..5 {
            let (error, offset) = put(&mut client, "t", 0, &["x"]);
            ensure!((error, offset) == (0, sent), "{jump}: {error}");
            sent += 1;
        }
        ensure!(count(&mut client, "t", 0)? == sent, "{jump}: all is read");
        // a long poll that began before the jump, and one after it
        let from = [(0, sent)];
        let mut waits = Fetching::new("t", &from);
        waits.max_wait_ms = 700;
        let asked = Instant::now();
        if jump == "-7h" {
            fs::write(&clock, "+3h")?;
        }
        let answer = waits.with(|f| client.ask(11, f));
        let took = asked.elapsed();
        ensure!(
            fetched(&answer, 11).2[0].values.is_empty(),
            "{jump}: nothing is there"
        );
        ensure!(
            took >= Duration::from_millis(650) && took < Duration::from_secs(10),
            "{jump}: it waits for {took:?}"
        );
    }
    // newest timestamp: the broker did see that clock
    let newest = offsets(&mut client, 7, "t", &[(0, -3)])[0].1;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let hours = (newest - now.as_millis() as i64) / 3_600_000;
    ensure!((28..=30).contains(&hours), "{hours} h ahead");
    let segments = fs::read_dir(setup.data().join("t-0"))?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "log"));
    ensure!(segments.count() == 1, "rolled");
    broker.stop()?;
    // it starts at a time that is long past, with records of the future
    fs::write(&clock, "-50h")?;
    let broker = setup.start()?;
    let mut client = Client::connect(&broker.address());
    ensure!(count(&mut client, "t", 0)? == sent, "all is there");
    ensure!(put(&mut client, "t", 0, &["x"]) == (0, sent), "and goes on");
    broker.stop()
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
            "a_disk_that_cannot_write_takes_its_directory_offline",
            disk,
            a_disk_that_cannot_write_takes_its_directory_offline,
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
            "without_a_free_descriptor_every_segment_is_still_written",
            None,
            without_a_free_descriptor_every_segment_is_still_written,
        ),
        trial(
            "a_wall_clock_that_jumps_rolls_nothing_and_stops_no_timer",
            (!Path::new(FAKETIME).exists()).then_some("faketime is not installed"),
            a_wall_clock_that_jumps_rolls_nothing_and_stops_no_timer,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
