//! Rings and disks that fill.

use std::path::Path;
use std::time::Duration;

use super::harness::*;
use crate::base::ids::Offset;
use crate::log::append::{AppendError, StorageError};
use crate::log::store::{JournalSize, NewPartition, StoreError, Ticket};
use crate::ring::sim::{DiskOptions, Luck, SimOptions};

pub(super) async fn fill(
    store: std::rc::Rc<crate::log::store::LogStore>,
    partitions: Vec<std::rc::Rc<crate::log::partition::Partition>>,
    rounds: usize,
    bytes: usize,
) {
    for round in 0..rounds {
        let mut tickets = Vec::new();
        for partition in &partitions {
            let value = vec![round as u8; bytes];
            let appended = append(&store, partition, &batch(&value)).await;
            tickets.push(appended.expect("appended").ticket);
        }
        for ticket in tickets {
            store.flushed(ticket).await.expect("flushed");
        }
    }
}

pub(super) fn filled(machine: &Machine, partitions: i32, rounds: usize, bytes: usize) -> Run {
    let run = machine.start();
    for n in 0..partitions {
        run.create(n);
    }
    let all = (0..partitions).map(|n| run.partition(n)).collect();
    run.run(fill(run.store.clone(), all, rounds, bytes));
    run
}

#[test]
fn a_ring_of_a_fixed_size_is_used_lap_after_lap() {
    let mut machine = Machine::new(50);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let run = filled(&machine, 8, 100, 30_000);
    let counts = run.store.counts();
    assert!(counts.journal_bytes > 4 * (4 << 20), "{counts:?}");
    assert!(counts.checkpoints > 3);
    machine.world.kill(run.process);
    let run = machine.start();
    for n in 0..8 {
        assert_eq!(run.values(n).len(), 100);
    }
}

#[test]
fn slow_partitions_are_carried_and_settled() {
    let mut machine = Machine::new(51);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    // less than a page each, beside one that fills the ring
    let run = filled(&machine, 50, 1, 100);
    let busy = vec![run.partition(0)];
    run.run(fill(run.store.clone(), busy, 400, 50_000));
    let counts = run.store.counts();
    assert!(counts.carried_bytes > 0, "{counts:?}");
    machine.world.kill(run.process);
    let run = machine.start();
    assert_eq!(run.values(0).len(), 401);
    for n in 1..50 {
        assert_eq!(run.values(n).len(), 1, "partition {n}");
    }
}

#[test]
fn a_full_disk_refuses_produce_serves_reads_and_heals() {
    let mut machine = Machine::new(53);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let run = filled(&machine, 2, 10, 30_000);
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    machine
        .world
        .set_disk_bytes(machine.id, path, used + (1 << 20));
    let (store, partition) = (run.store.clone(), run.partition(0));
    let error = run.run(async move {
        loop {
            let appended = append(&store, &partition, &batch(&[1; 60_000])).await;
            match appended {
                Ok(appended) => store.flushed(appended.ticket).await.expect("flushed"),
                Err(error) => return error,
            }
        }
    });
    assert_eq!(
        error.code(),
        crate::base::error_code::ErrorCode::KafkaStorageError
    );
    assert!(!run.store.is_offline(&key(0)), "it is full, not broken");
    assert!(run.values(0).len() >= 10);
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    machine.world.run_for(Duration::from_secs(5));
    let end = run.partition(0).log_end();
    assert_eq!(run.produce(0, b"again").base_offset, end);
    assert_eq!(run.values(1)[0].0, Offset(0));
}

#[test]
fn a_table_that_found_no_space_at_first_is_there_after_a_power_cut() {
    let machine = Machine::new(61);
    let run = machine.start();
    for n in 0..2 {
        run.create(n);
        run.produce(n, b"acked");
    }
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    machine.world.set_disk_bytes(machine.id, path, used);
    machine.world.run_for(Duration::from_secs(20));
    let tables = || {
        let files = machine.world.files(machine.id, path);
        let is_table = |path: &Path| path.extension().is_some_and(|e| e == "table0");
        files.into_iter().find(|(path, _)| is_table(path))
    };
    let (_, bytes) = tables().expect("a table was begun");
    assert_eq!(bytes, 0, "and found no space");
    // for the table alone
    machine.world.set_disk_bytes(machine.id, path, used + 4096);
    machine.world.run_for(Duration::from_secs(20));
    let (_, bytes) = tables().expect("the table");
    assert!(bytes > 0, "it was written");
    machine.world.power_cut(machine.id, Luck::Lost);
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    let run = machine.start();
    for n in 0..2 {
        assert_eq!(run.values(n).len(), 1, "partition {n}");
    }
}

#[test]
fn space_that_comes_back_is_seen_by_a_log_that_sleeps() {
    let mut machine = Machine::new(60);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    machine.config.reserved_disk_bytes = 8 << 20;
    let run = filled(&machine, 1, 1, 30_000);
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    machine
        .world
        .set_disk_bytes(machine.id, path, used + (4 << 20));
    // all is settled, and refused from then on
    machine.world.run_for(Duration::from_secs(30));
    let produce = || {
        let (store, partition) = (run.store.clone(), run.partition(0));
        run.run(async move { append(&store, &partition, &batch(b"one")).await.map(|_| ()) })
    };
    assert!(produce().is_err(), "there is too little space");
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    machine.world.run_for(Duration::from_secs(3));
    assert_eq!(produce(), Ok(()));
}

