use super::entry::{EntryHeader, EntryKind, HEADER_BYTES, ITEM_BYTES, Item, ItemKind, entry_bytes};
use super::scan::{Ending, RingSource, ScanStart, Scanner, Verdict};
use crate::base::checksum::crc32c;
use crate::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, Uuid};

const JOURNAL: Uuid = Uuid([9; 16]);
const START: u64 = 8192;

/// A ring in memory with its writer: as the commit path writes, without IO.
struct Ring {
    bytes: Vec<u8>,
    at: u64,
    sequence: u64,
    incarnation: u64,
    previous_crc: u32,
    places: Vec<(u64, usize)>,
}

impl Ring {
    fn new(pages: usize) -> Ring {
        Ring {
            bytes: vec![0; START as usize + pages * 4096],
            at: START,
            sequence: 1,
            incarnation: 5,
            previous_crc: 0,
            places: Vec::new(),
        }
    }

    fn start(&self) -> ScanStart {
        ScanStart {
            journal: JOURNAL,
            incarnation: self.incarnation,
            ring_start: START,
            ring_end: self.bytes.len() as u64,
            position: START,
            sequence: 1,
            previous_crc: 0,
            first_crc: None,
            durable_through: 0,
        }
    }

    /// An entry with one CARRY of `data`, durable through `durable`.
    fn entry(&mut self, data: &[u8], durable: u64) {
        let item = Item {
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
        };
        self.put(EntryKind::Group, data, &item.encode(), durable, None);
    }

    fn put(&mut self, kind: EntryKind, data: &[u8], list: &[u8], durable: u64, len: Option<u64>) {
        let items = list.len() / ITEM_BYTES;
        let len = len.unwrap_or(entry_bytes(data.len(), items) as u64);
        let header = EntryHeader {
            kind,
            journal: JOURNAL,
            position: self.at,
            incarnation: self.incarnation,
            sequence: self.sequence,
            durable_through: durable,
            previous_crc: self.previous_crc,
            items: items as u32,
            data_len: data.len() as u32,
            entry_len: len as u32,
            list_crc: crc32c(list),
        };
        let (head, crc) = header.encode();
        let at = self.at as usize;
        self.bytes[at..at + HEADER_BYTES].copy_from_slice(&head);
        self.bytes[at + HEADER_BYTES..][..data.len()].copy_from_slice(data);
        self.bytes[at + HEADER_BYTES + data.len()..][..list.len()].copy_from_slice(list);
        self.places.push((self.at, len as usize));
        self.previous_crc = crc;
        self.sequence += 1;
        self.at += len;
        if kind == EntryKind::Skip {
            self.at = START;
        }
    }

    fn scan(&self, start: ScanStart) -> (Vec<u64>, Verdict) {
        scan(self.bytes.as_slice(), start)
    }

    fn rot(&mut self, entry: usize, at: usize) {
        let place = self.places[entry].0 as usize;
        self.bytes[place + at] ^= 0x40;
    }

    fn wipe(&mut self, entry: usize) {
        let (at, len) = self.places[entry];
        self.bytes[at as usize..at as usize + len].fill(0);
    }
}

fn scan(source: &[u8], start: ScanStart) -> (Vec<u64>, Verdict) {
    let source: &dyn RingSource = &Slice(source);
    let mut scanner = Scanner::new(source, start);
    let mut seen = Vec::new();
    while let Some(entry) = scanner.next_entry().unwrap() {
        seen.push(entry.header.sequence);
    }
    (seen, scanner.verdict())
}

struct Slice<'a>(&'a [u8]);
impl RingSource for Slice<'_> {
    fn read(&self, at: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(at, buf)
    }
}

#[test]
fn an_empty_ring_ends_at_once() {
    let ring = Ring::new(4);
    let (seen, verdict) = ring.scan(ring.start());
    assert!(seen.is_empty());
    assert_eq!(verdict.ending, Ending::Whole);
    assert_eq!((verdict.position, verdict.next_sequence), (START, 1));
}

#[test]
fn entries_are_read_in_order_and_across_the_wrap() {
    let mut ring = Ring::new(4);
    for _ in 0..2 {
        ring.entry(b"old lap", 0);
    }
    // the ring's last two pages are skipped for an entry of two pages that needs a wrap
    let mut start = ring.start();
    start.position = ring.at;
    start.sequence = ring.sequence;
    start.previous_crc = ring.previous_crc;
    ring.entry(b"a", 0);
    ring.put(EntryKind::Skip, b"", b"", 0, Some(4096));
    ring.entry(&[3; 5000], 0);
    let (seen, verdict) = ring.scan(start);
    assert_eq!(seen, [3, 4, 5]);
    assert_eq!(verdict.ending, Ending::Whole);
    assert_eq!(verdict.position, START + 8192);
}

#[test]
fn a_stale_lap_behind_the_end_is_not_replayed() {
    let mut ring = Ring::new(4);
    for n in 0..3 {
        ring.entry(&[n; 10], 0);
    }
    ring.put(EntryKind::Skip, b"", b"", 0, Some(4096));
    let mut start = ring.start();
    (start.position, start.sequence, start.previous_crc) =
        (ring.at, ring.sequence, ring.previous_crc);
    ring.entry(b"second lap", 4);
    let (seen, verdict) = ring.scan(start);
    assert_eq!(seen, [5]);
    assert_eq!(verdict.ending, Ending::Whole);
}

