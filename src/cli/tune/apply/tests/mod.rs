//! Setting and taking back on a machine of files.

mod taking_back;

use super::undo::{Undone, undo};
use super::*;
use crate::base::config::BrokerConfig;
use crate::cli::tune::fake::{self, Fake};

const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
const SCHEDULER: &str = "/sys/block/nvme0n1/queue/scheduler";
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";

fn machine() -> Fake {
    let machine = Fake::new(&[
        ("/proc/self/status", "Cpus_allowed_list:\t0-1\n"),
        (
            "/proc/self/mountinfo",
            "1 0 259:0 / / rw,noatime - xfs /dev/nvme0n1 rw\n",
        ),
        ("/proc/swaps", "Filename\n/swap file\n"),
        (SWAPPINESS, "60\n"),
        (SCHEDULER, "none [mq-deadline] kyber\n"),
        ("/sys/block/nvme0n1/queue/rotational", "0\n"),
        (GOVERNOR, "powersave\n"),
        ("/sys/devices/system/cpu/online", "0-1\n"),
        ("/sys/devices/virtual/nvme0n1/size", "1"),
        ("/etc/systemd/system/x", ""),
        ("/sys/class/net/eth0/operstate", "up\n"),
        ("/sys/class/net/eth0/device/msi_irqs/9", ""),
        ("/proc/irq/9/smp_affinity_list", "0-1\n"),
    ]);
    machine.link("/sys/dev/block/259:0", "/sys/devices/virtual/nvme0n1");
    machine
}

fn config() -> BrokerConfig {
    config_with(&[])
}

fn config_with(more: &[&str]) -> BrokerConfig {
    let overrides = [
        "corelane.cores=0-0",
        "log.dirs=/data",
        "listeners=PLAINTEXT://:9092",
    ];
    fake::config(&[&overrides, more].concat())
}

fn changes(system: &System) -> Changes {
    let config = config();
    let ground = Ground::new(system, &config);
    Changes::new(&ground, &State::read(system).unwrap()).unwrap()
}

fn apply(system: &System) -> Vec<String> {
    let mut state = State::read(system).unwrap();
    changes(system).write(system, &mut state).unwrap()
}

fn undone(system: &System) -> Undone {
    let mut state = State::read(system).unwrap();
    let undone = undo(system, &mut state);
    state.write(system).unwrap();
    undone
}

#[test]
fn what_is_set_is_good_afterwards_and_comes_back() {
    let machine = machine();
    let system = machine.system();
    assert_eq!(apply(&system), Vec::<String>::new());
    for (path, to) in [
        (SWAPPINESS, "1"),
        (SCHEDULER, "none"),
        (GOVERNOR, "performance"),
        ("/proc/irq/9/smp_affinity_list", "1"),
    ] {
        assert_eq!(system.setting(path).as_deref(), Some(to), "{path}");
    }
    let text = |path: &str| system.whole(path).unwrap().unwrap_or_default();
    assert!(text(render::SYSCTL_FILE).contains("vm.swappiness = 1\n"));
    assert!(text(render::UDEV_FILE).contains("KERNEL==\"nvme0n1\""));
    assert!(text(render::BOOT_FILE).contains(GOVERNOR));
    assert!(text(render::IRQ_FILE).contains("\nspread eth0 1\n"));
    let limits = text(render::LIMITS_FILE);
    assert!(limits.contains("CPUAffinity=0\n") && limits.contains("TasksMax=infinity\n"));
    assert!(
        limits.contains("ExecStartPre=-+/usr/local/lib/corelane/boot.sh\n"),
        "{limits}"
    );
    for path in [render::BOOT_FILE, render::IRQ_FILE] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(system.path(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755, "{path}");
    }
    // there is nothing more to do, and files stay as they are
    assert_eq!(changes(&system).count(), 0);

    let undone = undone(&system);
    assert_eq!(
        (undone.left.len(), undone.failed.len()),
        (0, 0),
        "{undone:?}"
    );
    for (path, from) in [
        (SWAPPINESS, "60"),
        (SCHEDULER, "mq-deadline"),
        (GOVERNOR, "powersave"),
        ("/proc/irq/9/smp_affinity_list", "0-1"),
    ] {
        assert_eq!(system.setting(path).as_deref(), Some(from), "{path}");
    }
    for path in [
        render::SYSCTL_FILE,
        "/usr/local/lib/corelane",
        "/etc/systemd/system/corelane.service.d",
        "/var/lib/corelane-tune",
    ] {
        assert!(!system.exists(path), "{path}");
    }
    let state = State::read(&system).unwrap();
    assert!(state.is_empty(), "{state:?}");
}

