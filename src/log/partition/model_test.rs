//! A partition against a list of batches: random appends, flushes, drains, reads, lookups, cuts,
//! rolls, clean and unclean restarts, on real files.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::config::TopicConfig;
use crate::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, ProducerId, Uuid};
use crate::base::time::Timestamp;
use crate::log::append::Origin;
use crate::log::format::names::{self, Kind};
use crate::log::journal::table::FORMAT;
use crate::log::partition::test_ring;
use crate::log::partition::{
    Admit, DrainLimit, Partition, PartitionContext, PartitionFacts, PartitionSpec, ReadPlan,
    Recovering,
};
use crate::log::segment::{BatchHeader, HEADER_BYTES, Place, SparseIndex};
use crate::ring::Ring;
use crate::ring::driver::OpenOptions;
use crate::wire::batch::BatchBuilder;
use crate::wire::compress::Codec;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

#[derive(Clone)]
struct Batch {
    base: i64,
    next: i64,
    place: Place,
    bytes: Vec<u8>,
    times: Vec<i64>,
    epoch: i32,
}

struct World {
    ring: Ring,
    context: Rc<PartitionContext>,
    dir: PathBuf,
    partition: Rc<Partition>,
    config: Arc<TopicConfig>,
    model: Vec<Batch>,
    durable: usize,
    /// The last table, and how many batches it covers.
    table: (PartitionFacts, usize),
    epoch: i32,
    sequence: i32,
    clock: i64,
    random: Random,
}

fn config() -> Arc<TopicConfig> {
    Arc::new(TopicConfig {
        segment_bytes: 200_000,
        segment_ms: 60_000,
        segment_index_bytes: 400,
        index_interval_bytes: 2048,
        ..TopicConfig::default()
    })
}

fn spec(dir: &Path, config: &Arc<TopicConfig>, epoch: i32) -> PartitionSpec {
    PartitionSpec {
        key: PartitionKey {
            topic: Uuid([5; 16]),
            partition: PartitionId(0),
        },
        topic: "model".into(),
        dir: dir.to_owned(),
        config: config.clone(),
        leader_epoch: LeaderEpoch(epoch),
    }
}

impl World {
    fn new(ring: &Ring, dir: PathBuf, seed: u64) -> World {
        let context = PartitionContext::new(ring, 3, 64 << 10);
        let config = config();
        let partition = Partition::create(&context, spec(&dir, &config, 0)).unwrap();
        let table = (partition.facts(), 0);
        World {
            ring: ring.clone(),
            context,
            dir,
            partition,
            config,
            model: Vec::new(),
            durable: 0,
            table,
            epoch: 0,
            sequence: 0,
            clock: 1_700_000_000_000,
            random: Random(seed),
        }
    }

    fn end(&self) -> i64 {
        self.model.last().map_or(0, |batch| batch.next)
    }

    fn durable_end(&self) -> i64 {
        self.durable
            .checked_sub(1)
            .map_or(0, |i| self.model[i].next)
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(5);
        let size = match self.random.below(20) {
            0 => 30_000 + self.random.below(60_000),
            1..=4 => 2000 + self.random.below(4000),
            _ => self.random.below(300),
        };
        let codec = match self.random.below(4) {
            0 => Codec::Lz4,
            _ => Codec::None,
        };
        self.clock += self.random.below(2000) as i64;
        let mut builder = BatchBuilder::new(codec).producer(ProducerId(9), 0, self.sequence);
        let mut times = Vec::new();
        for _ in 0..count {
            let time = self.clock + self.random.below(1000) as i64 - 500;
            let fill = self.random.next().to_le_bytes();
            let value: Vec<u8> = (0..size / count)
                .map(|i| fill[i as usize % 8].wrapping_mul(i as u8))
                .collect();
            builder.append(Timestamp(time), Some(b"k"), Some(&value), &[]);
            times.push(time);
        }
        let mut bytes = builder.build().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let Admit::Append(slot) = self.partition.prepare(&header, Origin::Client).unwrap() else {
            panic!("not a duplicate");
        };
        assert_eq!(slot.base_offset.0, self.end());
        bytes[..8].copy_from_slice(&slot.base_offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&slot.leader_epoch.0.to_be_bytes());
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().unwrap();
        let place = self.partition.push(head, &bytes[HEADER_BYTES..]);
        assert_eq!(place, slot.place);
        self.sequence += count as i32;
        self.model.push(Batch {
            base: slot.base_offset.0,
            next: slot.base_offset.0 + count as i64,
            place,
            bytes,
            times,
            epoch: self.epoch,
        });
        assert_eq!(self.partition.log_end().0, self.end());
        // sent again, it is known
        let again = self.partition.prepare(&header, Origin::Client).unwrap();
        assert!(matches!(again, Admit::Duplicate(mark) if mark.first_offset() == slot.base_offset));
    }

