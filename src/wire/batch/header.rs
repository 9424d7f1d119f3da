//! The header of a batch, seen in place.

use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId};
use crate::base::time::Timestamp;
use crate::wire::compress::Codec;

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The length field counts the bytes behind this one.
pub const BATCH_LENGTH_END: usize = 12;
/// The checksum covers the bytes from here on.
pub const CRC_START: usize = 21;
const MAGIC_AT: usize = 16;

/// Bits of a batch's attributes.
pub mod attributes {
    /// Timestamps are those of the append (bit 3).
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    /// Part of a transaction (bit 4).
    pub const TRANSACTIONAL: i16 = 1 << 4;
    /// Holds control records, which applications don't see (bit 5).
    pub const CONTROL: i16 = 1 << 5;
    /// The base timestamp is the time when the cleaner may drop its tombstones (bit 6).
    pub const DELETE_HORIZON: i16 = 1 << 6;
}

/// The first 61 bytes of a batch of format 2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    /// Offset of the first record; the leader's, outside of the checksum.
    pub base_offset: I64,
    /// Bytes behind this field.
    pub batch_length: I32,
    /// Epoch of the leader that appended; outside of the checksum.
    pub partition_leader_epoch: I32,
    /// 2.
    pub magic: i8,
    /// CRC-32C of all behind it.
    pub crc: U32,
    /// Codec in bits 0 to 2, then see [`attributes`].
    pub attributes: I16,
    /// Offset of the last record, counted from the base offset.
    pub last_offset_delta: I32,
    /// Milliseconds since the epoch, from which the records' deltas count.
    pub base_timestamp: I64,
    /// The largest timestamp of its records, or that of the append.
    pub max_timestamp: I64,
    /// The idempotent producer, or -1.
    pub producer_id: I64,
    /// Its epoch, or -1.
    pub producer_epoch: I16,
    /// Number of the first record in the producer's sequence, or -1.
    pub base_sequence: I32,
    /// Records in the batch.
    pub records_count: I32,
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch goes on after the bytes end.
    #[error("a batch takes {needed} bytes, {left} are there")]
    Truncated {
        /// Bytes that it takes, as far as they tell.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length that holds no header.
    #[error("{0} is no length of a batch")]
    Length(i32),
    /// A format that is not 2: messages of Kafka before 0.11, or no batch at all.
    #[error("format {0} is not the one of record batches, 2")]
    Magic(i8),
}

/// A batch of format 2 in place. Its length and format are checked, its checksum is not.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch that begins `bytes`; others may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let left = bytes.len();
        // the format and the length stand at the same place in older ones: name those first
        if let Some(magic) = bytes.get(MAGIC_AT)
            && *magic != 2
        {
            return Err(BatchError::Magic(*magic as i8));
        }
        let Ok((header, _)) = BatchHeader::ref_from_prefix(bytes) else {
            return Err(BatchError::Truncated {
                needed: BATCH_HEADER_BYTES,
                left,
            });
        };
        let length = header.batch_length.get();
        let needed = match usize::try_from(length) {
            Ok(n) if n + BATCH_LENGTH_END >= BATCH_HEADER_BYTES => n + BATCH_LENGTH_END,
            _ => return Err(BatchError::Length(length)),
        };
        match bytes.get(..needed) {
            Some(bytes) => Ok(BatchView { header, bytes }),
            None => Err(BatchError::Truncated { needed, left }),
        }
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its first 61 bytes.
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// Bytes of the whole batch.
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// The records, compressed as [`BatchView::codec`] says.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        Offset(self.header.base_offset.get())
    }

    /// Offset of the last record, also of one that compaction removed. Wraps where the header
    /// lies.
    pub fn last_offset(&self) -> Offset {
        let delta = i64::from(self.last_offset_delta());
        Offset(self.base_offset().0.wrapping_add(delta))
    }

    /// The offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// Offset of the last record, counted from the first.
    pub fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta.get()
    }

    /// Epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.header.partition_leader_epoch.get())
    }

    /// The checksum as stored.
    pub fn crc(&self) -> u32 {
        self.header.crc.get()
    }

    /// The bytes that the checksum covers.
    pub fn crc_body(&self) -> &'a [u8] {
        &self.bytes[CRC_START..]
    }

    /// True if the checksum is that of the bytes. Reads all of them.
    pub fn verify_crc(&self) -> bool {
        crc32c(self.crc_body()) == self.crc()
    }

    /// All attributes.
    pub fn attributes(&self) -> i16 {
        self.header.attributes.get()
    }

    /// How the records are compressed; `None` for a number that is no codec's.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_attributes(self.attributes())
    }

    /// True if all records carry the time of the append.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & attributes::LOG_APPEND_TIME != 0
    }

    /// True if the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & attributes::TRANSACTIONAL != 0
    }

    /// True if it holds control records.
    pub fn is_control(&self) -> bool {
        self.attributes() & attributes::CONTROL != 0
    }

    /// True if the base timestamp is a delete horizon.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & attributes::DELETE_HORIZON != 0
    }

    /// The time from which the records' deltas count.
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(self.header.base_timestamp.get())
    }

    /// The largest timestamp, as the header says.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.header.max_timestamp.get())
    }

    /// The idempotent producer, or [`ProducerId::NONE`].
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(self.header.producer_id.get())
    }

    /// True if an idempotent producer sent it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id().0 > ProducerId::NONE.0
    }

    /// The producer's epoch, or -1.
    pub fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch.get()
    }

    /// Sequence number of the first record, or -1.
    pub fn base_sequence(&self) -> i32 {
        self.header.base_sequence.get()
    }

    /// Sequence number of the last record: numbers go on at 0 after 2^31 - 1. -1 without producer.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            -1 => -1,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }

    /// Records in the batch.
    pub fn records_count(&self) -> i32 {
        self.header.records_count.get()
    }
}

/// The batches in `bytes`, laid end to end. Ends after the first error, which for a reader of a
/// Fetch answer may be a last batch that was cut.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { left: bytes }
}

/// A walk over batches.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    left: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The bytes not walked over yet.
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.left);
        self.left = match &batch {
            Ok(batch) => &self.left[batch.total_len()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}
