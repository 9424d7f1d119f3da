//! Random work against a model, with a crash at a random step, again and again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::harness::*;
use crate::base::config::TopicConfig;
use crate::log::store::{FlushPolicy, LogStore, NewPartition};
use crate::ring::Ring;
use crate::ring::sim::{DiskOptions, Luck, Rng, SimOptions};

/// What a client knows of one partition.
#[derive(Default)]
struct Known {
    /// Acked as durable.
    durable: BTreeMap<i64, Vec<u8>>,
    /// Acked as written: survives a killed process.
    written: BTreeMap<i64, Vec<u8>>,
    /// Seen below the high watermark.
    seen: BTreeMap<i64, Vec<u8>>,
    /// It was acked that it exists.
    exists: bool,
    /// Its deletion was asked for, or acked.
    deleting: bool,
    deleted: bool,
}

type Model = Rc<RefCell<BTreeMap<i32, Known>>>;

fn value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(40) {
        0 => 300_000 + rng.below(500_000),
        1..=4 => 20_000 + rng.below(60_000),
        5..=12 => 2_000 + rng.below(6_000),
        _ => 20 + rng.below(1_200),
    };
    let mut bytes = vec![rng.below(256) as u8; len as usize];
    bytes[..8].copy_from_slice(&rng.below(u64::MAX).to_be_bytes());
    bytes
}

/// Errors are right only in a process that is dying.
async fn client(
    store: Rc<LogStore>,
    ring: Ring,
    model: Model,
    mut rng: Rng,
    partitions: i32,
    creating: Rc<Cell<u32>>,
    alive: impl Fn() -> bool,
) {
    for _ in 0..400 {
        let n = rng.below(partitions as u64) as i32;
        if rng.chance(0.01) {
            ring.sleep(Duration::from_millis(rng.below(15_000))).await;
        }
        let deleting = model.borrow().get(&n).is_some_and(|known| known.deleting);
        if deleting {
            continue;
        }
        let Some(partition) = store.partition(&key(n)) else {
            let new = NewPartition {
                key: key(n),
                topic: Arc::from("t"),
                config: Arc::new(topic()),
            };
            creating.set(creating.get() + 1);
            let made = store.create_partition(new).await;
            creating.set(creating.get() - 1);
            if let Err(error) = made {
                assert!(!alive(), "{error}");
                return;
            }
            model.borrow_mut().entry(n).or_default().exists = true;
            continue;
        };
        if n == partitions - 1 && rng.chance(0.02) && creating.get() == 0 {
            model.borrow_mut().entry(n).or_default().deleting = true;
            if let Err(error) = store.delete_partition(&key(n)).await {
                assert!(!alive(), "{error}");
                return;
            }
            model.borrow_mut().entry(n).or_default().deleted = true;
            continue;
        }
        if rng.chance(0.02) {
            let seen = read_all(&partition).await;
            let mut model = model.borrow_mut();
            let known = model.entry(n).or_default();
            known.seen.extend(seen.into_iter().map(|(o, v)| (o.0, v)));
            continue;
        }
        let value = value(&mut rng);
        let Ok(appended) = append(&store, &partition, &batch(&value)).await else {
            let deleting = model.borrow()[&n].deleting;
            assert!(deleting || !alive(), "only a deletion stops appends");
            continue;
        };
        let offset = appended.base_offset.0;
        let wait = match rng.below(3) {
            0 => store.written(appended.ticket).await.map(|()| false),
            _ => store.flushed(appended.ticket).await.map(|()| true),
        };
        let mut model = model.borrow_mut();
        let known = model.entry(n).or_default();
        match wait {
            Ok(true) => known.durable.insert(offset, value),
            Ok(false) => known.written.insert(offset, value),
            Err(error) => {
                assert!(known.deleting || !alive(), "{error}");
                None
            }
        };
    }
}

fn topic() -> TopicConfig {
    TopicConfig {
        segment_bytes: 1 << 20,
        ..TopicConfig::default()
    }
}

