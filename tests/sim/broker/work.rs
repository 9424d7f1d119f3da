//! Producers, consumers and an administrator.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::{ProducerId, ShardId, Uuid};
use corelane::ring::Ring;
use corelane::ring::sim::{MachineId, ProcessId, Rng, SimWorld};
use corelane::wire::batch::{BatchBuilder, batches, records};
use corelane::wire::compress::Codec;
use corelane::wire::messages::*;
use corelane::wire::records::Records;

use super::client::{Answer, Client, PATIENCE};
use super::model::Model;

/// Batches that an idempotent producer has on the way, as Kafka bounds them.
const IN_FLIGHT: usize = 5;

struct Topic {
    name: String,
    id: Uuid,
    partitions: Vec<Rc<RefCell<Model>>>,
    gone: Cell<bool>,
}

struct Shared {
    ring: Ring,
    address: SocketAddr,
    topics: RefCell<Vec<Rc<Topic>>>,
    next_record: Cell<u64>,
    stopping: Cell<bool>,
    working: Cell<usize>,
    ended: Cell<bool>,
}

pub struct Clients {
    pub machine: MachineId,
    process: ProcessId,
    shared: Rc<Shared>,
}

impl Clients {
    /// Starts them: they work until [`Clients::finish`].
    pub fn start(world: &SimWorld, address: SocketAddr, rng: &mut Rng) -> Clients {
        let machine = world.machine(&[]);
        let process = world.process(machine);
        let ring = world.shard(process, ShardId(0));
        let shared = Rc::new(Shared {
            ring: ring.clone(),
            address,
            topics: RefCell::default(),
            next_record: Cell::new(0),
            stopping: Cell::new(false),
            working: Cell::new(0),
            ended: Cell::new(false),
        });
        let admin = administer(shared.clone(), rng.fork(1));
        world.spawn(process, &ring, admin);
        Clients {
            machine,
            process,
            shared,
        }
    }

    /// The broker's machine lost its power.
    pub fn power_cut(&self) {
        for topic in self.shared.topics.borrow().iter() {
            for model in &topic.partitions {
                model.borrow_mut().power_cut();
            }
        }
    }

    /// Lets them stop, then reads everything and compares.
    pub fn finish(&self, world: &SimWorld, limit: Duration) {
        let shared = &self.shared;
        shared.stopping.set(true);
        let over = world.run_until(limit, || {
            shared.working.get() == 0 && world.finished(self.process)
        });
        assert!(over, "clients hang: {} at work", shared.working.get());
        world.spawn(self.process, &shared.ring, verify(shared.clone()));
        let over = world.run_until(limit, || shared.ended.get());
        assert!(over, "the last look takes for ever");
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| panic!("error code {code}"))
}

/// Creates topics, deletes some and creates them again.
async fn administer(shared: Rc<Shared>, mut rng: Rng) {
    let mut client = Client::new(&shared.ring, shared.address);
    let count = rng.between(1, 3);
    for n in 0..count {
        let topic = create(&shared, &mut client, &mut rng, format!("topic{n}")).await;
        begin(&shared, &topic, &mut rng);
    }
    let deletes = rng.chance(0.5);
    while !shared.stopping.get() {
        let pause = rng.between(10, 1_500);
        shared.ring.sleep(Duration::from_millis(pause)).await;
        if !deletes || shared.stopping.get() {
            continue;
        }
        let n = rng.index(count as usize);
        let old = shared.topics.borrow_mut().remove(n);
        old.gone.set(true);
        delete(&mut client, &old).await;
        let topic = create(&shared, &mut client, &mut rng, old.name.clone()).await;
        begin(&shared, &topic, &mut rng);
    }
}

