//! A journal and its tables: what a recovery replays, and what `corelane log dump` shows of it.

use corelane::base::checksum::{crc32c, crc32c_append};
use corelane::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, Uuid};
use corelane::base::limits::PAGE_BYTES;
use corelane::log::dump::{DumpOptions, dump};
use corelane::log::epochs::LeaderEpochs;
use corelane::log::format::epoch_checkpoint::EpochStart;
use corelane::log::journal::entry::{
    EntryHeader, EntryKind, HEADER_BYTES, ITEM_BYTES, Item, ItemKind, PREFIX_BYTES, entry_bytes,
};
use corelane::log::journal::scan::Scanner;
use corelane::log::journal::superblock::{JournalKind, RING_START, Superblock, TableRef};
use corelane::log::journal::table::{BlockBuilder, FORMAT, Table};
use corelane::log::partition::{PartitionFacts, Recovering};
use corelane::log::segment::Place;
use corelane::wire::compress::Codec;

use crate::batches;
use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[
    Target {
        name: "superblock",
        seeds: |g| vec![superblocks(g)],
        mutate,
        repair: Some(|bytes| reseal_superblocks(bytes)),
        run: |bytes| shape(&Superblock::choose(bytes).map(|s| (s.kind, s.first_crc.is_some()))),
        max_bytes: 2 * PAGE_BYTES,
        memory: |_| 4096,
    },
    Target {
        name: "journal_table",
        seeds: tables,
        mutate,
        repair: Some(|bytes| {
            reseal_table(bytes);
        }),
        run: table,
        max_bytes: 32 << 10,
        memory: |n| 4096 + 40 * n as u64,
    },
    Target {
        name: "journal_ring",
        seeds: rings,
        mutate,
        repair: Some(|bytes| reseal_journal(bytes, None)),
        run: ring,
        max_bytes: 96 << 10,
        // two windows of the scan, and what is replayed
        memory: |n| (5 << 20) + 20 * n as u64,
    },
];

const OWNER: Uuid = Uuid([6; 16]);

fn key(n: i32) -> PartitionKey {
    PartitionKey {
        topic: Uuid([1; 16]),
        partition: PartitionId(n),
    }
}

fn superblock(g: &mut Gen, ring_end: u64) -> Superblock {
    Superblock {
        journal: OWNER,
        kind: g.pick(&[JournalKind::Group, JournalKind::Interval]),
        update: 1 + g.below(9) as u64,
        incarnation: 5,
        ring_end,
        position: RING_START,
        sequence: 1,
        previous_crc: 0,
        first_crc: None,
        durable_through: 0,
        table: TableRef::default(),
        boot_id: "1f2e3d4c-0000-4000-8000-123456789abc".to_owned(),
    }
}

fn superblocks(g: &mut Gen) -> Vec<u8> {
    let end = RING_START + 16 * PAGE_BYTES as u64;
    [superblock(g, end).encode(), superblock(g, end).encode()].concat()
}

fn put(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

/// Bytes of a superblock, its checksum the last of them.
const SUPERBLOCK_BYTES: usize = 156;

fn reseal_superblocks(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE_BYTES).take(2) {
        if page.len() >= SUPERBLOCK_BYTES {
            put(page, 0, b"CLJSUPER\x01\0");
            let crc = crc32c(&page[..SUPERBLOCK_BYTES - 4]);
            put(page, SUPERBLOCK_BYTES - 4, &crc.to_le_bytes());
        }
    }
}

/// Facts of a log with a sealed segment, epochs and producers.
fn facts(g: &mut Gen) -> PartitionFacts {
    let mut state = Recovering::new(PartitionFacts::empty(Offset(0), 7));
    let (mut place, mut next) = (Place::new(Offset(0), 0), Offset(0));
    for n in 0..6 {
        let mut batch = batches::batch(g, Codec::None, 3);
        corelane::wire::batch::stamp(&mut batch, next, LeaderEpoch(n / 3));
        state.batch(place, &batch).expect("batches in a row");
        next = state.end();
        place = match n {
            2 => Place::new(next, 0),
            _ => place.plus(batch.len() as u64),
        };
    }
    let mut facts = state.finish();
    facts.epochs = vec![EpochStart {
        epoch: LeaderEpoch(0),
        start: Offset(0),
    }];
    facts
}

fn tables(g: &mut Gen) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for count in [0, 1, 5] {
        let mut bytes = Vec::new();
        let mut previous = 0;
        for n in 0..3 {
            let mut block = BlockBuilder::new();
            for i in 0..count {
                let facts = facts(g);
                let damaged = g.once_in(3).then_some("rot");
                block.push(key(i), n, "orders", Some(&facts), damaged);
                block.push(key(i + 100), 0, "gone", None, None);
            }
            let (block, crc) = block.finish(OWNER, 9, n == 2, previous);
            bytes.extend(block);
            previous = crc;
        }
        all.push(bytes);
    }
    all
}

