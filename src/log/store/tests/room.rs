//! Who is let in, who waits, and what a want of space must not become.

use std::path::Path;
use std::time::Duration;

use super::harness::*;
use crate::log::append::{Origin, StorageError};
use crate::log::store::{FlushPolicy, JournalSize};
use crate::wire::batch::BatchView;

#[test]
fn what_was_let_in_is_appended_however_large_it_is() {
    let mut machine = Machine::new(70);
    machine.config.journal_size = JournalSize::Bytes(4 << 20);
    machine.config.undrained_bytes = 512 << 10;
    let run = machine.start();
    let partition = run.create(0);
    let store = run.store.clone();
    run.run(async move {
        for round in 0..60 {
            let size = [700_000, 200_000, 300_000, 100, 2_000_000][round % 5];
            let batch = batch(&vec![round as u8; size]);
            let view = BatchView::parse(&batch).expect("a batch");
            store.admit(batch.len()).await;
            let appended = store.append(&partition, &view, Origin::Client);
            assert!(appended.is_ok(), "round {round}: {:?}", appended.err());
        }
    });
}

#[test]
fn a_partition_stands_once_in_the_queue_of_the_drains() {
    let machine = Machine::new(71);
    let run = machine.start();
    run.create(0);
    let journal = run.store.journals().remove(0);
    let ready = || journal.state.borrow().ready.len();
    for _ in 0..3 {
        journal.queue(0);
        journal.unqueue(0); // a checkpoint drains it
    }
    journal.queue(0);
    assert_eq!(ready(), 1);
    machine.world.run_for(Duration::from_secs(30));
    journal.queue(0);
    assert_eq!(ready(), 1);
}

#[test]
fn a_superblock_that_finds_no_space_takes_nothing_that_was_acked() {
    let machine = Machine::new(72);
    let run = machine.start();
    for n in 0..4 {
        run.create(n);
        run.produce(n, b"acked");
    }
    machine.world.run_for(Duration::from_secs(5)); // the seal is written
    // on a file system that never overwrites
    machine
        .world
        .refuse_writes(machine.id, Path::new("/data"), 1);
    machine.world.run_for(Duration::from_secs(20));
    machine.world.kill(run.process);
    let run = machine.start();
    for n in 0..4 {
        assert_eq!(run.values(n).len(), 1, "partition {n}");
    }
}

#[test]
fn who_waits_for_a_table_while_the_log_stops_is_told_so() {
    let mut machine = Machine::new(73);
    machine.config.flush_policy = FlushPolicy::Interval;
    let run = machine.start();
    run.create(0);
    let journal = run.store.journals().remove(0);
    let store = run.store.clone();
    let error = run.run(async move {
        store.stop_clean().await.expect("a stop");
        journal.until_named().await.expect_err("no table comes")
    });
    let StorageError::Offline { reason, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, "the log stops");
}