    fn flush(&mut self) {
        let left = (self.model.len() - self.durable) as u64;
        self.durable += self.random.below(left + 1) as usize;
        self.flushed();
    }

    fn flush_all(&mut self) {
        self.durable = self.model.len();
        self.flushed();
    }

    fn flushed(&self) {
        if let Some(batch) = self.durable.checked_sub(1).map(|i| &self.model[i]) {
            let place = batch.place.plus(batch.bytes.len() as u64);
            self.partition.advance_durable(Offset(batch.next), place);
        }
        assert_eq!(self.partition.durable_end().0, self.durable_end());
    }

    fn bytes_of(plan: &ReadPlan) -> Vec<u8> {
        let bytes = plan.copy_now().expect("the file holds what the plan says");
        assert_eq!(bytes.len() as u64, plan.bytes);
        bytes
    }

    async fn read(&mut self) {
        let from = self.random.below(self.end() as u64 + 1) as i64;
        let max = 1 + self.random.below(100_000);
        let at_least_one = self.random.below(4) > 0;
        let limit = match self.random.below(4) {
            0 => self.end(),
            1 => {
                let i = self.random.below(self.model.len() as u64 + 1) as usize;
                self.model.get(i).map_or(self.end(), |batch| batch.base)
            }
            _ => self.durable_end(),
        };
        let plan = self
            .partition
            .read_cold(Offset(from), max, Offset(limit), at_least_one)
            .await
            .unwrap();
        let bytes = World::bytes_of(&plan);
        let first = self.model.iter().position(|batch| batch.next > from);
        let Some(first) = first.filter(|i| self.model[*i].next <= limit) else {
            assert!(bytes.is_empty(), "nothing at {from} below {limit}");
            return;
        };
        let mut at = 0;
        let mut batches = self.model[first..].iter();
        while at < bytes.len() {
            let batch = batches.next().expect("no more than the log has");
            assert!(batch.next <= limit, "nothing above the limit");
            assert!(
                at + batch.bytes.len() <= bytes.len(),
                "{plan:?} ends inside the batch {} at {}, read from {from} below {limit}",
                batch.base,
                batch.place
            );
            assert_eq!(
                bytes[at..at + batch.bytes.len()],
                batch.bytes,
                "batch {} read from {from}",
                batch.base
            );
            at += batch.bytes.len();
        }
        let first = &self.model[first];
        if at_least_one || first.bytes.len() as u64 <= max {
            assert!(
                !bytes.is_empty(),
                "a batch at {from} below {limit}, at most {max}"
            );
            assert_eq!(plan.first_offset, Some(Offset(first.base)));
        }
        assert!(bytes.len() as u64 <= max || bytes.len() == first.bytes.len());
    }

    async fn look_up(&mut self) {
        let limit = self.durable_end();
        let records = || {
            self.model.iter().flat_map(|batch| {
                let times = batch.times.iter().enumerate();
                times.map(|(i, time)| (*time, batch.base + i as i64, batch.epoch))
            })
        };
        let visible = || records().filter(|(_, offset, _)| *offset < limit);
        let newest = visible().map(|(time, ..)| time).max();
        let expected = visible().find(|(time, ..)| Some(*time) == newest);
        let found = self.partition.max_timestamp(Offset(limit)).await.unwrap();
        assert_eq!(
            found.map(|f| (f.timestamp.0, f.offset.0, f.leader_epoch.0)),
            expected
        );
        let asked = match self.model.len() {
            0 => 5,
            n => self.model[(limit as usize) % n].times[0],
        };
        let expected = visible().find(|(time, ..)| *time >= asked);
        let found = self
            .partition
            .offset_for_timestamp(Timestamp(asked), Offset(limit))
            .await
            .unwrap();
        assert_eq!(
            found.map(|f| (f.timestamp.0, f.offset.0, f.leader_epoch.0)),
            expected,
            "first record since {asked}"
        );
        for epoch in 0..=self.epoch {
            let end = self
                .model
                .iter()
                .find(|batch| batch.epoch > epoch)
                .map_or(self.end(), |batch| batch.base);
            if self.model.iter().any(|batch| batch.epoch == epoch) {
                let found = self.partition.epoch_end_offset(LeaderEpoch(epoch));
                assert_eq!(found.unwrap().end.0, end);
            }
        }
    }

