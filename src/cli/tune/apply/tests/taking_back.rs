//! What undo puts back, and what it leaves.

use super::super::state::Value;
use super::*;

const REQUESTS: &str = "/sys/block/nvme0n1/queue/nr_requests";

#[test]
fn what_was_changed_since_is_left_and_named() {
    let machine = machine();
    machine.put(render::SYSCTL_FILE, "theirs\n");
    let system = machine.system();
    apply(&system);
    machine.put(SWAPPINESS, "30");
    machine.put(render::UDEV_FILE, "edited");
    let undone = undone(&system);
    let left = undone.left.join("\n");
    assert!(left.contains("swappiness is 30, not 1 as set"), "{left}");
    assert!(left.contains("90-corelane.rules was changed"), "{left}");
    assert_eq!(undone.left.len(), 2);
    assert_eq!(system.setting(SWAPPINESS).as_deref(), Some("30"));
    let whole = |path| system.whole(path).unwrap();
    assert_eq!(whole(render::SYSCTL_FILE).as_deref(), Some("theirs\n"));
    assert_eq!(whole(render::UDEV_FILE).as_deref(), Some("edited"));
}

#[test]
fn the_number_of_requests_comes_back_with_the_scheduler() {
    let machine = machine();
    machine.put(REQUESTS, "128");
    let system = machine.system();
    apply(&system);
    // as the kernel does at a switch, both times
    machine.put(REQUESTS, "32");
    assert_eq!(changes(&system).values, []);
    let undone = undone(&system);
    assert_eq!(undone.left, Vec::<String>::new());
    assert_eq!(system.setting(REQUESTS).as_deref(), Some("128"));
    let order = |path: &str| {
        let mut lines = undone.restored.iter();
        lines.position(|line| line.starts_with(path)).unwrap()
    };
    assert!(order(SCHEDULER) < order(REQUESTS), "{undone:?}");
}

#[test]
fn a_scheduler_that_somebody_else_set_keeps_its_requests() {
    let machine = machine();
    machine.put(REQUESTS, "128");
    let system = machine.system();
    apply(&system);
    machine.put(SCHEDULER, "none mq-deadline [kyber]");
    machine.put(REQUESTS, "99");
    let undone = undone(&system);
    assert_eq!(undone.left.len(), 1, "{undone:?}");
    assert_eq!(system.setting(REQUESTS).as_deref(), Some("99"));
}

#[test]
fn the_number_of_requests_waits_for_its_scheduler() {
    let machine = machine();
    let system = machine.system();
    let value =
        |path: &str, from: &str, to: &str| Value::new(&system, path.into(), from.into(), to.into());
    machine.put(REQUESTS, "32");
    // one that is gone does not come back, nor does its number
    std::fs::remove_file(system.path(SCHEDULER)).unwrap();
    let mut state = State {
        values: vec![
            value(SCHEDULER, "kyber", "none"),
            value(REQUESTS, "128", "128"),
        ],
        ..State::default()
    };
    let undone = undo(&system, &mut state);
    assert_eq!(undone.left, [format!("{SCHEDULER} is gone")]);
    assert_eq!(system.setting(REQUESTS).as_deref(), Some("32"));
    assert!(state.is_empty(), "{state:?}");
}

#[test]
fn names_of_an_earlier_boot_are_left_alone() {
    let machine = machine();
    let boot = "/proc/sys/kernel/random/boot_id";
    machine.put(boot, "a");
    let system = machine.system();
    apply(&system);
    machine.put(boot, "b");
    let undone = undone(&system);
    assert_eq!(undone.left.len(), 2, "{undone:?}");
    for path in [SCHEDULER, "/proc/irq/9/smp_affinity_list"] {
        let line = format!("{path} was set before the last boot");
        assert!(
            undone.left.iter().any(|left| left.starts_with(&line)),
            "{undone:?}"
        );
    }
    assert_eq!(system.setting(SCHEDULER).as_deref(), Some("none"));
    // what keeps its name is put back
    assert_eq!(system.setting(SWAPPINESS).as_deref(), Some("60"));
}

#[test]
fn what_the_kernel_made_of_a_value_is_what_undo_looks_for() {
    let mut state = State::default();
    let machine = machine();
    let system = machine.system();
    changes(&system).write(&system, &mut state).unwrap();
    state.found(SWAPPINESS, "2");
    machine.put(SWAPPINESS, "2");
    assert_eq!(undo(&system, &mut state).left, Vec::<String>::new());
    assert_eq!(system.setting(SWAPPINESS).as_deref(), Some("60"));
}
