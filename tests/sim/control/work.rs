//! The client: makes and deletes topics, draws producer ids, and checks all it knows after each
//! start of the broker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::Uuid;
use corelane::ring::Ring;
use corelane::ring::sim::Rng;
use corelane::wire::array::Array;
use corelane::wire::messages::*;

use crate::world::client::Client;

const NONE: i16 = 0;
const PAUSE: Duration = Duration::from_millis(5);
/// Few names, so that topics are made again under names that were deleted.
const NAMES: usize = 12;

/// A topic as answers told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Topic {
    id: Uuid,
    partitions: usize,
}

/// What is sure of a name.
#[derive(Clone, Copy, Debug)]
enum Name {
    Sure(Option<Topic>),
    /// A request was not answered: it happened, or did not, or still may.
    Creating,
    Deleting(Topic),
}

/// What the client was told.
#[derive(Default)]
pub struct Known {
    names: BTreeMap<String, Name>,
    ids: BTreeSet<Uuid>,
    pub producer_ids: BTreeSet<i64>,
    pub created: usize,
    pub deleted: usize,
    /// Whole comparisons with the broker.
    pub checks: usize,
}

pub async fn work(
    ring: Ring,
    to: SocketAddr,
    lives: Rc<Cell<u64>>,
    known: Rc<RefCell<Known>>,
    mut rng: Rng,
) {
    let mut client = Client::new(&ring, to);
    let mut checked = 0;
    loop {
        ring.sleep(PAUSE).await;
        client.drop_connection();
        let now = lives.get();
        if checked != now {
            // if another process came meanwhile, everything is checked once more
            if check(&mut client, &known).await.is_err() || now != lives.get() {
                continue;
            }
            checked = now;
        }
        for _ in 0..rng.between(1, 40) {
            if step(&mut client, &known, &mut rng).await.is_err() {
                break;
            }
        }
    }
}

async fn all_topics(client: &mut Client) -> io::Result<BTreeMap<String, Topic>> {
    let request = MetadataRequest {
        topics: Array::Null,
        ..MetadataRequest::default()
    };
    let answer = client.call(12, &request).await?;
    let response: MetadataResponse<'_> = answer.decode(12);
    let topics = response.topics.iter().map(|t| {
        assert_eq!(t.error_code, NONE);
        let topic = Topic {
            id: t.topic_id,
            partitions: t.partitions.len(),
        };
        (t.name.expect("asked by name").to_owned(), topic)
    });
    Ok(topics.collect())
}

/// Compares all that is sure with what the broker says; what was not becomes so.
async fn check(client: &mut Client, known: &RefCell<Known>) -> io::Result<()> {
    let found = all_topics(client).await?;
    for (name, topic) in &found {
        serves(client, name, *topic).await?;
    }
    let known = &mut *known.borrow_mut();
    for (name, state) in &mut known.names {
        let there = found.get(name).copied();
        match *state {
            Name::Sure(told) => assert_eq!(there, told, "{name}"),
            Name::Creating => {
                if let Some(topic) = there {
                    assert!(known.ids.insert(topic.id), "{name} has an old id");
                }
            }
            Name::Deleting(topic) => assert!(there.is_none() || there == Some(topic), "{name}"),
        }
        *state = Name::Sure(there);
    }
    for name in found.keys() {
        assert!(known.names.contains_key(name), "{name} came from nowhere");
    }
    known.checks += 1;
    Ok(())
}

/// Every partition answers.
async fn serves(client: &mut Client, name: &str, topic: Topic) -> io::Result<()> {
    let partitions = (0..topic.partitions).map(|n| ListOffsetsPartition {
        partition_index: n as i32,
        timestamp: -1,
        ..ListOffsetsPartition::default()
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name,
            partitions: partitions.collect(),
        }]
        .into(),
        ..ListOffsetsRequest::default()
    };
    let answer = client.call(7, &request).await?;
    let response: ListOffsetsResponse<'_> = answer.decode(7);
    for answered in response.topics.iter() {
        for p in answered.partitions.iter() {
            assert_eq!(p.error_code, NONE, "{name} {p:?}");
        }
        assert_eq!(answered.partitions.len(), topic.partitions);
    }
    Ok(())
}

async fn step(client: &mut Client, known: &RefCell<Known>, rng: &mut Rng) -> io::Result<()> {
    let name = format!("t{}", rng.index(NAMES));
    let state = known.borrow().names.get(&name).copied();
    match state.unwrap_or(Name::Sure(None)) {
        _ if rng.chance(0.2) => producer_id(client, known).await,
        Name::Sure(None) => create(client, known, &name, rng.between(1, 6) as usize).await,
        Name::Sure(Some(topic)) if rng.chance(0.5) => delete(client, known, &name, topic).await,
        Name::Sure(Some(topic)) => serves(client, &name, topic).await,
        Name::Creating | Name::Deleting(_) => Ok(()),
    }
}

async fn producer_id(client: &mut Client, known: &RefCell<Known>) -> io::Result<()> {
    let answer = client.call(3, &InitProducerIdRequest::default()).await?;
    let response: InitProducerIdResponse = answer.decode(3);
    assert_eq!(response.error_code, NONE);
    let new = known.borrow_mut().producer_ids.insert(response.producer_id);
    assert!(new, "{response:?} was given away before");
    Ok(())
}

async fn create(
    client: &mut Client,
    known: &RefCell<Known>,
    name: &str,
    partitions: usize,
) -> io::Result<()> {
    let set = |state| {
        known.borrow_mut().names.insert(name.to_owned(), state);
    };
    set(Name::Creating);
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name,
            num_partitions: partitions as i32,
            replication_factor: -1,
            ..CreatableTopic::default()
        }]
        .into(),
        timeout_ms: 600_000,
        validate_only: false,
    };
    let answer = client.call(7, &request).await?;
    let response: CreateTopicsResponse<'_> = answer.decode(7);
    let made = response.topics.iter().next().expect("one answer");
    if made.error_code != NONE {
        // the process is dying under it
        assert_eq!(
            made.error_code,
            ErrorCode::KafkaStorageError.code(),
            "{made:?}"
        );
        return Err(io::ErrorKind::Other.into());
    }
    let topic = Topic {
        id: made.topic_id,
        partitions,
    };
    assert!(known.borrow_mut().ids.insert(topic.id), "an id twice");
    set(Name::Sure(Some(topic)));
    known.borrow_mut().created += 1;
    serves(client, name, topic).await
}

async fn delete(
    client: &mut Client,
    known: &RefCell<Known>,
    name: &str,
    topic: Topic,
) -> io::Result<()> {
    let set = |state| {
        known.borrow_mut().names.insert(name.to_owned(), state);
    };
    set(Name::Deleting(topic));
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id: topic.id,
        }]
        .into(),
        timeout_ms: 600_000,
        ..DeleteTopicsRequest::default()
    };
    let answer = client.call(6, &request).await?;
    let response: DeleteTopicsResponse<'_> = answer.decode(6);
    let gone = response.responses.iter().next().expect("one answer");
    if gone.error_code != NONE {
        assert_eq!(
            gone.error_code,
            ErrorCode::KafkaStorageError.code(),
            "{gone:?}"
        );
        return Err(io::ErrorKind::Other.into());
    }
    set(Name::Sure(None));
    known.borrow_mut().deleted += 1;
    Ok(())
}
