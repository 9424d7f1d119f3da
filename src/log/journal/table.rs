//! What the journals' entries led to, partition by partition: blocks of records, each block with
//! a CRC and chained to the one before.
//!
//! The same format serves two files:
//! - a journal's **table** (two files in turn): what changed in this run up to a checkpoint. The
//!   superblock says how much of which file counts.
//! - a directory's **base**: every partition as the last recovery or clean stop left it. Replacing
//!   it, in one rename, is the moment at which a recovery is done; its incarnation is that of the
//!   run which then begins. A base that says `clean` is the clean marker: a start replaces it
//!   before it does anything else.

use zerocopy::byteorder::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::checksum::{crc32c, crc32c_append};
use crate::base::ids::{PartitionId, PartitionKey, Uuid};
use crate::base::limits::{INCARNATION_MAX, TOPIC_NAME_BYTES};
use crate::base::topic_name::validate_topic_name;
use crate::log::journal::superblock::TableRef;
use crate::log::partition::PartitionFacts;

/// The newest format that this broker reads and the one it writes.
pub const FORMAT: u16 = 2;

const MAGIC: [u8; 8] = *b"CLJTABLE";
const BLOCK_BYTES: usize = size_of::<RawBlock>();
const RECORD_BYTES: usize = size_of::<RawRecord>();
const CLEAN: u16 = 1;
const DROPPED: u32 = u32::MAX;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBlock {
    magic: [u8; 8],
    format: U16,
    flags: U16,
    records: U32,
    owner: [u8; 16],
    incarnation: U64,
    len: U64,
    previous_crc: U32,
    crc: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    topic: [u8; 16],
    partition: I32,
    generation: U32,
    name_len: U32,
    facts_len: U32,
    damage_len: U32,
}

/// One partition in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The partition.
    pub key: PartitionKey,
    /// Counts its moves between journals.
    pub generation: u32,
    /// Its topic's name.
    pub topic: String,
    /// Its state; `None`: it was deleted.
    pub facts: Option<PartitionFacts>,
    /// Why it cannot be served, until the operator has looked.
    pub damaged: Option<String>,
}

/// Builds one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    records: u32,
}

impl BlockBuilder {
    /// An empty block.
    pub fn new() -> BlockBuilder {
        BlockBuilder {
            bytes: vec![0; BLOCK_BYTES],
            records: 0,
        }
    }

    /// Adds a partition; `facts` is `None` for a deleted one.
    pub fn push(
        &mut self,
        key: PartitionKey,
        generation: u32,
        topic: &str,
        facts: Option<&PartitionFacts>,
        damaged: Option<&str>,
    ) {
        let at = self.bytes.len();
        self.bytes.resize(at + RECORD_BYTES, 0);
        self.bytes.extend_from_slice(topic.as_bytes());
        let facts_at = self.bytes.len();
        if let Some(facts) = facts {
            facts.encode(&mut self.bytes);
        }
        let facts_len = self.bytes.len() - facts_at;
        let damaged = damaged.unwrap_or_default();
        self.bytes.extend_from_slice(damaged.as_bytes());
        let raw = RawRecord {
            topic: key.topic.0,
            partition: key.partition.0.into(),
            generation: generation.into(),
            name_len: (topic.len() as u32).into(),
            facts_len: match facts {
                Some(_) => facts_len as u32,
                None => DROPPED,
            }
            .into(),
            damage_len: (damaged.len() as u32).into(),
        };
        self.bytes[at..at + RECORD_BYTES].copy_from_slice(raw.as_bytes());
        self.records += 1;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The block, and the CRC to which the next one points.
    pub fn finish(
        mut self,
        owner: Uuid,
        incarnation: u64,
        clean: bool,
        previous_crc: u32,
    ) -> (Vec<u8>, u32) {
        let mut raw = RawBlock {
            magic: MAGIC,
            format: FORMAT.into(),
            flags: if clean { CLEAN } else { 0 }.into(),
            records: self.records.into(),
            owner: owner.0,
            incarnation: incarnation.into(),
            len: (self.bytes.len() as u64).into(),
            previous_crc: previous_crc.into(),
            crc: 0.into(),
        };
        let head = crc32c(&raw.as_bytes()[..BLOCK_BYTES - 4]);
        let crc = crc32c_append(head, &self.bytes[BLOCK_BYTES..]);
        raw.crc = crc.into();
        self.bytes[..BLOCK_BYTES].copy_from_slice(raw.as_bytes());
        (self.bytes, crc)
    }
}

/// A table or base as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Of its last block.
    pub incarnation: u64,
    /// The last block says that every log is whole in its files.
    pub clean: bool,
    /// In the order of writing: a later record of a partition replaces an earlier one.
    pub records: Vec<Record>,
}

