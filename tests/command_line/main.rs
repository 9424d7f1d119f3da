//! What a user of the command line sees: exit codes, JSON, a broker that starts and stops.

mod bench;
mod regress;
mod seccomp;
#[path = "../support/mod.rs"]
mod support;
mod tune;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use support::broker::{Broker, Setup};
use support::process::{self, Output};

const LIMIT: Duration = Duration::from_secs(30);

fn corelane(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).env_remove("CORELANE_BOOTSTRAP");
    process::run(&mut command, input.as_bytes(), LIMIT).unwrap()
}

struct Cli {
    broker: Broker,
    address: String,
    setup: Setup,
}

impl Cli {
    fn start() -> Cli {
        let setup = Setup::new(&[]).unwrap();
        let broker = setup.start().unwrap();
        Cli {
            address: broker.address(),
            broker,
            setup,
        }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let bootstrap = ["--bootstrap", &self.address];
        corelane(&[arguments, &bootstrap].concat(), input)
    }

    /// Runs what must succeed, and gives its standard output.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn objects(&self, arguments: &[&str], input: &str) -> Vec<Value> {
        let text = self.ok(arguments, input);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }
}

/// All that it wrote.
fn said(output: &Output) -> String {
    format!("{}{}", output.text(), output.stderr)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn topics_are_made_shown_and_deleted() {
    let cli = Cli::start();
    let made = cli.objects(
        &[
            "topic",
            "create",
            "a",
            "b",
            "-p",
            "3",
            "-c",
            "retention.ms=1000",
            "--json",
        ],
        "",
    );
    assert_eq!(made.len(), 2);
    assert_eq!(made[0]["partitions"], 3);
    let listed = cli.objects(&["topic", "list", "--json"], "");
    assert_eq!(listed[0]["topic"], "a");
    assert_eq!(listed[0]["id"], made[0]["id"]);
    let described = cli.objects(&["topic", "describe", "b", "--json"], "");
    assert_eq!(described[0]["partitions"][2]["end_offset"], 0);

    let twice = cli.run(&["topic", "create", "a"], "");
    assert_eq!(code(&twice), 1);
    assert!(
        said(&twice).contains("TOPIC_ALREADY_EXISTS"),
        "{}",
        said(&twice)
    );
    let partly = cli.run(&["topic", "delete", "a", "missing"], "");
    assert_eq!(code(&partly), 1, "{}", said(&partly));
    assert_eq!(
        cli.objects(&["topic", "list", "--json"], "").len(),
        1,
        "b is left"
    );
    cli.broker.stop().unwrap();
}

#[test]
fn records_come_back_as_they_went_in() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "t", "-p", "2"], "");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let done = cli.objects(
            &["produce", "t", "-p", "1", "-z", codec, "--json"],
            "{\"key\":\"k\",\"value\":\"v\",\"headers\":[{\"key\":\"h\",\"value\":null}],\"timestamp\":7}\n\
             {\"value\":{\"hex\":\"ff00\"}}\n",
        );
        assert_eq!(done[0]["records"], 2, "{codec}");
    }
    let read = cli.objects(&["consume", "t", "--json"], "");
    assert_eq!(read.len(), 10);
    for (i, record) in read.iter().enumerate() {
        assert_eq!(record["offset"], i);
        assert_eq!(record["partition"], 1);
    }
    assert_eq!(read[0]["key"], "k");
    assert_eq!(read[0]["timestamp"], 7);
    assert_eq!(read[0]["headers"][0]["key"], "h");
    assert_eq!(read[9]["value"]["hex"], "ff00");

    cli.ok(&["topic", "create", "lines", "-p", "5"], "");
    cli.ok(
        &["produce", "lines", "-k", ":", "-H", "a=b"],
        "x:1\ny:2\nx:3\n",
    );
    let text = cli.ok(&["consume", "lines", "-k", "|", "-H", "-o", "0"], "");
    assert_eq!(text.lines().count(), 3, "{text}");
    let of_x: Vec<_> = text.lines().filter(|l| l.contains("x|")).collect();
    assert_eq!(
        of_x,
        ["a=b\tx|1", "a=b\tx|3"],
        "records of a key keep their order"
    );

    let one = cli.ok(
        &["consume", "t", "-p", "1", "-o", "1", "-n", "1", "--json"],
        "",
    );
    assert!(one.contains("\"offset\":1"), "{one}");
    // what was read goes into another partition as it is
    let copied = cli.ok(&["consume", "t", "-p", "1", "--json"], "");
    cli.ok(&["produce", "t", "-p", "0", "--json"], &copied);
    let without = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
        lines
            .map(|mut record: Value| {
                record.as_object_mut().unwrap().remove("partition");
                record
            })
            .collect()
    };
    let copy = cli.ok(&["consume", "t", "-p", "0", "--json"], "");
    assert_eq!(without(&copy), without(&copied));
    let beyond = cli.run(&["consume", "t", "-p", "1", "-o", "99"], "");
    assert_eq!(code(&beyond), 1, "{}", said(&beyond));
    assert!(said(&beyond).contains("99"), "{}", said(&beyond));
    let misspelt = cli.run(&["produce", "t", "--json"], "{\"vaule\":\"v\"}\n");
    assert_eq!(code(&misspelt), 1, "{}", said(&misspelt));
    assert!(said(&misspelt).contains("vaule"), "{}", said(&misspelt));
    let none = cli.run(&["consume", "t", "-p", "9"], "");
    assert_eq!(code(&none), 1);
    assert!(said(&none).contains("no partition 9"), "{}", said(&none));
    cli.broker.stop().unwrap();
}

