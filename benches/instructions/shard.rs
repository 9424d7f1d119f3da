//! The whole shard, from a request's bytes to the answer's: the real broker on an executor of its
//! own, over the simulated network and disk of a world without faults and without chance. The
//! clients run in the same world and are not counted, nor is the driver.

use std::cell::Cell;
use std::path::Path as FilePath;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::base::config::{BrokerConfig, Inputs, load};
use corelane::base::ids::ShardId;
use corelane::broker::counters::Counters;
use corelane::broker::message::Message;
use corelane::broker::start::{ShardContext, StopFlag, run_shard};
use corelane::ring::mailbox::mesh;
use corelane::ring::sim::{MachineId, SimOptions, SimWorld};
use corelane::ring::{Executor, Ring};
use corelane::wire::messages::*;
use corelane::wire::records::Records;

use crate::Path;
use crate::client::Client;
use crate::counted::counted;
use crate::log::batch;

pub const PATHS: &[Path] = &[
    ("shard: produce 1 KiB", || shard(Kind::Produce(1, 1))),
    ("shard: produce 63 KiB", || shard(Kind::Produce(1, 63))),
    ("shard: produce 16 x 1 KiB", || shard(Kind::Produce(16, 1))),
    ("shard: fetch 1 KiB", || shard(Kind::Fetch(1))),
    ("shard: fetch 63 KiB", || shard(Kind::Fetch(63))),
];

const PARTITIONS: i32 = 16;
const CLIENTS: u64 = 4;
/// Requests of each client: before counting begins, and while it goes on.
const WARM: u64 = 60;
const COUNTED: u64 = 150;
/// Nothing in a world without faults takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// At most so long the world goes on alone, when only a timer of the broker is left.
const STEP: Duration = Duration::from_millis(1);

/// What is asked for, by each client in a closed loop.
#[derive(Clone, Copy)]
enum Kind {
    /// A batch for so many partitions, of so many records of 1 KiB, flushed before the answer.
    Produce(i32, usize),
    /// One batch of so many records, from memory.
    Fetch(usize),
}

/// How far the clients are.
#[derive(Default)]
struct Progress {
    ready: Cell<u64>,
    go: Cell<bool>,
    done: Cell<u64>,
}

/// Everything takes the same time each time.
fn options() -> SimOptions {
    let mut options = SimOptions::default();
    options.net.delay_ns = (30_000, 30_000);
    options.disk.io_ns = (100_000, 100_000);
    options.disk.flush_ns = (300_000, 300_000);
    options.disk.cold_chance = 0.0;
    options.turn_ns = (5_000, 5_000);
    options
}

