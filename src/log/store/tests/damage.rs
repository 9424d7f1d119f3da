use std::path::Path;
use std::time::Duration;

use super::harness::*;
use crate::base::ids::{Offset, ShardId};
use crate::log::partition::{DrainLimit, ReadError};
use crate::log::recovery::OpenError;
use crate::log::repair::{RepairOptions, apply};
use crate::log::verify::{Finding, Severity, SurveyError, survey};
use crate::ring::driver::DirEntry;
use crate::ring::sim::SimOptions;

/// The only journal's ring file.
fn ring_path(run: &Run) -> std::path::PathBuf {
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    let ring = names
        .iter()
        .find(|entry| entry.name.ends_with(".journal"))
        .expect("a journal");
    Path::new("/data").join(&ring.name)
}

/// A machine whose broker was killed after 20 commits, and whose ring rots at this byte since.
fn rotten(seed: u64, at: u64) -> Machine {
    let machine = Machine::new(seed);
    let run = machine.start();
    run.create(0);
    for n in 0..20u8 {
        run.produce(0, &[n; 700]);
    }
    let path = ring_path(&run);
    machine.world.kill(run.process);
    machine.world.rot(machine.id, &path, at, 3);
    machine
}

#[test]
fn rot_of_durable_entries_takes_their_partitions_offline_and_is_named() {
    // two superblocks, OPEN with ADOPT, then one page for each append: byte 40 is in a header
    let machine = rotten(21, 10 * 4096 + 40);
    for _ in 0..2 {
        let run = machine.start();
        assert!(run.store.partition(&key(0)).is_none());
        let damage = run.store.damage(&key(0)).expect("it is damaged");
        assert!(damage.contains("is damaged at byte 40960"), "{damage}");
        assert!(run.store.is_offline(&key(0)));
        run.create(1);
        run.produce(1, b"others go on");
        run.stop();
    }
    let run = machine.start();
    assert!(run.store.damage(&key(0)).is_some(), "nobody repaired it");
    assert_eq!(run.values(1).len(), 2);
    let kept = run.ring.read_dir(Path::new("/data")).expect("a directory");
    assert!(kept.iter().any(|entry| entry.name.ends_with(".damaged")));
}

#[test]
fn rot_in_one_batch_takes_only_its_partition_offline() {
    let machine = Machine::new(22);
    let run = machine.start();
    run.create(0);
    run.create(1);
    for n in 0..20u8 {
        run.produce(i32::from(n % 2), &[n; 700]);
    }
    let path = ring_path(&run);
    machine.world.kill(run.process);
    machine.world.rot(machine.id, &path, 10 * 4096 + 400, 3);
    let run = machine.start();
    let offline: Vec<bool> = (0..2).map(|n| run.store.is_offline(&key(n))).collect();
    assert_eq!(offline.iter().filter(|offline| **offline).count(), 1);
    let other = i32::from(offline[0]);
    assert_eq!(run.values(other).len(), 10);
}

#[test]
fn a_torn_tail_is_dropped() {
    // the newest entry has nobody who knows that it was durable
    let machine = rotten(23, 22 * 4096 + 400);
    let run = machine.start();
    assert_eq!(run.values(0).len(), 19);
    assert_eq!(run.produce(0, b"goes on").base_offset, Offset(19));
}

#[test]
fn an_idle_journal_seals_its_newest_entry() {
    let machine = Machine::new(24);
    let run = machine.start();
    run.create(0);
    run.produce(0, &[1; 700]);
    machine.world.run_for(std::time::Duration::from_secs(3));
    let path = ring_path(&run);
    machine.world.kill(run.process);
    machine.world.rot(machine.id, &path, 3 * 4096 + 400, 3);
    let run = machine.start();
    assert!(
        run.store.is_offline(&key(0)),
        "it is known to have been durable"
    );
}