fn check(run: &Run, model: &Model, power: bool, context: &str) {
    let numbers: Vec<i32> = model.borrow().keys().copied().collect();
    for n in numbers {
        let (exists, deleting, deleted) = {
            let model = model.borrow();
            (model[&n].exists, model[&n].deleting, model[&n].deleted)
        };
        let there = run.store.partition(&key(n)).is_some();
        if deleted {
            assert!(!there, "{context}: partition {n} was deleted");
        }
        if deleting {
            // gone or not, the next life of this number is another one
            if there {
                let store = run.store.clone();
                run.run(async move { store.delete_partition(&key(n)).await.expect("deleted") });
            }
            model.borrow_mut().remove(&n);
            continue;
        }
        if !exists && !there {
            continue;
        }
        let values: BTreeMap<i64, Vec<u8>> = {
            let partition = run.partition(n);
            assert_eq!(partition.log_end(), partition.durable_end());
            run.run(async move { read_all(&partition).await })
                .into_iter()
                .map(|(offset, value)| (offset.0, value))
                .collect()
        };
        let mut model = model.borrow_mut();
        let known = model.get_mut(&n).expect("listed");
        let must = [
            ("durable", &known.durable, true),
            ("seen", &known.seen, true),
            ("written", &known.written, !power),
        ];
        for (what, acked, holds) in must {
            for (offset, value) in acked.iter().filter(|_| holds) {
                assert!(
                    values.get(offset) == Some(value),
                    "{context}: partition {n} lost or changed {what} offset {offset} ({} bytes), it ends at {:?}",
                    value.len(),
                    values.keys().next_back(),
                );
            }
        }
        if power {
            known.written.clear();
        }
        // what is there now is durable, and stays
        known.durable = values;
        known.exists = true;
    }
}

/// Under `interval` an ack survives a killed process only, so that is what happens there.
fn life(seed: u64, policy: FlushPolicy) {
    let options = SimOptions {
        disk: DiskOptions {
            slow_chance: 0.01,
            short_chance: 0.02,
            ordered_names: seed.is_multiple_of(2),
            ..SimOptions::default().disk
        },
        ..SimOptions::default()
    };
    let mut machine = Machine::with(seed, options, config(&["/data"]));
    machine.topic = topic();
    machine.config.flush_policy = policy;
    machine.config.flush_interval = Duration::from_secs(3);
    let kills_only = policy == FlushPolicy::Interval;
    if seed.is_multiple_of(3) {
        machine.config.dirs.push("/more".into());
    }
    let mut rng = Rng::new(seed);
    let model = Model::default();
    let partitions = 1 + rng.below(12) as i32;
    for round in 0..4 {
        let context = format!("seed {seed} round {round}");
        let run = machine.start();
        let power = rng.chance(0.7) && !kills_only;
        let clean_stop = rng.chance(0.15);
        let calls = match rng.below(3) {
            0 => 1 + rng.below(60),
            1 => 1 + rng.below(1_000),
            _ => 1 + rng.below(8_000),
        };
        let creating = Rc::new(Cell::new(0));
        for _ in 0..4 {
            let work = client(
                run.store.clone(),
                run.ring.clone(),
                model.clone(),
                Rng::new(rng.below(u64::MAX)),
                partitions,
                creating.clone(),
                {
                    let (world, process) = (machine.world.clone(), run.process);
                    move || world.alive(process)
                },
            );
            machine.world.spawn(run.process, &run.ring, work);
        }
        if !clean_stop {
            machine.world.die_at_call(run.process, calls, power);
        }
        let world = machine.world.clone();
        let done = || !world.alive(run.process) || world.finished(run.process);
        assert!(
            world.run_until(Duration::from_secs(3_000), done),
            "{context}: stuck"
        );
        let mut lost_power = power && !clean_stop;
        if world.alive(run.process) {
            if clean_stop {
                run.stop();
            } else if power {
                world.power_cut(machine.id, Luck::draw(&mut rng));
            } else {
                world.kill(run.process);
            }
        }
        drop(run);
        // crashes while it recovers
        for _ in 0..rng.below(3) {
            let process = world.process(machine.id);
            let power = rng.chance(0.5) && !kills_only;
            lost_power |= power;
            world.die_at_call(process, 1 + rng.below(60), power);
            let started = machine.start_in(process);
            if let (Some(Err(error)), true) = (started, world.alive(process)) {
                panic!("{context}: {error}");
            }
            world.kill(process);
        }
        let run = machine.start();
        check(&run, &model, lost_power, &context);
        // another start of what was just recovered
        if rng.chance(0.5) || kills_only {
            world.kill(run.process);
        } else {
            world.power_cut(machine.id, Luck::draw(&mut rng));
        }
        drop(run);
        let run = machine.start();
        check(
            &run,
            &model,
            !kills_only,
            &format!("{context}, started again"),
        );
        match rng.chance(0.3) {
            true => run.stop(),
            false => world.kill(run.process),
        }
    }
}

#[test]
fn acked_and_seen_records_survive_crashes_at_any_step() {
    lives(FlushPolicy::Group);
}

#[test]
fn without_flushes_acked_and_seen_records_survive_killed_processes() {
    lives(FlushPolicy::Interval);
}

fn lives(policy: FlushPolicy) {
    let seeds: Vec<u64> = match std::env::var("CORELANE_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("from..to");
            (from.parse().expect("a number")..to.parse().expect("a number")).collect()
        }
        Err(_) => (0..4).collect(),
    };
    if std::env::var("CORELANE_TRACE").is_ok() {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_test_writer()
            .try_init();
    }
    for seed in seeds {
        let result = std::panic::catch_unwind(|| life(seed, policy));
        if let Err(panic) = result {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}