async fn create(shared: &Shared, client: &mut Client, rng: &mut Rng, name: String) -> Rc<Topic> {
    let partitions = rng.between(1, 5) as i32;
    let segment = (1u64 << rng.between(20, 23)).to_string();
    let config = CreatableTopicConfig {
        name: "segment.bytes",
        value: Some(&segment),
    };
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: &name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: vec![config].into(),
            ..CreatableTopic::default()
        }]
        .into(),
        timeout_ms: 10_000,
        validate_only: false,
    };
    let id = loop {
        let Ok(answer) = client.call(7, &request).await else {
            shared.ring.sleep(Duration::from_millis(50)).await;
            continue;
        };
        let answer: CreateTopicsResponse = answer.decode(7);
        let topic = answer.topics.iter().next().expect("one for one");
        match code(topic.error_code) {
            ErrorCode::None => break topic.topic_id,
            // by an earlier try whose answer was lost
            ErrorCode::TopicAlreadyExists => match find(client, &name).await {
                Some(id) => break id,
                None => continue,
            },
            ErrorCode::RequestTimedOut => {}
            other => panic!("creating {name}: {}", other.name()),
        }
    };
    let partitions = (0..partitions)
        .map(|n| {
            let model = Model::new(format!("{name}-{n}"), n % 3 != 2);
            Rc::new(RefCell::new(model))
        })
        .collect();
    Rc::new(Topic {
        name,
        id,
        partitions,
        gone: Cell::new(false),
    })
}

async fn find(client: &mut Client, name: &str) -> Option<Uuid> {
    let request = MetadataRequest {
        topics: vec![MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }]
        .into(),
        ..MetadataRequest::default()
    };
    let answer = client.call(12, &request).await.ok()?;
    let answer: MetadataResponse = answer.decode(12);
    let topic = answer.topics.iter().next()?;
    (topic.error_code == 0).then_some(topic.topic_id)
}

async fn delete(client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id: topic.id,
        }]
        .into(),
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    loop {
        if let Ok(answer) = client.call(6, &request).await {
            let answer: DeleteTopicsResponse = answer.decode(6);
            let result = answer.responses.iter().next().expect("one for one");
            match code(result.error_code) {
                ErrorCode::None | ErrorCode::UnknownTopicId => return,
                ErrorCode::RequestTimedOut => {}
                other => panic!("deleting {}: {}", topic.name, other.name()),
            }
        }
        client.ring.sleep(Duration::from_millis(50)).await;
    }
}

/// Sets producers and consumers to work on a topic.
fn begin(shared: &Rc<Shared>, topic: &Rc<Topic>, rng: &mut Rng) {
    shared.topics.borrow_mut().push(topic.clone());
    for index in 0..topic.partitions.len() {
        let producer = Producer {
            shared: shared.clone(),
            topic: topic.clone(),
            index,
            client: Client::new(&shared.ring, shared.address),
            rng: rng.fork(index as u64),
            identity: None,
            unacked: VecDeque::new(),
        };
        at_work(shared, producer.run());
        at_work(shared, consume(shared.clone(), topic.clone(), index));
    }
}

fn at_work(shared: &Rc<Shared>, task: impl Future<Output = ()> + 'static) {
    let its = shared.clone();
    shared.working.set(shared.working.get() + 1);
    let counted = async move {
        task.await;
        its.working.set(its.working.get() - 1);
    };
    shared.ring.spawn(counted).detach();
}

struct Unacked {
    records: Vec<u64>,
    bytes: Vec<u8>,
}

struct Producer {
    shared: Rc<Shared>,
    topic: Rc<Topic>,
    index: usize,
    client: Client,
    rng: Rng,
    /// Producer id, epoch, next sequence.
    identity: Option<(i64, i16, i32)>,
    unacked: VecDeque<Unacked>,
}

impl Producer {
    fn idempotent(&self) -> bool {
        self.index % 3 != 2
    }

    fn over(&self) -> bool {
        self.topic.gone.get() || self.shared.stopping.get()
    }

