//! The open group: batches laid one behind the other into page-aligned buffers, as they will stand
//! in the ring.

use smallvec::SmallVec;

use crate::base::checksum::crc32c;
use crate::base::ids::{Offset, Uuid};
use crate::base::limits::PAGE_BYTES;
use crate::log::commit::space::SlotId;
use crate::log::journal::entry::{
    EntryHeader, EntryKind, HEADER_BYTES, ITEM_BYTES, Item, entry_bytes,
};
use crate::log::segment::Place;
use crate::ring::buf::{Buf, BufMut, copy_streaming};

/// The first buffer of a group; each further one is twice as large as the one before.
const FIRST_BUFFER_BYTES: usize = 64 << 10;
/// The largest.
const LARGEST_BUFFER_BYTES: usize = 1 << 20;

/// What a group did to a partition, to be told once it is written and once it is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The partition.
    pub slot: SlotId,
    /// Its log's end with this group.
    pub end: Offset,
    /// One past its last byte with this group.
    pub place: Place,
    /// The group carries all bytes of it that older entries hold.
    pub carried: bool,
}

/// Where a group belongs in its journal.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// The journal.
    pub journal: Uuid,
    /// The run.
    pub incarnation: u64,
    /// Place in the ring file.
    pub position: u64,
    /// Sequence.
    pub sequence: u64,
    /// Newest durable sequence.
    pub durable_through: u64,
    /// CRC of the header before.
    pub previous_crc: u32,
}

/// A group that fills, or is on its way to the disk. Reused: buffers and lists stay.
#[derive(Debug, Default)]
pub struct Group {
    /// Names it for those who wait.
    pub number: u64,
    buffers: SmallVec<[BufMut; 6]>,
    frozen: SmallVec<[Buf; 6]>,
    /// Bytes written into the buffers, header included.
    used: usize,
    list: Vec<u8>,
    /// What it did, one line a partition.
    pub touched: Vec<Touched>,
    /// It did something that only a table can replace.
    pub control: bool,
    /// Must be written though it may hold nothing.
    pub kind: Option<EntryKind>,
}

/// Makes buffers for groups.
pub trait Buffers {
    /// A page-aligned buffer of at least so many bytes.
    fn buffer(&self, bytes: usize) -> BufMut;
}

impl<F: Fn(usize) -> BufMut> Buffers for F {
    fn buffer(&self, bytes: usize) -> BufMut {
        self(bytes)
    }
}

