//! `corelane bench` against the built broker.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::process::{Guard, reap};
use crate::support::wait;
use crate::{Cli, LIMIT, code, corelane, said};

/// As brief as a run may be.
const BRIEF: [&str; 4] = ["--duration", "1", "--warmup", "0.2"];
const SMALL: [&str; 2] = ["--record-bytes", "200"];

fn run(cli: &Cli, kind: &str, more: &[&str]) -> Value {
    let arguments = [&["--json", "bench", kind], &BRIEF[..], more].concat();
    let mut objects = cli.objects(&arguments, "");
    assert_eq!(objects.len(), 1, "one object tells of a run");
    objects.remove(0)
}

fn number(value: &Value, way: &[&str]) -> f64 {
    let found = way.iter().fold(value, |value, step| &value[*step]);
    found
        .as_f64()
        .unwrap_or_else(|| panic!("{way:?} of {value}"))
}

#[test]
fn every_kind_of_load_reads_back_what_it_wrote() {
    let cli = Cli::start();
    let open = [
        "--rate",
        "3000",
        "--partitions",
        "7",
        "--producers",
        "3",
        "--consumers",
        "2",
    ];
    let fill = ["--fill", "5000", SMALL[0], SMALL[1]];
    let e2e = run(
        &cli,
        "e2e",
        &[&open[..], &["--idempotent", "--codec", "zstd"]].concat(),
    );
    // what was due in the measured second, and the warm-up before it
    assert_eq!(
        number(&e2e, &["results", "acked", "latency_records"]),
        3000.0
    );
    assert_eq!(
        number(&e2e, &["results", "read", "latency_records"]),
        3000.0
    );
    let verified = number(&e2e, &["verified_records"]);
    assert!((3590.0..=3610.0).contains(&verified), "{verified}");
    let (p50, max) = (
        number(&e2e, &["results", "read", "latency_ms", "p50"]),
        number(&e2e, &["results", "read", "latency_ms", "max"]),
    );
    assert!(0.0 < p50 && p50 <= max);
    assert!(number(&e2e, &["ceiling", "records_per_s"]) > 3000.0);

    let consume = run(
        &cli,
        "consume",
        &[&fill[..], &["--partitions", "3"]].concat(),
    );
    assert_eq!(number(&consume, &["verified_records"]), 5000.0);

    let idempotent = ["--idempotent"];
    let backlog = run(&cli, "backlog", &[&open[..], &fill, &idempotent].concat());
    assert!(number(&backlog, &["drained", "mb_per_s"]) > 0.0);
    let verified = number(&backlog, &["verified_records"]);
    assert!((8590.0..=8610.0).contains(&verified), "{verified}");

    let mixed = run(
        &cli,
        "mixed",
        &[&open[..], &fill, &["--keys", "10"]].concat(),
    );
    let at_the_end = number(&mixed, &["verified_records"]);
    assert!((3590.0..=3610.0).contains(&at_the_end), "{at_the_end}");
    assert!(number(&mixed, &["results", "replayed", "records"]) > 0.0);

    let produce = run(
        &cli,
        "produce",
        &["--depth", "2", "--record-bytes", "24-5000"],
    );
    assert!(number(&produce, &["results", "acked", "records"]) > 100.0);
    assert!(
        cli.ok(&["topic", "list"], "").trim().is_empty(),
        "its topics are gone"
    );
}

#[test]
fn results_are_written_as_tools_read_them() {
    let cli = Cli::start();
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("a/b");
    let out = out.to_str().unwrap();
    let pid = cli.broker.id().to_string();
    let more = [
        "--rate",
        "2000",
        "--duration",
        "3",
        "--out",
        out,
        "--broker-pid",
        &pid,
    ];
    let lines = cli.ok(&[&["bench", "e2e"], &SMALL[..], &more[..]].concat(), "");
    for second in ["    1 s  acked", "    2 s  read", "    3 s  read"] {
        assert!(lines.contains(second), "{lines}");
    }
    let read = |name: &str| fs::read_to_string(format!("{out}/{name}")).expect(name);
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    assert_eq!(result["kind"], "e2e");
    // the last is of what came late, if something did
    let intervals = result["intervals"].as_array().unwrap().len();
    assert!((3..=4).contains(&intervals));
    assert!(result["setup"]["kernel"].is_string());
    assert!(number(&result, &["cost", "broker_resident_bytes"]) > 1e6);
    for side in ["acked", "read"] {
        assert!(read(&format!("{side}.hgrm")).contains("Total count    =         6000"));
        let log = read(&format!("{side}.hlog"));
        let histograms = log.lines().filter(|line| line.contains("HISTFAAA"));
        assert_eq!(histograms.count(), intervals);
    }
    for picture in ["latency.svg", "time.svg"] {
        assert!(read(picture).starts_with("<svg"));
    }
}

#[test]
fn the_highest_rate_is_below_what_a_closed_loop_reaches() {
    let cli = Cli::start();
    let more = ["--max", "--p99-ms", "500", "--no-ceiling"];
    let found = run(&cli, "produce", &more);
    let offered = number(&found, &["offered_records_per_s"]);
    let reached = number(&found, &["results", "acked", "records_per_s"]);
    let p99 = number(&found, &["results", "acked", "latency_ms", "p99"]);
    assert!(offered > 0.0);
    // how far the last run came is the machine's business, what is said of it is not
    let held = p99 <= 500.0 && reached >= 0.98 * offered;
    assert_eq!(found["p99_held"], held, "{reached} of {offered}, {p99} ms");
}

