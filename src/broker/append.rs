//! Appending one partition's batch on the shard that owns it.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::PartitionKey;
use crate::broker::message::ProduceOutcome;
use crate::broker::shard::Shard;
use crate::broker::storage::Ticket;
use crate::log::{AppendError, Origin};
use crate::wire::batch::{BatchError, BatchView};
use crate::wire::compress::Codec;

/// First version of Produce whose batches may be compressed with zstd.
const ZSTD_FROM: i16 = 7;

/// Checks that `records` are one batch that a request of `version` may carry, and appends it.
/// Answers at once; with a ticket for the group in which it will be written and flushed.
pub fn append(
    shard: &Rc<Shard>,
    key: &PartitionKey,
    version: i16,
    records: &[u8],
) -> (ProduceOutcome, Option<Ticket>) {
    let batch = match shape(version, records) {
        Ok(batch) => batch,
        Err(outcome) => {
            shard.counters.bytes_rejected.add(records.len() as u64);
            return (outcome, None);
        }
    };
    let Some(partition) = shard.partition(key) else {
        // the image has it, this shard does not: its directory is offline
        return (ProduceOutcome::failed(ErrorCode::KafkaStorageError), None);
    };
    match shard.log.append(&partition, &batch, Origin::Client) {
        Ok(appended) => {
            if !appended.duplicate {
                shard.counters.bytes_in.add(records.len() as u64);
                shard.counters.records_in.add(batch.records_count() as u64);
            }
            let outcome = ProduceOutcome {
                error: ErrorCode::None,
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.log_append_time.0,
                log_start_offset: appended.log_start_offset.0,
                message: None,
                bad_record: None,
            };
            (outcome, Some(appended.ticket))
        }
        Err(error) => {
            shard.counters.bytes_rejected.add(records.len() as u64);
            let mut outcome = refused(&error);
            if matches!(error, AppendError::InvalidTimestamp(_)) {
                outcome.log_start_offset = partition.log_start().0;
            }
            (outcome, None)
        }
    }
}

fn shape(version: i16, records: &[u8]) -> Result<BatchView<'_>, ProduceOutcome> {
    let invalid = |message: &str| {
        let mut outcome = ProduceOutcome::failed(ErrorCode::InvalidRecord);
        outcome.message = Some(message.to_owned());
        outcome
    };
    if records.is_empty() {
        return Err(invalid("a partition without a record batch"));
    }
    let batch = match BatchView::parse(records) {
        Ok(batch) => batch,
        Err(BatchError::Magic(magic)) => {
            return Err(invalid(&format!(
                "message format {magic}, where 2 is needed"
            )));
        }
        Err(error) => {
            let mut outcome = ProduceOutcome::failed(ErrorCode::CorruptMessage);
            outcome.message = Some(error.to_string());
            return Err(outcome);
        }
    };
    if batch.total_len() != records.len() {
        return Err(invalid("more than one record batch for a partition"));
    }
    if version < ZSTD_FROM && batch.codec() == Some(Codec::Zstd) {
        let mut outcome = ProduceOutcome::failed(ErrorCode::UnsupportedCompressionType);
        outcome.message = Some("zstd needs Produce version 7".to_owned());
        return Err(outcome);
    }
    Ok(batch)
}

fn refused(error: &AppendError) -> ProduceOutcome {
    let mut outcome = ProduceOutcome::failed(error.code());
    outcome.message = Some(error.to_string());
    if let AppendError::InvalidRecord { index, message } = error
        && index.is_some()
    {
        outcome.bad_record = *index;
        outcome.message = Some(message.clone());
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_gets_exactly_one_batch_of_format_two() {
        assert_eq!(shape(9, &[]).unwrap_err().error, ErrorCode::InvalidRecord);
        let mut old = vec![0u8; 64];
        old[16] = 1;
        assert_eq!(shape(9, &old).unwrap_err().error, ErrorCode::InvalidRecord);
        let mut cut = vec![0u8; 64];
        cut[16] = 2;
        cut[11] = 100;
        assert_eq!(shape(9, &cut).unwrap_err().error, ErrorCode::CorruptMessage);
        let mut two = vec![0u8; 61 * 2];
        for at in [0, 61] {
            two[at + 16] = 2;
            two[at + 11] = 49;
        }
        assert!(shape(9, &two[..61]).is_ok());
        assert_eq!(shape(9, &two).unwrap_err().error, ErrorCode::InvalidRecord);
    }

    #[test]
    fn zstd_is_refused_before_version_seven() {
        let mut batch = vec![0u8; 61];
        batch[16] = 2;
        batch[11] = 49;
        batch[22] = 4;
        let early = shape(6, &batch).unwrap_err().error;
        assert_eq!(early, ErrorCode::UnsupportedCompressionType);
        assert!(shape(7, &batch).is_ok());
    }
}
