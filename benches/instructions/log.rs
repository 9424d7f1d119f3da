//! What the log does to a batch: checks it, lays it into a group, seals the group; and finds an
//! offset in an index.

use std::hint::black_box;

use corelane::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey, Uuid};
use corelane::base::time::Timestamp;
use corelane::log::commit::group::{Address, Group};
use corelane::log::journal::entry::{BATCH_HEADER_BYTES, Item, ItemKind};
use corelane::log::segment::{BatchHeader, SparseIndex};
use corelane::ring::buf::BufMut;
use corelane::wire::batch::{
    BatchBuilder, BatchView, Scratch, TimestampRule, ValidateOptions, validate,
};
use corelane::wire::compress::Codec;

use crate::Path;
use crate::counted::counted;

pub const PATHS: &[Path] = &[
    ("check a batch, 1 record of 1 KiB", || check(1)),
    ("check a batch, 63 records of 1 KiB", || check(63)),
    ("commit 16 batches of 1 KiB", || commit(1)),
    ("commit 16 batches of 63 KiB", || commit(63)),
    ("find an offset in an index", find),
];

/// An uncompressed batch of records of 1 KiB.
pub fn batch(records: usize) -> Vec<u8> {
    let value: Vec<u8> = (0..1024u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..records {
        let at = Timestamp(1_700_000_000_000 + n as i64);
        builder.append(at, None, Some(&value), &[]);
    }
    builder.build().expect("nothing is compressed")
}

/// As a leader does before it appends what a client sent.
fn check(records: usize) -> u64 {
    const OPERATIONS: u64 = 200;
    let bytes = batch(records);
    let options = ValidateOptions {
        max_message_bytes: 1 << 20,
        max_inflated_bytes: 1 << 30,
        timestamps: TimestampRule::Create {
            earliest: Timestamp(0),
            latest: Timestamp(i64::MAX),
        },
        key_required: false,
        zstd_allowed: true,
    };
    let mut scratch = Scratch::default();
    counted(&mut || {
        for _ in 0..OPERATIONS {
            let batch = BatchView::parse(black_box(&bytes)).expect("a batch");
            let facts = validate(&batch, &options, &mut scratch).expect("a good batch");
            black_box(facts);
        }
    });
    OPERATIONS
}

/// A group of one batch each of sixteen partitions, from empty to sealed. The second group on has
/// its buffers.
fn commit(records: usize) -> u64 {
    const OPERATIONS: u64 = 20;
    let bytes = batch(records);
    let header = BatchHeader::parse(&bytes).expect("a batch");
    let mut group = Group::default();
    let buffers = |bytes: usize| BufMut::unbudgeted(bytes);
    let mut once = |sequence: u64| {
        for partition in 0..16 {
            let item = Item {
                kind: ItemKind::Data,
                key: PartitionKey {
                    topic: Uuid([7; 16]),
                    partition: PartitionId(partition),
                },
                generation: 1,
                epoch: LeaderEpoch(0),
                segment: Offset(0),
                position: sequence * bytes.len() as u64,
                base_offset: Offset(sequence as i64),
                last_offset: Offset(sequence as i64),
                durable_position: 0,
                len: bytes.len() as u32,
                crc: header.crc,
            };
            let (head, body) = bytes.split_at(BATCH_HEADER_BYTES);
            group.push(&buffers, &item, &[head, body]);
        }
        let address = Address {
            journal: Uuid([2; 16]),
            incarnation: 1,
            position: 0,
            sequence: sequence + 1,
            durable_through: sequence,
            previous_crc: 0,
        };
        black_box(group.seal(&buffers, address));
        group.reset();
    };
    once(0);
    counted(&mut || (1..=OPERATIONS).for_each(&mut once));
    OPERATIONS
}

fn find() -> u64 {
    const OPERATIONS: u64 = 1000;
    const BATCHES: i64 = 8000;
    let bytes = batch(4);
    let mut header = BatchHeader::parse(&bytes).expect("a batch");
    let mut index = SparseIndex::new(Offset(0), 0, Offset(0));
    for n in 0..BATCHES {
        header.base_offset = Offset(4 * n);
        index.note(&header, n as u64 * bytes.len() as u64, 4096, None);
    }
    counted(&mut || {
        let mut offset = 1;
        for _ in 0..OPERATIONS {
            // walks over all of it in no order
            offset = (offset + 7919) % (4 * BATCHES);
            black_box(index.floor(Offset(offset)));
        }
    });
    OPERATIONS
}