#[test]
fn what_a_clean_stop_leaves_can_be_dumped() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "t"], "");
    cli.ok(&["produce", "t"], "one\ntwo\n");
    cli.broker.stop().unwrap();
    let segment = cli.setup.data().join("t-0/00000000000000000000.log");
    let dump = |path: &Path| corelane(&["log", "dump", "-r", &path.display().to_string()], "");
    let output = dump(&segment);
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).contains("value=\"two\""), "{}", said(&output));
    let id = dump(&cli.setup.data().join("t-0/partition.metadata"));
    assert!(said(&id).contains("topic_id="), "{}", said(&id));
}

#[test]
fn kafkas_own_directories_are_verified_and_left_to_kafka() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "t", "--partitions", "1"], "");
    cli.ok(&["produce", "t"], "one\ntwo\n");
    cli.broker.stop().unwrap();
    let data = cli.setup.data();
    // what a clean stop leaves is Kafka's, besides these
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("corelane") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    // Kafka makes it empty, until its cleaner ran
    std::fs::write(data.join("cleaner-offset-checkpoint"), "").unwrap();
    let dir = data.to_str().unwrap();
    let output = corelane(&["log", "verify", dir], "");
    assert_eq!(code(&output), 0, "{}", said(&output));

    let segment = data.join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = corelane(&["log", "verify", dir], "");
    assert_eq!(code(&output), 1);
    let told = said(&output);
    assert!(told.contains("00000000000000000000.log, byte "), "{told}");
    assert!(told.contains("from a replica") && !told.contains("log repair"));
    for apply in [&[][..], &["--apply"]] {
        let output = corelane(&[&["log", "repair", dir], apply].concat(), "");
        assert_eq!(code(&output), 1);
        assert!(
            said(&output).contains("is Kafka's own"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn the_journals_of_a_killed_broker_show_what_was_acked() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "t"], "");
    cli.ok(&["produce", "t"], "one\ntwo\n");
    cli.broker.kill().unwrap();
    let mut journals = 0;
    let mut acked = 0;
    for entry in std::fs::read_dir(cli.setup.data()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_journal = name.ends_with(".journal");
        if !is_journal && name != "corelane.metadata.log" {
            continue;
        }
        let output = corelane(&["log", "dump", &path.display().to_string(), "--json"], "");
        assert_eq!(code(&output), 0, "{}", said(&output));
        let text = output.text();
        let objects = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap());
        if is_journal {
            journals += 1;
            for object in objects.filter(|o| o["kind"] == "item" && o["records"].is_u64()) {
                acked += object["records"].as_u64().unwrap();
            }
        }
    }
    assert!(journals > 0);
    assert_eq!(acked, 2);
}

