//! DeleteTopics.

use super::draft::{Draft, Refusal};
use crate::base::error_code::ErrorCode;
use crate::base::ids::{TopicId, Uuid};
use crate::metadata::record::Record;

/// A topic as a client names it: by name or by id, the other being `None` and zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        let mut out: Vec<TopicDeletion> = Vec::with_capacity(topics.len());
        for (asked, result) in topics.iter().zip(&found) {
            // one that is named twice, in whatever way, is not deleted at all
            if out.iter().any(|o| o.asked == *asked) {
                continue;
            }
            let same = |other: &Result<Deleted, Refusal>| match (result, other) {
                (Ok(a), Ok(b)) => a.id == b.id,
                _ => false,
            };
            let times = match result {
                Ok(_) => found.iter().filter(|other| same(other)).count(),
                Err(_) => topics.iter().filter(|other| *other == asked).count(),
            };
            let well_formed = asked.name.is_some() == asked.id.is_zero();
            let result = if times > 1 && well_formed {
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
