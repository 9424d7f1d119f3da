//! Rings and disks that fill.

use std::path::Path;
use std::time::Duration;

use super::harness::*;
use crate::base::ids::Offset;
use crate::log::store::JournalSize;

async fn fill(
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

fn filled(machine: &Machine, partitions: i32, rounds: usize, bytes: usize) -> Run {
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
fn a_ring_grows_while_it_stands_over_half_full_and_recovers_at_its_new_size() {
    let machine = Machine::new(52);
    let run = filled(&machine, 40, 40, 30_000);
    let ring = |run: &Run| {
        let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
        let found = names.iter().find(|entry| entry.name.ends_with(".journal"));
        found.expect("a journal").len
    };
    assert!(ring(&run) > (5 << 20), "{} bytes", ring(&run));
    machine.world.kill(run.process);
    let run = machine.start();
    for n in 0..40 {
        assert_eq!(run.values(n).len(), 40);
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