impl Group {
    /// The first group of a run.
    pub fn opening() -> Group {
        Group {
            number: 1,
            kind: Some(EntryKind::Open),
            ..Group::default()
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.kind.is_none()
    }

    /// Bytes of batches and items so far.
    pub fn payload_bytes(&self) -> usize {
        self.used.saturating_sub(HEADER_BYTES) + self.list.len()
    }

    /// Bytes in the ring if one more item with so much data were added.
    pub fn bytes_with(&self, data: usize) -> u64 {
        let used = self.used.saturating_sub(HEADER_BYTES);
        let items = self.list.len() / ITEM_BYTES + usize::from(data > 0);
        entry_bytes(used + data, items) as u64
    }

    /// Adds an item whose bytes are `parts`, one after the other.
    pub fn push(&mut self, buffers: &impl Buffers, item: &Item, parts: &[&[u8]]) {
        debug_assert_eq!(
            item.len as usize,
            parts.iter().map(|part| part.len()).sum::<usize>()
        );
        if self.used == 0 {
            self.used = HEADER_BYTES;
        }
        for part in parts {
            self.put(buffers, part);
        }
        self.list.extend_from_slice(&item.encode());
    }

    /// Notes what the group did to a partition. `index` is where [`Group::touch`] put it before,
    /// if it did in this group.
    pub fn touch(&mut self, index: Option<usize>, touched: Touched) -> usize {
        match index {
            Some(index) => {
                let line = &mut self.touched[index];
                debug_assert_eq!(line.slot, touched.slot);
                line.end = touched.end.max(line.end);
                line.place = touched.place.max(line.place);
                line.carried |= touched.carried;
                index
            }
            None => {
                self.touched.push(touched);
                self.touched.len() - 1
            }
        }
    }

    fn put(&mut self, buffers: &impl Buffers, mut bytes: &[u8]) {
        let mut start = 0;
        let mut index = 0;
        while !bytes.is_empty() {
            if index == self.buffers.len() {
                let size = match self.buffers.last() {
                    Some(last) => (last.capacity() * 2).min(LARGEST_BUFFER_BYTES),
                    None => FIRST_BUFFER_BYTES,
                };
                self.buffers.push(buffers.buffer(size));
            }
            let buffer = &mut self.buffers[index];
            let end = start + buffer.capacity();
            if self.used < end {
                let at = self.used - start;
                let n = bytes.len().min(end - self.used);
                copy_streaming(&mut buffer[at..at + n], &bytes[..n]);
                self.used += n;
                bytes = &bytes[n..];
            }
            start = end;
            index += 1;
        }
    }

    /// Bytes that the entry will have in the ring.
    pub fn entry_bytes(&self) -> u64 {
        self.bytes_with(0)
    }

    /// Adds list, zeros and header: the group is an entry now. Gives its header's CRC; the bytes
    /// are in [`Group::parts`].
    pub fn seal(&mut self, buffers: &impl Buffers, address: Address) -> u32 {
        if self.used == 0 {
            self.used = HEADER_BYTES;
        }
        let whole = self.entry_bytes() as usize;
        let data_len = self.used - HEADER_BYTES;
        let list = std::mem::take(&mut self.list);
        self.put(buffers, &list);
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        self.put(buffers, &ZEROS[..whole - self.used]);
        let header = EntryHeader {
            kind: self.kind.unwrap_or(EntryKind::Group),
            journal: address.journal,
            position: address.position,
            incarnation: address.incarnation,
            sequence: address.sequence,
            durable_through: address.durable_through,
            previous_crc: address.previous_crc,
            items: (list.len() / ITEM_BYTES) as u32,
            data_len: data_len as u32,
            entry_len: whole as u32,
            list_crc: crc32c(&list),
        };
        self.list = list;
        let (bytes, crc) = header.encode();
        self.buffers[0][..HEADER_BYTES].copy_from_slice(&bytes);
        let mut left = whole;
        for buffer in self.buffers.drain(..) {
            let n = left.min(buffer.capacity());
            self.frozen.push(buffer.freeze(0..n));
            left -= n;
        }
        crc
    }

    /// The sealed entry's bytes.
    pub fn parts(&self) -> impl Iterator<Item = &Buf> {
        self.frozen.iter().filter(|part| !part.is_empty())
    }

    /// Ready to be filled again; a buffer that somebody still holds is let go.
    pub fn reset(&mut self) {
        for part in self.frozen.drain(..) {
            if let Ok(buffer) = part.into_mut() {
                self.buffers.push(buffer);
            }
        }
        self.used = 0;
        self.list.clear();
        self.touched.clear();
        self.control = false;
        self.kind = None;
    }
}

/// The page of a SKIP entry.
pub fn skip_page(page: &mut [u8], address: Address, len: u64) -> u32 {
    let header = EntryHeader {
        kind: EntryKind::Skip,
        journal: address.journal,
        position: address.position,
        incarnation: address.incarnation,
        sequence: address.sequence,
        durable_through: address.durable_through,
        previous_crc: address.previous_crc,
        items: 0,
        data_len: 0,
        entry_len: len as u32,
        list_crc: crc32c(&[]),
    };
    let (bytes, crc) = header.encode();
    page[..HEADER_BYTES].copy_from_slice(&bytes);
    page[HEADER_BYTES..].fill(0);
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{LeaderEpoch, PartitionId, PartitionKey};
    use crate::log::journal::entry::{EntryView, ItemKind};

    fn unbudgeted(bytes: usize) -> BufMut {
        BufMut::unbudgeted(bytes)
    }

    fn item(data: &[u8]) -> Item {
        Item {
            kind: ItemKind::Carry,
            key: PartitionKey {
                topic: Uuid([1; 16]),
                partition: PartitionId(0),
            },
            generation: 0,
            epoch: LeaderEpoch(0),
            segment: Offset(0),
            position: 0,
            base_offset: Offset(0),
            last_offset: Offset(0),
            durable_position: 0,
            len: data.len() as u32,
            crc: crc32c(data),
        }
    }

    fn address() -> Address {
        Address {
            journal: Uuid([2; 16]),
            incarnation: 1,
            position: 8192,
            sequence: 5,
            durable_through: 4,
            previous_crc: 3,
        }
    }

    fn sealed(group: &mut Group) -> Vec<u8> {
        group.seal(&unbudgeted, address());
        group.parts().flat_map(|part| part.to_vec()).collect()
    }

    #[test]
    fn a_sealed_group_is_an_entry_of_whole_pages() {
        let mut group = Group::default();
        let (a, b) = (vec![1u8; 100], vec![2u8; 300_000]);
        // twice: a group is reused, and nothing of its first life may show
        for _ in 0..2 {
            group.push(&unbudgeted, &item(&a), &[&a[..61], &a[61..]]);
            group.push(&unbudgeted, &item(&b), &[&b]);
            let expected = group.entry_bytes();
            let bytes = sealed(&mut group);
            assert_eq!(bytes.len() as u64, expected);
            assert!(bytes.len().is_multiple_of(PAGE_BYTES));
            let (header, crc) = EntryHeader::decode(&bytes).unwrap();
            assert_eq!(header.sequence, 5);
            let entry = EntryView::new(header, crc, &bytes).unwrap();
            let items: Vec<_> = entry.items().map(Result::unwrap).collect();
            assert_eq!(items.len(), 2);
            assert!(items.iter().all(|(item, data)| item.holds(data)));
            assert_eq!(items[1].1, b);
            let tail = header.list_range().end;
            assert!(bytes[tail..].iter().all(|b| *b == 0));
            group.reset();
            assert!(group.is_empty());
        }
    }

    #[test]
    fn an_entry_without_items_is_one_page() {
        let mut group = Group {
            kind: Some(EntryKind::Seal),
            ..Group::default()
        };
        assert!(!group.is_empty());
        let bytes = sealed(&mut group);
        assert_eq!(bytes.len(), PAGE_BYTES);
        assert_eq!(EntryHeader::decode(&bytes).unwrap().0.kind, EntryKind::Seal);
    }

    #[test]
    fn a_partition_has_one_line_a_group() {
        let mut group = Group::default();
        let mut touched = Touched {
            slot: 3,
            end: Offset(5),
            place: Place::new(Offset(0), 100),
            carried: true,
        };
        let index = group.touch(None, touched);
        touched.end = Offset(9);
        touched.place = Place::new(Offset(0), 300);
        touched.carried = false;
        assert_eq!(group.touch(Some(index), touched), index);
        assert_eq!(group.touched.len(), 1);
        assert_eq!(group.touched[0].end, Offset(9));
        assert!(group.touched[0].carried);
    }
}
