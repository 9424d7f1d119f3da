//! Producers: idempotent ones, which send again what was not acked, and plain ones, which do not.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::ProducerId;
use corelane::base::time::Monotonic;
use corelane::ring::sim::Rng;
use corelane::wire::batch::BatchBuilder;
use corelane::wire::compress::Codec;
use corelane::wire::messages::*;
use corelane::wire::records::Records;

use super::client::{Answer, Client};
use super::model::{Acks, Record};
use super::rule::{Rule, broken, rule};
use super::shared::{Shared, Tempo, code};
use super::topic::{Topic, draw_patience};

/// Batches of one partition that are on the way at a time, as Kafka bounds them.
const IN_FLIGHT: usize = 5;
const RETRY: Duration = Duration::from_millis(30);

struct Unacked {
    records: Vec<Record>,
    bytes: Vec<u8>,
    acked: bool,
}

/// One partition of a producer.
struct Part {
    index: usize,
    next_sequence: i32,
    unacked: VecDeque<Unacked>,
    /// A batch of this round was refused: what follows may be too.
    refused: bool,
}

struct Producer {
    shared: Rc<Shared>,
    topic: Rc<Topic>,
    client: Client,
    rng: Rng,
    acks: Acks,
    idempotent: bool,
    /// Its name in records; a plain producer takes another one when it cannot know in which order
    /// its requests arrive.
    name: u32,
    next_number: u32,
    /// Producer id and epoch.
    identity: Option<(i64, i16)>,
    /// Power cuts that it knows of.
    power: u64,
    parts: Vec<Part>,
    pause_ms: u64,
    codec: Codec,
}

/// Sends batches to some of a topic's partitions for as long as the topic lives.
pub async fn run(shared: Rc<Shared>, topic: Rc<Topic>, mut rng: Rng) {
    let mut parts: Vec<usize> = (0..topic.partitions.len()).collect();
    rng.shuffle(&mut parts);
    parts.truncate(rng.between(1, parts.len() as u64) as usize);
    let idempotent = rng.chance(0.6);
    let acks = match rng.below(5) {
        _ if idempotent => Acks::All,
        0 => Acks::None,
        1 | 2 => Acks::Leader,
        _ => Acks::All,
    };
    let mut client = Client::new(&shared.ring, shared.address);
    client.introduces_itself = rng.chance(0.5);
    let mut producer = Producer {
        client,
        acks,
        idempotent,
        name: shared.new_producer(),
        next_number: 0,
        identity: None,
        power: shared.power_cuts(),
        parts: parts
            .into_iter()
            .map(|index| Part {
                index,
                next_sequence: 0,
                unacked: VecDeque::new(),
                refused: false,
            })
            .collect(),
        pause_ms: [0, 1, 20, 200][rng.index(4)],
        codec: [Codec::None, Codec::None, Codec::Lz4, Codec::Snappy][rng.index(4)],
        shared,
        topic,
        rng,
    };
    while producer.rest().await {
        producer.round().await;
    }
}

impl Producer {
    /// Until there is something to do; false when there never will be.
    async fn rest(&mut self) -> bool {
        let waits = self.parts.iter().any(|p| !p.unacked.is_empty());
        let rotten = self.topic.partitions.iter().any(|p| p.borrow().has_rot());
        let may = |tempo| match tempo {
            Tempo::Burst => waits || self.topic.left.get() > 0,
            Tempo::Quiet => false,
            // where rot made a partition refuse, nothing more may ever be acked
            Tempo::Drain => waits && !rotten,
        };
        self.shared.work(&self.topic, may).await
    }

