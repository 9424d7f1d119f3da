//! The checks of a leader before it appends what a client sent. The rules and their errors are
//! those of Kafka's `LogValidator`; where Kafka would rewrite a batch whose offsets have gaps, it
//! is refused here, because batches are stored as sent.

use crate::base::error_code::ErrorCode;
use crate::base::ids::Offset;
use crate::base::limits::{INFLATE_WINDOW_BYTES, RECORD_ERRORS};
use crate::base::time::Timestamp;
use crate::wire::batch::header::BatchView;
use crate::wire::batch::walk::{self, Head, RecordError, Slice, Source, Stream};
use crate::wire::compress::{Codec, Inflater, ZstdContext};

/// Which timestamps a topic takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampRule {
    /// The append's stands for all: those of the producer don't matter.
    LogAppend,
    /// The producer's, within bounds. Records without one are not bounded.
    Create {
        /// The oldest one.
        earliest: Timestamp,
        /// The latest one.
        latest: Timestamp,
    },
}

/// What a batch is checked against.
#[derive(Clone, Copy, Debug)]
pub struct ValidateOptions {
    /// `max.message.bytes` of the topic.
    pub max_message_bytes: usize,
    /// Bound of what a compressed batch may inflate to.
    pub max_inflated_bytes: u64,
    /// The topic's timestamps.
    pub timestamps: TimestampRule,
    /// The topic is compacted: every record has a key.
    pub key_required: bool,
    /// The version of the request knows zstd (Produce 7).
    pub zstd_allowed: bool,
}

/// Memory that is used again from one batch to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    window: Vec<u8>,
    zstd: ZstdContext,
}

/// What the records of a good batch said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Records in it, at least one.
    pub count: i32,
    /// The largest timestamp of its records, which the header may not say.
    pub max_timestamp: Timestamp,
    /// The first record with it, counted from the base offset.
    pub max_timestamp_delta: i32,
    /// True if the header says so too; if not, the leader writes it over.
    pub header_agrees: bool,
}

/// What is wrong with a batch.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("the base offset should be 0, but is {0}")]
    BaseOffset(Offset),
    #[error("the batch has {size} bytes, the topic takes {max}")]
    TooLarge { size: usize, max: usize },
    #[error("the checksum does not match")]
    Crc,
    #[error("{0} is no codec")]
    Codec(i16),
    #[error("zstd needs a newer version of the request")]
    ZstdTooNew,
    #[error("{0} is no count of records")]
    Count(i32),
    #[error("{count} records do not end at offset {last_offset_delta}")]
    OffsetRange { count: i32, last_offset_delta: i32 },
    #[error("clients may not write control records")]
    Control,
    #[error("{0} is no sequence number")]
    Sequence(i32),
    #[error("timestamps of the append are the broker's to set")]
    LogAppendTime,
    #[error("record {index}: {error}")]
    Record { index: i32, error: RecordError },
    #[error("{count} records are refused")]
    Records { count: usize },
}

/// A record that is refused, and with it its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRecord {
    /// Its place in the batch.
    pub index: i32,
    /// What is wrong.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RecordProblem {
    #[error("a compacted topic takes no record without key")]
    NoKey,
    #[error("the timestamp {timestamp} lies outside of {earliest} to {latest}")]
    Timestamp {
        timestamp: Timestamp,
        earliest: Timestamp,
        latest: Timestamp,
    },
    #[error("its offset is {found} instead of {expected} from the batch's first")]
    OffsetDelta { found: i32, expected: i32 },
}

/// A batch that is refused.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidBatch {
    /// What is wrong.
    pub problem: Problem,
    /// The first records that are refused, at most [`RECORD_ERRORS`].
    pub records: Vec<InvalidRecord>,
}

impl InvalidBatch {
    /// Kafka's code for it.
    pub fn error_code(&self) -> ErrorCode {
        match &self.problem {
            Problem::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Problem::Crc => ErrorCode::CorruptMessage,
            Problem::ZstdTooNew => ErrorCode::UnsupportedCompressionType,
            Problem::LogAppendTime => ErrorCode::InvalidTimestamp,
            Problem::Record { error, .. } => match error {
                RecordError::Inflate(_) => ErrorCode::CorruptMessage,
                RecordError::TooLarge(_) => ErrorCode::MessageTooLarge,
                _ => ErrorCode::InvalidRecord,
            },
            Problem::Records { .. } => {
                let timestamp =
                    |r: &InvalidRecord| matches!(r.problem, RecordProblem::Timestamp { .. });
                match self.records.iter().any(timestamp) {
                    true => ErrorCode::InvalidTimestamp,
                    false => ErrorCode::InvalidRecord,
                }
            }
            _ => ErrorCode::InvalidRecord,
        }
    }
}

