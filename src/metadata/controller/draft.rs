//! Changes under way: an image with the changes of several requests, and the records that carry
//! them. Later requests of a draft see the earlier ones. What is drafted becomes true when the
//! records are durable.

use crate::base::error_code::ErrorCode;
use crate::base::ids::NodeId;
use crate::base::limits::REFUSAL_MESSAGE_BYTES;
use crate::metadata::apply::apply;
use crate::metadata::image::Image;
use crate::metadata::record::Record;

/// Why a request, or one topic of it, is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For clients to act on.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        let mut message = message.into();
        let mut end = message.len().min(REFUSAL_MESSAGE_BYTES);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        Refusal { code, message }
    }
}

/// Changes that are not committed yet.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) image: Image,
    pub(super) records: Vec<Record>,
    /// Machines that can take replicas.
    pub(super) nodes: Vec<NodeId>,
}

impl Draft {
    /// Begins with what is committed; `nodes` are the machines that can take replicas.
    pub fn new(image: &Image, nodes: Vec<NodeId>) -> Draft {
        Draft {
            image: image.clone(),
            records: Vec::new(),
            nodes,
        }
    }

    /// True while nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What is drafted so far.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image with all changes, as of the batch of that number, and the records of that batch.
    pub fn finish(mut self, sequence: u64) -> (Image, Vec<Record>) {
        self.image.sequence = sequence;
        (self.image, self.records)
    }

    /// Says which cluster this is.
    pub fn found_cluster(&mut self, cluster_id: &str) {
        self.change(Record::Cluster {
            cluster_id: cluster_id.to_owned(),
        });
    }

    /// Gives away `count` producer ids; the first of them.
    ///
    /// # Errors
    /// When there are none left.
    pub fn producer_ids(&mut self, count: i64) -> Result<i64, Refusal> {
        let first = self.image.next_producer_id;
        let Some(next) = first.checked_add(count) else {
            return Err(Refusal::new(
                ErrorCode::UnknownServerError,
                "all producer ids are given away",
            ));
        };
        self.change(Record::ProducerIds { next });
        Ok(first)
    }

    pub(super) fn change(&mut self, record: Record) {
        apply(&mut self.image, &record).expect("the controller checked that the record fits");
        self.records.push(record);
    }
}
