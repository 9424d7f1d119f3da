//! Record batches. Where all have the same shape, one is made once, and each is a copy of as much of
//! it as has the records that are due, stamped: what a load costs is no part of what it measures.

use zerocopy::FromBytes;

use crate::base::checksum::crc32c;
use crate::base::ids::ProducerId;
use crate::base::time::Timestamp;
use crate::cli::bench::value::{self, Name};
use crate::ring::Ring;
use crate::ring::buf::Buf;
use crate::wire::batch::{
    BATCH_LENGTH_END, BatchBuilder, BatchHeader, BatchView, CRC_START, records,
};
use crate::wire::compress::Codec;

/// Of a record in a batch, beside key and value: about.
const RECORD_OVERHEAD: usize = 12;
const KEY_BYTES: usize = 16;

/// An idempotent producer's place in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    pub id: ProducerId,
    pub epoch: i16,
    pub next: i32,
}

/// What values are made of.
#[derive(Clone, Debug)]
pub struct Contents {
    pub sizes: std::ops::RangeInclusive<usize>,
    pub keys: Option<u64>,
    pub compressible: f64,
    pub codec: Codec,
}

impl Contents {
    /// Bytes that a record of the largest size takes in a batch, about.
    pub fn record_bytes(&self) -> usize {
        let key = self.keys.map_or(0, |_| KEY_BYTES);
        *self.sizes.end() + key + RECORD_OVERHEAD
    }
}

/// A batch with values that have no name yet.
struct Template {
    bytes: Vec<u8>,
    values_at: Vec<usize>,
    /// Where each record ends.
    ends: Vec<usize>,
}

/// Makes batches.
pub struct Batches {
    contents: Contents,
    most: usize,
    template: Option<Template>,
    random: u64,
}

impl Batches {
    /// Batches of so many bytes at most, if that is more than a record.
    pub fn new(contents: Contents, batch_bytes: usize, seed: u64) -> Batches {
        let record = contents.record_bytes();
        Batches {
            contents,
            most: (batch_bytes / record).max(1),
            template: None,
            random: seed | 1,
        }
    }

    /// Records of a batch at most.
    pub fn most(&self) -> usize {
        self.most
    }

    /// xorshift64*
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.random() >> 11) % bound.max(1)
    }

    fn size(&mut self) -> usize {
        let (low, high) = (*self.contents.sizes.start(), *self.contents.sizes.end());
        low + self.below((high - low + 1) as u64) as usize
    }

    /// A value of that size: behind its name as much noise as a codec is to find nothing in.
    fn value(&mut self, size: usize) -> Vec<u8> {
        let mut value = vec![b'.'; size];
        let noise = (size as f64 / self.contents.compressible) as usize;
        let noise = noise.clamp(value::BYTES.min(size), size);
        for chunk in value[value::BYTES.min(size)..noise].chunks_mut(8) {
            let random = self.random().to_be_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        value
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        let keys = self.contents.keys?;
        Some(format!("{:016x}", self.below(keys)).into_bytes())
    }

    /// Whether all batches of so many records have the same shape.
    fn is_regular(&self) -> bool {
        let sizes = &self.contents.sizes;
        sizes.start() == sizes.end()
            && self.contents.codec == Codec::None
            && self.contents.keys.is_none()
    }

    /// A batch of records with these names.
    pub async fn make(
        &mut self,
        ring: &Ring,
        names: impl ExactSizeIterator<Item = Name>,
        sequence: Option<Sequence>,
    ) -> anyhow::Result<Buf> {
        let now = ring.wall();
        if !self.is_regular() {
            return self.make_anew(names, sequence, now);
        }
        let count = names.len();
        let large = |template: &Template| template.ends.len() >= count;
        if !self.template.as_ref().is_some_and(large) {
            self.template = Some(self.template(count.max(self.most))?);
        }
        let template = self.template.as_ref().expect("made");
        let len = template.ends[count - 1];
        let mut buf = ring.arena().alloc(len).await;
        buf[..len].copy_from_slice(&template.bytes[..len]);
        for (name, at) in names.zip(&template.values_at) {
            name.write(&mut buf[*at..*at + value::BYTES]);
        }
        stamp(&mut buf[..len], count, now, sequence);
        Ok(buf.freeze(0..len))
    }

    fn template(&mut self, count: usize) -> anyhow::Result<Template> {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..count {
            let size = self.size();
            let value = self.value(size);
            builder.append(Timestamp(0), None, Some(&value), &[]);
        }
        let bytes = builder.build()?;
        let batch = BatchView::parse(&bytes)?;
        let start = bytes.as_ptr() as usize;
        let (mut values_at, mut ends) = (Vec::new(), Vec::new());
        for record in records(batch.body(), batch.records_count()) {
            let value = record?.value.unwrap_or_default();
            let at = value.as_ptr() as usize - start;
            values_at.push(at);
            // behind the value stands the number of headers: none
            ends.push(at + value.len() + 1);
        }
        Ok(Template {
            bytes,
            values_at,
            ends,
        })
    }

    fn make_anew(
        &mut self,
        names: impl ExactSizeIterator<Item = Name>,
        sequence: Option<Sequence>,
        now: Timestamp,
    ) -> anyhow::Result<Buf> {
        let mut builder = BatchBuilder::new(self.contents.codec);
        if let Some(s) = sequence {
            builder = builder.producer(s.id, s.epoch, s.next);
        }
        for name in names {
            let size = self.size();
            let mut value = self.value(size);
            name.write(&mut value);
            let key = self.key();
            builder.append(now, key.as_deref(), Some(&value), &[]);
        }
        Ok(Buf::from(builder.build()?))
    }
}

