//! Appending one partition's batch on the shard that owns it.

use std::rc::Rc;
use std::time::Duration;

use crate::base::config::{TimestampType, TopicConfig};
use crate::base::error_code::ErrorCode;
use crate::base::ids::PartitionKey;
use crate::base::limits::INFLATED_BATCH_BYTES;
use crate::base::time::Timestamp;
use crate::broker::message::ProduceOutcome;
use crate::broker::shard::Shard;
use crate::log::partition::Partition;
use crate::log::{AppendError, Appended, Origin, StorageError, Ticket};
use crate::wire::batch::{
    BatchError, BatchFacts, BatchView, InvalidBatch, TimestampRule, ValidateOptions, restamp,
    validate,
};

/// First version of Produce whose batches may be compressed with zstd.
const ZSTD_FROM: i16 = 7;
/// First version of Produce that names topics by id.
pub const IDS_FROM: i16 = 13;

/// Checks that `records` are one good batch that a request of `version` may carry, and appends it.
/// Waits only when the journal is full. Gives a ticket for the group in which it will be written
/// and flushed.
pub async fn append(
    shard: &Rc<Shard>,
    key: &PartitionKey,
    version: i16,
    records: &[u8],
) -> (ProduceOutcome, Option<Ticket>) {
    let (outcome, ticket) = try_append(shard, key, version, records).await;
    if !outcome.error.is_none() {
        shard.counters.bytes_rejected.add(records.len() as u64);
    }
    (outcome, ticket)
}

async fn try_append(
    shard: &Rc<Shard>,
    key: &PartitionKey,
    version: i16,
    records: &[u8],
) -> (ProduceOutcome, Option<Ticket>) {
    let batch = match shape(records) {
        Ok(batch) => batch,
        Err(outcome) => return (outcome, None),
    };
    if batch.is_transactional() {
        // no transaction was begun: there is no coordinator yet
        return (ProduceOutcome::failed(ErrorCode::InvalidTxnState), None);
    }
    let Some(partition) = shard.partition(key) else {
        let error = missing(shard, key, version);
        shard.refusals.borrow_mut().refused(key, &batch);
        return (ProduceOutcome::failed(error), None);
    };
    if let Some(first) = shard.refusals.borrow().before(key, &batch)
        && !partition.knows_producer(batch.producer_id())
    {
        let error = AppendError::OutOfOrderSequence {
            producer: batch.producer_id().0,
            epoch: first.epoch,
            got: batch.base_sequence(),
            expected: first.sequence,
        };
        return (refused(&error), None);
    }
    let checked = {
        let options = options(&partition.config(), version, shard.ring.wall());
        validate(&batch, &options, &mut shard.scratch.borrow_mut())
    };
    let appended = match checked {
        Ok(facts) if facts.header_agrees => append_checked(shard, &partition, &batch).await,
        Ok(facts) => append_corrected(shard, &partition, records, facts).await,
        Err(invalid) => return (refused_batch(&invalid), None),
    };
    match appended {
        Ok(appended) => {
            shard.refusals.borrow_mut().taken(key, &batch);
            if !appended.duplicate {
                shard.counters.bytes_in.add(records.len() as u64);
                let count = u64::try_from(batch.records_count()).unwrap_or(0);
                shard.counters.records_in.add(count);
            }
            let outcome = ProduceOutcome {
                error: ErrorCode::None,
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.log_append_time.0,
                log_start_offset: appended.log_start_offset.0,
                message: None,
                bad_records: Vec::new(),
            };
            (outcome, Some(appended.ticket))
        }
        Err(AppendError::Storage(StorageError::Deleted)) => {
            (ProduceOutcome::failed(missing(shard, key, version)), None)
        }
        Err(error) => {
            if matches!(error, AppendError::Storage(_))
                && !partition.knows_producer(batch.producer_id())
            {
                shard.refusals.borrow_mut().refused(key, &batch);
            }
            (refused(&error), None)
        }
    }
}

fn missing(shard: &Shard, key: &PartitionKey, version: i16) -> ErrorCode {
    shard.missing(key, version >= IDS_FROM)
}

async fn append_checked(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    batch: &BatchView<'_>,
) -> Result<Appended, AppendError> {
    loop {
        match shard.log.append(partition, batch, Origin::Client) {
            Err(AppendError::Busy) => {
                shard.log.admit(batch.total_len()).await;
                // room in the journal is no memory: that may be in the hands of readers
                drop(shard.ring.arena().alloc(batch.total_len()).await);
                shard.ring.yield_now().await;
            }
            ended => return ended,
        }
    }
}