#[test]
fn a_missing_journal_takes_the_directory_offline_and_others_go_on() {
    let machine = Machine::with(25, SimOptions::default(), config(&["/data", "/more"]));
    let run = machine.start();
    for n in 0..2 {
        run.create(n);
        run.produce(n, b"one");
    }
    let path = ring_path(&run);
    run.ring.remove_file(&path).expect("removed");
    machine.world.kill(run.process);
    let run = machine.start();
    let there: Vec<i32> = (0..2)
        .filter(|n| run.store.partition(&key(*n)).is_some())
        .collect();
    assert_eq!(there.len(), 1);
    assert_eq!(run.values(there[0]).len(), 1);
    let states: Vec<bool> = run
        .store
        .directories()
        .iter()
        .map(|directory| directory.is_offline())
        .collect();
    assert_eq!(states, [true, false]);
}

#[test]
fn a_failed_flush_takes_the_directory_offline_and_is_never_tried_again() {
    let machine = Machine::new(26);
    let run = machine.start();
    run.create(0);
    run.produce(0, b"one");
    machine
        .world
        .fail_flushes(machine.id, Path::new("/data"), 1);
    let (store, partition) = (run.store.clone(), run.partition(0));
    let refused = run.run(async move {
        let appended = append(&store, &partition, &batch(b"two")).await;
        let waited = store.flushed(appended.expect("appended").ticket).await;
        let again = append(&store, &partition, &batch(b"three")).await;
        (waited, again)
    });
    assert!(refused.0.is_err());
    assert!(refused.1.is_err());
    assert!(run.store.is_offline(&key(0)));
    machine.world.kill(run.process);
    let run = machine.start();
    assert_eq!(run.values(0)[0], (Offset(0), b"one".to_vec()));
}

#[test]
fn another_node_or_cluster_is_refused() {
    let mut machine = Machine::new(27);
    let run = machine.start();
    run.create(0);
    run.stop();
    machine.config.node_id = crate::base::ids::NodeId(2);
    assert!(matches!(
        machine.try_start().map(|_| ()),
        Err(OpenError::WrongNode {
            expected: 2,
            found: 1,
            ..
        })
    ));
    machine.config.node_id = crate::base::ids::NodeId(1);
    machine.config.cluster_id = Some("elsewhere".into());
    assert!(matches!(
        machine.try_start().map(|_| ()),
        Err(OpenError::WrongCluster { .. })
    ));
    machine.config.cluster_id = None;
    assert!(machine.start().clean);
}

#[test]
fn a_directory_in_use_is_refused() {
    let machine = Machine::new(28);
    let _run = machine.start();
    assert!(matches!(
        machine.try_start().map(|_| ()),
        Err(OpenError::Locked { .. })
    ));
}

#[test]
fn a_partition_that_no_topic_knows_is_set_aside_not_deleted() {
    let machine = Machine::new(29);
    let run = machine.start();
    run.create(0);
    run.produce(0, b"one");
    let store = run.store.clone();
    run.run(async move {
        let new = crate::log::store::NewPartition {
            key: crate::base::ids::PartitionKey {
                topic: crate::base::ids::Uuid([8; 16]),
                ..key(0)
            },
            topic: "stranger".into(),
            config: Default::default(),
        };
        store.create_partition(new).await.expect("made");
    });
    machine.world.kill(run.process);
    let run = machine.start();
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    let strays: Vec<_> = names
        .iter()
        .filter(|entry| entry.name.ends_with("-stray"))
        .collect();
    assert_eq!(strays.len(), 1);
    assert!(strays[0].name.starts_with("stranger-0."));
    assert_eq!(run.values(0).len(), 1);
}

#[test]
fn a_topic_made_again_gets_nothing_of_a_stray_of_its_name() {
    let machine = Machine::new(31);
    let run = machine.start();
    let stray = key(0);
    let stray = crate::base::ids::PartitionKey {
        topic: crate::base::ids::Uuid([8; 16]),
        ..stray
    };
    let store = run.store.clone();
    run.run(async move {
        let new = crate::log::store::NewPartition {
            key: stray,
            topic: "t".into(),
            config: Default::default(),
        };
        store.create_partition(new).await.expect("made");
    });
    machine.world.kill(run.process);
    let run = machine.start(); // no topic has it: set aside
    run.create(0); // the directory t-0
    run.produce(0, &[1; 50_000]);
    machine.world.kill(run.process);
    let run = machine.start();
    assert_eq!(run.values(0).len(), 1);
    assert_eq!(run.store.damage(&key(0)), None);
}