#[test]
fn a_second_run_keeps_what_the_first_one_set() {
    let machine = machine();
    let system = machine.system();
    apply(&system);
    machine.put("/proc/sys/vm/zone_reclaim_mode", "1");
    apply(&system);
    let text = system.whole(render::SYSCTL_FILE).unwrap().unwrap();
    assert!(text.contains("vm.swappiness = 1") && text.contains("vm.zone_reclaim_mode = 0"));
    undone(&system);
    assert_eq!(system.setting(SWAPPINESS).as_deref(), Some("60"));
    assert_eq!(system.sysctl("vm.zone_reclaim_mode").as_deref(), Some("1"));
    assert!(!system.exists(render::SYSCTL_FILE));
}

#[test]
fn whatever_is_set_now_is_set_after_a_boot_too() {
    let machine = machine();
    let sysctls = [
        ("kernel/io_uring_disabled", "2"),
        ("kernel/numa_balancing", "1"),
        ("vm/zone_reclaim_mode", "1"),
        ("net/core/somaxconn", "1"),
        ("net/core/wmem_max", "1"),
        ("net/core/rmem_max", "1"),
        ("net/ipv4/tcp_congestion_control", "reno"),
        ("net/ipv4/tcp_slow_start_after_idle", "1"),
        ("net/ipv4/tcp_wmem", "1 1 1"),
        ("net/ipv4/tcp_rmem", "1 1 1"),
    ];
    for (name, bad) in sysctls {
        machine.put(&format!("/proc/sys/{name}"), bad);
    }
    for (path, bad) in [
        ("/sys/devices/system/node/node0/cpulist", "0"),
        ("/sys/devices/system/node/node1/cpulist", "1"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "[always]"),
        ("/sys/block/nvme0n1/queue/nr_requests", "4"),
        // heads that move
        ("/sys/block/nvme0n1/queue/rotational", "1"),
        (SCHEDULER, "[none] mq-deadline"),
        ("/sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "200"),
        ("/sys/devices/system/cpu/cpu0/cpuidle/state3/disable", "0"),
    ] {
        machine.put(path, bad);
    }
    let system = machine.system();
    // buffers of sockets are bounded in another place where they have a size
    let sized = "socket.send.buffer.bytes=200000 socket.receive.buffer.bytes=200000";
    let mut set = 0;
    for overrides in [Vec::new(), sized.split(' ').collect()] {
        let config = config_with(&overrides);
        let ground = Ground::new(&system, &config);
        let changes = Changes::new(&ground, &State::default()).unwrap();
        let files: String = changes
            .files
            .iter()
            .map(|(file, _)| file.text.as_str())
            .collect();
        for value in changes.set() {
            set += 1;
            let kept = match value.path.strip_prefix("/proc/sys/") {
                Some(name) => format!("{} = {}\n", name.replace('/', "."), value.to),
                None if value.path.starts_with("/proc/irq") => "\nspread eth0 1\n".into(),
                None if value.path.starts_with("/sys/block") => {
                    let (_, attribute) = value.path.rsplit_once('/').unwrap();
                    format!("ATTR{{queue/{attribute}}}=\"{}\"\n", value.to)
                }
                None => format!("put {} {}\n", value.path, value.to),
            };
            assert!(files.contains(&kept), "{kept} is not in {files}");
        }
    }
    // nine sysctls and six others each time
    assert_eq!(set, 2 * (9 + 6), "a setting is not among them");
}

#[test]
fn what_cannot_be_written_is_said_and_the_rest_goes_on() {
    let machine = machine();
    let system = machine.system();
    let changes = changes(&system);
    // gone between the look and the write
    std::fs::remove_file(system.path(SCHEDULER)).unwrap();
    let mut state = State::default();
    let failed = changes.write(&system, &mut state).unwrap();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].contains("scheduler"), "{failed:?}");
    assert_eq!(system.setting(SWAPPINESS).as_deref(), Some("1"));
    assert!(state.values.iter().all(|value| value.path != SCHEDULER));
}

