//! Makes batches: for our own producer, internal topics and tests.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, ProducerId};
use crate::base::time::Timestamp;
use crate::wire::batch::header::{
    BATCH_HEADER_BYTES, BATCH_LENGTH_END, BatchHeader, CRC_START, attributes,
};
use crate::wire::compress::{Codec, CompressError, compress};
use crate::wire::write::{Writer, varint_length, varlong_length};

/// A header of a record: its name and its value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Collects records into a batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    attributes: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer: (ProducerId, i16, i32),
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// A batch without records.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            attributes: codec as i16,
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch::NONE,
            producer: (ProducerId::NONE, -1, -1),
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            count: 0,
            records: Vec::new(),
        }
    }

    /// Sets the offset of the first record; 0 where a leader assigns it.
    pub fn base_offset(mut self, offset: Offset) -> BatchBuilder {
        self.base_offset = offset;
        self
    }

    /// Sets the leader's epoch.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> BatchBuilder {
        self.leader_epoch = epoch;
        self
    }

    /// Makes it a batch of an idempotent producer.
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes it a part of a transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= attributes::TRANSACTIONAL;
        self
    }

    /// Makes its records control records.
    pub fn control(mut self) -> BatchBuilder {
        self.attributes |= attributes::CONTROL;
        self
    }

    /// Adds a record.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let time = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let delta = self.count;
        let length = 1
            + varlong_length(time)
            + varint_length(delta)
            + field_length(key)
            + field_length(value)
            + varint_length(headers.len() as i32)
            + headers.iter().map(header_length).sum::<usize>();
        let mut w = Writer::vec(&mut self.records);
        w.varint(length as i32);
        w.i8(0);
        w.varlong(time);
        w.varint(delta);
        field(&mut w, key);
        field(&mut w, value);
        w.varint(headers.len() as i32);
        for (name, value) in headers {
            field(&mut w, Some(name.as_bytes()));
            field(&mut w, *value);
        }
        self.count += 1;
    }

    /// Records added so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes that the batch would take uncompressed.
    pub fn size(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// The batch.
    pub fn build(&self) -> Result<Vec<u8>, CompressError> {
        let packed;
        let body = match self.codec {
            Codec::None => &self.records,
            codec => {
                packed = compress(codec, &self.records)?;
                &packed
            }
        };
        let total = BATCH_HEADER_BYTES + body.len();
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let header = BatchHeader {
            base_offset: I64::new(self.base_offset.0),
            batch_length: I32::new((total - BATCH_LENGTH_END) as i32),
            partition_leader_epoch: I32::new(self.leader_epoch.0),
            magic: 2,
            crc: U32::new(0),
            attributes: I16::new(self.attributes),
            last_offset_delta: I32::new(self.count - 1),
            base_timestamp: I64::new(self.base_timestamp.0),
            max_timestamp: I64::new(self.max_timestamp.0),
            producer_id: I64::new(producer_id.0),
            producer_epoch: I16::new(producer_epoch),
            base_sequence: I32::new(base_sequence),
            records_count: I32::new(self.count),
        };
        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        let crc = crc32c(&bytes[CRC_START..]);
        bytes[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        Ok(bytes)
    }
}

fn field_length(value: Option<&[u8]>) -> usize {
    match value {
        None => 1,
        Some(bytes) => varint_length(bytes.len() as i32) + bytes.len(),
    }
}

fn header_length((name, value): &Header<'_>) -> usize {
    field_length(Some(name.as_bytes())) + field_length(*value)
}

fn field(w: &mut Writer<'_>, value: Option<&[u8]>) {
    match value {
        None => w.varint(-1),
        Some(bytes) => {
            w.varint(bytes.len() as i32);
            w.raw(bytes);
        }
    }
}