#[test]
fn an_earlier_incarnation_behind_the_end_is_neither_replayed_nor_proof() {
    let mut ring = Ring::new(8);
    for n in 0..6 {
        ring.entry(&[n; 10], u64::from(n));
    }
    let old = ring.at;
    (ring.at, ring.sequence, ring.previous_crc, ring.incarnation) = (START, 1, 0, 6);
    ring.entry(b"new run", 0);
    assert!(old > ring.at);
    let (seen, verdict) = ring.scan(ring.start());
    assert_eq!(seen, [1]);
    assert_eq!(verdict.ending, Ending::Whole);
}

#[test]
fn a_torn_last_entry_is_dropped() {
    for at in [3, HEADER_BYTES + 4, HEADER_BYTES + 5000] {
        let mut ring = Ring::new(8);
        ring.entry(b"one", 0);
        ring.entry(b"two", 1);
        ring.entry(&[5; 6000], 2);
        ring.rot(2, at);
        let (seen, verdict) = ring.scan(ring.start());
        assert_eq!(seen, [1, 2], "byte {at}");
        assert!(!matches!(verdict.ending, Ending::Damaged { .. }));
        assert_eq!(verdict.next_sequence, 3);
    }
}

#[test]
fn a_hole_before_an_entry_that_was_begun_unflushed_is_torn() {
    let mut ring = Ring::new(8);
    ring.entry(b"one", 0);
    ring.entry(b"two", 1);
    ring.entry(b"three", 1); // written while two was not durable yet
    ring.wipe(1);
    let (seen, verdict) = ring.scan(ring.start());
    assert_eq!(seen, [1]);
    assert_eq!(
        verdict.ending,
        Ending::Torn {
            sequence: 2,
            position: START + 4096
        }
    );
}

#[test]
fn rot_before_an_entry_written_after_its_flush_is_damage() {
    for at in [0, 50, HEADER_BYTES - 1] {
        let mut ring = Ring::new(8);
        ring.entry(b"one", 0);
        ring.entry(b"two", 1);
        ring.entry(b"three", 2);
        ring.rot(1, at);
        let (seen, verdict) = ring.scan(ring.start());
        assert_eq!(seen, [1]);
        assert!(
            matches!(verdict.ending, Ending::Damaged { sequence: 2, .. }),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_rotten_item_that_was_durable_does_not_end_the_replay() {
    let mut ring = Ring::new(8);
    ring.entry(b"one", 0);
    ring.entry(b"two", 1);
    ring.entry(b"three", 2);
    ring.rot(1, HEADER_BYTES);
    let (seen, verdict) = ring.scan(ring.start());
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(verdict.ending, Ending::Whole);
}

#[test]
fn the_entry_that_the_superblock_names_is_missed() {
    let mut ring = Ring::new(4);
    ring.entry(b"one", 0);
    let mut start = ring.start();
    start.first_crc = Some(ring.previous_crc);
    assert_eq!(ring.scan(start).0, [1]);
    start.first_crc = Some(ring.previous_crc ^ 1);
    assert!(matches!(
        ring.scan(start).1.ending,
        Ending::Damaged { sequence: 1, .. }
    ));
    ring.wipe(0);
    assert!(matches!(
        ring.scan(start).1.ending,
        Ending::Damaged { sequence: 1, .. }
    ));
}

#[test]
fn what_the_superblock_calls_durable_must_be_there() {
    let mut ring = Ring::new(4);
    ring.entry(b"one", 0);
    let mut start = ring.start();
    start.durable_through = 2;
    assert!(matches!(
        ring.scan(start).1.ending,
        Ending::Damaged { sequence: 2, .. }
    ));
}

#[test]
fn another_journals_entries_are_no_proof() {
    let mut ring = Ring::new(8);
    ring.entry(b"one", 0);
    ring.entry(b"two", 1);
    ring.entry(b"three", 2);
    let mut start = ring.start();
    start.journal = Uuid([8; 16]);
    let (seen, verdict) = ring.scan(start);
    assert!(seen.is_empty());
    assert_eq!(verdict.ending, Ending::Whole);
}

#[test]
fn rotten_bytes_of_an_entry_that_only_the_superblock_proves_are_its_partitions_damage() {
    let mut ring = Ring::new(16);
    ring.entry(b"one", 0);
    ring.entry(b"two", 0);
    ring.rot(1, HEADER_BYTES + 1);
    let (seen, verdict) = ring.scan(ring.start());
    assert_eq!(seen, [1], "nothing proves it: torn");
    assert!(matches!(verdict.ending, Ending::Torn { .. }));
    let start = ScanStart {
        durable_through: 2,
        ..ring.start()
    };
    let (seen, verdict) = ring.scan(start);
    assert_eq!(seen, [1, 2], "the caller finds the rotten item");
    assert_eq!(verdict.ending, Ending::Whole);
}
