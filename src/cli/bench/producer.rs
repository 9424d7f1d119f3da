//! A connection that produces.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::base::error_code::ErrorCode;
use crate::base::time::Monotonic;
use crate::cli::args::Acks;
use crate::cli::bench::batches::{Batches, Contents, Sequence};
use crate::cli::bench::client::{self, Frames};
use crate::cli::bench::value::Name;
use crate::cli::bench::world::{Pace, Place, World};
use crate::ring::Socket;
use crate::ring::sync::{Event, join};
use crate::wire::api::ApiKey;
use crate::wire::message::Message;
use crate::wire::messages::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::records::Records;

const TIMEOUT_MS: i32 = 30_000;
/// What is due and not sent so long after the end of an open loop, or as long as that took, is
/// given up: the broker can't keep up.
const LATE: Duration = Duration::from_secs(5);

/// When the n-th record of a connection is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Monotonic,
    period_ns: f64,
}

impl Schedule {
    fn due(&self, n: u64) -> Monotonic {
        Monotonic(self.start.0 + (n as f64 * self.period_ns) as u64)
    }

    /// How many are due by now.
    fn by(&self, now: Monotonic) -> u64 {
        match now < self.start {
            true => 0,
            false => (now.since(self.start).as_nanos() as f64 / self.period_ns) as u64 + 1,
        }
    }
}

/// A batch on its way.
struct Sent {
    part: usize,
    first: u64,
    count: u64,
    due: Dues,
}

/// When the records of a batch were to be sent.
#[derive(Clone, Copy)]
enum Dues {
    /// All at this time.
    At(Monotonic),
    /// In the order of the schedule, from this one on.
    From(Schedule, u64),
}

impl Dues {
    fn of(&self, n: u64) -> Monotonic {
        match self {
            Dues::At(when) => *when,
            Dues::From(schedule, first) => schedule.due(first + n),
        }
    }
}

struct Request {
    id: i32,
    batches: Vec<Sent>,
    bytes: u64,
}

/// What its two halves share.
#[derive(Default)]
struct Flight {
    requests: RefCell<VecDeque<Request>>,
    changed: Event,
}

struct Producer {
    world: Rc<World>,
    number: u32,
    parts: Vec<Place>,
    socket: Socket,
    flight: Flight,
}

/// Produces until the world says that it is enough, and until all is acked.
pub async fn run(world: Rc<World>, number: u32, parts: Vec<Place>) -> anyhow::Result<()> {
    let congestion = world.load.run.congestion.as_deref();
    let socket = client::connect(&world.ring, parts[0].leader, congestion).await?;
    let producer = Producer {
        socket,
        number,
        parts,
        flight: Flight::default(),
        world,
    };
    let (sent, acked) = join(producer.send_all(), producer.take_acks()).await;
    sent.and(acked)
}

impl Producer {
    fn depth(&self) -> usize {
        match self.world.pace.get() {
            Pace::Closed(depth) => depth,
            Pace::Open(_) => self.world.load.in_flight as usize,
        }
    }

    /// Whether no more is to be sent after so many records.
    fn is_over(&self, schedule: Option<Schedule>, taken: u64) -> bool {
        let (world, until) = (&self.world, self.world.until.get());
        if world.has_failed() || world.left.get() == Some(0) {
            return true;
        }
        let Some(schedule) = schedule else {
            return world.now() >= until;
        };
        let all = schedule.by(until);
        let late = world.now() >= until + LATE.min(world.load.run.duration);
        if late && taken < all {
            let due = (taken..all).map(|n| schedule.due(n));
            let awaited = world.reads_live.get();
            world
                .measure
                .borrow_mut()
                .give_up(due, world.now(), awaited);
        }
        late || taken >= all
    }

    async fn send_all(&self) -> anyhow::Result<()> {
        let sent = self.send_until_over().await;
        // one without a batch says that no more come
        let end = Request {
            id: -1,
            batches: Vec::new(),
            bytes: 0,
        };
        self.flight.requests.borrow_mut().push_back(end);
        self.flight.changed.notify_all();
        sent
    }

