//! The control task of shard 0: the one writer of the metadata log.
//!
//! Requests of all shards queue up; while one commit is under way the next ones gather and become
//! one batch. A batch is drafted, made durable, taken by every shard (which opens its new partitions
//! and drops its deleted ones), and only then answered: an answer means that the partitions serve.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{ShardId, Uuid};
use crate::base::limits::PRODUCER_IDS_PER_BLOCK;
use crate::broker::message::{self, Call};
use crate::broker::shard::Shard;
use crate::metadata::Record;
use crate::metadata::controller::{
    Draft, NewTopic, Refusal, TopicCreation, TopicDeletion, TopicRef,
};
use crate::metadata::store::{Store, StoreError};
use crate::ring::sync::oneshot::{Sender, oneshot};

/// What a shard asks of it.
#[derive(Debug)]
pub enum Request {
    /// Make topics.
    CreateTopics {
        /// As asked for.
        topics: Vec<NewTopic>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Delete topics.
    DeleteTopics(Vec<TopicRef>),
    /// A block of [`PRODUCER_IDS_PER_BLOCK`] producer ids.
    ProducerIds,
}

/// Its answer.
#[derive(Debug)]
pub enum Reply {
    /// By topic, in the order asked.
    CreateTopics(Vec<TopicCreation>),
    /// By topic, in the order asked.
    DeleteTopics(Vec<TopicDeletion>),
    /// The first id of the block.
    ProducerIds(Result<i64, Refusal>),
    /// None of it: the control task is not there.
    Refused(Refusal),
}

struct Waiting {
    request: Request,
    answer: Sender<Reply>,
}

/// What the control task keeps.
pub struct State {
    /// Away while a batch is being committed.
    store: RefCell<Option<Store>>,
    queue: RefCell<Vec<Waiting>>,
    working: Cell<bool>,
}

impl State {
    /// Writes to this log.
    pub fn new(store: Store) -> State {
        State {
            store: RefCell::new(Some(store)),
            queue: RefCell::default(),
            working: Cell::new(false),
        }
    }
}

/// Serves a request; on shard 0 alone. Whoever asked may go away meanwhile: the batch is finished
/// by a task of its own.
pub async fn serve(shard: &Rc<Shard>, request: Request) -> Reply {
    let Some(state) = &shard.control else {
        return Reply::Refused(not_here());
    };
    let (answer, reply) = oneshot();
    state.queue.borrow_mut().push(Waiting { request, answer });
    if !state.working.replace(true) {
        shard.ring.spawn(work(shard.clone())).detach();
    }
    reply.await.unwrap_or_else(|_| Reply::Refused(not_here()))
}

fn not_here() -> Refusal {
    Refusal {
        code: ErrorCode::NotController,
        message: "the control task is not running here".to_owned(),
    }
}

/// Commits batches until no request is left.
async fn work(shard: Rc<Shard>) {
    let Some(state) = &shard.control else { return };
    loop {
        let batch = std::mem::take(&mut *state.queue.borrow_mut());
        if batch.is_empty() {
            state.working.set(false);
            return;
        }
        commit(&shard, state, batch).await;
    }
}

async fn commit(shard: &Rc<Shard>, state: &State, batch: Vec<Waiting>) {
    let mut draft = Draft::new(&shard.image(), vec![shard.node_id()]);
    let mut drafted = Vec::with_capacity(batch.len());
    for Waiting { request, answer } in batch {
        let reply = apply(shard, &mut draft, &request);
        drafted.push((request, reply, answer));
    }
    let failure = if draft.is_empty() {
        None
    } else {
        publish(shard, state, draft).await.err()
    };
    for (request, mut reply, answer) in drafted {
        if let Some(refusal) = &failure {
            fail(&request, &mut reply, refusal);
        }
        // nobody waits any longer: nothing is lost
        let _ = answer.send(reply);
    }
}

fn apply(shard: &Shard, draft: &mut Draft, request: &Request) -> Reply {
    match request {
        Request::CreateTopics {
            topics,
            validate_only,
        } => {
            let ring = &shard.ring;
            let ids = || Uuid::from_random(ring.random(), ring.random());
            Reply::CreateTopics(draft.create_topics(topics, *validate_only, ids))
        }
        Request::DeleteTopics(topics) => Reply::DeleteTopics(draft.delete_topics(topics)),
        Request::ProducerIds => Reply::ProducerIds(draft.producer_ids(PRODUCER_IDS_PER_BLOCK)),
    }
}

/// Makes the draft durable, then true on every shard.
async fn publish(shard: &Rc<Shard>, state: &State, draft: Draft) -> Result<(), Refusal> {
    let Some(mut store) = state.store.borrow_mut().take() else {
        return Err(not_here());
    };
    let (image, records) = draft.finish(store.next_sequence());
    let committed = store.commit(&image, &records).await;
    *state.store.borrow_mut() = Some(store);
    committed.map_err(|error| storage_error(&error))?;
    let image = Arc::new(image);
    if !records.iter().any(Record::changes_topics) {
        // nothing that another shard looks at
        *shard.image.borrow_mut() = image;
        return Ok(());
    }
    let mut failure = None;
    let calls: Vec<_> = (0..shard.placement.shards())
        .map(|n| {
            let (shard, image) = (shard.clone(), image.clone());
            let ring = shard.ring.clone();
            ring.spawn(async move { shard.call(ShardId(n), Call::Apply(image)).await })
        })
        .collect();
    for call in calls {
        if let message::Reply::Applied(Err(error)) = call.await {
            tracing::error!(%error, "a shard could not take the new metadata whole");
            failure.get_or_insert(error);
        }
    }
    match failure {
        None => Ok(()),
        Some(error) => Err(Refusal {
            code: ErrorCode::KafkaStorageError,
            message: format!("it is recorded, but a partition could not be opened: {error}"),
        }),
    }
}

fn storage_error(error: &StoreError) -> Refusal {
    tracing::error!(%error, "metadata could not be made durable");
    Refusal {
        code: ErrorCode::KafkaStorageError,
        message: error.to_string(),
    }
}

/// Takes back what hangs on a draft that was not made durable: what was done, and also that a topic is
/// there or is not, for a request before it in the batch may have made it so.
fn take_back<T>(result: &mut Result<T, Refusal>, refusal: &Refusal) {
    use ErrorCode::{TopicAlreadyExists, UnknownTopicId, UnknownTopicOrPartition};
    let hangs_on_draft = match result {
        Ok(_) => true,
        Err(found) => matches!(
            found.code,
            TopicAlreadyExists | UnknownTopicId | UnknownTopicOrPartition
        ),
    };
    if hangs_on_draft {
        *result = Err(refusal.clone());
    }
}

/// Turns what was granted into a refusal; what only was checked stands.
fn fail(request: &Request, reply: &mut Reply, refusal: &Refusal) {
    match (request, reply) {
        (
            Request::CreateTopics {
                validate_only: false,
                ..
            },
            Reply::CreateTopics(topics),
        ) => {
            for topic in topics {
                take_back(&mut topic.result, refusal);
            }
        }
        (_, Reply::DeleteTopics(topics)) => {
            for topic in topics {
                take_back(&mut topic.result, refusal);
            }
        }
        (_, Reply::ProducerIds(result)) => take_back(result, refusal),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::controller::Deleted;

    #[test]
    fn a_deletion_that_was_not_made_durable_is_told_to_all_who_asked_for_it() {
        let id = Uuid([3; 16]);
        let refused = |code| {
            Err(Refusal {
                code,
                message: String::new(),
            })
        };
        let deletion = |result| TopicDeletion {
            asked: TopicRef { name: None, id },
            result,
        };
        let deleted = Deleted {
            id,
            name: "t".into(),
        };
        // the same request twice in one batch: the second finds the topic gone in the draft
        let mut reply = Reply::DeleteTopics(vec![
            deletion(Ok(deleted)),
            deletion(refused(ErrorCode::UnknownTopicId)),
            deletion(refused(ErrorCode::InvalidRequest)),
        ]);
        let request = Request::DeleteTopics(Vec::new());
        let why = Refusal {
            code: ErrorCode::KafkaStorageError,
            message: "the disk".into(),
        };
        fail(&request, &mut reply, &why);
        let Reply::DeleteTopics(topics) = reply else {
            panic!("another reply");
        };
        let codes: Vec<ErrorCode> = topics
            .into_iter()
            .map(|topic| topic.result.expect_err("refused").code)
            .collect();
        let storage = ErrorCode::KafkaStorageError;
        assert_eq!(codes, [storage, storage, ErrorCode::InvalidRequest]);
    }
}