    async fn run(mut self) {
        let pause_ms = [0, 1, 20, 300][self.rng.index(4)];
        let mut left = self.rng.between(10, 150);
        if self.idempotent() && !self.identify().await {
            return;
        }
        while !self.over() && left > 0 {
            while self.unacked.len() < 1 + self.rng.index(IN_FLIGHT) && left > 0 {
                left -= 1;
                let batch = self.batch();
                self.unacked.push_back(batch);
            }
            if !self.send_all().await {
                // what became of these nobody knows; an idempotent producer may try again
                self.client.drop_connection();
                if !self.idempotent() {
                    self.unacked.clear();
                }
                self.shared.ring.sleep(Duration::from_millis(30)).await;
            }
            self.shared
                .ring
                .sleep(Duration::from_millis(self.rng.between(0, pause_ms)))
                .await;
        }
    }

    async fn identify(&mut self) -> bool {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        while !self.over() {
            if let Ok(answer) = self.client.call(4, &request).await {
                let answer: InitProducerIdResponse = answer.decode(4);
                if code(answer.error_code) == ErrorCode::None {
                    self.identity = Some((answer.producer_id, answer.producer_epoch, 0));
                    return true;
                }
            }
            self.shared.ring.sleep(Duration::from_millis(30)).await;
        }
        false
    }

    fn batch(&mut self) -> Unacked {
        let count = self.rng.between(1, 6);
        let size = match self.rng.below(20) {
            0 => self.rng.between(1, 100_000),
            1..=3 => self.rng.between(1, 10_000),
            _ => self.rng.between(1, 200),
        };
        let mut builder = BatchBuilder::new(Codec::None);
        if let Some((id, epoch, sequence)) = &mut self.identity {
            builder = builder.producer(ProducerId(*id), *epoch, *sequence);
            *sequence += count as i32;
        }
        let mut all = Vec::new();
        for _ in 0..count {
            let record = self.shared.next_record.get();
            self.shared.next_record.set(record + 1);
            self.topic.partitions[self.index]
                .borrow_mut()
                .sending(record);
            let mut value = record.to_be_bytes().to_vec();
            value.resize(8 + (size / count) as usize, record as u8);
            builder.append(self.shared.ring.wall(), None, Some(&value), &[]);
            all.push(record);
        }
        Unacked {
            records: all,
            bytes: builder.build().expect("not compressed"),
        }
    }

    /// Sends every batch that was not acked, then waits for the answers. False when something
    /// failed: what is left has to be sent again.
    async fn send_all(&mut self) -> bool {
        let acks = if self.idempotent() { -1 } else { 1 };
        let count = self.unacked.len();
        for n in 0..count {
            let request = ProduceRequest {
                transactional_id: None,
                acks,
                timeout_ms: 10_000,
                topic_data: vec![TopicProduceData {
                    name: "",
                    topic_id: self.topic.id,
                    partition_data: vec![PartitionProduceData {
                        index: self.index as i32,
                        records: Records::Bytes(&self.unacked[n].bytes),
                    }]
                    .into(),
                }]
                .into(),
            };
            if self.client.ask(13, &request).await.is_err() {
                return false;
            }
        }
        for _ in 0..count {
            let Ok(answer) = self.client.answer().await else {
                return false;
            };
            if !self.acked(&answer) {
                return false;
            }
        }
        true
    }

    fn acked(&mut self, answer: &Answer) -> bool {
        let answer: ProduceResponse = answer.decode(13);
        let topic = answer.responses.iter().next().expect("one topic");
        let result = topic
            .partition_responses
            .iter()
            .next()
            .expect("one partition");
        let mut model = self.topic.partitions[self.index].borrow_mut();
        match code(result.error_code) {
            ErrorCode::None => {}
            ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicas => return false,
            _ if self.topic.gone.get() => return false,
            other => panic!(
                "{}: producing: {} {:?}",
                model.name,
                other.name(),
                result.error_message
            ),
        }
        let batch = self.unacked.pop_front().expect("an answer for each");
        for (i, record) in batch.records.iter().enumerate() {
            let offset = result.base_offset + i as i64;
            model.acked(offset, *record, self.identity.is_some());
        }
        true
    }
}

