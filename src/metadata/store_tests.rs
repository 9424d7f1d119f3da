//! The store on simulated disks: processes killed and power cut at every call, failing flushes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::base::ids::{NodeId, ShardId, Uuid};
use crate::metadata::controller::{Draft, NewTopic, TopicRef};
use crate::ring::sim::{MachineId, ProcessId, Rng, SimOptions, SimWorld};

const DIRECTORY: &str = "/data";
const LIMIT: Duration = Duration::from_secs(1000);

/// What the client of a store knows.
#[derive(Default)]
struct Known {
    /// Records of the image after each batch, from batch 0 on; the last may not be durable.
    history: Vec<Vec<Record>>,
    /// Batches that were acknowledged.
    acked: usize,
    /// Ends of lives seen: whole starts and commits.
    starts: usize,
    snapshots: usize,
    failures: usize,
}

fn options() -> StoreOptions {
    StoreOptions {
        new_cluster_id: "c".to_owned(),
        log_bytes_min: 600,
        ..StoreOptions::default()
    }
}

/// One change that makes the image differ in a way that cannot be mistaken.
fn change(image: &Image, rng: &mut Rng) -> Draft {
    let mut draft = Draft::new(image, vec![NodeId(1)]);
    let n = image.sequence();
    let topic = NewTopic {
        name: format!("t{n}.{}", "x".repeat(rng.index(100))),
        partitions: 1 + rng.index(40) as i32,
        replication_factor: 1,
        configs: vec![("retention.ms".to_owned(), Some(n.to_string()))],
        ..NewTopic::default()
    };
    draft.create_topics(&[topic], false, || Uuid::from_random(n, n));
    if rng.chance(0.4)
        && let Some(topic) = image.topics().next()
    {
        let id = topic.id;
        draft.delete_topics(&[TopicRef { name: None, id }]);
    }
    if rng.chance(0.3) {
        draft.producer_ids(1000).unwrap();
    }
    draft
}

/// Opens the store, checks what it finds and commits changes until the process dies.
async fn live(ring: Ring, known: Rc<RefCell<Known>>, mut rng: Rng, batches: usize) {
    let directory = Path::new(DIRECTORY);
    // a dying process sees its calls fail, and a disk may
    let made = ring.create_dir_all(directory);
    if made.is_err() || ring.sync_dir(Path::new("/")).await.is_err() {
        return;
    }
    let broker = Arc::new(BrokerConfig::default());
    let (mut store, mut image) = match Store::open(&ring, directory, &broker, &options()).await {
        Ok(opened) => opened,
        // a flush may fail in recovery too; the next life tries again
        Err(StoreError::Io { .. }) => {
            known.borrow_mut().failures += 1;
            return;
        }
        Err(error) => panic!("{error}"),
    };
    {
        let known = &mut *known.borrow_mut();
        known.starts += 1;
        let found = snapshot::records(&image);
        let n = image.sequence() as usize;
        if known.history.is_empty() {
            known.history = vec![Vec::new(), found.clone()];
        }
        assert!(
            n >= known.acked && n < known.history.len(),
            "batch {n} found, {} acknowledged, {} tried",
            known.acked,
            known.history.len() - 1
        );
        assert_eq!(
            found, known.history[n],
            "batch {n} is not what was committed"
        );
        // what a start has seen stays
        known.acked = n;
        known.history.truncate(n + 1);
    }
    for _ in 0..batches {
        let (next, records) = change(&image, &mut rng).finish(store.next_sequence());
        known.borrow_mut().history.push(snapshot::records(&next));
        let at = store.at;
        if store.commit(&next, &records).await.is_err() {
            known.borrow_mut().failures += 1;
            let again = store.commit(&next, &records).await;
            assert!(matches!(again, Err(StoreError::Failed)));
            return;
        }
        let known = &mut *known.borrow_mut();
        known.acked += 1;
        known.snapshots += usize::from(store.at <= at);
        image = next;
        if store.failed {
            return;
        }
    }
}