    async fn send_until_over(&self) -> anyhow::Result<()> {
        let (world, load) = (&self.world, &self.world.load);
        let contents = Contents {
            sizes: load.record_bytes.clone(),
            keys: load.keys,
            compressible: load.compressible,
            codec: load.codec,
        };
        let batch_bytes = load.batch_bytes.max(contents.record_bytes());
        let request_batches = (load.request_bytes / batch_bytes).max(1);
        let seed = 0x9e37_79b9 + u64::from(self.number);
        let mut batches = Batches::new(contents, load.batch_bytes, seed);
        let batch_records = batches.most() as u64;
        let linger = Duration::from_secs_f64(load.linger_ms / 1e3);
        let mut turn = self.number as usize % self.parts.len();
        let schedule = match world.pace.get() {
            Pace::Closed(_) => None,
            Pace::Open(rate) => {
                let producers = f64::from(load.producers);
                let period_ns = 1e9 * producers / rate;
                // producers take turns
                let offset = f64::from(self.number) * 1e9 / rate;
                Some(Schedule {
                    start: Monotonic(world.since.get().0 + offset as u64),
                    period_ns,
                })
            }
        };
        let (mut taken, mut id) = (0u64, 0i32);
        loop {
            self.wait_for_room().await;
            if self.is_over(schedule, taken) {
                return Ok(());
            }
            let mut ready = match schedule {
                None => batch_records,
                Some(schedule) => {
                    let first = schedule.due(taken);
                    world.wait_until(first.min(world.until.get())).await;
                    if !linger.is_zero() {
                        // until the batch is full or its first record has waited long enough
                        let full = schedule.due(taken + batch_records - 1);
                        world.wait_until(full.min(first + linger)).await;
                    }
                    let now = world.now().min(world.until.get());
                    schedule.by(now).saturating_sub(taken)
                }
            };
            if let Some(left) = world.left.get() {
                ready = ready.min(left);
                world.left.set(Some(left - ready.min(left)));
            }
            if ready == 0 {
                continue;
            }
            let now = world.now();
            let (mut sent, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
            while ready > 0 && sent.len() < request_batches.min(self.parts.len()) {
                let count = ready.min(batch_records);
                let partition = self.parts[turn].partition as u32;
                let first = world
                    .ledger
                    .borrow_mut()
                    .send(self.number, partition, count);
                let due = match schedule {
                    None => Dues::At(now),
                    Some(schedule) => Dues::From(schedule, taken),
                };
                let sequence = world.target.ids.get(self.number as usize);
                let sequence = sequence.map(|(id, epoch)| Sequence {
                    id: *id,
                    epoch: *epoch,
                    // they go on where an earlier part of the run ended, and begin again at 0
                    next: (first & i32::MAX as u64) as i32,
                });
                let names = (0..count as usize).map(|n| Name {
                    producer: self.number,
                    partition,
                    number: first + n as u64,
                    due: due.of(n as u64),
                });
                let body = batches.make(&world.ring, names, sequence).await?;
                bytes += body.len() as u64;
                bodies.push(body);
                sent.push(Sent {
                    part: turn,
                    first,
                    count,
                    due,
                });
                taken += count;
                ready -= count;
                turn = (turn + 1) % self.parts.len();
            }
            if let Some(left) = world.left.get() {
                world.left.set(Some(left + ready)); // for the next request
            }
            id = id.wrapping_add(1) & i32::MAX;
            self.send(id, sent, bodies, bytes).await?;
        }
    }

    async fn wait_for_room(&self) {
        loop {
            let wait = self.flight.changed.wait();
            if self.flight.requests.borrow().len() < self.depth() || self.world.has_failed() {
                return;
            }
            wait.await;
        }
    }

    async fn send(
        &self,
        id: i32,
        sent: Vec<Sent>,
        bodies: Vec<crate::ring::buf::Buf>,
        bytes: u64,
    ) -> anyhow::Result<()> {
        let target = &self.world.target;
        let partitions: Vec<PartitionProduceData<'_>> = sent
            .iter()
            .zip(&bodies)
            .map(|(batch, body)| PartitionProduceData {
                index: self.parts[batch.part].partition,
                records: Records::Hole(body.len()),
            })
            .collect();
        let topics = [TopicProduceData {
            name: &target.name,
            topic_id: target.id,
            partition_data: partitions.as_slice().into(),
        }];
        let message = ProduceRequest {
            transactional_id: None,
            acks: self.world.load.acks.code(),
            timeout_ms: TIMEOUT_MS,
            topic_data: topics.as_slice().into(),
        };
        let bodies = bodies.into_iter().map(Some);
        let chain = client::request(&self.world.ring, target.produce, id, &message, bodies).await;
        let request = Request {
            id,
            batches: sent,
            bytes,
        };
        if self.world.load.acks != Acks::None {
            self.flight.requests.borrow_mut().push_back(request);
            self.flight.changed.notify_all();
            return self.socket.send(chain).await.context("sending");
        }
        self.socket.send(chain).await.context("sending")?;
        self.acked(&request)
    }

    async fn take_acks(&self) -> anyhow::Result<()> {
        let taken = self.take_all_acks().await;
        if let Err(error) = &taken {
            // so that the other half ends too
            self.world.fail(format!("{error:#}"));
            self.flight.changed.notify_all();
        }
        taken
    }

    async fn take_all_acks(&self) -> anyhow::Result<()> {
        let mut answers = Frames::new(&self.world.ring, &self.socket, self.world.read_bytes).await;
        loop {
            let next = {
                let requests = self.flight.requests.borrow();
                requests.front().map(|request| request.batches.is_empty())
            };
            match next {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => {
                    self.flight.changed.wait().await;
                    continue;
                }
            }
            let answer = answers.next().await?;
            let request = self.flight.requests.borrow_mut().pop_front();
            let request = request.expect("it was there");
            self.check(&request, answer)?;
            self.acked(&request)?;
            self.flight.changed.notify_all();
        }
    }

    fn check(&self, request: &Request, answer: &[u8]) -> anyhow::Result<()> {
        let version = self.world.target.produce;
        let mut body = client::body(answer, ApiKey::Produce, version, request.id)?;
        let response = ProduceResponse::decode(&mut body, version)?;
        let mut answered = 0;
        for topic in response.responses.iter() {
            for partition in topic.partition_responses.iter() {
                answered += 1;
                if partition.error_code != 0 {
                    let code = ErrorCode::from_code(partition.error_code);
                    bail!(
                        "partition {} refused a batch: {}{}",
                        partition.index,
                        code.map_or("unknown error", |code| code.name()),
                        partition
                            .error_message
                            .map_or(String::new(), |text| format!(" ({text})"))
                    );
                }
            }
        }
        if answered != request.batches.len() {
            bail!(
                "{answered} partitions answered where {} were asked",
                request.batches.len()
            );
        }
        Ok(())
    }

    fn acked(&self, request: &Request) -> anyhow::Result<()> {
        let now = self.world.now();
        let mut ledger = self.world.ledger.borrow_mut();
        let mut measure = self.world.measure.borrow_mut();
        measure.produced(request.bytes, now);
        for batch in &request.batches {
            let partition = self.parts[batch.part].partition as u32;
            ledger
                .ack(self.number, partition, batch.first, batch.count)
                .map_err(anyhow::Error::msg)?;
            measure.ack((0..batch.count).map(|n| batch.due.of(n)), now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_neither_skips_nor_doubles() {
        let schedule = Schedule {
            start: Monotonic(1_000),
            period_ns: 333.3,
        };
        assert_eq!(schedule.by(Monotonic(999)), 0);
        let mut taken = 0;
        for now in (1_000..100_000).step_by(7) {
            let by = schedule.by(Monotonic(now));
            assert!(by >= taken);
            if by > taken {
                assert!(schedule.due(by - 1).0 <= now);
            }
            assert!(schedule.due(by).0 + 1 >= now, "{by} at {now}");
            taken = by;
        }
    }
}
