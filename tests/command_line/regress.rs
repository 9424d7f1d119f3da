//! `corelane bench regress` with brokers and floor programs that were built with these tests.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{self, Output};
use crate::{code, corelane, said};

/// A run says it is short; brokers start for each pair.
const LIMIT: Duration = Duration::from_secs(120);
/// What a commit takes, in the middle: the steadiest row of a short run.
const ROW: &str = "commit alone: p50 us";
/// No short run on a busy machine is that far from another.
const FAR: f64 = 1000.0;

/// As brief as it may be, its files beside the binaries: that is a disk.
fn regress(baseline: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["bench", "regress", "--pairs", "3", "--seconds", "0.2"]);
    command.args(["--dir", env!("CARGO_TARGET_TMPDIR"), "--baseline"]);
    command.arg(baseline).args(more);
    process::run(&mut command, b"", LIMIT).unwrap()
}

fn kept(baseline: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(baseline).unwrap()).unwrap()
}

/// Writes a baseline whose ratios of the row are so many times as large.
fn scale(baseline: &Path, factor: f64) {
    let mut value = kept(baseline);
    for ratio in value["rows"][ROW].as_array_mut().unwrap() {
        *ratio = (ratio.as_f64().unwrap() * factor).into();
    }
    fs::write(baseline, value.to_string()).unwrap();
}

#[test]
fn a_loss_ends_with_1_and_names_its_row_and_a_gain_does_not() {
    let home = tempfile::tempdir().unwrap();
    let baseline = home.path().join("baseline.json");
    let missing = regress(&baseline, &["commit"]);
    assert_eq!(code(&missing), 2, "{}", said(&missing));
    assert!(said(&missing).contains("--update"), "{}", said(&missing));

    let written = regress(&baseline, &["--update"]);
    assert_eq!(code(&written), 0, "{}", said(&written));
    let rows = kept(&baseline)["rows"].as_object().unwrap().len();
    assert!(rows > 10, "{rows} rows");
    for row in [
        "produce 64 KiB: CPU-s/GB",
        "1000 partitions: CPU us/request",
        ROW,
    ] {
        assert!(said(&written).contains(row), "{}", said(&written));
        assert_eq!(kept(&baseline)["rows"][row].as_array().unwrap().len(), 3);
    }
    let added = regress(&baseline, &["commit", "--add"]);
    assert_eq!(code(&added), 0, "{}", said(&added));
    assert_eq!(kept(&baseline)["rows"][ROW].as_array().unwrap().len(), 6);
    assert_eq!(kept(&baseline)["rows"].as_object().unwrap().len(), rows);

    scale(&baseline, 1.0 / FAR);
    let lost = regress(&baseline, &["commit"]);
    assert_eq!(code(&lost), 1, "{}", said(&lost));
    let lines = said(&lost);
    let line = lines.lines().find(|line| line.starts_with(ROW)).unwrap();
    assert!(line.ends_with("LOST"), "{line}");
    let error = lines.lines().find(|line| line.contains("error")).unwrap();
    assert!(error.contains(ROW), "{error}");

    scale(&baseline, FAR * FAR);
    let gained = regress(&baseline, &["commit", "--json"]);
    let result: Value = serde_json::from_slice(&gained.stdout).unwrap();
    let rows = result["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["row"] == ROW).unwrap();
    assert_eq!(row["verdict"], "better", "{row}");
    let left = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten();
    let mut left = left.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(!left.any(|name| name.starts_with("corelane-regress-")));
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