/// Of two partitions the first is deleted.
fn with_a_deletion(machine: &Machine) -> Run {
    let run = machine.start();
    run.create(0);
    run.create(1);
    run.produce(0, &[1; 100_000]);
    let store = run.store.clone();
    run.run(async move { store.delete_partition(&key(0)).await.expect("deleted") });
    run
}

#[test]
fn a_deleted_partition_leaves_the_disk() {
    let machine = Machine::new(30);
    let run = with_a_deletion(&machine);
    machine.world.run_for(std::time::Duration::from_secs(30));
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    let left: Vec<_> = names
        .iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(left, ["t-1"]);
    machine.world.kill(run.process);
    let run = machine.start();
    assert!(run.store.partition(&key(0)).is_none());
}

#[test]
fn a_deleted_partition_leaves_the_disk_soon_while_others_are_written_to() {
    let machine = Machine::new(34);
    let run = with_a_deletion(&machine);
    // never idle, and far from filling the journal
    for _ in 0..8 {
        run.produce(1, b"a trickle");
        machine.world.run_for(Duration::from_millis(500));
    }
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    let waits = |entry: &&DirEntry| entry.name.ends_with("-delete");
    assert_eq!(names.iter().find(waits), None);
    machine.world.kill(run.process);
    let run = machine.start();
    assert!(run.store.partition(&key(0)).is_none());
    assert_eq!(run.values(1).len(), 8);
}

#[test]
fn the_evidence_of_a_damaged_journal_survives_starts_that_are_cut() {
    for calls in 0..60 {
        for power in [false, true] {
            let machine = rotten(32, 10 * 4096 + 40);
            let process = machine.world.process(machine.id);
            machine.world.die_at_call(process, calls, power);
            let _ = machine.start_in(process);
            machine.world.kill(process);
            let run = machine.start();
            assert!(run.store.damage(&key(0)).is_some(), "call {calls}");
            let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
            let kept = names.iter().any(|entry| entry.name.ends_with(".damaged"));
            assert!(kept, "call {calls}, power {power}: {names:?}");
            run.create(1);
            run.produce(1, b"others go on");
        }
    }
}

#[test]
fn a_damaged_partition_that_is_deleted_does_not_come_back() {
    let machine = rotten(33, 10 * 4096 + 40);
    let run = machine.start();
    assert!(run.store.damage(&key(0)).is_some());
    let store = run.store.clone();
    run.run(async move { store.delete_partition(&key(0)).await.expect("deleted") });
    assert_eq!(run.store.damage(&key(0)), None);
    machine
        .world
        .power_cut(machine.id, crate::ring::sim::Luck::Lost);
    let run = machine.start();
    assert_eq!(run.store.damage(&key(0)), None, "it was deleted");
    assert!(run.store.partition(&key(0)).is_none());
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    assert!(!names.iter().any(|entry| entry.name == "t-0"), "{names:?}");
}

#[test]
fn a_log_that_another_wrote_since_the_clean_stop_is_noticed() {
    let machine = Machine::new(34);
    let run = machine.start();
    for n in 0..2 {
        run.create(n);
        run.produce(n, b"first");
        run.produce(n, b"last");
    }
    run.stop();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let last = 61 + 6 + 5 + 2; // its header's CRC, behind the first batch
    machine.world.rot(machine.id, path, last + 18, 2);
    let run = machine.start();
    assert!(run.clean);
    let damage = run.store.damage(&key(0)).expect("it is not what was there");
    assert!(damage.contains("00000000000000000000.log"), "{damage}");
    assert!(damage.contains("since the clean stop"), "{damage}");
    assert_eq!(run.values(1).len(), 2);
}

