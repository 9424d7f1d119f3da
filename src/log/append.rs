//! Words that the writer of one partition and the group commit share: where a batch comes from,
//! and why it is refused.

use crate::base::error_code::ErrorCode;
use crate::base::ids::Offset;

/// Who appends, which decides what is checked and stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: every rule for clients holds, the leader stamps offset and epoch.
    Client,
    /// A coordinator of this machine, which may write control batches.
    Coordinator,
    /// A leader's log copied here: offsets and epochs are kept.
    Leader,
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The journal or the memory for undrained bytes is full for the moment: wait with
    /// `LogStore::admit`, then try again.
    #[error("the journal has no room yet")]
    Busy,
    /// The log directory is offline, or its file system is nearly full.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Bytes that do not add up: length, CRC, compressed data.
    #[error("corrupt batch: {0}")]
    Corrupt(String),
    /// A batch that breaks a rule for records.
    #[error("invalid record: {message}")]
    InvalidRecord {
        /// Index of the record in its batch, where one is to blame.
        index: Option<i32>,
        /// What is wrong with it.
        message: String,
    },
    /// Above `max.message.bytes`.
    #[error("a batch of {size_bytes} bytes is above max.message.bytes={max_bytes}")]
    MessageTooLarge {
        /// Of the whole batch.
        size_bytes: u64,
        /// What the topic allows.
        max_bytes: u64,
    },
    /// Above `segment.bytes`.
    #[error("a batch of {size_bytes} bytes does not fit a segment of {segment_bytes}")]
    LargerThanSegment {
        /// Of the whole batch.
        size_bytes: u64,
        /// `segment.bytes`
        segment_bytes: u64,
    },
    /// Outside `message.timestamp.before.max.ms` or `.after.max.ms`.
    #[error("timestamp out of bounds: {0}")]
    InvalidTimestamp(String),
    /// A codec that the request's version must not use.
    #[error("unsupported compression type")]
    UnsupportedCompression,
    /// A gap in an idempotent producer's sequence.
    #[error(
        "producer {producer} sent sequence {got} where {expected} was expected, in epoch {epoch}"
    )]
    OutOfOrderSequence {
        /// Producer id.
        producer: i64,
        /// Its epoch.
        epoch: i16,
        /// The batch's first sequence.
        got: i32,
        /// One after the last that the log has.
        expected: i32,
    },
    /// An epoch older than the producer's newest.
    #[error("producer {producer} has epoch {current}, epoch {got} is fenced")]
    InvalidProducerEpoch {
        /// Producer id.
        producer: i64,
        /// The batch's.
        got: i16,
        /// The newest seen.
        current: i16,
    },
    /// A transactional batch outside a transaction, or the reverse.
    #[error("invalid transaction state: {0}")]
    InvalidTxnState(String),
    /// A copied batch that does not continue the log.
    #[error("offset {got} does not continue the log, which ends at {expected}")]
    OutOfOrderOffset {
        /// First offset of the batch.
        got: Offset,
        /// The log's end.
        expected: Offset,
    },
}

impl AppendError {
    /// What a Produce answer says.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::Busy => ErrorCode::NotEnoughReplicas,
            AppendError::Storage(_) => ErrorCode::KafkaStorageError,
            AppendError::Corrupt(_) => ErrorCode::CorruptMessage,
            AppendError::InvalidRecord { .. } | AppendError::OutOfOrderOffset { .. } => {
                ErrorCode::InvalidRecord
            }
            AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            AppendError::InvalidTimestamp(_) => ErrorCode::InvalidTimestamp,
            AppendError::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::InvalidTxnState(_) => ErrorCode::InvalidTxnState,
        }
    }
}

/// A log directory that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A write or a flush failed, or damage was found: nothing more is written there until the
    /// operator has looked.
    #[error("log directory {dir} is offline: {reason}")]
    Offline {
        /// Path of the directory.
        dir: String,
        /// The first error.
        reason: String,
    },
    /// Too little space is left on the file system; heals by itself.
    #[error("log directory {dir} has only {available_bytes} bytes left")]
    NoSpace {
        /// Path of the directory.
        dir: String,
        /// Bytes that may still be written.
        available_bytes: u64,
    },
    /// The partition was deleted meanwhile.
    #[error("the partition was deleted")]
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_trouble_is_a_retriable_storage_error_for_clients() {
        let offline = StorageError::Offline {
            dir: "d".into(),
            reason: "EIO".into(),
        };
        assert_eq!(
            AppendError::from(offline).code(),
            ErrorCode::KafkaStorageError
        );
    }
}