    async fn truncate(&mut self) {
        let keep = self.random.below(self.model.len() as u64 + 1) as usize;
        if keep == self.model.len() {
            return;
        }
        let first = self.model[keep].clone();
        self.partition
            .truncate(first.place, Offset(first.base))
            .await
            .unwrap();
        self.model.truncate(keep);
        self.durable = self.durable.min(keep);
        assert_eq!(self.partition.log_end().0, first.base);
        let known = self.partition.facts().producers;
        let last = self
            .model
            .last()
            .map(|b| BatchHeader::parse(&b.bytes).unwrap());
        assert_eq!(
            known
                .first()
                .and_then(|(_, producer)| producer.batches.last().copied())
                .map(|b| b.last_sequence),
            last.map(|header| header.last_sequence()),
            "a producer is known by what is left of it"
        );
        self.checkpoint().await;
        self.next_epoch();
    }

    /// What a journal's table needs: everything durable, and the facts at that moment.
    async fn checkpoint(&mut self) {
        self.flush_all();
        for file in self.partition.take_dirty().unwrap().files {
            file.sync_data().await.unwrap();
        }
        let facts = self.partition.facts();
        let mut bytes = Vec::new();
        facts.encode(&mut bytes);
        assert_eq!(PartitionFacts::decode(&bytes, FORMAT).unwrap(), facts);
        self.table = (facts, self.model.len());
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        self.partition.set_leader_epoch(LeaderEpoch(self.epoch));
        self.sequence = self
            .model
            .last()
            .and_then(|batch| BatchHeader::parse(&batch.bytes))
            .map_or(0, |header| header.last_sequence() + 1);
    }

    async fn restart_clean(&mut self) {
        self.flush_all();
        self.partition.close_clean().await.unwrap();
        let active = *self.partition.facts().active();
        let file = names::file(&self.dir, active.base, Kind::Log);
        assert_eq!(self.ring.read(&file).unwrap().len() as u64, active.len);
        if let Some(last) = self.model.last()
            && last.place.segment == active.base
        {
            let known = active.last_batch.unwrap();
            assert_eq!(known.position, last.place.position);
            assert_eq!(known.crc.to_be_bytes(), last.bytes[17..21]);
        }
        self.check_files();
        for name in self.ring.read_dir(&self.dir).unwrap() {
            if let Some((base, Kind::Log)) = names::parse_file(&name.name) {
                let read = |kind| self.ring.read(&names::file(&self.dir, base, kind)).unwrap();
                let (index, time) = (read(Kind::Index), read(Kind::TimeIndex));
                SparseIndex::from_files(base, &index, &time, name.len).unwrap();
            }
        }
        let facts = self.partition.facts();
        assert_eq!(facts.drained, facts.end_place());
        self.reopen(&facts);
    }

    /// After a clean stop the files hold the model's bytes, nothing else.
    fn check_files(&self) {
        let mut all = Vec::new();
        for entry in self.ring.read_dir(&self.dir).unwrap() {
            if entry.name.ends_with(".log") {
                all.extend(self.ring.read(&self.dir.join(entry.name)).unwrap());
            }
        }
        let model: Vec<u8> = self.model.iter().flat_map(|b| b.bytes.clone()).collect();
        assert!(all == model, "the files are the log");
    }

    /// A kill: memory is gone, the files may be ahead of the table. The journal holds what came
    /// since the table's drained place, up to what is durable (or a little more).
    fn restart_unclean(&mut self) {
        let (facts, covered) = self.table.clone();
        let kept = self.durable.max(covered);
        let kept = kept + self.random.below((self.model.len() - kept) as u64 + 1) as usize;
        self.model.truncate(kept);
        self.durable = kept;
        let mut recovering = Recovering::new(facts.clone());
        for batch in &self.model {
            if batch.place.plus(batch.bytes.len() as u64) > facts.drained {
                recovering.batch(batch.place, &batch.bytes).unwrap();
            }
        }
        recovering.check().unwrap();
        for (place, bytes) in recovering.pending() {
            let file = self.open(place.segment);
            file.write_now(bytes, place.position).unwrap();
        }
        let last = recovering.segments().last().unwrap().base;
        for segment in recovering.segments() {
            self.open(segment.base).set_len(segment.len).unwrap();
        }
        for entry in self.ring.read_dir(&self.dir).unwrap() {
            let name = entry.name;
            let stale = |base| recovering.stale_indexes().any(|stale| stale == base);
            if names::parse_file(&name).is_some_and(|(base, kind)| {
                base > last || (stale(base) && matches!(kind, Kind::Index | Kind::TimeIndex))
            }) {
                self.ring.remove_file(&self.dir.join(name)).unwrap();
            }
        }
        let facts = recovering.finish();
        assert_eq!(facts.end().0, self.end());
        self.reopen(&facts);
        self.next_epoch();
        self.table = (self.partition.facts(), self.model.len());
    }

