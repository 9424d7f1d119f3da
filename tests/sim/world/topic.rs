//! A topic as its clients know it, and the administrator who makes and deletes topics.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::Uuid;
use corelane::ring::sim::Rng;
use corelane::wire::array::Array;
use corelane::wire::messages::*;

use super::client::Client;
use super::model::Model;
use super::rule::{Rule, broken, rule};
use super::shared::{Shared, Tempo, code};
use super::{consumer, producer};

const RETRY: Duration = Duration::from_millis(50);

pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<RefCell<Model>>,
    /// Its deletion has begun.
    pub gone: Cell<bool>,
    /// Batches that its producers may still send.
    pub left: Cell<u64>,
}

impl Topic {
    /// A partition's model, which knows of the last power cut.
    pub fn model(&self, shared: &Shared, index: usize) -> std::cell::RefMut<'_, Model> {
        let mut model = self.partitions[index].borrow_mut();
        model.power_cuts(shared.power_cuts());
        model
    }

    /// Whether a power cut may have taken records off a partition.
    pub fn is_unsettled(&self, shared: &Shared) -> bool {
        shared.weak && (0..self.partitions.len()).any(|n| self.model(shared, n).is_unsettled())
    }
}

/// Keeps some topics: those whose time has come are deleted, and made again under their name.
pub async fn administer(shared: Rc<Shared>, mut rng: Rng, topics: u64, delete_chance: f64) {
    let mut client = Client::new(&shared.ring, shared.address);
    let keeper = Topic {
        name: String::new(),
        id: Uuid::ZERO,
        partitions: Vec::new(),
        gone: Cell::new(false),
        left: Cell::new(0),
    };
    for n in 0..topics {
        let topic = create(&shared, &mut client, &mut rng, format!("topic{n}")).await;
        begin(&shared, &topic, &mut rng);
    }
    loop {
        shared.work(&keeper, |tempo| tempo == Tempo::Burst).await;
        shared
            .ring
            .sleep(Duration::from_millis(rng.between(10, 600)))
            .await;
        let mut topics: Vec<Rc<Topic>> = shared.topics.borrow().clone();
        rng.shuffle(&mut topics);
        let over = topics.iter().find(|t| t.left.get() == 0);
        let Some(old) = over.or(topics.first().filter(|_| rng.chance(delete_chance))) else {
            continue;
        };
        shared.topics.borrow_mut().retain(|t| !Rc::ptr_eq(t, old));
        old.gone.set(true);
        shared.changed.notify_all();
        delete(&shared, &mut client, old).await;
        shared.tally.deleted.one();
        let topic = create(&shared, &mut client, &mut rng, old.name.clone()).await;
        begin(&shared, &topic, &mut rng);
    }
}

async fn create(shared: &Shared, client: &mut Client, rng: &mut Rng, name: String) -> Rc<Topic> {
    let partitions = rng.between(1, 6) as i32;
    let segment = (1u64 << rng.between(20, 22)).to_string();
    let roll_ms = [2_000, 20_000, 3_600_000][rng.index(3)].to_string();
    let config = |name, value| CreatableTopicConfig {
        name,
        value: Some(value),
    };
    let configs = vec![
        config("segment.bytes", segment.as_str()),
        config("segment.ms", &roll_ms),
    ];
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: &name,
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.into(),
            ..CreatableTopic::default()
        }]
        .into(),
        timeout_ms: 10_000,
        validate_only: false,
    };
    let id = loop {
        draw_patience(client, rng);
        let Some(answer) = shared.call(client, 7, &request).await else {
            shared.ring.sleep(RETRY).await;
            continue;
        };
        let answer: CreateTopicsResponse = answer.decode(7);
        let topic = answer.topics.iter().next().expect("one for one");
        match code(topic.error_code) {
            ErrorCode::None => break topic.topic_id,
            // by an earlier try whose answer was lost
            ErrorCode::TopicAlreadyExists => match find(shared, client, &name).await {
                Some(id) => break id,
                None => continue,
            },
            ErrorCode::RequestTimedOut => {}
            ErrorCode::KafkaStorageError if shared.forgives_any() => shared.tally.forgiven.one(),
            other => broken(
                Rule::Topics,
                format_args!(
                    "creating {name}: {} {:?}",
                    other.name(),
                    topic.error_message
                ),
            ),
        }
        shared.ring.sleep(RETRY).await;
    };
    shared.tally.made.one();
    let power = shared.power_cuts();
    Rc::new(Topic {
        partitions: (0..partitions)
            .map(|n| RefCell::new(Model::new(format!("{name}-{n}"), shared.weak, power)))
            .collect(),
        name,
        id,
        gone: Cell::new(false),
        left: Cell::new(rng.between(50, 1_500)),
    })
}