/// Appends to each of these partitions, then takes all space that is left on the disk.
fn append_then_fill(machine: &Machine, run: &Run, partitions: i32, bytes: usize) -> Vec<Ticket> {
    let tickets = (0..partitions).map(|n| {
        let (store, partition) = (run.store.clone(), run.partition(n));
        run.run(async move {
            let appended = append(&store, &partition, &batch(&vec![n as u8; bytes])).await;
            appended.expect("appended").ticket
        })
    });
    let tickets = tickets.collect();
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    machine.world.set_disk_bytes(machine.id, path, used);
    tickets
}

fn flushed(run: &Run, tickets: Vec<Ticket>) {
    for ticket in tickets {
        let store = run.store.clone();
        run.run(async move { store.flushed(ticket).await.expect("flushed") });
    }
}

#[test]
fn what_was_admitted_finds_its_place_on_a_disk_that_fills() {
    let mut machine = Machine::new(60);
    machine.config.journal_size = JournalSize::Bytes(8 << 20);
    machine.config.reserved_disk_bytes = 1 << 20; // for side files and tables
    let run = filled(&machine, 8, 1, 1_000);
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    machine
        .world
        .set_disk_bytes(machine.id, path, used + (9 << 20));
    machine.world.run_for(Duration::from_millis(200)); // somebody else took it some time ago
    let mut counts = [1; 8];
    let (store, all): (_, Vec<_>) = (
        run.store.clone(),
        (0..8).map(|n| run.partition(n)).collect(),
    );
    let (tickets, counts) = run.run(async move {
        let mut tickets = Vec::new();
        let mut refused = 0;
        for round in 0.. {
            let n = round % 8;
            let size = [900, 40_000, 5_000, 130_000, 400_000][round % 5];
            match append(&store, &all[n], &batch(&vec![n as u8; size])).await {
                Ok(appended) => {
                    tickets.push(appended.ticket);
                    counts[n] += 1;
                }
                Err(error) => {
                    assert!(matches!(
                        error,
                        AppendError::Storage(StorageError::NoSpace { .. })
                    ));
                    refused += 1;
                }
            }
            if refused > 20 {
                break;
            }
        }
        (tickets, counts)
    });
    assert!(tickets.len() > 30, "{} were admitted", tickets.len());
    flushed(&run, tickets);
    machine.world.run_for(Duration::from_secs(20));
    for n in 0..8 {
        assert_eq!(run.partition(n).undrained_bytes(), 0, "partition {n}");
        assert_eq!(run.values(n).len(), counts[n as usize]);
    }
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    run.produce(0, b"there is space again");
}

#[test]
fn what_cannot_be_freed_yet_is_waited_for() {
    let options = SimOptions {
        disk: DiskOptions {
            io_ns: (20_000_000, 20_000_000), // a segment takes long
            flush_ns: (100_000, 100_000),
            ..SimOptions::default().disk
        },
        ..SimOptions::default()
    };
    let mut config = config(&["/data"]);
    config.journal_size = JournalSize::Bytes(4 << 20);
    config.undrained_bytes = 8 << 20;
    let machine = Machine::with(61, options, config);
    let run = filled(&machine, 2, 1, 1_000);
    let before = run.store.counts();
    let (store, large, small) = (run.store.clone(), run.partition(0), run.partition(1));
    let ring = run.ring.clone();
    run.run(async move {
        // over half of the memory waits for one partition's way past the journal
        let mut last = Ticket::default();
        for _ in 0..14 {
            let appended = append(&store, &large, &batch(&[7; 500_000])).await;
            last = appended.expect("appended").ticket;
        }
        // and every commit of another one has the drains look at that
        while !store.reached(last, true) {
            let appended = append(&store, &small, &batch(b"small")).await;
            let ticket = appended.expect("appended").ticket;
            store.flushed(ticket).await.expect("flushed");
            ring.sleep(Duration::from_millis(1)).await;
        }
    });
    let counts = run.store.counts();
    assert!(counts.commits - before.commits > 4, "{counts:?}");
    let superblocks = (counts.table_bytes - before.table_bytes) / 8192;
    assert!(superblocks < 4, "{superblocks} superblocks, {counts:?}");
}

#[test]
fn a_batch_past_the_journal_waits_for_space() {
    let mut machine = Machine::new(55);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let run = filled(&machine, 1, 1, 1_000);
    let tickets = append_then_fill(&machine, &run, 1, 700_000);
    machine.world.run_for(Duration::from_secs(5));
    assert_eq!(run.store.damage(&key(0)), None, "it is full, not broken");
    assert!(!run.store.reached(tickets[0], true), "there was no space");
    assert_eq!(run.values(0).len(), 1);
    machine
        .world
        .set_disk_bytes(machine.id, Path::new("/data"), 1 << 30);
    flushed(&run, tickets);
    assert_eq!(run.values(0).len(), 2);
}

