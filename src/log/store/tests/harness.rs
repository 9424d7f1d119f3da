//! A machine with a log, and what a client of it would do and see.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::config::TopicConfig;
use crate::base::ids::{Offset, PartitionId, PartitionKey, ShardId, Uuid};
use crate::base::time::Timestamp;
use crate::log::append::{AppendError, Origin};
use crate::log::partition::Partition;
use crate::log::recovery::{OpenError, open_directories};
use crate::log::store::{Appended, LogConfig, LogStore, NewPartition};
use crate::ring::Ring;
use crate::ring::sim::{MachineId, ProcessId, SimOptions, SimWorld};
use crate::wire::batch::{BatchBuilder, BatchView};
use crate::wire::compress::Codec;

/// Longer than anything takes in a simulated world that is not stuck.
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn key(n: i32) -> PartitionKey {
    PartitionKey {
        topic: Uuid([7; 16]),
        partition: PartitionId(n),
    }
}

pub(super) fn config(dirs: &[&str]) -> LogConfig {
    LogConfig {
        dirs: dirs.iter().map(PathBuf::from).collect(),
        journal_first_bytes: 4 << 20,
        reserved_disk_bytes: 0,
        ..LogConfig::default()
    }
}

/// One broker's log on a simulated machine.
pub(super) struct Machine {
    pub world: Rc<SimWorld>,
    pub id: MachineId,
    pub config: LogConfig,
    pub topic: TopicConfig,
}

/// A run of it.
pub(super) struct Run {
    pub world: Rc<SimWorld>,
    pub process: ProcessId,
    pub ring: Ring,
    pub store: Rc<LogStore>,
    pub clean: bool,
}

impl Machine {
    pub fn new(seed: u64) -> Machine {
        Machine::with(seed, SimOptions::default(), config(&["/data"]))
    }

    pub fn with(seed: u64, options: SimOptions, config: LogConfig) -> Machine {
        let world = Rc::new(SimWorld::new(seed, options));
        let id = world.machine(&[]);
        Machine {
            world,
            id,
            config,
            topic: TopicConfig::default(),
        }
    }

    pub fn start(&self) -> Run {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_start(&self) -> Result<Run, OpenError> {
        let process = self.world.process(self.id);
        self.start_in(process)
            .expect("nobody kills it")
            .map(|(ring, store, clean)| Run {
                world: self.world.clone(),
                process,
                ring,
                store,
                clean,
            })
    }

    /// `None` if the process was killed meanwhile.
    #[allow(clippy::type_complexity)]
    pub fn start_in(
        &self,
        process: ProcessId,
    ) -> Option<Result<(Ring, Rc<LogStore>, bool), OpenError>> {
        let ring = self.world.shard(process, ShardId(0));
        let (config, topic) = (Arc::new(self.config.clone()), Arc::new(self.topic.clone()));
        let task = {
            let ring = ring.clone();
            async move {
                let mut opened = open_directories(&ring, &config).await?;
                let clean = opened.clean;
                opened
                    .set_aside_strays(&ring, |key| key.topic == Uuid([7; 16]))
                    .await?;
                let part = opened.split(1, |_| ShardId(0)).pop().expect("one shard");
                let known = |key: &PartitionKey| {
                    (key.topic == Uuid([7; 16])).then(|| (Arc::from("t"), topic.clone()))
                };
                let store = LogStore::start(&ring, config, part, known)
                    .await
                    .expect("a store over opened directories");
                Ok((ring.clone(), store, clean))
            }
        };
        run(&self.world, process, &ring, task)
    }
}

/// Runs a task of a process to its end; `None` if the process was killed before.
pub(super) fn run<T: 'static>(
    world: &SimWorld,
    process: ProcessId,
    ring: &Ring,
    task: impl Future<Output = T> + 'static,
) -> Option<T> {
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    world.spawn(process, ring, async move {
        let value = task.await;
        *slot.borrow_mut() = Some(value);
    });
    let done = || result.borrow().is_some() || !world.alive(process);
    assert!(world.run_until(LIMIT, done), "a task is stuck");
    result.borrow_mut().take()
}

impl Run {
    pub fn run<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        run(&self.world, self.process, &self.ring, task).expect("nobody kills it")
    }

    pub fn create(&self, n: i32) -> Rc<Partition> {
        let (store, topic) = (self.store.clone(), TopicConfig::default());
        self.run(async move {
            let new = NewPartition {
                key: key(n),
                topic: Arc::from("t"),
                config: Arc::new(topic),
            };
            store.create_partition(new).await.expect("a partition")
        })
    }

    /// Appends and waits for the flush.
    pub fn produce(&self, n: i32, value: &[u8]) -> Appended {
        let (store, batch) = (self.store.clone(), batch(value));
        let partition = store.partition(&key(n)).expect("a partition");
        self.run(async move {
            let appended = append(&store, &partition, &batch).await.expect("appended");
            store.flushed(appended.ticket).await.expect("flushed");
            appended
        })
    }

    pub fn partition(&self, n: i32) -> Rc<Partition> {
        let damage = self.store.damage(&key(n));
        self.store
            .partition(&key(n))
            .unwrap_or_else(|| panic!("no partition {n}: {damage:?}"))
    }

    pub fn values(&self, n: i32) -> Vec<(Offset, Vec<u8>)> {
        let partition = self.partition(n);
        self.run(async move { read_all(&partition).await })
    }

    pub fn stop(&self) {
        let store = self.store.clone();
        self.run(async move { store.stop_clean().await.expect("a clean stop") });
        self.world.kill(self.process);
    }
}

pub(super) fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(Timestamp(1_700_000_000_000), None, Some(value), &[]);
    builder.build().expect("uncompressed")
}

/// Appends as a connection does: waits for room as long as there is none.
pub(super) async fn append(
    store: &LogStore,
    partition: &Rc<Partition>,
    batch: &[u8],
) -> Result<Appended, AppendError> {
    let view = BatchView::parse(batch).expect("a batch");
    loop {
        store.admit(batch.len()).await;
        match store.append(partition, &view, Origin::Client) {
            Err(AppendError::Busy) => {}
            other => return other,
        }
    }
}

/// Every value below the high watermark, with its offset.
pub(super) async fn read_all(partition: &Rc<Partition>) -> Vec<(Offset, Vec<u8>)> {
    let mut values = Vec::new();
    let mut from = partition.log_start();
    let limit = partition.durable_end();
    while from < limit {
        let plan = match partition.read_cold(from, 1 << 20, limit, true).await {
            Ok(plan) => plan,
            Err(_) if partition.is_gone() => break,
            Err(error) => panic!("{}: {error}", partition.key()),
        };
        let bytes = plan.copy_now().expect("a file ends where its log does");
        let mut rest = bytes.as_slice();
        let before = from;
        while !rest.is_empty() {
            let view = BatchView::parse(rest).expect("whole batches");
            assert!(view.verify_crc(), "batch at {}", view.base_offset());
            if view.base_offset() >= from {
                assert_eq!(view.base_offset(), from, "no gap in {}", partition.key());
                let records =
                    crate::wire::batch::records(&view.bytes()[61..], view.records_count());
                for (i, record) in records.enumerate() {
                    let record = record.expect("a record");
                    values.push((from.plus(i as i64), record.value.unwrap_or(&[]).to_vec()));
                }
                from = view.next_offset();
            }
            rest = &rest[view.total_len()..];
        }
        assert!(from > before, "a read makes progress");
    }
    values
}
