//! A connection that consumes, and checks what it gets.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::base::error_code::ErrorCode;
use crate::base::map::Map;
use crate::cli::bench::client::{self, Frames};
use crate::cli::bench::ledger::Reads;
use crate::cli::bench::value::Name;
use crate::cli::bench::world::{Place, Reader, World};
use crate::ring::Socket;
use crate::wire::api::ApiKey;
use crate::wire::batch::{BatchError, BatchView, batches, records};
use crate::wire::compress::{Codec, decompress};
use crate::wire::message::Message;
use crate::wire::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};

const WAIT_MS: i32 = 500;
const INFLATED_BYTES: usize = 256 << 20;
/// After so much others get their turn.
const YIELD_BYTES: usize = 64 << 10;

struct Part {
    partition: i32,
    start: i64,
    /// What is before it was there before the run was measured.
    end_of_old: i64,
    offset: i64,
}

struct Consumer {
    world: Rc<World>,
    reader: Reader,
    parts: Vec<Part>,
    /// Where each partition stands among the parts.
    places: Map<i32, usize>,
    socket: Socket,
    /// What it got, where that is its own business.
    again: Reads,
}

/// Reads its partitions until all that was acked is read, or again and again until the end.
pub async fn run(world: Rc<World>, reader: Reader, places: Vec<Place>) {
    let its = world.clone();
    let read = async move {
        let congestion = its.load.run.congestion.as_deref();
        let socket = client::connect(&its.ring, places[0].leader, congestion).await?;
        let part = |place: &Place| Part {
            partition: place.partition,
            end_of_old: its.start_of(place),
            start: place.start,
            offset: match reader {
                Reader::Once => its.start_of(place),
                Reader::Again => place.start,
            },
        };
        let parts: Vec<Part> = places.iter().map(part).collect();
        let mut consumer = Consumer {
            reader,
            again: Reads::default(),
            places: parts
                .iter()
                .enumerate()
                .map(|(n, p)| (p.partition, n))
                .collect(),
            parts,
            socket,
            world: its,
        };
        consumer.read_all().await
    };
    if let Err(error) = read.await {
        world.fail(format!("{error:#}"));
    }
}

impl Consumer {
    fn is_over(&self) -> bool {
        let world = &self.world;
        let all = || world.producing.get() == 0 && world.is_level();
        let enough = || self.reader == Reader::Again || all();
        world.has_failed() || (world.drain.get() && enough())
    }

    async fn read_all(&mut self) -> anyhow::Result<()> {
        let world = self.world.clone();
        let mut answers = Frames::new(&world.ring, &self.socket, world.read_bytes).await;
        let (version, mut id) = (world.target.fetch, 0i32);
        let pace = match self.reader {
            Reader::Once => None,
            Reader::Again => world.load.replay_mb_s,
        };
        let mut due = world.now();
        while !self.is_over() {
            id = id.wrapping_add(1) & i32::MAX;
            self.ask(id).await?;
            let answer = answers.next().await?;
            let mut body = client::body(answer, ApiKey::Fetch, version, id)?;
            let response = FetchResponse::decode(&mut body, version)?;
            check(response.error_code, || "a fetch".to_owned())?;
            let (mut bytes, mut taken) = (0, 0);
            for topic in response.responses.iter() {
                for data in topic.partitions.iter() {
                    bytes += data.records.len() as u64;
                    self.take(&data)?;
                    taken += data.records.len();
                    if taken >= YIELD_BYTES {
                        // the same thread takes the acks, whose latency counts
                        taken = 0;
                        world.ring.yield_now().await;
                    }
                }
            }
            let now = world.now();
            world.measure.borrow_mut().fetched(self.reader, bytes, now);
            if let Some(mb_s) = pace {
                due = due.max(now) + Duration::from_secs_f64(bytes as f64 / (mb_s * 1e6));
                world.ring.sleep_until(due).await;
            }
        }
        Ok(())
    }

