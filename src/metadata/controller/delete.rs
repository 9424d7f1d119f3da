//! DeleteTopics.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, Refusal};
use crate::base::error_code::ErrorCode;
use crate::base::ids::{TopicId, Uuid};
use crate::metadata::record::Record;

/// A topic as a client names it: by name or by id, the other being `None` and zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicRef {
    /// By name.
    pub name: Option<String>,
    /// By id.
    pub id: TopicId,
}

/// A topic that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
}

/// The answer for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDeletion {
    /// As the client named it.
    pub asked: TopicRef,
    /// What became of it.
    pub result: Result<Deleted, Refusal>,
}

impl Draft {
    /// Deletes topics, each by itself.
    pub fn delete_topics(&mut self, topics: &[TopicRef]) -> Vec<TopicDeletion> {
        if !self.image.broker.delete_topics {
            let refusal = Refusal::new(
                ErrorCode::TopicDeletionDisabled,
                "Topic deletion is disabled.",
            );
            let refuse = |asked: &TopicRef| TopicDeletion {
                asked: asked.clone(),
                result: Err(refusal.clone()),
            };
            return topics.iter().map(refuse).collect();
        }
        let found: Vec<Result<Deleted, Refusal>> =
            topics.iter().map(|asked| self.find(asked)).collect();
        // how often each is named, in whatever way: by its id where there is one
        let mut times: BTreeMap<Named, u32> = BTreeMap::new();
        for (asked, result) in topics.iter().zip(&found) {
            *times.entry(named(asked, result)).or_default() += 1;
        }
        let mut answered = BTreeSet::new();
        let mut out: Vec<TopicDeletion> = Vec::with_capacity(topics.len());
        for (asked, result) in topics.iter().zip(&found) {
            if !answered.insert(asked) {
                continue;
            }
            let well_formed = asked.name.is_some() == asked.id.is_zero();
            let result = if times[&named(asked, result)] > 1 && well_formed {
                Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    match asked.name {
                        Some(_) => "Duplicate topic name.",
                        None => "Duplicate topic id.",
                    },
                ))
            } else {
                result.clone()
            };
            if let Ok(deleted) = &result {
                self.change(Record::TopicRemoved { id: deleted.id });
            }
            out.push(TopicDeletion {
                asked: asked.clone(),
                result,
            });
        }
        out
    }

    fn find(&self, asked: &TopicRef) -> Result<Deleted, Refusal> {
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        let topic = match (&asked.name, asked.id) {
            (Some(_), id) if !id.is_zero() => {
                return invalid("You may not specify both topic name and topic id.");
            }
            (None, Uuid::ZERO) => return invalid("Neither topic name nor id were specified."),
            (Some(name), _) => self.image.topic(name).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.",
                )
            })?,
            (None, id) => self.image.topic_by_id(&id).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::UnknownTopicId,
                    "This server does not host this topic ID.",
                )
            })?,
        };
        Ok(Deleted {
            id: topic.id,
            name: topic.name.to_string(),
        })
    }
}

/// What a request means by a name or an id: the topic it found, or what it asked for.
type Named<'a> = (TopicId, Option<&'a str>);

fn named<'a>(asked: &'a TopicRef, result: &Result<Deleted, Refusal>) -> Named<'a> {
    match result {
        Ok(deleted) => (deleted.id, None),
        Err(_) => (asked.id, asked.name.as_deref()),
    }
}
