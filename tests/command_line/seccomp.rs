//! The broker under `tuning/seccomp.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

const PROFILE: &str = include_str!("../../tuning/seccomp.json");

fn allowed() -> BTreeSet<String> {
    let profile: Value = serde_json::from_str(PROFILE).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut names = BTreeSet::new();
    for group in profile["syscalls"].as_array().unwrap() {
        assert_eq!(group["action"], "SCMP_ACT_ALLOW");
        for name in group["names"].as_array().unwrap() {
            let name = name.as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} stands twice");
        }
    }
    names
}

#[test]
fn the_profile_has_rings_and_nothing_that_leaves_a_container() {
    let allowed = allowed();
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(name), "{name}");
    }
    for name in [
        "mount",
        "ptrace",
        "bpf",
        "unshare",
        "setns",
        "init_module",
        "kexec_load",
        "reboot",
        "process_vm_writev",
        "userfaultfd",
        "perf_event_open",
        "keyctl",
    ] {
        assert!(!allowed.contains(name), "{name}");
    }
}

/// The files of a directory and of all below it.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .collect()
}

/// Which way a fetch takes is chance: what no run calls is read from the source.
#[test]
fn every_system_call_of_the_runtime_is_in_the_profile() {
    let allowed = allowed();
    let mut calls = BTreeSet::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ring")) {
        let text = std::fs::read_to_string(file).unwrap();
        for rest in text.split("libc::").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = rest.split_at(end.unwrap());
            let name = name.strip_prefix("SYS_").unwrap_or(name);
            let is_type = name.starts_with("c_") || name.starts_with("sockaddr");
            if !is_type && (after.starts_with('(') || rest.starts_with("SYS_")) {
                calls.insert(name.to_owned());
            }
        }
    }
    assert!(calls.len() > 15 && calls.contains("madvise"), "{calls:?}");
    for call in calls.iter().filter(|call| *call != "syscall") {
        // the C library's name, and the kernel's
        let name = match call.as_str() {
            "pread" => "pread64",
            "pwrite" => "pwrite64",
            "statvfs" => "statfs",
            "eventfd" => "eventfd2",
            "signalfd" => "signalfd4",
            "posix_fadvise" => "fadvise64",
            name => name,
        };
        assert!(allowed.contains(name), "{name}");
    }
}

/// What is not in the list kills here, where Docker lets it fail: nothing is missed.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_broker_needs_no_more_than_the_profile_allows() {
    use std::io::Cursor;
    use std::thread;

    use seccompiler::{TargetArch, apply_filter, compile_from_json};
    use serde_json::json;

    use crate::support::broker::Setup;
    use crate::{code, corelane, said};

    let rules: Vec<Value> = allowed()
        .iter()
        .map(|name| json!({ "syscall": name }))
        .collect();
    let filters = json!({ "broker": {
        "mismatch_action": "kill_process",
        "match_action": "allow",
        "filter": rules,
    }});
    let text = Cursor::new(filters.to_string());
    let filters = compile_from_json(text, TargetArch::x86_64).unwrap();
    let setup = Setup::new(&[]).unwrap();
    // a filter is its thread's, and of what that starts
    let filter = || apply_filter(&filters["broker"]).unwrap();
    let spawn = || {
        thread::scope(|scope| {
            let start = || {
                filter();
                setup.start().unwrap()
            };
            scope.spawn(start).join().unwrap()
        })
    };
    let broker = spawn();
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
    let address = broker.address();
    let run = |arguments: &[&str], input: &str| {
        let output = corelane(&[arguments, &["--bootstrap", &address]].concat(), input);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", said(&output));
        output.text()
    };
    let brief = ["--duration", "1", "--warmup", "0.2", "--no-ceiling"];
    run(&["topic", "create", "t", "-p", "3"], "");
    run(&["produce", "t"], "one\ntwo\n");
    // a name is resolved by the C library, with calls of its own
    let named = format!("localhost:{}", setup.address().port());
    let listed = thread::scope(|scope| {
        let list = || {
            filter();
            corelane(&["topic", "list", "--bootstrap", &named], "")
        };
        scope.spawn(list).join().unwrap()
    });
    assert_eq!(code(&listed), 0, "{}", said(&listed));
    run(&[&["bench", "produce"], &brief[..]].concat(), "");
    let large = ["--batch-bytes", "1000000", "--fill", "200000"];
    run(&[&["bench", "backlog"], &brief[..], &large].concat(), "");
    broker.kill().unwrap();
    // its journals are read back, and what was flushed is served
    let broker = spawn();
    let read = run(&["consume", "t"], "");
    assert_eq!(read.lines().count(), 2, "{read}");
    run(&["topic", "delete", "t"], "");
    broker.stop().unwrap();
}
