//! `corelane bench regress` with brokers and floor programs that were built with these tests.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use corelane::ring::affinity;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{self, Output};
use crate::{code, corelane, said};

/// A run says it is short; brokers start for each pair.
const LIMIT: Duration = Duration::from_secs(120);
/// What a commit costs, in the middle: the steadiest row of a short run.
const ROW: &str = "commit alone: p50 us";
const CPU_ROW: &str = "commit alone: CPU us/request";
/// No short run on a busy machine is that far from another.
const FAR: f64 = 1000.0;

/// A directory on a disk, two cores, and a baseline.
struct Bench {
    home: TempDir,
    cores: String,
}

impl Bench {
    /// None, with the reason, where this machine can't measure.
    fn new() -> Option<Bench> {
        let allowed = affinity::allowed_cores().unwrap();
        let [broker, load, ..] = allowed[..] else {
            eprintln!("skipped: a broker and its load want two cores, and {allowed:?} is allowed");
            return None;
        };
        // beside the binaries, which are on a disk more often than the system's temporary files
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bench = Bench {
            home,
            cores: format!("{broker},{load}"),
        };
        let tried = bench.run(&["commit"]);
        assert_eq!(code(&tried), 2, "{}", said(&tried));
        if said(&tried).contains("is in memory") {
            eprintln!("skipped: {}", said(&tried));
            return None;
        }
        assert!(said(&tried).contains("--update"), "{}", said(&tried));
        Some(bench)
    }

    fn baseline(&self) -> PathBuf {
        self.home.path().join("baseline.json")
    }

    /// As brief and as small as it may be.
    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["bench", "regress", "--pairs", "3", "--seconds", "0.2"]);
        command.args(["--ring-bytes", "33554432", "--cores", &self.cores]);
        command.arg("--dir").arg(self.home.path());
        command.arg("--baseline").arg(self.baseline()).args(more);
        process::run(&mut command, b"", LIMIT).unwrap()
    }

    fn kept(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.baseline()).unwrap()).unwrap()
    }

    fn write(&self, baseline: &Value) {
        fs::write(self.baseline(), baseline.to_string()).unwrap();
    }

    /// Gives rows of the load three runs without any noise, so many times as good as those of
    /// the first run of what was kept.
    fn keep(&self, kept: &Value, factor: f64) {
        let mut baseline = kept.clone();
        for row in [ROW, CPU_ROW, "commit alone: p99 us"] {
            let first = kept["rows"][row][0][0].as_f64().unwrap() / factor;
            baseline["rows"][row] = json!(vec![vec![first; 3]; 3]);
        }
        baseline["left_out"] = json!([]);
        self.write(&baseline);
    }

    /// The last word of a row.
    fn verdict(&self, output: &Output, row: &str) -> String {
        let result: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {}", said(output)));
        let rows = result["rows"].as_array().unwrap();
        let row = rows.iter().find(|found| found["row"] == row).unwrap();
        row["verdict"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_baseline_grows_by_runs_and_a_loss_ends_with_1_and_names_its_row() {
    let Some(bench) = Bench::new() else { return };
    let written = bench.run(&["--update"]);
    assert_eq!(code(&written), 0, "{}", said(&written));
    let rows = bench.kept()["rows"].as_object().unwrap().len();
    assert!(rows > 10, "{rows} rows");
    for row in [
        "produce 64 KiB: CPU-s/GB",
        "fetch 64 KiB: CPU-s/GB",
        "1000 partitions: CPU us/request",
        ROW,
    ] {
        assert!(said(&written).contains(row), "{}", said(&written));
        assert_eq!(bench.kept()["rows"][row][0].as_array().unwrap().len(), 3);
    }
    // one run says nothing of what differs between runs, however noisy its rows are here
    let mut one = bench.kept();
    one["left_out"] = json!([]);
    bench.write(&one);
    let few = bench.run(&["commit"]);
    assert_eq!(code(&few), 1, "{}", said(&few));
    assert!(said(&few).contains("fewer than 3 runs"), "{}", said(&few));
    let added = bench.run(&["commit", "--add"]);
    assert_eq!(code(&added), 0, "{}", said(&added));
    assert_eq!(bench.kept()["rows"][ROW].as_array().unwrap().len(), 2);
    assert_eq!(bench.kept()["rows"].as_object().unwrap().len(), rows);

    // far below what is measured: whatever the noise of this run, it is lost or can't be judged
    let measured = bench.kept();
    bench.keep(&measured, FAR);
    let lost = bench.run(&["commit"]);
    assert_eq!(code(&lost), 1, "{}", said(&lost));
    let lines = said(&lost);
    let line = lines.lines().find(|line| line.starts_with(ROW)).unwrap();
    assert!(
        line.ends_with("LOST") || line.ends_with("TOO NOISY"),
        "{line}"
    );
    let error = lines.lines().find(|line| line.contains("error")).unwrap();
    assert!(error.contains(ROW), "{error}");

    bench.keep(&measured, 1.0 / FAR);
    let gained = bench.run(&["commit", "--json"]);
    let verdict = bench.verdict(&gained, ROW);
    assert!(["better", "TOO NOISY"].contains(&&*verdict), "{verdict}");
    let left: Vec<_> = fs::read_dir(bench.home.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_baseline_of_another_setup_takes_nothing_in_and_judges_cpu_alone() {
    let Some(bench) = Bench::new() else { return };
    let written = bench.run(&["commit", "--update"]);
    assert_eq!(code(&written), 0, "{}", said(&written));
    bench.keep(&bench.kept(), FAR);
    let mut other = bench.kept();
    other["setup"]["kernel"] = json!("1.0");
    bench.write(&other);
    let told = bench.run(&["commit", "--json"]);
    assert_eq!(bench.verdict(&told, ROW), "not judged");
    assert_ne!(bench.verdict(&told, CPU_ROW), "not judged");
    let result: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(result["differs"][0]["name"], "kernel");
    assert_eq!(result["differs"][0]["baseline"], "1.0");
    for mixing in ["--add", "--update"] {
        let mixed = bench.run(&["commit", mixing]);
        assert_eq!(code(&mixed), 2, "{}", said(&mixed));
        assert!(said(&mixed).contains("kernel"), "{}", said(&mixed));
        assert_eq!(bench.kept(), other);
    }
    other["setup"]["seconds"] = json!(7.0);
    bench.write(&other);
    let otherwise = bench.run(&["commit"]);
    assert_eq!(code(&otherwise), 2, "{}", said(&otherwise));
    assert!(said(&otherwise).contains("seconds 7.0 (here 0.2)"));
}

#[test]
fn wrong_usage_of_regress_is_told() {
    for (wrong, why) in [
        (
            &["bench", "regress", "--pairs", "2"][..],
            "3 pairs at least",
        ),
        (&["bench", "regress", "--cores", "1,1"], "as in 0,1"),
        (&["bench", "regress", "--update", "--add"], "cannot be used"),
        (&["bench", "regress", "nothing"], "produce 64 KiB"),
    ] {
        let output = corelane(wrong, "");
        assert_eq!(code(&output), 2, "{wrong:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{wrong:?}: {}", said(&output));
    }
}
