//! One machine with a log: what is on it, and its process.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::base::config::TopicConfig;
use corelane::base::ids::{PartitionKey, ShardId};
use corelane::log::recovery::{OpenedShard, open_directories};
use corelane::log::store::{FlushPolicy, JournalSize, LogConfig, LogStore, NewPartition};
use corelane::ring::Ring;
use corelane::ring::sim::{MachineId, ProcessId, Rng, SimWorld};

use super::model::{Model, Stage};
use super::work::{self, Producer};

/// What a run draws from its seed.
pub struct Setup {
    pub dirs: Vec<PathBuf>,
    partitions: usize,
    config: LogConfig,
    topic: Arc<TopicConfig>,
    deletes: bool,
}

impl Setup {
    pub fn draw(rng: &mut Rng, interval: bool) -> Setup {
        let dirs: Vec<PathBuf> = (0..rng.between(1, 2))
            .map(|n| PathBuf::from(format!("/disk{n}/log")))
            .collect();
        let (flush_policy, seconds) = match interval {
            true => (FlushPolicy::Interval, rng.between(1, 5)),
            false => (FlushPolicy::Group, 30),
        };
        let config = LogConfig {
            dirs: dirs.clone(),
            flush_policy,
            flush_interval: Duration::from_secs(seconds),
            journal_size: JournalSize::Bytes(1 << 20),
            undrained_bytes: 1 << rng.between(20, 23),
            bypass_bytes: 1 << rng.between(14, 18),
            open_segments: rng.between(2, 50) as usize,
            cache_bytes: 1 << rng.between(14, 22),
            ..LogConfig::default()
        };
        let topic = TopicConfig {
            segment_bytes: 1 << rng.between(18, 24),
            ..TopicConfig::default()
        };
        Setup {
            dirs,
            partitions: rng.between(1, 6) as usize,
            config,
            topic: Arc::new(topic),
            deletes: rng.chance(0.5),
        }
    }
}

/// What outlives the processes of one partition.
#[derive(Clone)]
pub struct Tracked {
    pub index: usize,
    pub model: Rc<RefCell<Model>>,
    pub producer: Rc<RefCell<Producer>>,
}

/// What the shards of one process share with the test.
pub struct Shared {
    pub stopping: Cell<bool>,
    pub errors: bool,
    ready: Cell<usize>,
    stopped: Cell<usize>,
    /// Producers at work, over all shards.
    pub producing: Cell<usize>,
    next_record: Rc<Cell<u64>>,
    opened: RefCell<Option<Vec<Option<OpenedShard>>>>,
}

impl Shared {
    pub fn next_record(&self) -> u64 {
        let next = self.next_record.get();
        self.next_record.set(next + 1);
        next
    }
}

pub struct Node {
    pub setup: Setup,
    pub machine: MachineId,
    partitions: Rc<RefCell<Vec<Tracked>>>,
    next_record: Rc<Cell<u64>>,
    next_topic: Rc<Cell<u64>>,
    /// Disks may fail.
    errors: bool,
    current: RefCell<Option<(Rc<Shared>, usize)>>,
}

impl Node {
    pub fn new(world: &SimWorld, setup: Setup, errors: bool) -> Node {
        let mounts: Vec<PathBuf> = setup
            .dirs
            .iter()
            .map(|dir| dir.parent().expect("below a mount").to_path_buf())
            .collect();
        let mounts: Vec<&std::path::Path> = mounts.iter().map(PathBuf::as_path).collect();
        let next_topic = Rc::new(Cell::new(0));
        let interval = setup.config.flush_policy == FlushPolicy::Interval;
        let partitions = (0..setup.partitions)
            .map(|index| tracked(index, &next_topic, interval))
            .collect();
        Node {
            machine: world.machine(&mounts),
            setup,
            partitions: Rc::new(RefCell::new(partitions)),
            next_record: Rc::new(Cell::new(1)),
            next_topic,
            errors,
            current: RefCell::new(None),
        }
    }

    /// A process with any number of shards.
    pub fn start(&self, world: &SimWorld, rng: &mut Rng) -> ProcessId {
        let process = world.process(self.machine);
        let shards = rng.between(1, 3) as u16;
        let shared = Rc::new(Shared {
            stopping: Cell::new(false),
            errors: self.errors,
            ready: Cell::new(0),
            stopped: Cell::new(0),
            producing: Cell::new(0),
            next_record: self.next_record.clone(),
            opened: RefCell::new(None),
        });
        for shard in 0..shards {
            let ring = world.shard(process, ShardId(shard));
            let main = Main {
                ring: ring.clone(),
                config: self.setup.config.clone(),
                topic: self.setup.topic.clone(),
                deletes: self.setup.deletes,
                shards,
                shard: ShardId(shard),
                partitions: self.partitions.clone(),
                next_topic: self.next_topic.clone(),
                shared: shared.clone(),
                rng: rng.fork(u64::from(shard)),
            };
            world.spawn(process, &ring, main.run());
        }
        *self.current.borrow_mut() = Some((shared, usize::from(shards)));
        process
    }