#[test]
fn a_sealed_segment_of_another_length_than_the_clean_stop_saw_is_noticed() {
    for (cut, what) in [(true, "are there"), (false, "missing")] {
        let mut machine = Machine::new(35);
        machine.topic.segment_bytes = 2000;
        let run = machine.start();
        run.create(0);
        run.create(1);
        run.stop();
        let run = machine.start();
        for n in 0..20u8 {
            run.produce(i32::from(n % 2), &[n; 700]);
        }
        run.stop();
        let run = machine.start();
        assert_eq!(run.values(0).len(), 10, "sealed and whole");
        run.stop();
        let path = Path::new("/data/t-0/00000000000000000002.log");
        let other = machine
            .world
            .shard(machine.world.process(machine.id), ShardId(0));
        match cut {
            true => {
                let options = crate::ring::driver::OpenOptions {
                    write: true,
                    ..Default::default()
                };
                let file = other.open(path, options).expect("a segment");
                file.set_len(769).expect("cut");
            }
            false => other.remove_file(path).expect("removed"),
        }
        let run = machine.start();
        let damage = run.store.damage(&key(0)).expect("it is not what was there");
        assert!(damage.contains("00000000000000000002.log"), "{damage}");
        assert!(damage.contains(what), "{damage}");
        assert_eq!(run.values(1).len(), 10);
    }
}

/// Repairs the only directory; `None` if the process was killed meanwhile. How much damage a look
/// after it finds.
fn repair_in(machine: &Machine, process: crate::ring::sim::ProcessId) -> Option<usize> {
    let ring = machine.world.shard(process, ShardId(0));
    let task = {
        let ring = ring.clone();
        async move {
            let dir = Path::new("/data");
            let look = async || {
                let looked = survey(&ring, dir, &mut |_| ()).await;
                looked.expect("nobody works there")
            };
            let found = look().await;
            let repaired = apply(&ring, found, &RepairOptions::default()).await;
            repaired.expect("a disk that works");
            let damage = |f: &&Finding| f.severity == Severity::Damage;
            look().await.findings.iter().filter(damage).count()
        }
    };
    run(&machine.world, process, &ring, task)
}

#[test]
fn a_look_waits_for_writes_of_a_killed_broker_and_refuses_at_a_broker_that_works() {
    let machine = Machine::new(43);
    let broker = machine.start();
    broker.create(0);
    let path = ring_path(&broker);
    let look = || {
        let process = machine.world.process(machine.id);
        let ring = machine.world.shard(process, ShardId(0));
        let task = {
            let ring = ring.clone();
            async move {
                let began = ring.now();
                let looked = survey(&ring, Path::new("/data"), &mut |_| ()).await;
                (looked.map(|_| ()), ring.now() - began)
            }
        };
        let looked = run(&machine.world, process, &ring, task).expect("nobody kills it");
        machine.world.kill(process);
        looked
    };
    let (refused, waited) = look();
    assert!(matches!(refused, Err(SurveyError::Locked(_))));
    assert!(
        waited < Duration::from_secs(1),
        "the broker is there for long"
    );
    machine.world.kill(broker.process);
    let holder = machine.world.process(machine.id);
    let ring = machine.world.shard(holder, ShardId(0));
    let journal = ring.open(&path, Default::default()).expect("a journal");
    // as the kernel holds it while writes of the killed process are on their way
    journal.try_lock().expect("its broker is gone");
    let (refused, waited) = look();
    assert!(matches!(refused, Err(SurveyError::Locked(_))));
    assert!(waited >= Duration::from_secs(5), "they may end yet");
    machine.world.kill(holder);
    let (looked, _) = look();
    looked.expect("all has ended");
}