impl From<Problem> for InvalidBatch {
    #[cold]
    fn from(problem: Problem) -> InvalidBatch {
        InvalidBatch {
            problem,
            records: Vec::new(),
        }
    }
}

/// Checks a batch that a client sent. Reads all bytes twice at most (checksum, records); allocates
/// nothing where they are not compressed.
pub fn validate(
    batch: &BatchView<'_>,
    options: &ValidateOptions,
    scratch: &mut Scratch,
) -> Result<BatchFacts, InvalidBatch> {
    let codec = check_header(batch, options)?;
    let mut check = Check {
        batch,
        options,
        max: (Timestamp::NONE, 0),
        refused: 0,
        records: Vec::new(),
    };
    if codec == Codec::None {
        check.walk(&mut Slice {
            bytes: batch.body(),
            at: 0,
        })?;
    } else {
        let Scratch { window, zstd } = scratch;
        window.resize(INFLATE_WINDOW_BYTES, 0);
        let inflater = Inflater::new(codec, batch.body(), zstd).map_err(|e| Problem::Record {
            index: 0,
            error: RecordError::Inflate(std::io::Error::other(e)),
        })?;
        check.walk(&mut Stream::new(
            inflater,
            window,
            options.max_inflated_bytes,
        ))?;
    }
    if check.refused > 0 {
        return Err(InvalidBatch {
            problem: Problem::Records {
                count: check.refused,
            },
            records: check.records,
        });
    }
    let (max_timestamp, max_timestamp_delta) = check.max;
    Ok(BatchFacts {
        count: batch.records_count(),
        max_timestamp,
        max_timestamp_delta,
        header_agrees: max_timestamp == batch.max_timestamp(),
    })
}

fn check_header(batch: &BatchView<'_>, options: &ValidateOptions) -> Result<Codec, Problem> {
    let codec = batch.codec();
    if codec == Some(Codec::Zstd) && !options.zstd_allowed {
        return Err(Problem::ZstdTooNew);
    }
    if batch.base_offset() != Offset(0) {
        return Err(Problem::BaseOffset(batch.base_offset()));
    }
    if batch.total_len() > options.max_message_bytes {
        return Err(Problem::TooLarge {
            size: batch.total_len(),
            max: options.max_message_bytes,
        });
    }
    if !batch.verify_crc() {
        return Err(Problem::Crc);
    }
    let (count, last_offset_delta) = (batch.records_count(), batch.last_offset_delta());
    if count <= 0 {
        return Err(Problem::Count(count));
    }
    if last_offset_delta != count - 1 {
        return Err(Problem::OffsetRange {
            count,
            last_offset_delta,
        });
    }
    if batch.is_control() {
        return Err(Problem::Control);
    }
    if batch.has_producer_id() && batch.base_sequence() < 0 {
        return Err(Problem::Sequence(batch.base_sequence()));
    }
    if batch.is_log_append_time() {
        return Err(Problem::LogAppendTime);
    }
    codec.ok_or(Problem::Codec(batch.attributes() & 7))
}

struct Check<'a> {
    batch: &'a BatchView<'a>,
    options: &'a ValidateOptions,
    max: (Timestamp, i32),
    refused: usize,
    records: Vec<InvalidRecord>,
}

impl Check<'_> {
    fn walk(&mut self, source: &mut impl Source) -> Result<(), Problem> {
        let count = self.batch.records_count();
        for index in 0..count {
            if let Some(head) = source.quick() {
                self.record(index, head);
                continue;
            }
            match walk::careful(source) {
                Ok(head) => self.record(index, head),
                Err(error) => return Err(Problem::Record { index, error }),
            }
        }
        let index = count;
        match source.at_end() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::Record {
                index,
                error: RecordError::Trailing,
            }),
            Err(error) => Err(Problem::Record { index, error }),
        }
    }

    #[inline(always)]
    fn record(&mut self, index: i32, head: Head) {
        let base = self.batch.base_timestamp().0;
        let timestamp = Timestamp(base.wrapping_add(head.timestamp_delta));
        if timestamp > self.max.0 {
            self.max = (timestamp, index);
        }
        if self.options.key_required && !head.has_key {
            self.refuse(index, RecordProblem::NoKey);
        } else if head.offset_delta != index {
            let (found, expected) = (head.offset_delta, index);
            self.refuse(index, RecordProblem::OffsetDelta { found, expected });
        } else if let TimestampRule::Create { earliest, latest } = self.options.timestamps
            && timestamp != Timestamp::NONE
            && (timestamp < earliest || timestamp > latest)
        {
            let problem = RecordProblem::Timestamp {
                timestamp,
                earliest,
                latest,
            };
            self.refuse(index, problem);
        }
    }

    #[cold]
    fn refuse(&mut self, index: i32, problem: RecordProblem) {
        self.refused += 1;
        if self.records.len() < RECORD_ERRORS {
            self.records.push(InvalidRecord { index, problem });
        }
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
