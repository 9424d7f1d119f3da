//! Putting words into an answer that is written down already: an error that another shard gives
//! comes with a message and the records to blame, for which the numbers leave no room.

use std::collections::BTreeMap;

use crate::broker::message::ProduceOutcome;
use crate::wire::api::ApiKey;
use crate::wire::frame::{self, LENGTH_BYTES};
use crate::wire::message::Message;
use crate::wire::messages::{BatchIndexAndErrorMessage, ProduceResponse};
use crate::wire::write::Writer;

/// First version of Produce whose answers carry words.
pub const WORDS_FROM: i16 = 8;

/// The answer to a Produce of that version with the words of these outcomes, by the partition's
/// place among all partitions of the answer. `None` if it is no such answer, which would be a bug.
pub fn with_words(
    bytes: &[u8],
    version: i16,
    outcomes: &BTreeMap<u32, ProduceOutcome>,
) -> Option<Vec<u8>> {
    let frame = bytes.get(LENGTH_BYTES..)?;
    let (id, mut body) = frame::read_response_header(frame, ApiKey::Produce, version).ok()?;
    let mut response = ProduceResponse::decode(&mut body, version).ok()?;
    let mut places = 0..;
    let mut topics = Vec::new();
    for mut topic in response.responses.iter() {
        let mut partitions = Vec::new();
        for mut partition in topic.partition_responses.iter() {
            if let Some(outcome) = places.next().and_then(|n| outcomes.get(&n)) {
                partition.error_message = outcome.message.as_deref();
                partition.record_errors = blamed(outcome).into();
            }
            partitions.push(partition);
        }
        topic.partition_responses = partitions.into();
        topics.push(topic);
    }
    response.responses = topics.into();
    let mut amended = Vec::new();
    frame::response(version, id, &response, &mut Writer::vec(&mut amended));
    Some(amended)
}

/// The records to blame, as an answer names them.
pub fn blamed(outcome: &ProduceOutcome) -> Vec<BatchIndexAndErrorMessage<'_>> {
    outcome
        .bad_records
        .iter()
        .map(|(batch_index, message)| BatchIndexAndErrorMessage {
            batch_index: *batch_index,
            batch_index_error_message: Some(message),
        })
        .collect()
}
