//! Several shards over the same directories, and another number of them after a restart.

use std::rc::Rc;
use std::sync::Arc;

use super::harness::*;
use crate::base::ids::ShardId;
use crate::log::recovery::open_directories;
use crate::log::store::LogStore;
use crate::ring::Ring;
use crate::ring::sim::{ProcessId, SimOptions};

fn owner(n: i32, shards: u16) -> usize {
    n as usize % usize::from(shards)
}

fn start(machine: &Machine, shards: u16) -> (ProcessId, Vec<Run>) {
    let process = machine.world.process(machine.id);
    let rings: Vec<Ring> = (0..shards)
        .map(|n| machine.world.shard(process, ShardId(n)))
        .collect();
    let config = Arc::new(machine.config.clone());
    let opened = {
        let (ring, config) = (rings[0].clone(), config.clone());
        let task = async move { open_directories(&ring, &config).await.expect("opened") };
        run(&machine.world, process, &rings[0], task).expect("alive")
    };
    let clean = opened.clean;
    let parts = opened.split(shards, |key| ShardId(owner(key.partition.0, shards) as u16));
    let runs = rings
        .into_iter()
        .zip(parts)
        .map(|(ring, part)| {
            let store: Rc<LogStore> = {
                let (ring2, config) = (ring.clone(), config.clone());
                let task = async move {
                    let topic = |_: &_| Some((Arc::from("t"), Default::default()));
                    LogStore::start(&ring2, config, part, topic)
                        .await
                        .expect("a store")
                };
                run(&machine.world, process, &ring, task).expect("alive")
            };
            Run {
                world: machine.world.clone(),
                process,
                ring,
                store,
                clean,
            }
        })
        .collect();
    (process, runs)
}

#[test]
fn partitions_follow_the_number_of_shards_through_kills_and_clean_stops() {
    let machine = Machine::with(40, SimOptions::default(), config(&["/data", "/more"]));
    let partitions = 6;
    let mut expected = 0;
    for (round, shards) in [2u16, 1, 3, 2, 4, 1].into_iter().enumerate() {
        let (process, runs) = start(&machine, shards);
        for n in 0..partitions {
            let run = &runs[owner(n, shards)];
            if round == 0 {
                run.create(n);
            }
            assert_eq!(
                run.values(n).len(),
                expected,
                "round {round}, partition {n}"
            );
            run.produce(n, &[n as u8; 3_000]);
            run.produce(n, &[n as u8; 400_000]);
        }
        expected += 2;
        if round % 2 == 0 {
            machine.world.kill(process);
        } else {
            for run in &runs {
                let store = run.store.clone();
                run.run(async move { store.stop_clean().await.expect("a clean stop") });
            }
            machine.world.kill(process);
            let (process, runs) = start(&machine, 1);
            assert!(runs[0].clean);
            machine.world.kill(process);
        }
    }
}

#[test]
fn an_offline_directory_is_offline_for_every_shard() {
    let machine = Machine::new(41);
    let (_, runs) = start(&machine, 2);
    runs[0].create(0);
    runs[1].create(1);
    runs[1].produce(1, b"one");
    let path = std::path::Path::new("/data");
    machine.world.fail_flushes(machine.id, path, 1);
    let (store, partition) = (runs[0].store.clone(), runs[0].partition(0));
    let failed = runs[0].run(async move {
        let appended = append(&store, &partition, &batch(b"x")).await;
        store.flushed(appended.expect("appended").ticket).await
    });
    assert!(failed.is_err());
    assert!(runs[1].store.is_offline(&key(1)));
    let (store, partition) = (runs[1].store.clone(), runs[1].partition(1));
    let refused = runs[1].run(async move { append(&store, &partition, &batch(b"x")).await });
    assert!(refused.is_err());
}
