//! One group commit as it lies in the ring: header, the batches' bytes, the list of items, zeros
//! to the page.
//!
//! ```text
//! 0    8  magic "CLJENTRY"          64  4  CRC of the previous entry's header
//! 8    2  format version            68  4  bytes of data
//! 10   2  kind of entry             72  4  bytes of the entry, a multiple of a page
//! 12   4  number of items           76  4  CRC-32C of the list
//! 16  16  journal id                80 12  zeros
//! 32   8  position in the ring      92  4  CRC-32C of bytes 0..92
//! 40   8  incarnation               96     data, then the list, 80 bytes an item
//! 48   8  sequence
//! 56   8  durable through
//! ```
//!
//! All numbers are little-endian. The list stands behind the data because a group grows until it
//! is sent; header and list are one unit all the same: the header carries the list's CRC.
//! An item of batch bytes needs no pass of its own: its CRC is the batch's, which was checked on
//! arrival, and the 21 bytes before the range of that CRC follow from the item ([`Item::prefix`]).

use zerocopy::byteorder::little_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, Uuid};
use crate::base::limits::{PAGE_BYTES, STORED_NUMBER_MAX};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 96;
/// Bytes of a list item.
pub const ITEM_BYTES: usize = 80;
/// The newest format that this broker reads and the one it writes.
pub const FORMAT: u16 = 1;
/// Bytes of a batch that its own CRC leaves out: offset, length, epoch, magic, the CRC itself.
pub const PREFIX_BYTES: usize = 21;
/// Bytes of a batch's header, which a POINTER carries.
pub const BATCH_HEADER_BYTES: usize = 61;

const MAGIC: [u8; 8] = *b"CLJENTRY";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U16,
    kind: U16,
    items: U32,
    journal: [u8; 16],
    position: U64,
    incarnation: U64,
    sequence: U64,
    durable_through: U64,
    previous_crc: U32,
    data_len: U32,
    entry_len: U32,
    list_crc: U32,
    zeros: [u8; 12],
    crc: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawItem {
    kind: u8,
    zeros: [u8; 3],
    partition: I32,
    topic: [u8; 16],
    generation: U32,
    epoch: I32,
    segment: I64,
    position: U64,
    base_offset: I64,
    last_offset: I64,
    len: U32,
    crc: U32,
    durable_position: U64,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);
const _: () = assert!(size_of::<RawItem>() == ITEM_BYTES);

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EntryKind {
    /// A list of items.
    Group = 1,
    /// The first of a run.
    Open = 2,
    /// Says that all before it is durable: written when the journal falls idle.
    Seal = 3,
    /// Fills the ring's end, where the next entry does not fit.
    Skip = 4,
}

/// A header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What it is for.
    pub kind: EntryKind,
    /// The journal it belongs to.
    pub journal: Uuid,
    /// Where in the ring file it stands, in bytes.
    pub position: u64,
    /// The run that wrote it.
    pub incarnation: u64,
    /// Counts the entries of a journal, across runs.
    pub sequence: u64,
    /// Every entry up to this sequence was durable before this one was written.
    pub durable_through: u64,
    /// CRC of the header before it.
    pub previous_crc: u32,
    /// Number of list items.
    pub items: u32,
    /// Bytes of data behind the header.
    pub data_len: u32,
    /// Bytes in all, zeros included; a multiple of a page.
    pub entry_len: u32,
    /// CRC-32C of the list.
    pub list_crc: u32,
}

/// What keeps bytes from being a header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Other bytes, or a torn page.
    #[error("no entry header")]
    NotAHeader,
    /// Written by a newer broker.
    #[error("entry format {0} is newer than this broker knows ({FORMAT})")]
    Newer(u16),
    /// Whole, but it says what cannot be.
    #[error("an entry header whose lengths do not add up")]
    Impossible,
}

/// Rounds up to whole pages.
pub fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Bytes of an entry with so much data and so many items.
pub fn entry_bytes(data_len: usize, items: usize) -> usize {
    whole_pages(HEADER_BYTES + data_len + items * ITEM_BYTES)
}