async fn find(shared: &Shared, client: &mut Client, name: &str) -> Option<Uuid> {
    let request = MetadataRequest {
        topics: vec![MetadataRequestTopic {
            name: Some(name),
            ..MetadataRequestTopic::default()
        }]
        .into(),
        ..MetadataRequest::default()
    };
    let answer = shared.call(client, 12, &request).await?;
    let answer: MetadataResponse = answer.decode(12);
    let topic = answer.topics.iter().next()?;
    (topic.error_code == 0).then_some(topic.topic_id)
}

/// The topics that the broker has are those that were made and not deleted.
pub async fn compare(shared: &Shared, client: &mut Client) {
    let request = MetadataRequest {
        topics: Array::Null,
        ..MetadataRequest::default()
    };
    let answer = loop {
        if let Some(answer) = shared.call(client, 12, &request).await {
            break answer;
        }
        shared.ring.sleep(RETRY).await;
    };
    let answer: MetadataResponse = answer.decode(12);
    let mut found: Vec<(String, Uuid, usize)> = Vec::new();
    for topic in answer.topics.iter() {
        let name = topic.name.unwrap_or_default().to_owned();
        found.push((name, topic.topic_id, topic.partitions.iter().count()));
    }
    let known = shared.topics.borrow();
    let mut expected: Vec<(String, Uuid, usize)> = known
        .iter()
        .map(|topic| (topic.name.clone(), topic.id, topic.partitions.len()))
        .collect();
    found.sort();
    expected.sort();
    rule!(
        Rule::Topics,
        found == expected,
        "there are {found:?}, and {expected:?} were made and not deleted"
    );
}

async fn delete(shared: &Shared, client: &mut Client, topic: &Topic) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id: topic.id,
        }]
        .into(),
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let mut tries = 0;
    loop {
        tries += 1;
        if let Some(answer) = shared.call(client, 6, &request).await {
            let answer: DeleteTopicsResponse = answer.decode(6);
            let result = answer.responses.iter().next().expect("one for one");
            match code(result.error_code) {
                ErrorCode::None => return,
                // by an earlier try whose answer was lost
                ErrorCode::UnknownTopicId if tries > 1 => return,
                ErrorCode::RequestTimedOut => {}
                ErrorCode::KafkaStorageError if shared.forgives_any() => {
                    shared.tally.forgiven.one();
                }
                other => broken(
                    Rule::Topics,
                    format_args!("deleting {}: {}", topic.name, other.name()),
                ),
            }
        }
        shared.ring.sleep(RETRY).await;
    }
}

/// How long a client waits for answers: some give up soon and ask again, some see who is late.
pub fn draw_patience(client: &mut Client, rng: &mut Rng) {
    client.patience = match rng.below(4) {
        0 => Duration::from_millis(rng.between(20, 500)),
        1 => Duration::from_secs(2),
        _ => super::shared::DEADLINE,
    };
}

/// Sets producers and consumers to work on a topic.
fn begin(shared: &Rc<Shared>, topic: &Rc<Topic>, rng: &mut Rng) {
    shared.topics.borrow_mut().push(topic.clone());
    for _ in 0..rng.between(1, 4) {
        let task = producer::run(shared.clone(), topic.clone(), rng.fork(1));
        shared.spawn(task);
    }
    if shared.weak {
        shared.spawn(consumer::settle(shared.clone(), topic.clone()));
    }
    for _ in 0..rng.between(1, 2) {
        let task = consumer::run(shared.clone(), topic.clone(), rng.fork(2));
        shared.spawn(task);
    }
}