/// As Kafka does: where the header names another largest timestamp than the records have, the
/// leader writes the right one.
async fn append_corrected(
    shard: &Rc<Shard>,
    partition: &Rc<Partition>,
    records: &[u8],
    facts: BatchFacts,
) -> Result<Appended, AppendError> {
    let mut bytes = records.to_vec();
    restamp(&mut bytes, facts.max_timestamp, false);
    let batch = BatchView::parse(&bytes).map_err(|e| AppendError::Corrupt(e.to_string()))?;
    append_checked(shard, partition, &batch).await
}

fn options(config: &TopicConfig, version: i16, now: Timestamp) -> ValidateOptions {
    let ms = |bound: Option<u64>| i64::try_from(bound.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    ValidateOptions {
        max_message_bytes: config.max_message_bytes as usize,
        max_inflated_bytes: INFLATED_BATCH_BYTES,
        timestamps: match config.timestamp_type {
            TimestampType::LogAppendTime => TimestampRule::LogAppend,
            TimestampType::CreateTime => TimestampRule::Create {
                earliest: Timestamp(now.0.saturating_sub(ms(config.timestamp_before_max_ms))),
                latest: Timestamp(now.0.saturating_add(ms(config.timestamp_after_max_ms))),
            },
        },
        key_required: config.cleanup_policy.compact,
        zstd_allowed: version >= ZSTD_FROM,
    }
}

fn said(error: ErrorCode, message: String) -> ProduceOutcome {
    let mut outcome = ProduceOutcome::failed(error);
    outcome.message = Some(message);
    outcome
}

fn shape(records: &[u8]) -> Result<BatchView<'_>, ProduceOutcome> {
    let invalid = |message: String| said(ErrorCode::InvalidRecord, message);
    if records.is_empty() {
        return Err(invalid("a partition without a record batch".to_owned()));
    }
    let batch = match BatchView::parse(records) {
        Ok(batch) => batch,
        Err(error @ BatchError::Magic(_)) => return Err(invalid(error.to_string())),
        Err(error) => return Err(said(ErrorCode::CorruptMessage, error.to_string())),
    };
    if batch.total_len() != records.len() {
        let message = "more than one record batch for a partition";
        return Err(invalid(message.to_owned()));
    }
    Ok(batch)
}

fn refused_batch(invalid: &InvalidBatch) -> ProduceOutcome {
    let mut outcome = said(invalid.error_code(), invalid.to_string());
    outcome.bad_records = invalid
        .records
        .iter()
        .map(|record| (record.index, record.problem.to_string()))
        .collect();
    outcome
}

fn refused(error: &AppendError) -> ProduceOutcome {
    let mut outcome = said(error.code(), error.to_string());
    if let AppendError::InvalidRecord {
        index: Some(index),
        message,
    } = error
    {
        outcome.bad_records.push((*index, message.clone()));
    }
    outcome
}

/// How long a produce waits at least, whatever its timeout says: below, an ack that waits for the
/// disk could not be given at all, while Kafka gives it for a lone replica.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_gets_exactly_one_batch_of_format_two() {
        assert_eq!(shape(&[]).unwrap_err().error, ErrorCode::InvalidRecord);
        let mut old = vec![0u8; 64];
        old[16] = 1;
        assert_eq!(shape(&old).unwrap_err().error, ErrorCode::InvalidRecord);
        let mut cut = vec![0u8; 64];
        cut[16] = 2;
        cut[11] = 100;
        assert_eq!(shape(&cut).unwrap_err().error, ErrorCode::CorruptMessage);
        let mut two = vec![0u8; 61 * 2];
        for at in [0, 61] {
            two[at + 16] = 2;
            two[at + 11] = 49;
        }
        assert!(shape(&two[..61]).is_ok());
        assert_eq!(shape(&two).unwrap_err().error, ErrorCode::InvalidRecord);
    }

    #[test]
    fn timestamps_are_bounded_around_now_unless_the_broker_stamps() {
        let mut config = TopicConfig {
            timestamp_before_max_ms: Some(10),
            timestamp_after_max_ms: None,
            ..TopicConfig::default()
        };
        let bounds = options(&config, 9, Timestamp(100)).timestamps;
        let expected = TimestampRule::Create {
            earliest: Timestamp(90),
            latest: Timestamp(i64::MAX),
        };
        assert_eq!(bounds, expected);
        config.timestamp_type = TimestampType::LogAppendTime;
        let bounds = options(&config, 9, Timestamp(100)).timestamps;
        assert_eq!(bounds, TimestampRule::LogAppend);
        assert!(!options(&config, 6, Timestamp(0)).zstd_allowed);
        assert!(options(&config, 7, Timestamp(0)).zstd_allowed);
    }
}