/// Makes the checksums and lengths of a table's blocks right; the CRC of the last.
pub fn reseal_table(bytes: &mut [u8]) -> u32 {
    const BLOCK: usize = 56;
    let (mut at, mut previous) = (0, 0u32);
    while at + BLOCK <= bytes.len() {
        let left = bytes.len() - at;
        let len = number(bytes, at + 40);
        let len = if (BLOCK..=left).contains(&len) {
            len
        } else {
            left
        };
        let block = &mut bytes[at..at + len];
        put(block, 0, b"CLJTABLE");
        if !(1..=FORMAT).contains(&u16::from_le_bytes([block[8], block[9]])) {
            put(block, 8, &FORMAT.to_le_bytes());
        }
        put(block, 40, &(len as u64).to_le_bytes());
        put(block, 48, &previous.to_le_bytes());
        let crc = crc32c_append(crc32c(&block[..BLOCK - 4]), &block[BLOCK..]);
        put(block, BLOCK - 4, &crc.to_le_bytes());
        (at, previous) = (at + len, crc);
    }
    previous
}

fn table(bytes: &[u8]) -> u64 {
    let table = match Table::decode_base(bytes, OWNER) {
        Ok(table) => table,
        Err(error) => return shape(&error),
    };
    let mut found = magnitude(table.records.len());
    for record in &table.records {
        let Some(facts) = &record.facts else {
            continue;
        };
        let mut out = Vec::new();
        facts.encode(&mut out);
        let again = PartitionFacts::decode(&out, FORMAT).expect("what was written can be read");
        assert_eq!(*facts, again);
        found ^= begin_recovery(facts);
    }
    found
}

/// What a recovery does first with the facts of a table.
fn begin_recovery(facts: &PartitionFacts) -> u64 {
    LeaderEpochs::from_starts(facts.epochs.clone()).latest();
    let state = Recovering::new(facts.clone());
    let checked = state.check();
    state.stale_indexes().count();
    let again = state.finish();
    assert!(again.end() >= again.active().base);
    shape(&checked)
}

/// A ring in memory with its writer, as the commit path writes.
struct Ring {
    bytes: Vec<u8>,
    at: usize,
    sequence: u64,
    previous_crc: u32,
}

impl Ring {
    fn put(&mut self, kind: EntryKind, items: &[(Item, Vec<u8>)], durable_through: u64) {
        let data: Vec<u8> = items.iter().flat_map(|(_, data)| data.clone()).collect();
        let list: Vec<u8> = items.iter().flat_map(|(item, _)| item.encode()).collect();
        let len = entry_bytes(data.len(), items.len());
        if self.at + len > self.bytes.len() {
            return;
        }
        let header = EntryHeader {
            kind,
            journal: OWNER,
            position: self.at as u64,
            incarnation: 5,
            sequence: self.sequence,
            durable_through,
            previous_crc: self.previous_crc,
            items: items.len() as u32,
            data_len: data.len() as u32,
            entry_len: len as u32,
            list_crc: crc32c(&list),
        };
        let (head, crc) = header.encode();
        let whole = [&head[..], &data, &list].concat();
        put(&mut self.bytes, self.at, &whole);
        self.at += len;
        self.sequence += 1;
        self.previous_crc = crc;
    }
}

fn item(kind: ItemKind, place: Place, base: Offset, data: &[u8]) -> Item {
    Item {
        kind,
        key: key(0),
        generation: 1,
        epoch: LeaderEpoch(0),
        segment: place.segment,
        position: place.position,
        base_offset: base,
        last_offset: base,
        durable_position: place.position,
        len: data.len() as u32,
        crc: match kind {
            ItemKind::Data => crc32c(&data[PREFIX_BYTES..]),
            _ => crc32c(data),
        },
    }
}

fn rings(g: &mut Gen) -> Vec<Vec<u8>> {
    const KINDS: [ItemKind; 8] = [
        ItemKind::Roll,
        ItemKind::Truncate,
        ItemKind::LogStart,
        ItemKind::Epoch,
        ItemKind::Drop,
        ItemKind::Adopt,
        ItemKind::Release,
        ItemKind::Carry,
    ];
    (0..8)
        .map(|_| {
            let mut ring = Ring {
                bytes: vec![0; RING_START as usize + 16 * PAGE_BYTES],
                at: RING_START as usize,
                sequence: 1,
                previous_crc: 0,
            };
            ring.put(EntryKind::Open, &[], 0);
            let (mut place, mut next) = (Place::new(Offset(0), 0), Offset(0));
            for n in 0..12u64 {
                let mut items = Vec::new();
                for _ in 0..1 + g.below(3) {
                    let mut batch = batches::batch(g, Codec::None, 2);
                    corelane::wire::batch::stamp(&mut batch, next, LeaderEpoch(0));
                    items.push((item(ItemKind::Data, place, next, &batch), batch.clone()));
                    next = next.plus(2);
                    place = place.plus(batch.len() as u64);
                }
                if g.once_in(3) {
                    items.push((item(g.pick(&KINDS), place, next, &[]), Vec::new()));
                }
                let kind = if n == 7 {
                    EntryKind::Seal
                } else {
                    EntryKind::Group
                };
                ring.put(kind, &items, n);
            }
            if g.once_in(2) {
                ring.put(EntryKind::Skip, &[], 3);
            }
            let end = ring.bytes.len() as u64;
            let mut superblock = superblock(g, end);
            superblock.durable_through = g.below(9) as u64;
            put(&mut ring.bytes, 0, &superblock.encode());
            ring.bytes
        })
        .collect()
}