impl EntryHeader {
    /// The bytes that stand in the ring, and their CRC, to which the next header points.
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut raw = RawHeader {
            magic: MAGIC,
            format: FORMAT.into(),
            kind: (self.kind as u16).into(),
            items: self.items.into(),
            journal: self.journal.0,
            position: self.position.into(),
            incarnation: self.incarnation.into(),
            sequence: self.sequence.into(),
            durable_through: self.durable_through.into(),
            previous_crc: self.previous_crc.into(),
            data_len: self.data_len.into(),
            entry_len: self.entry_len.into(),
            list_crc: self.list_crc.into(),
            zeros: [0; 12],
            crc: 0.into(),
        };
        let crc = crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]);
        raw.crc = crc.into();
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(raw.as_bytes());
        (bytes, crc)
    }

    /// Checks bytes from a ring: the header's own CRC and that its lengths add up. Whether it
    /// belongs where it stands is the scanner's question.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<(EntryHeader, u32), HeaderError> {
        let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| HeaderError::NotAHeader)?;
        let crc = crc32c(&raw.as_bytes()[..HEADER_BYTES - 4]);
        if raw.magic != MAGIC || raw.crc.get() != crc {
            return Err(HeaderError::NotAHeader);
        }
        if raw.format.get() > FORMAT {
            return Err(HeaderError::Newer(raw.format.get()));
        }
        let kind = match raw.kind.get() {
            1 => EntryKind::Group,
            2 => EntryKind::Open,
            3 => EntryKind::Seal,
            4 => EntryKind::Skip,
            _ => return Err(HeaderError::Impossible),
        };
        let header = EntryHeader {
            kind,
            journal: Uuid(raw.journal),
            position: raw.position.get(),
            incarnation: raw.incarnation.get(),
            sequence: raw.sequence.get(),
            durable_through: raw.durable_through.get(),
            previous_crc: raw.previous_crc.get(),
            items: raw.items.get(),
            data_len: raw.data_len.get(),
            entry_len: raw.entry_len.get(),
            list_crc: raw.list_crc.get(),
        };
        let used = HEADER_BYTES as u64
            + u64::from(header.data_len)
            + u64::from(header.items) * ITEM_BYTES as u64;
        let whole = u64::from(header.entry_len);
        if !whole.is_multiple_of(PAGE_BYTES as u64)
            || whole < used
            || header.durable_through >= header.sequence
        {
            return Err(HeaderError::Impossible);
        }
        Ok((header, crc))
    }

    /// Where the list stands in the entry.
    pub fn list_range(&self) -> std::ops::Range<usize> {
        let start = HEADER_BYTES + self.data_len as usize;
        start..start + self.items as usize * ITEM_BYTES
    }
}

/// What an item does when it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ItemKind {
    /// One whole batch, appended at its place.
    Data = 1,
    /// Bytes of a segment's end brought forward, so that the entry that first held them can go.
    Carry = 2,
    /// A batch whose bytes are durable in the segment, up to a rest that follows as CARRY. Its
    /// header travels as data.
    Pointer = 3,
    /// A new segment begins at `base_offset`.
    Roll = 4,
    /// The log ends at `base_offset`.
    Truncate = 5,
    /// The log begins at `base_offset`.
    LogStart = 6,
    /// Leader epoch `epoch` begins at `base_offset`.
    Epoch = 7,
    /// The partition is deleted.
    Drop = 8,
    /// The partition comes from another journal, with this generation.
    Adopt = 9,
    /// The partition goes to another journal; all of it is in its segments.
    Release = 10,
}

impl ItemKind {
    fn from_code(code: u8) -> Option<ItemKind> {
        Some(match code {
            1 => ItemKind::Data,
            2 => ItemKind::Carry,
            3 => ItemKind::Pointer,
            4 => ItemKind::Roll,
            5 => ItemKind::Truncate,
            6 => ItemKind::LogStart,
            7 => ItemKind::Epoch,
            8 => ItemKind::Drop,
            9 => ItemKind::Adopt,
            10 => ItemKind::Release,
            _ => return None,
        })
    }
}

/// One line of an entry's list. Items lie in the order of their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it does.
    pub kind: ItemKind,
    /// The partition that it is about.
    pub key: PartitionKey,
    /// Counts the partition's moves between journals.
    pub generation: u32,
    /// Leader epoch of the batch.
    pub epoch: LeaderEpoch,
    /// Base offset of the segment that the bytes belong to.
    pub segment: Offset,
    /// Where in that segment, in bytes.
    pub position: u64,
    /// First offset of the batch, or the offset that the kind names.
    pub base_offset: Offset,
    /// Last offset of the batch.
    pub last_offset: Offset,
    /// POINTER: the segment is durable up to here, in bytes.
    pub durable_position: u64,
    /// Bytes of data in this entry.
    pub len: u32,
    /// DATA: the batch's own CRC, over its bytes from 21 on. Else over the item's data.
    pub crc: u32,
}

