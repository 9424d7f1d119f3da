//! `corelane tune` as a newcomer calls it, on this machine and on a directory that stands for one.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::process::Output;
use crate::{code, corelane, said};

fn object(output: &Output) -> Value {
    let text = output.text();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {}", said(output)))
}

/// Something that should be changed, and nothing that must be.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/self/status", "Cpus_allowed_list:\t0\nSeccomp:\t0\n"),
        (
            "proc/self/mountinfo",
            "1 0 259:0 / / rw - xfs /dev/nvme0n1 rw\n",
        ),
        ("proc/swaps", "Filename\n/swap file\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
        ("etc/systemd/system/x.service", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn read(root: &Path, path: &str) -> String {
    let text = fs::read_to_string(root.join(path)).unwrap();
    text.trim().to_owned()
}

#[test]
fn this_machine_is_checked_to_the_end() {
    let output = corelane(&["tune", "check", "--json", "--cores", "1"], "");
    let found = object(&output);
    let items = found["items"].as_array().unwrap();
    let is = |level: &str| items.iter().any(|item| item["level"] == level);
    // 1 tells of something that must be changed, and only of that
    assert_eq!(code(&output), i32::from(is("must")), "{}", said(&output));
    assert_eq!(found["shards"].as_array().unwrap().len(), 1);
    for name in ["kernel", "io_uring", "open files", "net.core.somaxconn"] {
        let item = items.iter().find(|item| item["name"] == name);
        let found = item.and_then(|item| item["found"].as_str());
        assert!(found.is_some_and(|found| !found.is_empty()), "{name}");
    }
    let wrong = corelane(&["tune", "check", "--override", "num.partitions=none"], "");
    assert_eq!(code(&wrong), 2, "{}", said(&wrong));
}

#[test]
fn what_is_applied_is_shown_first_and_taken_back() {
    let machine = machine();
    let root = machine.path().to_str().unwrap();
    let run = |arguments: &[&str]| {
        corelane(
            &[&["tune", "apply", "--root", root], arguments].concat(),
            "",
        )
    };
    let swappiness = || read(machine.path(), "proc/sys/vm/swappiness");
    let shown = run(&["--dry-run"]);
    assert_eq!(code(&shown), 0, "{}", said(&shown));
    for line in [
        "/proc/sys/vm/swappiness",
        "vm.swappiness = 1",
        "90-tuning.conf (new)",
    ] {
        assert!(shown.text().contains(line), "{line}: {}", said(&shown));
    }
    let shown = said(&shown);
    assert!(shown.contains("no server.properties was named"), "{shown}");
    assert_eq!(swappiness(), "60");
    // nobody sits there to be asked
    let unasked = run(&[]);
    assert_eq!(code(&unasked), 2, "{}", said(&unasked));
    assert!(said(&unasked).contains("--yes"), "{}", said(&unasked));
    assert_eq!(swappiness(), "60");

    let applied = run(&["--yes", "--json"]);
    assert_eq!(code(&applied), 0, "{}", said(&applied));
    assert_eq!(object(&applied)["written"], true);
    assert_eq!(swappiness(), "1");
    let unit = "etc/systemd/system/corelane.service.d/90-tuning.conf";
    assert!(read(machine.path(), unit).contains("CPUAffinity=0"));
    let again = run(&["--yes", "--json"]);
    assert_eq!(object(&again)["written"], false, "{}", said(&again));

    let undone = run(&["--undo"]);
    assert_eq!(code(&undone), 0, "{}", said(&undone));
    let told = said(&undone);
    assert!(told.contains("systemctl daemon-reload"), "{told}");
    assert_eq!(swappiness(), "60");
    assert!(!machine.path().join(unit).exists());
    assert!(
        !machine
            .path()
            .join("etc/sysctl.d/90-corelane.conf")
            .exists()
    );
    let twice = run(&["--undo"]);
    assert!(
        twice.text().contains("nothing to take back"),
        "{}",
        said(&twice)
    );
}

#[test]
fn a_deployment_is_planned_or_refused() {
    let plan = |arguments: &[&str]| corelane(&[&["tune", "plan"], arguments].concat(), "");
    let output = plan(&[
        "--json", "--rate", "100MB/s", "--copies", "1", "--peak", "3",
    ]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let found = object(&output);
    let lines = found["lines"].as_array().unwrap();
    let line = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(line("network in")["value"], 300.0);
    assert_eq!(line("disk writes")["value"], 600.0);
    for line in lines {
        assert!(line["value"].as_f64().unwrap() > 0.0, "{line}");
        assert!(!line["formula"].as_str().unwrap().is_empty(), "{line}");
    }
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.properties");
    let unmeasured = home.path().join("never-measured");
    fs::write(&file, format!("log.dirs={}\n", unmeasured.display())).unwrap();
    let output = plan(&["--rate", "5", "--config", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2, "{}", said(&output));
    assert!(
        said(&output).contains("never-measured"),
        "{}",
        said(&output)
    );
    for nonsense in [
        &["--rate", "-5"][..],
        &["--rate", "fast"],
        &["--rate", "5", "--compression", "0"],
        &["--rate", "5", "--peak", "NaN"],
        &["--rate", "5", "--retention", "0"],
        &["--rate", "5", "--copies", "3", "--machines", "2"],
        &["--rate", "5", "--dir", "/nowhere"],
        &[],
    ] {
        let output = plan(nonsense);
        assert_eq!(code(&output), 2, "{nonsense:?}: {}", said(&output));
    }
}
