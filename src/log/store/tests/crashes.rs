use std::path::Path;
use std::time::Duration;

use super::harness::*;
use crate::base::ids::Offset;
use crate::log::store::FlushPolicy;
use crate::ring::sim::Luck;

#[test]
fn acked_records_survive_a_killed_process() {
    let machine = Machine::new(3);
    let run = machine.start();
    run.create(0);
    for n in 0..50u8 {
        run.produce(0, &[n; 700]);
    }
    machine.world.kill(run.process);
    let run = machine.start();
    let values = run.values(0);
    assert_eq!(values.len(), 50);
    assert!(
        values
            .iter()
            .enumerate()
            .all(|(i, v)| v.1 == [i as u8; 700])
    );
}

#[test]
fn acked_records_survive_a_power_cut() {
    for (seed, luck) in [
        (4, Luck::Lost),
        (5, Luck::Kept),
        (6, Luck::Mixed(0.5)),
        (7, Luck::Mixed(0.5)),
    ] {
        let machine = Machine::new(seed);
        let run = machine.start();
        run.create(0);
        for n in 0..50u8 {
            run.produce(0, &[n; 700]);
        }
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        assert_eq!(run.values(0).len(), 50);
    }
}

#[test]
fn without_flushes_a_power_cut_takes_only_what_no_interval_covered() {
    for (seed, luck) in [
        (8, Luck::Lost),
        (9, Luck::Kept),
        (10, Luck::Mixed(0.5)),
        (11, Luck::Mixed(0.5)),
    ] {
        let mut machine = Machine::new(seed);
        machine.config.flush_policy = FlushPolicy::Interval;
        machine.config.flush_interval = Duration::from_secs(2);
        let run = machine.start();
        run.create(0);
        for n in 0..20u8 {
            run.produce(0, &[n; 3_000]);
        }
        machine.world.run_for(Duration::from_secs(20));
        for n in 20..60u8 {
            run.produce(0, &[n; 3_000]);
        }
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        let values = run.values(0);
        assert!(values.len() >= 20, "{} of 20 flushed", values.len());
        let right = |(i, (_, value)): (usize, &(_, Vec<u8>))| *value == [i as u8; 3_000];
        assert!(values.iter().enumerate().all(right), "a prefix of the log");
        let next = run.produce(0, b"goes on").base_offset;
        assert_eq!(next.0 as usize, values.len());
        run.stop();
        assert_eq!(machine.start().values(0).len(), values.len() + 1);
    }
}

#[test]
fn without_flushes_what_was_made_and_deleted_survives_a_power_cut_right_after_the_answer() {
    for (seed, luck) in [
        (12, Luck::Lost),
        (13, Luck::Kept),
        (14, Luck::Mixed(0.5)),
        (15, Luck::Mixed(0.5)),
    ] {
        let mut machine = Machine::new(seed);
        machine.config.flush_policy = FlushPolicy::Interval;
        let run = machine.start();
        run.create(0);
        run.create(1);
        run.produce(1, &[1; 200_000]);
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        assert_eq!(run.partition(0).log_end().0, 0);
        assert!(run.partition(1).log_end().0 <= 1);
        run.create(2);
        run.produce(0, b"kept for a while");
        for n in [0, 2] {
            let store = run.store.clone();
            run.run(async move { store.delete_partition(&key(n)).await.expect("deleted") });
        }
        run.create(3);
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        for (n, there) in [(0, false), (1, true), (2, false), (3, true)] {
            let found = run.store.partition(&key(n)).is_some();
            assert_eq!(
                found,
                there,
                "partition {n}: {:?}",
                run.store.damage(&key(n))
            );
            assert_eq!(run.store.damage(&key(n)), None);
        }
    }
}

#[test]
fn without_flushes_many_partitions_are_made_durable_by_one_table() {
    let mut machine = Machine::new(16);
    machine.config.flush_policy = FlushPolicy::Interval;
    let run = machine.start();
    let (store, before) = (run.store.clone(), run.store.counts());
    run.run(async move {
        let new = |n| crate::log::store::NewPartition {
            key: key(n),
            topic: "t".into(),
            config: Default::default(),
        };
        let made = store.create_partitions((0..200).map(new).collect()).await;
        assert_eq!(made.expect("made").len(), 200);
    });
    let flushes = run.store.counts().flushes - before.flushes;
    assert!(flushes < 20, "{flushes} flushes");
    machine.world.power_cut(machine.id, Luck::Lost);
    let run = machine.start();
    assert_eq!(run.store.partitions().len(), 200);
}

#[test]
fn a_stop_whose_flush_fails_is_not_clean_and_loses_nothing() {
    for seed in 0..10 {
        let machine = Machine::new(seed);
        let run = machine.start();
        for n in 0..3 {
            run.create(n);
            run.produce(n, b"one");
        }
        for _ in 0..24 {
            run.produce(2, &[7; 60_000]); // in all more than goes through the page cache
        }
        machine
            .world
            .fail_flushes(machine.id, Path::new("/data"), 1);
        let store = run.store.clone();
        run.run(async move { store.stop_clean().await.expect_err("a flush failed") });
        machine.world.power_cut(machine.id, Luck::Lost);
        let run = machine.start();
        assert!(!run.clean);
        assert_eq!(run.values(0), [(Offset(0), b"one".to_vec())]);
        assert_eq!(run.values(2).len(), 25);
        run.stop();
        machine.world.power_cut(machine.id, Luck::Lost);
        let run = machine.start();
        assert!(run.clean);
        assert_eq!(run.values(1), [(Offset(0), b"one".to_vec())]);
        assert_eq!(run.values(2).len(), 25);
    }
}

#[test]
fn what_is_asked_for_while_the_log_stops_is_refused() {
    for bytes in [100, 100_000] {
        let machine = Machine::new(71);
        let run = machine.start();
        run.create(0);
        let (store, partition, ring) = (run.store.clone(), run.partition(0), run.ring.clone());
        let (taken, refused) = run.run(async move {
            let ending = store.clone();
            let stop = ring.spawn(async move { ending.stop_clean().await });
            let mut taken = 0;
            let refused = loop {
                match append(&store, &partition, &batch(&vec![1; bytes])).await {
                    Ok(_) => taken += 1,
                    Err(error) => break error,
                }
                ring.sleep(Duration::from_micros(10)).await;
            };
            let deleted = store.delete_partition(&key(0)).await;
            deleted.expect_err("nothing new is taken");
            stop.await.expect("a clean stop");
            (taken, refused)
        });
        assert!(refused.to_string().contains("the log stops"), "{refused}");
        machine.world.kill(run.process);
        let run = machine.start();
        assert!(run.clean);
        assert_eq!(run.values(0).len(), taken);
    }
}