    /// Waits until all shards serve and what they found was checked, or the process is dead.
    pub fn run_until_ready(&self, world: &SimWorld, process: ProcessId, limit: Duration) {
        let (shared, shards) = self.current.borrow().clone().expect("started");
        let over = world.run_until(limit, || {
            shared.ready.get() == shards || !world.alive(process)
        });
        assert!(over, "the start takes for ever");
    }

    pub fn stop(&self, world: &SimWorld, process: ProcessId, limit: Duration) {
        let (shared, shards) = self.current.borrow().clone().expect("started");
        shared.stopping.set(true);
        let over = world.run_until(limit, || {
            shared.stopped.get() == shards || !world.alive(process)
        });
        assert!(over, "the stop takes for ever");
    }

    pub fn died(&self, power: bool) {
        for tracked in self.partitions.borrow().iter() {
            tracked.model.borrow_mut().died(power);
        }
    }

    pub fn records(&self) -> usize {
        let partitions = self.partitions.borrow();
        partitions
            .iter()
            .map(|t| t.model.borrow().durable_records())
            .sum()
    }
}

fn tracked(index: usize, next_topic: &Cell<u64>, interval: bool) -> Tracked {
    next_topic.set(next_topic.get() + 1);
    let model = Model::new(next_topic.get(), format!("topic{index}"), interval);
    Tracked {
        index,
        model: Rc::new(RefCell::new(model)),
        producer: Rc::default(),
    }
}

/// One shard of a process.
struct Main {
    ring: Ring,
    config: LogConfig,
    topic: Arc<TopicConfig>,
    deletes: bool,
    shards: u16,
    shard: ShardId,
    partitions: Rc<RefCell<Vec<Tracked>>>,
    next_topic: Rc<Cell<u64>>,
    shared: Rc<Shared>,
    rng: Rng,
}

impl Main {
    fn owner(shards: u16, key: &PartitionKey) -> ShardId {
        ShardId((u16::from(key.topic.0[3]) ^ u16::from(key.topic.0[12])) % shards)
    }

    async fn opened(&self) -> OpenedShard {
        if self.shard.0 == 0 {
            let mut opened = open_directories(&self.ring, &self.config)
                .await
                .unwrap_or_else(|error| panic!("opening: {error}"));
            let there: Vec<PartitionKey> = {
                let partitions = self.partitions.borrow();
                let models = partitions.iter().map(|tracked| tracked.model.borrow());
                models
                    .filter(|model| model.stage != Stage::Deleting)
                    .map(|model| model.key)
                    .collect()
            };
            opened
                .set_aside_strays(&self.ring, |key| there.contains(key))
                .await
                .unwrap_or_else(|error| panic!("setting strays aside: {error}"));
            for directory in &opened.directories {
                assert!(
                    !directory.directory.is_offline(),
                    "{}",
                    directory.directory.offline_error()
                );
            }
            let shards = self.shards;
            let parts = opened.split(shards, |key| Main::owner(shards, key));
            *self.shared.opened.borrow_mut() = Some(parts.into_iter().map(Some).collect());
        }
        loop {
            if let Some(parts) = self.shared.opened.borrow_mut().as_mut() {
                return parts[usize::from(self.shard.0)].take().expect("once");
            }
            self.ring.sleep(Duration::from_millis(1)).await;
        }
    }