/// Makes the first records of a template a batch of its own: count, time, producer and checksum.
fn stamp(batch: &mut [u8], count: usize, now: Timestamp, sequence: Option<Sequence>) {
    let length = (batch.len() - BATCH_LENGTH_END) as i32;
    let header = header(batch);
    header.batch_length.set(length);
    header.last_offset_delta.set(count as i32 - 1);
    header.records_count.set(count as i32);
    header.base_timestamp.set(now.0);
    header.max_timestamp.set(now.0);
    if let Some(s) = sequence {
        header.producer_id.set(s.id.0);
        header.producer_epoch.set(s.epoch);
        header.base_sequence.set(s.next);
    }
    let crc = crc32c(&batch[CRC_START..]);
    self::header(batch).crc.set(crc);
}

fn header(batch: &mut [u8]) -> &mut BatchHeader {
    let (header, _) = BatchHeader::mut_from_prefix(batch).expect("a template begins with one");
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Monotonic;

    fn contents(size: usize, compressible: f64, codec: Codec) -> Contents {
        Contents {
            sizes: size..=size,
            keys: None,
            compressible,
            codec,
        }
    }

    #[test]
    fn a_stamped_part_of_a_template_is_a_good_batch() {
        let mut batches = Batches::new(contents(100, 1.0, Codec::None), 1000, 3);
        assert_eq!(batches.most(), 8);
        let template = batches.template(8).unwrap();
        assert_eq!(template.ends.last(), Some(&template.bytes.len()));
        let name = |number| Name {
            producer: 1,
            partition: 2,
            number,
            due: Monotonic(5),
        };
        let sequence = Sequence {
            id: ProducerId(77),
            epoch: 1,
            next: 40,
        };
        for count in [1, 3, 8] {
            let mut bytes = template.bytes[..template.ends[count - 1]].to_vec();
            for (n, at) in template.values_at[..count].iter().enumerate() {
                name(n as u64).write(&mut bytes[*at..*at + value::BYTES]);
            }
            stamp(
                &mut bytes,
                count,
                Timestamp(1_700_000_000_000),
                Some(sequence),
            );
            let batch = BatchView::parse(&bytes).unwrap();
            assert_eq!(batch.bytes().len(), bytes.len());
            assert!(batch.verify_crc());
            assert_eq!(batch.producer_id(), ProducerId(77));
            assert_eq!(batch.base_sequence(), 40);
            assert_eq!(batch.base_timestamp(), Timestamp(1_700_000_000_000));
            assert_eq!(batch.records_count(), count as i32);
            assert_eq!(batch.last_offset_delta(), count as i32 - 1);
            let read: Vec<_> = records(batch.body(), count as i32).collect();
            assert_eq!(read.len(), count);
            for (n, record) in read.into_iter().enumerate() {
                let value = record.unwrap().value.unwrap();
                assert_eq!(value.len(), 100);
                assert_eq!(Name::read(value), Some(name(n as u64)));
            }
        }
    }

    #[test]
    fn batches_are_as_compressible_as_asked_for() {
        let ratio = |size: usize, compressible| {
            let mut batches = Batches::new(contents(size, compressible, Codec::Zstd), 65_536, 5);
            let (mut builder, mut plain) = (BatchBuilder::new(Codec::Zstd), 0);
            for _ in 0..batches.most() {
                plain += size;
                builder.append(Timestamp(0), None, Some(&batches.value(size)), &[]);
            }
            plain as f64 / builder.build().unwrap().len() as f64
        };
        for (size, asked, low, high) in [
            (1024, 1.0, 0.95, 1.1),
            (1024, 4.0, 3.0, 5.0),
            (10_000, 4.0, 3.5, 4.5),
            (200, 2.0, 1.5, 3.0),
        ] {
            let found = ratio(size, asked);
            assert!((low..high).contains(&found), "{size} B, {asked}: {found}");
        }
    }
}
