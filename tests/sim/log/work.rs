//! Appending to and reading from one partition.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use corelane::base::ids::{Offset, ProducerId};
use corelane::base::time::Timestamp;
use corelane::log::append::{AppendError, Origin};
use corelane::log::partition::{Part, Partition, ReadError, ReadPlan};
use corelane::log::store::{Appended, LogStore};
use corelane::ring::Ring;
use corelane::ring::sim::Rng;
use corelane::wire::batch::{BatchBuilder, BatchView, batches, records};
use corelane::wire::compress::Codec;

use super::model::Stage;
use super::node::{Shared, Tracked};

/// The value of a record: its number, then bytes that follow from it.
fn value(record: u64, len: usize) -> Vec<u8> {
    let mut bytes = record.to_be_bytes().to_vec();
    bytes.resize(8 + len, record as u8);
    bytes
}

/// The number of a record, whose bytes must be right.
pub fn record_of(bytes: &[u8]) -> u64 {
    let record = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
    assert_eq!(bytes, value(record, bytes.len() - 8), "a record changed");
    record
}

/// A batch of an idempotent producer that was not acked: sent again after a restart.
pub struct Unacked {
    sequence: i32,
    records: Vec<u64>,
    bytes: Vec<u8>,
}

/// What a producer knows across restarts.
#[derive(Default)]
pub struct Producer {
    next_sequence: i32,
    unacked: VecDeque<Rc<Unacked>>,
}

fn batch(shared: &Shared, rng: &mut Rng, producer: Option<(i64, i32)>, now: Timestamp) -> Unacked {
    let count = rng.between(1, 5);
    let size = match rng.below(24) {
        0 => rng.between(1, 200_000),
        1..=3 => rng.between(1, 20_000),
        4 | 5 => 4096 - 61 - 20,
        _ => rng.between(1, 300),
    };
    let mut builder = BatchBuilder::new(Codec::None);
    let sequence = producer.map_or(-1, |p| p.1);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId(id), 0, sequence);
    }
    let records: Vec<u64> = (0..count).map(|_| shared.next_record()).collect();
    for record in &records {
        let value = value(*record, (size / count) as usize);
        builder.append(now, None, Some(&value), &[]);
    }
    Unacked {
        sequence,
        records,
        bytes: builder.build().expect("not compressed"),
    }
}

/// Appends batches until the process stops or its directory fails.
pub async fn produce(
    ring: Ring,
    store: Rc<LogStore>,
    partition: Rc<Partition>,
    tracked: Tracked,
    shared: Rc<Shared>,
    mut rng: Rng,
) {
    // where acked records may be lost, a producer's next sequence need not be the log's
    let idempotent = tracked.index.is_multiple_of(2) && !tracked.model.borrow().interval;
    let pause_us = [0, 0, 200, 5_000, 100_000][rng.index(5)];
    let id = tracked.index as i64 + 1;
    let mut again: VecDeque<Rc<Unacked>> = tracked.producer.borrow().unacked.clone();
    let mut left = rng.between(20, 150);
    while !shared.stopping.get() && left > 0 {
        left -= 1;
        let batch = match again.pop_front() {
            Some(batch) => batch,
            None => {
                while idempotent && tracked.producer.borrow().unacked.len() >= 5 {
                    ring.sleep(Duration::from_millis(1)).await;
                    if shared.stopping.get() {
                        return;
                    }
                }
                let mut p = tracked.producer.borrow_mut();
                let as_producer = idempotent.then_some((id, p.next_sequence));
                let batch = Rc::new(batch(&shared, &mut rng, as_producer, ring.wall()));
                p.next_sequence += batch.records.len() as i32;
                if idempotent {
                    p.unacked.push_back(batch.clone());
                }
                batch
            }
        };
        let view = BatchView::parse(&batch.bytes).expect("built here");
        let appended = loop {
            store.admit(batch.bytes.len()).await;
            match store.append(&partition, &view, Origin::Client) {
                Ok(appended) => break appended,
                Err(AppendError::Busy) => {}
                Err(AppendError::Storage(error)) => {
                    let model = tracked.model.borrow();
                    let expected = shared.errors || model.stage == Stage::Deleting;
                    return assert!(expected, "{}: {error}", model.topic);
                }
                Err(error) => panic!(
                    "{}: sequence {}: {error}",
                    tracked.model.borrow().topic,
                    batch.sequence
                ),
            }
        };
        let all = batch.records.iter().enumerate();
        for (i, record) in all {
            let offset = appended.base_offset.0 + i as i64;
            tracked.model.borrow_mut().appended(offset, *record);
        }
        let (its, t) = (store.clone(), tracked.clone());
        ring.spawn(ack(its, t, batch, appended)).detach();
        match pause_us {
            0 => ring.yield_now().await,
            us => ring.sleep(Duration::from_micros(rng.between(0, us))).await,
        }
    }
}