    async fn round(&mut self) {
        draw_patience(&mut self.client, &mut self.rng);
        if self.shared.weak {
            if self.power != self.shared.power_cuts() {
                // the broker may have forgotten acked batches, so that nothing can follow them
                self.power = self.shared.power_cuts();
                self.identity = None;
                self.client.drop_connection();
                self.give_up();
            }
            if self.topic.is_unsettled(&self.shared) {
                return self.shared.ring.sleep(RETRY).await;
            }
        }
        if self.idempotent && self.identity.is_none() && !self.identify().await {
            return self.shared.ring.sleep(RETRY).await;
        }
        if self.shared.weak {
            // what is sent on this connection gets to no process after the next power cut, which
            // could add it before what that cut left was looked at
            let reached = self.client.reach().await;
            let cut = self.power != self.shared.power_cuts();
            if reached.is_err() || cut || self.topic.is_unsettled(&self.shared) {
                return self.shared.ring.sleep(RETRY).await;
            }
        }
        if self.shared.tempo.get() == Tempo::Burst {
            self.fill();
        }
        let all = self.send_all().await;
        if !self.idempotent {
            self.give_up();
        }
        if !all {
            self.shared.ring.sleep(RETRY).await;
        }
        let pause = Duration::from_millis(self.rng.between(0, self.pause_ms));
        self.shared.ring.sleep(pause).await;
    }

    /// Nothing of what is on its way is sent again.
    fn give_up(&mut self) {
        for part in &mut self.parts {
            part.unacked.clear();
            if self.identity.is_none() {
                part.next_sequence = 0;
            }
        }
    }

    async fn identify(&mut self) -> bool {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let Some(answer) = self.shared.call(&mut self.client, 4, &request).await else {
            return false;
        };
        let answer: InitProducerIdResponse = answer.decode(4);
        match code(answer.error_code) {
            ErrorCode::None => {
                self.shared.given(answer.producer_id);
                self.identity = Some((answer.producer_id, answer.producer_epoch));
                true
            }
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::RequestTimedOut => false,
            ErrorCode::KafkaStorageError if self.shared.forgives_any() => {
                self.shared.tally.forgiven.one();
                false
            }
            other => broken(
                Rule::Served,
                format_args!("InitProducerId: {}", other.name()),
            ),
        }
    }

    fn fill(&mut self) {
        let deep = 1 + self.rng.index(IN_FLIGHT);
        for n in 0..self.parts.len() {
            let mut left = self.topic.left.get();
            while self.parts[n].unacked.len() < deep && left > 0 && self.rng.chance(0.9) {
                left -= 1;
                let batch = self.batch(n);
                self.parts[n].unacked.push_back(batch);
            }
            self.topic.left.set(left);
        }
    }

    fn batch(&mut self, part: usize) -> Unacked {
        let count = self.rng.between(1, 6);
        let most = self.shared.value_bytes;
        let size = match self.rng.below(20) {
            _ if self.shared.equal_sizes => most / 8,
            0 => self.rng.between(1, most),
            1 | 2 if most > 100_000 => self.rng.between(most / 3, most),
            1..=3 => self.rng.between(1, most / 10),
            _ => self.rng.between(1, 200),
        };
        let part = &mut self.parts[part];
        let mut builder = BatchBuilder::new(self.codec);
        if let Some((id, epoch)) = self.identity {
            builder = builder.producer(ProducerId(id), epoch, part.next_sequence);
            part.next_sequence += count as i32;
        }
        let mut records = Vec::new();
        for _ in 0..count {
            let record = Record {
                producer: self.name,
                number: self.next_number,
            };
            self.next_number += 1;
            self.topic.partitions[part.index]
                .borrow_mut()
                .sending(record);
            let mut value = record.to_bytes().to_vec();
            value.resize(8 + (size / count) as usize, record.fill());
            self.shared.tally.bytes.add(value.len() as u64);
            builder.append(self.shared.ring.wall(), None, Some(&value), &[]);
            records.push(record);
        }
        Unacked {
            records,
            bytes: builder.build().expect("a batch that can be packed"),
            acked: false,
        }
    }