#[test]
fn drains_that_found_no_space_go_on_when_there_is_some() {
    let mut machine = Machine::new(56);
    machine.config.journal_size = JournalSize::Bytes(16 << 20);
    let run = filled(&machine, 30, 1, 1_000);
    let tickets = append_then_fill(&machine, &run, 30, 200_000);
    flushed(&run, tickets);
    machine.world.run_for(Duration::from_secs(3));
    let undrained = |n| run.partition(n).undrained_bytes();
    assert!(
        (0..30).any(|n| undrained(n) > 100_000),
        "there was no space"
    );
    machine
        .world
        .set_disk_bytes(machine.id, Path::new("/data"), 1 << 30);
    machine.world.run_for(Duration::from_secs(3));
    for n in 0..30 {
        assert!(undrained(n) < 4096, "partition {n}: {}", undrained(n));
        assert_eq!(run.values(n).len(), 2);
    }
}

#[test]
fn on_a_full_disk_a_deletion_makes_space() {
    let mut machine = Machine::new(57);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let run = filled(&machine, 5, 1, 50_000);
    run.run(fill(run.store.clone(), vec![run.partition(4)], 10, 60_000));
    machine.world.run_for(Duration::from_secs(15));
    let tickets = append_then_fill(&machine, &run, 4, 200_000);
    flushed(&run, tickets);
    machine.world.run_for(Duration::from_secs(3));
    let undrained = |n| run.partition(n).undrained_bytes();
    assert!((0..4).any(|n| undrained(n) > 100_000), "there was no space");
    let store = run.store.clone();
    run.run(async move { store.delete_partition(&key(4)).await.expect("deleted") });
    machine.world.run_for(Duration::from_secs(15));
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    assert!(!names.iter().any(|entry| entry.name.ends_with("-delete")));
    // a file system gives blocks back once its own journal says that they are free
    run.ring.sync_fs(Path::new("/data")).expect("flushed");
    machine.world.run_for(Duration::from_secs(3));
    let left: u64 = (0..4).map(undrained).sum();
    assert!(left < 300_000, "{left} bytes found no space");
}

/// A batch waits past the journal for the space of a partition that is deleted then.
fn deleted_for_a_waiting_batch(machine: &Machine) -> (Run, Vec<Ticket>) {
    let run = filled(machine, 5, 1, 1_000);
    run.run(fill(run.store.clone(), vec![run.partition(4)], 20, 60_000));
    machine.world.run_for(Duration::from_secs(15));
    for n in 0..4 {
        run.produce(n, b"only the ring has it");
    }
    let tickets = append_then_fill(machine, &run, 1, 700_000);
    machine.world.run_for(Duration::from_secs(5));
    assert!(!run.store.reached(tickets[0], true), "there was no space");
    let store = run.store.clone();
    run.run(async move { store.delete_partition(&key(4)).await.expect("deleted") });
    machine.world.run_for(Duration::from_secs(15));
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    assert!(!names.iter().any(|entry| entry.name.ends_with("-delete")));
    (run, tickets)
}

#[test]
fn on_a_full_disk_a_deletion_makes_space_for_a_batch_past_the_journal() {
    let mut machine = Machine::new(62);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let (run, tickets) = deleted_for_a_waiting_batch(&machine);
    run.ring.sync_fs(Path::new("/data")).expect("flushed");
    flushed(&run, tickets);
    assert_eq!(run.values(0).len(), 3);
}

#[test]
fn a_crash_takes_nothing_of_a_partition_that_a_checkpoint_left_out() {
    let mut machine = Machine::new(63);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    let (run, _) = deleted_for_a_waiting_batch(&machine);
    machine.world.kill(run.process);
    machine
        .world
        .set_disk_bytes(machine.id, Path::new("/data"), 1 << 30);
    let run = machine.start();
    for n in 0..4 {
        assert_eq!(run.values(n).len(), 2, "partition {n}");
    }
}

#[test]
fn without_space_for_a_journal_a_partition_is_refused_until_there_is_some() {
    let machine = Machine::new(59);
    let run = machine.start();
    let path = Path::new("/data");
    machine.world.set_disk_bytes(machine.id, path, 1 << 20);
    let store = run.store.clone();
    let refused = run.run(async move {
        let new = NewPartition {
            key: key(0),
            topic: "t".into(),
            config: Default::default(),
        };
        store.create_partition(new).await.map(|_| ())
    });
    assert!(
        matches!(
            &refused,
            Err(StoreError::Storage(StorageError::NoSpace { .. }))
        ),
        "{refused:?}"
    );
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    run.create(0);
    run.produce(0, b"one");
}

#[test]
fn an_idle_log_is_settled_and_sleeps() {
    let machine = Machine::new(54);
    let run = filled(&machine, 5, 3, 1_000);
    machine.world.run_for(Duration::from_secs(30));
    let partition = run.partition(0);
    assert_eq!(partition.undrained_bytes(), 0);
    let before = run.store.counts();
    machine.world.run_for(Duration::from_secs(600));
    assert_eq!(run.store.counts(), before, "nothing is written for nothing");
}