async fn ack(store: Rc<LogStore>, tracked: Tracked, batch: Rc<Unacked>, appended: Appended) {
    let offset = |i: usize| appended.base_offset.0 + i as i64;
    if store.written(appended.ticket).await.is_err() {
        return;
    }
    for (i, record) in batch.records.iter().enumerate() {
        tracked.model.borrow_mut().is_written(offset(i), *record);
    }
    if store.flushed(appended.ticket).await.is_err() {
        return;
    }
    for (i, record) in batch.records.iter().enumerate() {
        tracked.model.borrow_mut().is_durable(offset(i), *record);
    }
    let mut producer = tracked.producer.borrow_mut();
    producer.unacked.retain(|u| !Rc::ptr_eq(u, &batch));
}

/// Follows the durable end, as consumers do.
pub async fn consume(ring: Ring, partition: Rc<Partition>, tracked: Tracked, shared: Rc<Shared>) {
    let mut next = partition.log_start();
    while !shared.stopping.get() {
        let limit = partition.durable_end();
        if next >= limit {
            ring.sleep(Duration::from_millis(2)).await;
            continue;
        }
        let gone = || tracked.model.borrow().stage == Stage::Deleting;
        let Some(found) = read(&ring, &partition, next, limit, 100_000, gone).await else {
            return;
        };
        for (offset, record) in found.range(next.0..) {
            assert!(*offset < limit.0, "above what is durable");
            tracked.model.borrow_mut().seen(*offset, *record);
            next = Offset(offset + 1);
        }
    }
}

/// Everything in the log, at a start.
pub async fn read_all(ring: &Ring, partition: &Partition) -> BTreeMap<i64, u64> {
    assert_eq!(partition.durable_end(), partition.log_end());
    let mut all = BTreeMap::new();
    let mut next = partition.log_start();
    while next < partition.log_end() {
        let limit = partition.log_end();
        let found = read(ring, partition, next, limit, 300_000, || false)
            .await
            .expect("nobody deletes it meanwhile");
        let (last, _) = found.last_key_value().expect("something below the end");
        assert!(*last >= next.0, "a read that stands still at {next}");
        next = Offset(last + 1);
        all.extend(found);
    }
    all
}

async fn read(
    ring: &Ring,
    partition: &Partition,
    from: Offset,
    limit: Offset,
    max_bytes: u64,
    gone: impl Fn() -> bool,
) -> Option<BTreeMap<i64, u64>> {
    let plan = match partition.read_cold(from, max_bytes, limit, true).await {
        Ok(plan) => plan,
        Err(ReadError::Gone) => return None,
        Err(_) if gone() => return None,
        Err(error) => panic!("reading at {from}: {error}"),
    };
    let bytes = collect(ring, &plan).await?;
    let mut found = BTreeMap::new();
    let mut all = batches(&bytes);
    for batch in all.by_ref() {
        let batch = batch.expect("a whole batch");
        assert!(batch.verify_crc(), "CRC at {}", batch.base_offset());
        for record in records(batch.body(), batch.records_count()) {
            let record = record.expect("a record");
            let offset = batch.base_offset().0 + i64::from(record.offset_delta);
            found.insert(offset, record_of(record.value.expect("a value")));
        }
    }
    assert!(all.rest().is_empty(), "batches are whole");
    Some(found)
}

async fn collect(ring: &Ring, plan: &ReadPlan) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in &plan.parts {
        match part {
            Part::Memory(buf) => bytes.extend_from_slice(buf),
            Part::File {
                file,
                position,
                len,
            } => {
                let len = *len as usize;
                let buf = ring.arena().alloc(len).await;
                let (n, buf) = file.read_at(buf, 0, len, *position).await;
                assert_eq!(n.ok()?, len, "the file has what the plan says");
                bytes.extend_from_slice(&buf[..len]);
            }
        }
    }
    Some(bytes)
}