/// Makes the checksums of a whole ring file right: of items, lists, headers, their chain, and of
/// the superblocks, which name the first entry and, where it is given, a table's CRC and length.
pub fn reseal_journal(bytes: &mut [u8], table: Option<(u32, u64)>) {
    let start = RING_START as usize;
    let mut previous = None;
    let mut at = start;
    while at + HEADER_BYTES <= bytes.len() {
        let entry = &mut bytes[at..];
        at += PAGE_BYTES;
        if !entry.starts_with(b"CLJENTRY") {
            continue;
        }
        let (data, items) = (number(entry, 68), number(entry, 12));
        let list_at = HEADER_BYTES.saturating_add(data);
        let list_end = list_at.saturating_add(items.saturating_mul(ITEM_BYTES));
        if list_end <= entry.len() {
            reseal_items(&mut entry[HEADER_BYTES..list_end], data);
            let crc = crc32c(&entry[list_at..list_end]);
            put(entry, 76, &crc.to_le_bytes());
        }
        let sequence = number(entry, 48);
        if let Some((before, crc)) = previous
            && sequence == before + 1
        {
            let crc: u32 = crc;
            put(entry, 64, &crc.to_le_bytes());
        }
        let crc = crc32c(&entry[..HEADER_BYTES - 4]);
        put(entry, HEADER_BYTES - 4, &crc.to_le_bytes());
        previous = Some((sequence, crc));
    }
    for page in [0, PAGE_BYTES] {
        if page + SUPERBLOCK_BYTES > bytes.len() || !bytes[page..].starts_with(b"CLJSUPER") {
            continue;
        }
        if let Some((crc, len)) = table {
            put(bytes, page + 80, &len.to_le_bytes());
            put(bytes, page + 100, &crc.to_le_bytes());
        }
        let first = number(bytes, page + 56);
        if let Some(entry) = bytes.get(first..first + HEADER_BYTES)
            && entry.starts_with(b"CLJENTRY")
        {
            let crc = number(entry, HEADER_BYTES - 4) as u32;
            put(bytes, page + 92, &crc.to_le_bytes());
        }
        let crc = crc32c(&bytes[page..page + SUPERBLOCK_BYTES - 4]);
        put(bytes, page + SUPERBLOCK_BYTES - 4, &crc.to_le_bytes());
    }
}

/// `bytes` is an entry's data and then its list.
fn reseal_items(bytes: &mut [u8], data_len: usize) {
    let (data, list) = bytes.split_at_mut(data_len);
    let mut at = 0usize;
    for raw in list.chunks_exact_mut(ITEM_BYTES) {
        let len = number(raw, 64);
        let Some(data) = data.get_mut(at..at.saturating_add(len)) else {
            return;
        };
        at += len;
        let is_data = raw[0] == ItemKind::Data as u8 && data.len() > PREFIX_BYTES;
        let from = if is_data { PREFIX_BYTES } else { 0 };
        let crc = crc32c(&data[from..]);
        put(raw, 68, &crc.to_le_bytes());
        if is_data && let Some(item) = Item::decode(raw) {
            put(data, 0, &item.prefix());
        }
    }
}

fn ring(bytes: &[u8]) -> u64 {
    let superblock = match Superblock::choose(&bytes[..bytes.len().min(RING_START as usize)]) {
        Ok(superblock) => superblock,
        Err(error) => return shape(&error),
    };
    let mut lines = 0;
    let name = "corelane-x.journal";
    let options = DumpOptions::default();
    let shown = dump(name, bytes, bytes.len() as u64, options, &mut |_| {
        lines += 1;
        Ok(())
    });
    let mut found = shape(&shown);
    // a recovery does not begin with a ring that is shorter than its superblock says
    if superblock.ring_end > bytes.len() as u64 {
        return found;
    }
    let mut scanner = Scanner::new(bytes, superblock.scan_start());
    let mut state = Recovering::new(PartitionFacts::empty(Offset(0), 7));
    loop {
        let entry = match scanner.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return found ^ shape(&error),
        };
        for item in entry.items() {
            let Ok((item, data)) = item else { break };
            found ^= shape(&(item.kind, item.holds(data)));
        }
        found = found.rotate_left(3);
        state.roll(Offset(entry.header.sequence as i64), 7);
    }
    let verdict = scanner.verdict();
    assert!(verdict.position <= superblock.ring_end.max(superblock.position));
    found ^ shape(&verdict.ending)
}