    async fn run(mut self) {
        let opened = self.opened().await;
        let known: Vec<(PartitionKey, String, Stage)> = self
            .partitions
            .borrow()
            .iter()
            .map(|t| {
                let m = t.model.borrow();
                (m.key, m.topic.clone(), m.stage)
            })
            .collect();
        let topic = |key: &PartitionKey| {
            let known = known.iter().find(|k| k.0 == *key)?;
            let there = known.2 != Stage::Deleting;
            there.then(|| (Arc::from(known.1.as_str()), self.topic.clone()))
        };
        let config = Arc::new(self.config.clone());
        let store = LogStore::start(&self.ring, config, opened, topic)
            .await
            .unwrap_or_else(|error| panic!("starting: {error}"));
        let mine: Vec<usize> = (0..known.len())
            .filter(|i| Main::owner(self.shards, &known[*i].0) == self.shard)
            .collect();
        for index in mine {
            let mut tracked = self.partitions.borrow()[index].clone();
            let stage = tracked.model.borrow().stage;
            let key = tracked.model.borrow().key;
            tracing::info!(%key, ?stage, shard = self.shard.0, "checking");
            assert_eq!(store.damage(&key), None);
            match stage {
                Stage::Deleting => {
                    assert!(store.partition(&key).is_none());
                    tracked = self.replace(index);
                    self.make(&store, &tracked).await;
                }
                Stage::Making => self.make(&store, &tracked).await,
                Stage::There => assert!(store.partition(&key).is_some(), "a partition is gone"),
            }
            let key = tracked.model.borrow().key;
            let Some(partition) = store.partition(&key) else {
                continue; // its directory went offline
            };
            let found = work::read_all(&self.ring, &partition).await;
            tracked.model.borrow_mut().found(&found);
            self.work(&store, tracked);
        }
        self.shared.ready.set(self.shared.ready.get() + 1);
        while !self.shared.stopping.get() {
            self.ring.sleep(Duration::from_millis(5)).await;
            if self.deletes && self.rng.chance(0.01) {
                self.delete_one(&store).await;
            }
        }
        while self.shared.producing.get() > 0 {
            self.ring.sleep(Duration::from_millis(1)).await;
        }
        tracing::info!(shard = self.shard.0, "stopping");
        let _ = store.stop_clean().await;
        tracing::info!(shard = self.shard.0, "stopped");
        self.shared.stopped.set(self.shared.stopped.get() + 1);
    }

    fn replace(&self, index: usize) -> Tracked {
        // a new topic of the same name, which this shard need not own after the next start
        let new = loop {
            let interval = self.config.flush_policy == FlushPolicy::Interval;
            let new = tracked(index, &self.next_topic, interval);
            if Main::owner(self.shards, &new.model.borrow().key) == self.shard {
                break new;
            }
        };
        self.partitions.borrow_mut()[index] = new.clone();
        new
    }

    async fn make(&self, store: &Rc<LogStore>, tracked: &Tracked) {
        let (key, topic) = {
            let model = tracked.model.borrow();
            (model.key, Arc::from(model.topic.as_str()))
        };
        let new = NewPartition {
            key,
            topic,
            config: self.topic.clone(),
        };
        match store.create_partition(new).await {
            Ok(_) => tracked.model.borrow_mut().stage = Stage::There,
            Err(error) => assert!(self.may_refuse(store), "{error}"),
        }
    }

    /// Also where it is another shard that has begun to stop.
    fn may_refuse(&self, store: &LogStore) -> bool {
        self.shared.stopping.get() || store.directories().iter().any(|d| d.is_offline())
    }

    fn work(&mut self, store: &Rc<LogStore>, tracked: Tracked) {
        let key = tracked.model.borrow().key;
        let Some(partition) = store.partition(&key) else {
            return;
        };
        let ring = self.ring.clone();
        let rng = self.rng.fork(9);
        let produce = work::produce(
            ring.clone(),
            store.clone(),
            partition.clone(),
            tracked.clone(),
            self.shared.clone(),
            rng,
        );
        let shared = self.shared.clone();
        shared.producing.set(shared.producing.get() + 1);
        let counted = async move {
            produce.await;
            shared.producing.set(shared.producing.get() - 1);
        };
        ring.spawn(counted).detach();
        ring.spawn(work::consume(
            ring.clone(),
            partition,
            tracked,
            self.shared.clone(),
        ))
        .detach();
    }

    async fn delete_one(&mut self, store: &Rc<LogStore>) {
        let mine: Vec<Tracked> = self
            .partitions
            .borrow()
            .iter()
            .filter(|t| store.partition(&t.model.borrow().key).is_some())
            .cloned()
            .collect();
        if mine.is_empty() {
            return;
        }
        let victim = mine[self.rng.index(mine.len())].clone();
        let key = victim.model.borrow().key;
        tracing::info!(%key, "deleting");
        victim.model.borrow_mut().stage = Stage::Deleting;
        if let Err(error) = store.delete_partition(&key).await {
            assert!(self.may_refuse(store), "{error}");
            return;
        }
        let new = self.replace(victim.index);
        self.make(store, &new).await;
        self.work(store, new);
    }
}