#[test]
fn a_repair_that_is_cut_at_any_step_is_repaired_by_another() {
    let mut ended = false;
    for calls in 0..200 {
        for power in [false, true] {
            let machine = rotten(36, 10 * 4096 + 40);
            let process = machine.world.process(machine.id);
            machine.world.die_at_call(process, calls, power);
            ended |= repair_in(&machine, process).is_some();
            machine.world.kill(process);
            let process = machine.world.process(machine.id);
            assert_eq!(
                repair_in(&machine, process),
                Some(0),
                "call {calls}, power {power}"
            );
            machine.world.kill(process);
            let run = machine.start();
            let values = run.values(0);
            assert_eq!(values.len(), 7, "call {calls}, power {power}");
            assert!((0..7u8).all(|n| values[usize::from(n)].1 == [n; 700]));
            assert_eq!(run.produce(0, b"goes on").base_offset, Offset(7));
            run.stop();
            let process = machine.world.process(machine.id);
            assert_eq!(
                repair_in(&machine, process),
                Some(0),
                "call {calls}, power {power}"
            );
        }
        if ended {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_repair_after_starts_keeps_what_it_would_have_kept_before_them() {
    // a header, and the bytes of a batch
    for at in [10 * 4096 + 40, 10 * 4096 + 400] {
        for starts in 0..3 {
            let machine = rotten(37, at);
            for _ in 0..starts {
                let run = machine.start();
                assert!(run.store.is_offline(&key(0)), "{at}, {starts} starts");
                machine.world.kill(run.process);
            }
            let process = machine.world.process(machine.id);
            assert_eq!(repair_in(&machine, process), Some(0), "{at}, {starts}");
            machine.world.kill(process);
            let run = machine.start();
            let values = run.values(0);
            assert_eq!(values.len(), 7, "{at}, {starts} starts");
            assert!((0..7u8).all(|n| values[usize::from(n)].1 == [n; 700]));
        }
    }
}

#[test]
fn a_start_after_a_repair_that_was_cut_serves_nothing_short() {
    for calls in 0..200 {
        let machine = Machine::new(38);
        let run = machine.start();
        run.create(0);
        run.produce(0, &[0; 700]);
        run.stop();
        machine.world.kill(run.process);
        let run = machine.start();
        for n in 1..20u8 {
            run.produce(0, &[n; 700]);
        }
        // all is in the files, and only the table of the journal says so
        machine.world.run_for(std::time::Duration::from_secs(15));
        let path = ring_path(&run);
        machine.world.kill(run.process);
        for superblock in [100, 4096 + 100] {
            machine.world.rot(machine.id, &path, superblock, 3);
        }
        let process = machine.world.process(machine.id);
        machine.world.die_at_call(process, calls, false);
        let ended = repair_in(&machine, process).is_some();
        machine.world.kill(process);
        match machine.try_start() {
            Ok(run) if run.store.partition(&key(0)).is_some() => {
                assert_eq!(run.values(0).len(), 20, "call {calls}");
            }
            _ => assert!(!ended, "repaired, and not served"),
        }
        if ended {
            return;
        }
    }
    panic!("it never ends");
}

/// Three batches in the file of a broker that started anew, whose second rots at this byte.
fn with_a_rotten_batch(seed: u64, byte: u64, bit: u8) -> Run {
    let machine = Machine::new(seed);
    let run = machine.start();
    run.create(0);
    for n in 0..3 {
        run.produce(0, &[n; 100]);
    }
    run.stop();
    let run = machine.start();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let len = run.ring.read(path).expect("a segment").len() as u64;
    machine.world.rot(machine.id, path, len / 3 + byte, bit);
    run
}

#[test]
fn rot_in_a_page_that_is_written_again_is_not_taken_for_what_was_appended() {
    // a bit of the length, and one of a value
    for (byte, bit) in [(9, 3), (100, 0)] {
        let run = with_a_rotten_batch(36, byte, bit);
        // the rest of the page comes, and all of it goes to the file
        run.produce(0, &[3; 10_000]);
        let partition = run.partition(0);
        let error = run.run(async move {
            let drained = partition.drain(DrainLimit::Durable, 1 << 20).await;
            assert_eq!(drained.expect("written"), 8192);
            let (limit, max) = (partition.durable_end(), 1 << 20);
            let mut plan = partition.read_cold(Offset(1), max, limit, true).await?;
            partition.check_plan(&mut plan).await.map(|()| plan.bytes)
        });
        assert!(matches!(error, Err(ReadError::Corrupt { .. })), "{error:?}");
    }
}

#[test]
fn a_batch_that_claims_more_offsets_than_it_has_does_not_hide_them() {
    // of the field that says how many offsets follow the first
    let run = with_a_rotten_batch(37, 26, 2);
    let partition = run.partition(0);
    let error = run.run(async move {
        let read = partition.read_cold(Offset(1), 1 << 20, Offset(2), true);
        read.await.map(|plan| plan.bytes)
    });
    assert!(matches!(error, Err(ReadError::Corrupt { .. })), "{error:?}");
}