#[test]
fn the_unit_runs_no_script_that_could_not_be_written() {
    let machine = machine();
    let system = machine.system();
    let changes = changes(&system);
    // no directory can be made there, as on a /usr that is only read
    machine.put("/usr/local/lib/corelane", "");
    let mut state = State::default();
    let failed = changes.write(&system, &mut state).unwrap();
    assert_eq!(failed.len(), 2, "{failed:?}");
    let limits = system.whole(render::LIMITS_FILE).unwrap().unwrap();
    assert!(!limits.contains("ExecStartPre"), "{limits}");
    assert!(limits.contains("CPUAffinity=0\n"), "{limits}");
    let undone = undone(&system);
    assert_eq!(
        (undone.left.len(), undone.failed.len()),
        (0, 0),
        "{undone:?}"
    );
    assert!(!system.exists(render::LIMITS_FILE));
}

#[test]
fn a_file_that_was_edited_or_is_a_link_stops_it() {
    let machine = machine();
    let system = machine.system();
    let config = config();
    let refused = || {
        let state = State::read(&system).unwrap();
        let changes = Changes::new(&Ground::new(&system, &config), &state);
        changes.unwrap_err().to_string()
    };
    machine.put("/etc/theirs", "");
    machine.link(render::SYSCTL_FILE, "/etc/theirs");
    assert!(refused().contains("is a link"));
    std::fs::remove_file(system.path(render::SYSCTL_FILE)).unwrap();
    apply(&system);
    machine.put(render::LIMITS_FILE, "edited");
    assert!(refused().contains("was edited"), "{}", refused());
}

#[test]
fn files_that_are_read_later_and_say_otherwise_are_named() {
    let machine = machine();
    machine.put(
        "/etc/sysctl.d/99-sysctl.conf",
        "# x\nvm/swappiness=60\nvm.other=1\n",
    );
    machine.put("/etc/sysctl.d/10-early.conf", "vm.swappiness = 50\n");
    machine.put("/etc/sysctl.conf", "-vm.swappiness = 1\n");
    let system = machine.system();
    let notes = render::overruled(&system, &changes(&system));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("99-sysctl.conf") && notes[0].contains("vm.swappiness = 60"));
}

#[test]
fn without_systemd_no_script_is_written_that_nothing_would_run() {
    let machine = machine();
    std::fs::remove_dir_all(machine.system().path("/etc/systemd")).unwrap();
    let system = machine.system();
    let paths: Vec<&str> = changes(&system)
        .files
        .iter()
        .map(|(file, _)| file.path)
        .collect();
    assert_eq!(paths, [render::SYSCTL_FILE, render::UDEV_FILE]);
}

#[test]
fn of_an_image_that_does_not_tell_its_cores_none_are_set() {
    let machine = machine();
    std::fs::remove_file(machine.system().path("/proc/self/status")).unwrap();
    let system = machine.system();
    let config = config_with(&["corelane.cores=all"]);
    let ground = Ground::new(&system, &config);
    let changes = Changes::new(&ground, &State::default()).unwrap();
    let limits = changes
        .files
        .iter()
        .find(|(file, _)| file.path == render::LIMITS_FILE);
    let limits = &limits.unwrap().0.text;
    assert!(
        !limits.contains("CPUAffinity") && limits.contains("TasksMax=infinity"),
        "{limits}"
    );
    assert!(!limits.contains('@'), "{limits}");
}