fn start(
    world: &SimWorld,
    machine: MachineId,
    known: &Rc<RefCell<Known>>,
    rng: &mut Rng,
    batches: usize,
) -> ProcessId {
    let process = world.process(machine);
    let ring = world.shard(process, ShardId(0));
    let life = live(ring.clone(), known.clone(), rng.fork(1), batches);
    world.spawn(process, &ring, life);
    process
}

/// Lives of a store on one disk, each ended at a random call, the last one whole.
fn lives(seed: u64, disk_errors: bool) -> Known {
    let mut sim = SimOptions::default();
    if disk_errors {
        sim.disk.flush_error_chance = 0.05;
        sim.disk.write_error_chance = 0.02;
    }
    let world = SimWorld::new(seed, sim);
    let mut rng = world.fork_rng();
    let machine = world.machine(&[]);
    let known = Rc::new(RefCell::new(Known::default()));
    for _ in 0..12 {
        let process = start(&world, machine, &known, &mut rng, 30);
        world.die_at_call(process, 1 + rng.below(60), rng.chance(0.6));
        world.run_until(LIMIT, || !world.alive(process) || world.finished(process));
        world.kill(process);
    }
    world.tune(|o| o.disk.flush_error_chance = 0.0);
    world.tune(|o| o.disk.write_error_chance = 0.0);
    let process = start(&world, machine, &known, &mut rng, 1);
    assert!(world.run_until(LIMIT, || world.finished(process)));
    world.kill(process);
    Rc::into_inner(known).expect("all lives ended").into_inner()
}

#[test]
fn committed_batches_survive_kills_and_power_cuts_at_any_call() {
    let (mut acked, mut snapshots, mut starts) = (0, 0, 0);
    for seed in 0..24 {
        let known = lives(seed, false);
        acked += known.acked;
        snapshots += known.snapshots;
        starts += known.starts;
    }
    assert!(
        acked > 400 && snapshots > 20 && starts > 150,
        "{acked} {snapshots} {starts}"
    );
}

#[test]
fn after_a_failed_write_or_flush_nothing_is_taken_until_a_restart() {
    let (mut acked, mut failures) = (0, 0);
    for seed in 1000..1020 {
        let known = lives(seed, true);
        acked += known.acked;
        failures += known.failures;
    }
    assert!(acked > 100 && failures > 10, "{acked} {failures}");
}

#[test]
fn another_clusters_directory_and_a_lost_log_are_refused() {
    let world = SimWorld::new(1, SimOptions::default());
    let machine = world.machine(&[]);
    let process = world.process(machine);
    let ring = world.shard(process, ShardId(0));
    let main = ring.clone();
    world.spawn(process, &ring, async move {
        let ring = main;
        let directory = Path::new(DIRECTORY);
        ring.create_dir_all(directory).unwrap();
        let broker = Arc::new(BrokerConfig::default());
        let open = |options: StoreOptions| {
            let (ring, broker) = (ring.clone(), broker.clone());
            async move { Store::open(&ring, Path::new(DIRECTORY), &broker, &options).await }
        };
        let lost = open(StoreOptions {
            may_create: false,
            ..options()
        });
        assert!(matches!(lost.await, Err(StoreError::Missing { .. })));
        let (_, image) = open(options()).await.unwrap();
        assert_eq!(image.cluster_id(), "c");
        let other = open(StoreOptions {
            cluster_id: Some("d".to_owned()),
            ..options()
        });
        assert!(matches!(other.await, Err(StoreError::OtherCluster { .. })));
        let (_, image) = open(StoreOptions {
            cluster_id: Some("c".to_owned()),
            may_create: false,
            ..options()
        })
        .await
        .unwrap();
        assert_eq!(image.sequence(), 1);
    });
    assert!(world.run_until(LIMIT, || world.finished(process)));
}