    /// Sends every batch that was not acked, each partition's first ones together, then waits for
    /// the answers. False when something failed.
    async fn send_all(&mut self) -> bool {
        let rounds = self
            .parts
            .iter()
            .map(|p| p.unacked.len())
            .max()
            .unwrap_or(0);
        let power = self.shared.power_cuts();
        let asked = self.shared.ring.now();
        self.parts.iter_mut().for_each(|p| p.refused = false);
        for n in 0..rounds {
            if let Err(error) = self.send(n).await {
                self.lost(&error, asked);
                return false;
            }
        }
        if self.acks == Acks::None {
            return true;
        }
        let mut all = true;
        for n in 0..rounds {
            match self.client.answer().await {
                Ok(answer) => all &= self.answered(n, &answer, power),
                Err(error) => {
                    self.lost(&error, asked);
                    all = false;
                    break;
                }
            }
        }
        for part in &mut self.parts {
            part.unacked.retain(|batch| !batch.acked);
        }
        all
    }

    fn lost(&mut self, error: &std::io::Error, asked: Monotonic) {
        self.shared.lost(error, asked, "Produce");
        self.client.drop_connection();
        if !self.idempotent {
            // what is on its way there may come after what is sent from now on
            self.name = self.shared.new_producer();
            self.next_number = 0;
        }
    }

    async fn send(&mut self, n: usize) -> std::io::Result<()> {
        let partitions: Vec<PartitionProduceData<'_>> = self
            .parts
            .iter()
            .filter_map(|part| {
                let batch = part.unacked.get(n)?;
                Some(PartitionProduceData {
                    index: part.index as i32,
                    records: Records::Bytes(&batch.bytes),
                })
            })
            .collect();
        let request = ProduceRequest {
            transactional_id: None,
            acks: match self.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: "",
                topic_id: self.topic.id,
                partition_data: partitions.into(),
            }]
            .into(),
        };
        match self.acks {
            Acks::None => self.client.tell(13, &request).await,
            _ => self.client.ask(13, &request).await,
        }
    }

    /// The answer to each partition's batch `n`, sent when there had been so many power cuts.
    fn answered(&mut self, n: usize, answer: &Answer, power: u64) -> bool {
        self.shared.tally.calls.one();
        let answer: ProduceResponse = answer.decode(13);
        let topic = answer.responses.iter().next().expect("one topic");
        let mut all = true;
        let mut expected = self.parts.iter().filter(|p| p.unacked.len() > n).count();
        for result in topic.partition_responses.iter() {
            let part = self
                .parts
                .iter_mut()
                .find(|p| p.index as i32 == result.index);
            let part = part.expect("a partition that was asked for");
            expected -= 1;
            let error = code(result.error_code);
            let refused = std::mem::replace(&mut part.refused, error != ErrorCode::None);
            part.refused |= refused;
            match error {
                ErrorCode::None => {
                    let batch = &mut part.unacked[n];
                    batch.acked = true;
                    let mut model = self.topic.model(&self.shared, part.index);
                    for (i, record) in batch.records.iter().enumerate() {
                        let offset = result.base_offset + i as i64;
                        model.acked(offset, *record, self.acks, power);
                        self.shared.tally.acked.one();
                    }
                    continue;
                }
                ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicas => {}
                ErrorCode::OutOfOrderSequenceNumber if refused => {}
                ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower => {
                    self.shared
                        .refused(&self.topic, part.index, error, "producing");
                }
                _ if self.topic.gone.get() => {}
                _ if self.shared.weak && power != self.shared.power_cuts() => {}
                other => broken(
                    Rule::Served,
                    format_args!(
                        "{}-{}: producing batch {n} of {}: {} {:?}",
                        self.topic.name,
                        part.index,
                        part.unacked.len(),
                        other.name(),
                        result.error_message
                    ),
                ),
            }
            all = false;
        }
        rule!(
            Rule::Served,
            expected == 0,
            "{}: {expected} partitions without an answer",
            self.topic.name
        );
        all
    }
}