#[test]
fn requests_without_records_are_counted_and_cost() {
    let cli = Cli::start();
    let pid = cli.broker.id().to_string();
    let found = run(&cli, "ping", &["--connections", "3", "--broker-pid", &pid]);
    let answered = |what: &[&str]| number(&found, &[&["results", "answered"], what].concat());
    assert!(answered(&["requests"]) > 100.0);
    assert!(answered(&["latency_ms", "p50"]) <= answered(&["latency_ms", "max"]));
    assert!(number(&found, &["cost", "machine_without_load_cpu_us_each"]) > 0.0);
    let told = cli.ok(
        &["bench", "ping", "--duration", "0.2", "--warmup", "0.1"],
        "",
    );
    assert!(told.contains("requests/s on 64 connections"), "{told}");
}

#[test]
fn the_ceiling_needs_no_broker() {
    let output = corelane(
        &["--json", "bench", "e2e", "--ceiling", "--rate", "1000"],
        "",
    );
    assert!(output.status.success(), "{}", said(&output));
    let ceiling: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(number(&ceiling, &["records_per_s"]) > 1000.0);
    assert!(number(&ceiling, &["p99_ms"]) > 0.0);
}

#[test]
fn a_broker_that_goes_and_wrong_usage_fail_a_run() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "taken"], "");
    cli.ok(&["produce", "taken"], "a record that no load sent\n");
    // behind what others wrote a run has a beginning of its own
    for _ in 0..2 {
        run(
            &cli,
            "e2e",
            &["--rate", "100", "--topic", "taken", "--no-ceiling"],
        );
    }
    for (wrong, why) in [
        (&["bench", "e2e", "--acks", "0"][..], "acks 0"),
        (&["bench", "produce", "--record-bytes", "10"], "24 to"),
        (
            &["bench", "produce", "--idempotent", "--depth", "6"],
            "at most 5",
        ),
        (&["bench", "consume", "--max"], "--max"),
        (&["bench", "e2e", "--cold"], "--cold"),
        (&["bench", "mixed", "--topic", "taken"], "--topic"),
        (&["bench", "produce", "--rate", "0"], "0.01"),
    ] {
        let output = cli.run(wrong, "");
        assert_eq!(code(&output), 2, "{wrong:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{wrong:?}: {}", said(&output));
    }
    let address = cli.address.clone();
    let load = thread::spawn(move || {
        let more = ["--no-ceiling", "--duration", "25", "--bootstrap", &address];
        corelane(&[&["bench", "produce"], &more[..]].concat(), "")
    });
    wait::until(LIMIT, "the load's topic", || {
        let there = cli.ok(&["topic", "list"], "").contains("corelane-bench");
        Ok(there.then_some(()))
    })
    .unwrap();
    let Cli {
        broker,
        setup: _setup,
        ..
    } = cli;
    broker.kill().unwrap();
    let ended = load.join().unwrap();
    assert_eq!(code(&ended), 1);
    let told = said(&ended);
    assert!(told.contains("closed") || told.contains("reset"), "{told}");
}

/// A load on this topic, whose first records are there.
fn running(cli: &Cli, topic: &str) -> Guard {
    let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args([
            "bench",
            "e2e",
            "--no-ceiling",
            "--rate",
            "1000",
            "--duration",
            "25",
        ])
        .args(["--topic", topic, "--bootstrap", &cli.address])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = Guard(child.unwrap());
    wait::until(LIMIT, "records of the load", || {
        let read = cli.run(&["consume", topic], "");
        Ok((!read.stdout.is_empty()).then_some(()))
    })
    .unwrap();
    child
}

fn failed(mut load: Guard) -> String {
    let status = reap(&mut load.0, LIMIT, "the load").unwrap();
    assert_eq!(status.code(), Some(1));
    let mut told = String::new();
    let stderr = load.0.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut told).unwrap();
    told
}

#[test]
fn a_record_of_somebody_else_fails_a_run() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "shared"], "");
    let load = running(&cli, "shared");
    cli.ok(&["produce", "shared"], "a record that no load sent\n");
    let told = failed(load);
    assert!(told.contains("is no record of this run"), "{told}");
}

#[test]
fn an_interrupted_run_ends_and_takes_its_topic_away() {
    let cli = Cli::start();
    cli.ok(&["topic", "create", "kept"], "");
    let load = running(&cli, "kept");
    let pid = Pid::from_raw(load.0.id() as i32);
    // a broker that answers no more holds it no longer
    cli.broker.freeze().unwrap();
    kill(pid, Signal::SIGINT).unwrap();
    assert!(failed(load).contains("interrupted"));
    cli.broker.thaw().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["bench", "produce", "--no-ceiling", "--duration", "25"])
        .args(["--bootstrap", &cli.address])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let load = Guard(child.unwrap());
    let topics = || cli.ok(&["topic", "list"], "");
    wait::until(LIMIT, "the load's topic", || {
        Ok(topics().contains("corelane-bench").then_some(()))
    })
    .unwrap();
    // begun or not, it ends
    kill(Pid::from_raw(load.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(failed(load).contains("interrupted"));
    assert!(!topics().contains("corelane-bench"));
}