/// What is wrong with a table's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Cut short, rotten, or of something else.
    #[error("the table is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// Why.
        what: &'static str,
    },
    /// Written by a newer broker.
    #[error("table format {0} is newer than this broker knows ({FORMAT})")]
    Newer(u16),
}

fn damaged(at: usize, what: &'static str) -> TableError {
    TableError::Damaged {
        at: at as u64,
        what,
    }
}

impl Table {
    /// Reads all of a base.
    ///
    /// # Errors
    /// If anything in it is not whole.
    pub fn decode_base(bytes: &[u8], directory: Uuid) -> Result<Table, TableError> {
        let (table, _) = Table::decode(bytes, directory)?;
        if bytes.is_empty() {
            return Err(damaged(0, "it is empty"));
        }
        Ok(table)
    }

    /// Reads the part of a journal's table that its superblock names.
    ///
    /// # Errors
    /// If that part is not there or not whole.
    pub fn decode_table(bytes: &[u8], journal: Uuid, part: TableRef) -> Result<Table, TableError> {
        let len = usize::try_from(part.len).unwrap_or(usize::MAX);
        let bytes = bytes
            .get(..len)
            .ok_or_else(|| damaged(bytes.len(), "it is shorter than the superblock says"))?;
        let (table, crc) = Table::decode(bytes, journal)?;
        if crc != part.crc {
            return Err(damaged(len, "its last block is not the superblock's"));
        }
        Ok(table)
    }

    /// Whose a table or base says it is, unchecked; `None` where no block begins.
    pub fn owner(bytes: &[u8]) -> Option<Uuid> {
        let (raw, _) = RawBlock::ref_from_prefix(bytes).ok()?;
        (raw.magic == MAGIC).then_some(Uuid(raw.owner))
    }

    fn decode(bytes: &[u8], owner: Uuid) -> Result<(Table, u32), TableError> {
        let mut table = Table::default();
        let mut previous = 0;
        let mut at = 0;
        while at < bytes.len() {
            let (raw, _) = RawBlock::ref_from_prefix(&bytes[at..])
                .map_err(|_| damaged(at, "a block is cut short"))?;
            if raw.magic != MAGIC {
                return Err(damaged(at, "no block begins here"));
            }
            let len = usize::try_from(raw.len.get()).unwrap_or(usize::MAX);
            let block = at
                .checked_add(len)
                .and_then(|end| bytes.get(at..end))
                .filter(|block| block.len() >= BLOCK_BYTES)
                .ok_or_else(|| damaged(at, "a block is cut short"))?;
            let head = crc32c(&block[..BLOCK_BYTES - 4]);
            let crc = crc32c_append(head, &block[BLOCK_BYTES..]);
            if crc != raw.crc.get() || raw.previous_crc.get() != previous {
                return Err(damaged(at, "a block's checksum does not agree"));
            }
            if raw.format.get() > FORMAT {
                return Err(TableError::Newer(raw.format.get()));
            }
            if raw.owner != owner.0 {
                return Err(damaged(at, "it belongs to another journal or directory"));
            }
            if raw.incarnation.get() > INCARNATION_MAX {
                return Err(damaged(at, "no broker has that many runs"));
            }
            let (format, count) = (raw.format.get(), raw.records.get());
            decode_records(block, format, count, at, &mut table.records)?;
            table.incarnation = raw.incarnation.get();
            table.clean = raw.flags.get() & CLEAN != 0;
            previous = crc;
            at += len;
        }
        Ok((table, previous))
    }
}