/// Reads a partition from its start to its end, again and again.
async fn consume(shared: Rc<Shared>, topic: Rc<Topic>, index: usize) {
    let mut client = Client::new(&shared.ring, shared.address);
    let mut next = 0;
    while !topic.gone.get() && !shared.stopping.get() {
        match fetch(&mut client, &topic, index, next, 300).await {
            Some((found, _)) if found.is_empty() => {
                // all seen: once more from the start, it must be the same
                next = 0;
                shared.ring.sleep(Duration::from_millis(200)).await;
            }
            Some((found, _)) => next = found.last_key_value().map_or(next, |(o, _)| o + 1),
            None => shared.ring.sleep(Duration::from_millis(30)).await,
        }
    }
}

async fn fetch(
    client: &mut Client,
    topic: &Topic,
    index: usize,
    offset: i64,
    max_wait_ms: i32,
) -> Option<(BTreeMap<i64, u64>, i64)> {
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id: topic.id,
            partitions: vec![FetchPartition {
                partition: index as i32,
                current_leader_epoch: -1,
                fetch_offset: offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: 100_000,
                ..FetchPartition::default()
            }]
            .into(),
            ..FetchTopic::default()
        }]
        .into(),
        ..FetchRequest::default()
    };
    let answer = client.call(16, &request).await.ok()?;
    let answer: FetchResponse = answer.decode(16);
    let mut model = topic.partitions[index].borrow_mut();
    if topic.gone.get() {
        return None;
    }
    assert_eq!(code(answer.error_code), ErrorCode::None, "{}", model.name);
    let Some(topic) = answer.responses.iter().next() else {
        return Some((BTreeMap::new(), -1));
    };
    let data = topic.partitions.iter().next().expect("one partition");
    match code(data.error_code) {
        ErrorCode::None => {}
        other => panic!("{}: fetching at {offset}: {}", model.name, other.name()),
    }
    model.watermark(data.high_watermark);
    let bytes = data.records.bytes();
    let mut found = BTreeMap::new();
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break }; // the last one may be cut
        assert!(
            batch.verify_crc(),
            "{}: CRC at {}",
            model.name,
            batch.base_offset()
        );
        for record in records(batch.body(), batch.records_count()) {
            let record = record.expect("a record");
            let at = batch.base_offset().0 + i64::from(record.offset_delta);
            let value = record.value.expect("a value");
            let number = u64::from_be_bytes(value[..8].try_into().expect("8 bytes"));
            assert!(
                value[8..].iter().all(|b| *b == number as u8),
                "a record changed"
            );
            model.seen(at, number, data.high_watermark);
            if at >= offset {
                found.insert(at, number);
            }
        }
    }
    Some((found, data.high_watermark))
}

/// Reads all that is there and compares it with what clients know.
async fn verify(shared: Rc<Shared>) {
    let mut client = Client::new(&shared.ring, shared.address);
    // nobody goes any more, but the network may be as slow as it likes
    client.patience = PATIENCE * 60;
    let mut known = 0;
    let topics = shared.topics.borrow().clone();
    for topic in topics.iter() {
        for (index, model) in topic.partitions.iter().enumerate() {
            let mut all = BTreeMap::new();
            let mut next = 0;
            loop {
                match fetch(&mut client, topic, index, next, 0).await {
                    Some((found, end)) if found.is_empty() && next >= end => break,
                    Some((found, _)) => {
                        next = found.last_key_value().map_or(next, |(o, _)| o + 1);
                        all.extend(found);
                    }
                    None => shared.ring.sleep(Duration::from_millis(30)).await,
                }
            }
            model.borrow().ended(&all);
            known += model.borrow().known();
        }
    }
    tracing::info!(known, "all as clients know it");
    shared.ended.set(true);
}