#[test]
fn cargo_run_begins_without_warnings_of_its_own() {
    // what the build script tells the compiler is in the environment of `cargo run` too
    let script = include_str!("../../build.rs");
    let names: Vec<&str> = script
        .split("rustc-env=")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('=')?.0))
        .collect();
    assert!(names.len() >= 4, "{names:?}");
    let mut setup = Setup::new(&[]).unwrap();
    for name in names {
        setup.set_env(name, "something");
    }
    let broker = setup.start().unwrap();
    let told = broker.log_text();
    assert!(!told.contains("known property"), "{told}");
    broker.stop().unwrap();
}

#[test]
fn a_measured_disk_is_told_at_the_next_start() {
    let setup = Setup::new(&[]).unwrap();
    let data = setup.data();
    let dir = data.to_str().unwrap();
    let arguments = [
        "--json",
        "tune",
        "disk",
        dir,
        "--time",
        "1",
        "--size-mib",
        "16",
    ];
    let output = corelane(&arguments, "");
    if said(&output).contains("is in memory") {
        assert_eq!(code(&output), 2);
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let commits = found["commits"].as_array().unwrap();
    assert_eq!(commits.len(), 6);
    for commit in commits {
        assert!(commit["mb_per_s"].as_f64().unwrap() > 0.0);
        let [p50, p99] = ["p50_ms", "p99_ms"].map(|q| commit[q].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99);
    }
    assert!(found["sustained_mb_per_s"].as_f64().unwrap() > 0.0);
    assert!(!found["verdicts"].as_array().unwrap().is_empty());
    let names = std::fs::read_dir(&data).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["corelane.disk"], "what was written is gone");
    let broker = setup.start().unwrap();
    let told = broker.log_text();
    assert!(
        told.contains("disk       write+flush of a page p50"),
        "{told}"
    );
    broker.stop().unwrap();
    // it is nothing of the log
    let verified = corelane(&["log", "verify", dir], "");
    assert!(verified.status.success(), "{}", said(&verified));
}

#[test]
fn wrong_usage_and_failures_differ_in_their_codes() {
    assert_eq!(code(&corelane(&["--version"], "")), 0);
    assert_eq!(code(&corelane(&["serve", "--nonsense"], "")), 2);
    let bad = corelane(&["serve", "--override", "num.partitions=none"], "");
    assert_eq!(code(&bad), 2, "{}", said(&bad));
    assert!(said(&bad).contains("num.partitions"), "{}", said(&bad));
    let missing = corelane(&["serve", "/nowhere/server.properties"], "");
    assert_eq!(code(&missing), 1);
    assert!(said(&missing).contains("/nowhere"), "{}", said(&missing));
    let level = corelane(&["serve", "--log-level", "loud"], "");
    assert_eq!(code(&level), 2, "{}", said(&level));
    assert!(said(&level).contains("loud"), "{}", said(&level));
    let nowhere = corelane(&["serve", "--data", "/proc/nowhere"], "");
    assert_eq!(code(&nowhere), 1, "{}", said(&nowhere));
    assert!(said(&nowhere).contains("--data"), "{}", said(&nowhere));
    // nobody listens on the discard port
    let alone = corelane(&["topic", "list", "--bootstrap", "127.0.0.1:9"], "");
    assert_eq!(code(&alone), 1);
    assert!(said(&alone).contains("corelane serve"), "{}", said(&alone));
}

#[test]
fn a_taken_address_is_named() {
    let cli = Cli::start();
    let other = tempfile::tempdir().unwrap();
    let data = other.path().display().to_string();
    let output = corelane(&["serve", "--listen", &cli.address, "--data", &data], "");
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(said(&output).contains(&cli.address), "{}", said(&output));
    assert!(said(&output).contains("--listen"), "{}", said(&output));
}

#[test]
fn the_table_of_properties_is_listed() {
    let output = corelane(&["config", "list", "flush.policy", "--json"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    let entry: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(entry["default"], "group");
    assert_eq!(code(&corelane(&["config", "list", "no.such.thing"], "")), 1);
}