fn config() -> BrokerConfig {
    let inputs = Inputs {
        overrides: [
            "node.id=1",
            "listeners=PLAINTEXT://0.0.0.0:9092",
            "advertised.listeners=PLAINTEXT://10.0.0.0:9092",
            "log.dirs=/disk0/log",
        ]
        .map(str::to_owned)
        .to_vec(),
        host_name: "broker".to_owned(),
        ..Inputs::default()
    };
    load(&inputs)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

/// The broker's one shard; it starts with the first turn.
fn broker(world: &SimWorld, machine: MachineId) -> Executor {
    let driver = world.driver(world.process(machine));
    let bells = vec![driver.doorbell()];
    let executor = Executor::new(driver, ShardId(0));
    let ring = executor.ring();
    let mailbox = mesh::<Message>(1, 64).pop().expect("one shard");
    let context = ShardContext {
        ring: ring.clone(),
        shards: 1,
        config: Arc::new(config()),
        post: mailbox.open(&ring, bells),
        counters: Arc::new(Counters::default()),
        stop: StopFlag::default(),
        on_started: None,
    };
    let main = async {
        if let Err(error) = run_shard(context).await {
            panic!("the broker: {error}");
        }
    };
    ring.spawn(main).detach();
    executor
}

fn shard(kind: Kind) -> u64 {
    let world = SimWorld::new(1, options());
    let machine = world.machine(&[FilePath::new("/disk0")]);
    let mut broker = broker(&world, machine);
    let process = world.process(world.machine(&[]));
    let ring = world.shard(process, ShardId(0));
    let progress = Rc::new(Progress::default());
    for number in 0..CLIENTS {
        let address = (world.ip(machine), 9092).into();
        let client = Client::new(&ring, address);
        let load = client_of(ring.clone(), client, kind, number as i32, progress.clone());
        world.spawn(process, &ring, load);
    }
    let mut run = |counts: bool, until: &dyn Fn() -> bool| {
        while !until() {
            world.run_until(STEP, || {
                let mut turn = || {
                    broker.turn(false);
                };
                match counts {
                    true => counted(&mut turn),
                    false => turn(),
                }
                until()
            });
        }
    };
    run(false, &|| progress.ready.get() == CLIENTS);
    progress.go.set(true);
    run(true, &|| progress.done.get() == CLIENTS);
    CLIENTS * COUNTED
}

/// One client on a connection of its own.
async fn client_of(
    ring: Ring,
    mut client: Client,
    kind: Kind,
    number: i32,
    progress: Rc<Progress>,
) {
    client.patience = PATIENCE;
    let topic = format!("t{number}");
    reach(&ring, &mut client).await;
    client.create(&topic, PARTITIONS).await;
    let (partitions, records) = match kind {
        Kind::Produce(partitions, records) => (partitions, records),
        Kind::Fetch(records) => (1, records),
    };
    let batch = batch(records);
    for _ in 0..WARM {
        produce(&mut client, &topic, partitions, &batch).await;
    }
    if let Kind::Fetch(_) = kind {
        for n in 0..WARM {
            fetch(&mut client, &topic, n, &batch).await;
        }
    }
    progress.ready.set(progress.ready.get() + 1);
    while !progress.go.get() {
        ring.sleep(STEP).await;
    }
    for n in 0..COUNTED {
        match kind {
            Kind::Produce(..) => produce(&mut client, &topic, partitions, &batch).await,
            Kind::Fetch(_) => fetch(&mut client, &topic, n % WARM, &batch).await,
        }
    }
    progress.done.set(progress.done.get() + 1);
}

/// Connects once the broker listens.
async fn reach(ring: &Ring, client: &mut Client) {
    while client.reach().await.is_err() {
        ring.sleep(STEP).await;
    }
}

async fn produce(client: &mut Client, topic: &str, partitions: i32, batch: &[u8]) {
    let parts: Vec<_> = (0..partitions)
        .map(|index| PartitionProduceData {
            index,
            records: Records::Bytes(batch),
        })
        .collect();
    let topics = [TopicProduceData {
        name: topic,
        partition_data: parts[..].into(),
        ..TopicProduceData::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: topics[..].into(),
        ..ProduceRequest::default()
    };
    let answer = client.call(12, &request).await.expect("an answer");
    let answer: ProduceResponse = answer.decode(12);
    for part in answer
        .responses
        .iter()
        .next()
        .expect("one")
        .partition_responses
        .iter()
    {
        assert_eq!(part.error_code, 0, "{:?}", part.error_message);
    }
}

/// Reads the batch of that number.
async fn fetch(client: &mut Client, topic: &str, number: u64, batch: &[u8]) {
    let records = corelane::wire::batch::BatchView::parse(batch).expect("a batch");
    let parts = [FetchPartition {
        partition: 0,
        current_leader_epoch: -1,
        fetch_offset: number as i64 * i64::from(records.records_count()),
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: batch.len() as i32,
        ..FetchPartition::default()
    }];
    let topics = [FetchTopic {
        topic,
        partitions: parts[..].into(),
        ..FetchTopic::default()
    }];
    let request = FetchRequest {
        replica_id: -1,
        min_bytes: 1,
        max_bytes: batch.len() as i32,
        session_epoch: -1,
        topics: topics[..].into(),
        ..FetchRequest::default()
    };
    let answer = client.call(12, &request).await.expect("an answer");
    let answer: FetchResponse = answer.decode(12);
    let data = answer.responses.iter().next().expect("one topic");
    let part = data.partitions.iter().next().expect("one partition");
    assert_eq!((part.error_code, part.records.len()), (0, batch.len()));
}