    async fn ask(&self, id: i32) -> anyhow::Result<()> {
        let (load, target) = (&self.world.load, &self.world.target);
        let partitions: Vec<FetchPartition> = self
            .parts
            .iter()
            .map(|part| FetchPartition {
                partition: part.partition,
                current_leader_epoch: -1,
                fetch_offset: part.offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: load.fetch_bytes,
                ..FetchPartition::default()
            })
            .collect();
        let topics = [FetchTopic {
            topic: &target.name,
            topic_id: target.id,
            partitions: partitions.as_slice().into(),
        }];
        let message = FetchRequest {
            replica_id: -1,
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: match self.reader {
                Reader::Once => self.world.fetch_bytes as i32,
                // a large answer takes the load's thread from those whose latency counts
                Reader::Again => load.fetch_bytes,
            },
            session_epoch: -1,
            topics: topics.as_slice().into(),
            ..FetchRequest::default()
        };
        let ring = &self.world.ring;
        let bodies = client::no_bodies();
        let chain = client::request(ring, target.fetch, id, &message, bodies).await;
        self.socket.send(chain).await.context("sending")
    }

    fn take(&mut self, data: &PartitionData<'_>) -> anyhow::Result<()> {
        let partition = data.partition_index;
        check(data.error_code, || format!("partition {partition}"))?;
        let Some(part) = self.places.get(&partition).map(|n| &mut self.parts[*n]) else {
            bail!("partition {partition} was not asked for");
        };
        for batch in batches(data.records.bytes()) {
            let batch = match batch {
                Ok(batch) => batch,
                // the last one may be cut
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => bail!("partition {partition}: {error}"),
            };
            if !batch.verify_crc() {
                bail!(
                    "partition {partition}: the checksum of the batch at offset {} is wrong",
                    batch.base_offset().0
                );
            }
            let body;
            let bytes = match batch.codec() {
                Some(Codec::None) => batch.body(),
                Some(codec) => {
                    body = decompress(codec, batch.body(), INFLATED_BYTES)?;
                    &body[..]
                }
                None => bail!("partition {partition}: an unknown codec"),
            };
            match self.reader {
                Reader::Once => {
                    let mut reads = self.world.reads.borrow_mut();
                    read_batch(&self.world, &mut reads, self.reader, part, &batch, bytes)?;
                }
                Reader::Again => {
                    read_batch(
                        &self.world,
                        &mut self.again,
                        self.reader,
                        part,
                        &batch,
                        bytes,
                    )?;
                    if part.offset >= part.end_of_old {
                        part.offset = part.start;
                        self.again.forget(partition as u32);
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn read_batch(
    world: &World,
    reads: &mut Reads,
    reader: Reader,
    part: &mut Part,
    batch: &BatchView<'_>,
    body: &[u8],
) -> anyhow::Result<()> {
    let now = world.now();
    let ledger = world.ledger.borrow();
    let mut measure = world.measure.borrow_mut();
    for record in records(body, batch.records_count()) {
        let record = record?;
        let offset = batch.base_offset().0 + i64::from(record.offset_delta);
        if offset < part.offset {
            continue; // of a batch that began before what was asked for
        }
        if offset != part.offset {
            bail!(
                "partition {}: offset {offset} follows where {} comes next",
                part.partition,
                part.offset
            );
        }
        part.offset += 1;
        let name = Name::read(record.value.unwrap_or_default());
        let name = name.with_context(|| format!("offset {offset} is no record of this run"))?;
        reads
            .read(&ledger, part.partition as u32, offset, &name)
            .map_err(anyhow::Error::msg)?;
        let live = reader == Reader::Once && world.reads_live.get();
        let due = live.then_some(name.due);
        measure.read(reader, due, now);
    }
    Ok(())
}

fn check(code: i16, what: impl FnOnce() -> String) -> anyhow::Result<()> {
    match code {
        0 => Ok(()),
        code => {
            let name = ErrorCode::from_code(code).map_or("unknown error", |code| code.name());
            bail!("{}: {name}", what())
        }
    }
}