    fn open(&self, base: Offset) -> crate::ring::File {
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let path = names::file(&self.dir, base, Kind::Log);
        self.ring.open(&path, options).unwrap()
    }

    fn reopen(&mut self, facts: &PartitionFacts) {
        let spec = spec(&self.dir, &self.config, self.epoch);
        self.context = PartitionContext::new(&self.ring, 3, 64 << 10);
        self.partition = Partition::open(&self.context, spec, facts).unwrap();
        self.table = (facts.clone(), self.model.len());
        assert_eq!(self.partition.log_end().0, self.end());
        assert_eq!(
            self.partition.facts(),
            *facts,
            "nothing is lost by a restart"
        );
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..=39 => self.append(),
            40..=49 => self.flush(),
            50..=59 => {
                let max = 4096 + self.random.below(100_000);
                let before = self.partition.undrained_bytes();
                let written = self
                    .partition
                    .drain(DrainLimit::Durable, max)
                    .await
                    .unwrap();
                assert!(self.partition.undrained_bytes() <= before);
                assert!(written <= max.next_multiple_of(4096));
            }
            60..=61 => {
                let end = self.partition.end_place();
                let limit = DrainLimit::Through(end);
                while self.partition.drain(limit, 1 << 20).await.unwrap() > 0 {}
                self.flush_all(); // the journal points at them only now
            }
            62..=63 => self.partition.settle().await.unwrap(),
            64..=65 => {
                self.partition.settle_sealed().await.unwrap();
                assert!(self.durable < self.model.len() || !self.partition.needs_settle());
            }
            66..=67 => {
                let bytes = self.random.below(300_000) as usize;
                self.context.cache().make_room(bytes);
            }
            68..=87 => self.read().await,
            88..=91 => self.look_up().await,
            92 => self.truncate().await,
            93..=94 => self.checkpoint().await,
            95 => self.restart_clean().await,
            96 => self.restart_unclean(),
            _ => {
                if self.random.below(4) == 0 {
                    self.next_epoch();
                }
            }
        }
    }
}

async fn play(ring: Ring, dir: PathBuf, seed: u64, steps: usize) {
    let mut world = World::new(&ring, dir, seed);
    for _ in 0..steps {
        world.step().await;
    }
    world.restart_clean().await;
    for _ in 0..20 {
        world.read().await;
    }
}

#[test]
fn a_partition_is_a_list_of_batches() {
    let seeds = std::env::var("CORELANE_PARTITION_SEEDS").ok();
    let seeds = seeds.and_then(|n| n.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        println!("seed {seed}");
        test_ring::run(seed, |ring| play(ring, "/data/model-0".into(), seed, 400));
    }
}

#[test]
fn a_partition_is_a_list_of_batches_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    // kept for Kafka's tools where somebody asks for it
    let keep = std::env::var("CORELANE_KEEP_LOG").ok().map(PathBuf::from);
    let dir = keep.unwrap_or_else(|| dir.path().to_owned());
    for seed in 100..103 {
        println!("seed {seed}");
        let dir = dir.join(format!("model-{seed}"));
        test_ring::run_real(|ring| play(ring, dir, seed, 400));
    }
}

#[test]
fn a_clean_stop_leaves_no_hole_of_a_crash_in_an_index() {
    test_ring::run(1, |ring| async move {
        let mut world = World::new(&ring, "/data/model-0".into(), 1);
        let mut stops = 0;
        while world.partition.end_place() < Place::new(Offset(0), 150_000) {
            world.append();
            world.flush_all();
            if world.model.len() == 3 {
                world.restart_clean().await;
                stops += 1;
            }
        }
        assert_eq!(stops, 1);
        world.partition.settle().await.unwrap();
        let facts = world.partition.facts();
        world.reopen(&facts); // as after a kill: what grew since the stop is indexed nowhere
        world.restart_clean().await;
        let read = |kind| {
            ring.read(&names::file(&world.dir, Offset(0), kind))
                .unwrap()
        };
        let (log, index) = (read(Kind::Log), read(Kind::Index));
        let index = SparseIndex::from_files(Offset(0), &index, &[], log.len() as u64).unwrap();
        for batch in &world.model {
            let from = index.floor(Offset(batch.next - 1));
            let between = world.model.iter().filter(|b| {
                b.place.segment == Offset(0) && b.place.position > from && b.base < batch.base
            });
            let between: Vec<usize> = between.map(|b| b.bytes.len()).collect();
            let walked: usize = between.iter().rev().skip(1).sum();
            assert!(walked <= 2048, "{walked} bytes to walk to {}", batch.base);
        }
    });
}