impl Item {
    /// The bytes that stand in the list.
    pub fn encode(&self) -> [u8; ITEM_BYTES] {
        let raw = RawItem {
            kind: self.kind as u8,
            zeros: [0; 3],
            partition: self.key.partition.0.into(),
            topic: self.key.topic.0,
            generation: self.generation.into(),
            epoch: self.epoch.0.into(),
            segment: self.segment.0.into(),
            position: self.position.into(),
            base_offset: self.base_offset.0.into(),
            last_offset: self.last_offset.0.into(),
            len: self.len.into(),
            crc: self.crc.into(),
            durable_position: self.durable_position.into(),
        };
        let mut bytes = [0; ITEM_BYTES];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// Reads one item of a list whose CRC was checked. `None` for a kind that only a newer broker
    /// knows, and for numbers that no broker writes.
    pub fn decode(bytes: &[u8]) -> Option<Item> {
        let (raw, _) = RawItem::ref_from_prefix(bytes).ok()?;
        let offsets = [raw.segment, raw.base_offset, raw.last_offset].map(|offset| offset.get());
        let places = [raw.position, raw.durable_position].map(|place| place.get());
        let possible = (offsets.into_iter())
            .all(|offset| (-1..=STORED_NUMBER_MAX as i64).contains(&offset))
            && places.into_iter().all(|place| place <= STORED_NUMBER_MAX);
        if !possible {
            return None;
        }
        Some(Item {
            kind: ItemKind::from_code(raw.kind)?,
            key: PartitionKey {
                topic: Uuid(raw.topic),
                partition: PartitionId(raw.partition.get()),
            },
            generation: raw.generation.get(),
            epoch: LeaderEpoch(raw.epoch.get()),
            segment: Offset(raw.segment.get()),
            position: raw.position.get(),
            base_offset: Offset(raw.base_offset.get()),
            last_offset: Offset(raw.last_offset.get()),
            durable_position: raw.durable_position.get(),
            len: raw.len.get(),
            crc: raw.crc.get(),
        })
    }

    /// The first 21 bytes of a DATA item's batch, which its CRC leaves out.
    pub fn prefix(&self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.len.wrapping_sub(12).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[16] = 2;
        bytes[17..].copy_from_slice(&self.crc.to_be_bytes());
        bytes
    }

    /// Whether these are the bytes that were committed.
    pub fn holds(&self, data: &[u8]) -> bool {
        if data.len() != self.len as usize {
            return false;
        }
        match self.kind {
            ItemKind::Data => {
                data.len() >= BATCH_HEADER_BYTES
                    && data[..PREFIX_BYTES] == self.prefix()
                    && crc32c(&data[PREFIX_BYTES..]) == self.crc
            }
            _ => crc32c(data) == self.crc,
        }
    }
}

/// An entry in memory whose header and list are whole.
#[derive(Clone, Copy, Debug)]
pub struct EntryView<'a> {
    /// Its header.
    pub header: EntryHeader,
    /// CRC of its header.
    pub header_crc: u32,
    bytes: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// Checks the list of an entry whose header is known. `None`: torn or rotten.
    pub fn new(header: EntryHeader, header_crc: u32, bytes: &'a [u8]) -> Option<EntryView<'a>> {
        let list = bytes.get(header.list_range())?;
        (crc32c(list) == header.list_crc).then_some(EntryView {
            header,
            header_crc,
            bytes,
        })
    }

    /// The items with their bytes, unchecked ([`Item::holds`]). An item that this broker does not
    /// know ends the walk with `Err`.
    pub fn items(&self) -> impl Iterator<Item = Result<(Item, &'a [u8]), HeaderError>> + use<'a> {
        let bytes = self.bytes;
        let list = &bytes[self.header.list_range()];
        let data_end = HEADER_BYTES + self.header.data_len as usize;
        let mut at = HEADER_BYTES;
        let mut failed = false;
        list.chunks_exact(ITEM_BYTES).map_while(move |raw| {
            if failed {
                return None;
            }
            let found = Item::decode(raw)
                .ok_or(HeaderError::Impossible)
                .and_then(|item| {
                    let end = at + item.len as usize;
                    if end > data_end {
                        return Err(HeaderError::Impossible);
                    }
                    let data = &bytes[at..end];
                    at = end;
                    Ok((item, data))
                });
            failed = found.is_err();
            Some(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> EntryHeader {
        EntryHeader {
            kind: EntryKind::Group,
            journal: Uuid([7; 16]),
            position: 8192,
            incarnation: 3,
            sequence: 41,
            durable_through: 40,
            previous_crc: 0xdead_beef,
            items: 1,
            data_len: 5,
            entry_len: 4096,
            list_crc: 9,
        }
    }

    fn item() -> Item {
        Item {
            kind: ItemKind::Data,
            key: PartitionKey {
                topic: Uuid([1; 16]),
                partition: PartitionId(2),
            },
            generation: 1,
            epoch: LeaderEpoch(5),
            segment: Offset(100),
            position: 77,
            base_offset: Offset(123),
            last_offset: Offset(125),
            durable_position: 0,
            len: 70,
            crc: 0,
        }
    }

    #[test]
    fn a_header_lies_where_the_format_says() {
        let (bytes, crc) = header().encode();
        assert_eq!(&bytes[..8], b"CLJENTRY");
        assert_eq!(bytes[8..16], [1, 0, 1, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[32..40], 8192u64.to_le_bytes());
        assert_eq!(bytes[48..56], 41u64.to_le_bytes());
        assert_eq!(bytes[92..], crc.to_le_bytes());
        assert_eq!(EntryHeader::decode(&bytes), Ok((header(), crc)));
    }

    #[test]
    fn any_flipped_bit_makes_it_no_header() {
        let (good, _) = header().encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                EntryHeader::decode(&bytes),
                Err(HeaderError::NotAHeader),
                "bit {bit}"
            );
        }
        assert_eq!(
            EntryHeader::decode(&good[..95]),
            Err(HeaderError::NotAHeader)
        );
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut short = header();
        short.data_len = 4096;
        let mut odd = header();
        odd.entry_len = 4097;
        let mut prophet = header();
        prophet.durable_through = 41;
        for wrong in [short, odd, prophet] {
            assert_eq!(
                EntryHeader::decode(&wrong.encode().0),
                Err(HeaderError::Impossible)
            );
        }
    }

    #[test]
    fn a_newer_format_is_named_not_guessed() {
        let (mut bytes, _) = header().encode();
        bytes[8] = 2;
        let crc = crc32c(&bytes[..92]);
        bytes[92..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(EntryHeader::decode(&bytes), Err(HeaderError::Newer(2)));
    }

    #[test]
    fn an_item_returns_as_it_was() {
        assert_eq!(Item::decode(&item().encode()), Some(item()));
        let mut unknown = item().encode();
        unknown[0] = 99;
        assert_eq!(Item::decode(&unknown), None);
    }

    #[test]
    fn an_item_with_numbers_that_no_broker_writes_is_none() {
        let refused = |change: &dyn Fn(&mut Item)| {
            let mut wrong = item();
            change(&mut wrong);
            Item::decode(&wrong.encode()).is_none()
        };
        assert!(!refused(&|i| i.base_offset = Offset(-1)));
        assert!(refused(&|i| i.base_offset = Offset(i64::MIN)));
        assert!(refused(&|i| i.last_offset = Offset(i64::MAX)));
        assert!(refused(&|i| i.segment = Offset(-2)));
        assert!(refused(&|i| i.position = u64::MAX));
        assert!(refused(&|i| i.durable_position = u64::MAX));
    }

    #[test]
    fn a_batch_is_checked_whole_though_its_crc_leaves_out_the_prefix() {
        let mut batch = vec![0u8; 70];
        batch[21..].fill(0xab);
        let mut item = item();
        item.crc = crc32c(&batch[21..]);
        batch[..21].copy_from_slice(&item.prefix());
        assert!(item.holds(&batch));
        for at in 0..batch.len() {
            batch[at] ^= 1;
            assert!(!item.holds(&batch), "byte {at}");
            batch[at] ^= 1;
        }
        assert!(!item.holds(&batch[..69]));
    }
}