fn decode_records(
    block: &[u8],
    format: u16,
    count: u32,
    base: usize,
    out: &mut Vec<Record>,
) -> Result<(), TableError> {
    let mut at = BLOCK_BYTES;
    for _ in 0..count {
        let broken = || damaged(base + at, "a record does not fit");
        let (raw, rest) = RawRecord::ref_from_prefix(&block[at..]).map_err(|_| broken())?;
        let name_len = raw.name_len.get() as usize;
        let dropped = raw.facts_len.get() == DROPPED;
        let facts_len = if dropped {
            0
        } else {
            raw.facts_len.get() as usize
        };
        let damage_len = raw.damage_len.get() as usize;
        let whole = name_len as u64 + facts_len as u64 + damage_len as u64;
        if name_len > TOPIC_NAME_BYTES || whole > rest.len() as u64 {
            return Err(broken());
        }
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| broken());
        let topic = text(&rest[..name_len])?;
        // it becomes the name of a directory
        if !dropped && validate_topic_name(topic).is_err() {
            return Err(broken());
        }
        let damage = text(&rest[name_len + facts_len..][..damage_len])?;
        let facts = match dropped {
            true => None,
            false => Some(
                PartitionFacts::decode(&rest[name_len..name_len + facts_len], format)
                    .map_err(|_| broken())?,
            ),
        };
        out.push(Record {
            key: PartitionKey {
                topic: Uuid(raw.topic),
                partition: PartitionId(raw.partition.get()),
            },
            generation: raw.generation.get(),
            topic: topic.to_owned(),
            facts,
            damaged: (damage_len > 0).then(|| damage.to_owned()),
        });
        at += RECORD_BYTES + name_len + facts_len + damage_len;
    }
    match at == block.len() {
        true => Ok(()),
        false => Err(damaged(base + at, "bytes are left over in a block")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Offset;

    const OWNER: Uuid = Uuid([6; 16]);

    fn key(n: i32) -> PartitionKey {
        PartitionKey {
            topic: Uuid([1; 16]),
            partition: PartitionId(n),
        }
    }

    fn block(n: i32, previous: u32) -> (Vec<u8>, u32) {
        let mut block = BlockBuilder::new();
        let facts = PartitionFacts::empty(Offset(n.into()), 5);
        block.push(key(n), 2, "orders", Some(&facts), Some("rot"));
        block.push(key(n + 100), 0, "gone", None, None);
        block.finish(OWNER, 9, false, previous)
    }

    #[test]
    fn blocks_read_back_in_order() {
        let (mut bytes, first) = block(1, 0);
        let (more, last) = block(2, first);
        bytes.extend(more);
        let part = TableRef {
            file: 0,
            len: bytes.len() as u64,
            crc: last,
        };
        bytes.extend(b"of an older use of the file");
        let table = Table::decode_table(&bytes, OWNER, part).unwrap();
        assert_eq!(table.records.len(), 4);
        assert_eq!((table.incarnation, table.clean), (9, false));
        assert_eq!(table.records[0].topic, "orders");
        assert_eq!(table.records[0].damaged.as_deref(), Some("rot"));
        assert_eq!(table.records[1].damaged, None);
        assert_eq!(
            table.records[2].facts,
            Some(PartitionFacts::empty(Offset(2), 5))
        );
        assert_eq!(table.records[3].facts, None);
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let (good, crc) = block(1, 0);
        let part = TableRef {
            file: 0,
            len: good.len() as u64,
            crc,
        };
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            assert!(
                Table::decode_table(&bytes, OWNER, part).is_err(),
                "byte {at}"
            );
        }
        assert!(Table::decode_table(&good[..good.len() - 1], OWNER, part).is_err());
        assert!(Table::decode_base(&good, Uuid([7; 16])).is_err());
    }

    #[test]
    fn a_name_that_leads_out_of_the_directory_is_damage() {
        for name in ["", "..", "a/../../b", "a\0"] {
            let mut block = BlockBuilder::new();
            let facts = PartitionFacts::empty(Offset(0), 5);
            block.push(key(1), 0, name, Some(&facts), None);
            let (bytes, _) = block.finish(OWNER, 1, false, 0);
            assert!(Table::decode_base(&bytes, OWNER).is_err(), "{name:?}");
        }
    }

    #[test]
    fn runs_that_no_broker_has_had_are_damage() {
        let base = |incarnation| {
            let (bytes, _) = BlockBuilder::new().finish(OWNER, incarnation, false, 0);
            Table::decode_base(&bytes, OWNER)
        };
        assert!(base(INCARNATION_MAX).is_ok());
        assert!(base(INCARNATION_MAX + 1).is_err());
        assert!(base(u64::MAX).is_err(), "the next run's would overflow");
    }

    #[test]
    fn an_empty_table_is_one_but_an_empty_base_is_damage() {
        let none = TableRef::default();
        assert_eq!(
            Table::decode_table(b"rest", OWNER, none),
            Ok(Table::default())
        );
        assert!(Table::decode_base(b"", OWNER).is_err());
        let (bytes, _) = BlockBuilder::new().finish(OWNER, 3, true, 0);
        let base = Table::decode_base(&bytes, OWNER).unwrap();
        assert!(base.clean && base.records.is_empty() && base.incarnation == 3);
    }
}
