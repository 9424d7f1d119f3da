//! The small files of a log directory, one by one: indexes, snapshots, checkpoints, properties.
//! Where a file reads, what is written from it reads as the same.

use std::fmt::Debug;

use corelane::base::checksum::crc32c;
use corelane::base::ids::{LeaderEpoch, NodeId, Offset, PartitionId, ProducerId, Uuid};
use corelane::base::limits::INFLATED_BATCH_BYTES;
use corelane::log::dump::{DumpOptions, dump};
use corelane::log::epochs::LeaderEpochs;
use corelane::log::format::epoch_checkpoint::{self, EpochStart};
use corelane::log::format::{
    clean_shutdown, meta_properties, offset_checkpoint, offset_index, partition_metadata,
    producer_snapshot, time_index, txn_index,
};
use corelane::log::journal::properties::{self, DirectoryProperties};
use corelane::log::producers::ProducerStates;
use corelane::log::segment::SparseIndex;

use corelane::wire::batch::{BatchView, stamp};
use corelane::wire::compress::decompress;

use crate::batches;
use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

const fn target(
    name: &'static str,
    seeds: fn(&mut Gen) -> Vec<Vec<u8>>,
    repair: Option<fn(&mut Vec<u8>)>,
    run: fn(&[u8]) -> u64,
) -> Target {
    Target {
        name,
        seeds,
        mutate,
        repair,
        run,
        max_bytes: 32 << 10,
        // entries, and the same once more for what is made of them
        memory: |n| 4096 + 64 * n as u64,
    }
}

pub const TARGETS: &[Target] = &[
    target("offset_index", offset_indexes, None, offset_index),
    target("time_index", time_indexes, None, time_index),
    target("txn_index", txn_indexes, None, txn_index),
    target(
        "producer_snapshot",
        snapshots,
        Some(reseal_snapshot),
        snapshot,
    ),
    target("epoch_checkpoint", epoch_files, None, epochs),
    target("offset_checkpoint", offset_files, None, offsets),
    target("partition_metadata", partition_files, None, partition),
    target("meta_properties", meta_files, None, meta),
    target("corelane_properties", lists, Some(reseal_list), list),
    Target {
        // a batch of a segment is inflated whole
        memory: |n| 2 * INFLATED_BATCH_BYTES + (24 << 20) + 200 * n as u64,
        ..target(
            "dump_of_a_segment",
            segments,
            Some(|bytes| batches::repair(bytes)),
            dump_segment,
        )
    },
];

/// Longest `.log` that an index belongs to here.
const LOG_BYTES: u64 = 1 << 30;

/// What was read, and whether writing and reading it again gives the same.
fn same<T: PartialEq + Debug, E: Debug>(
    read: Result<T, E>,
    size: impl Fn(&T) -> usize,
    again: impl Fn(&T) -> Result<T, E>,
) -> u64 {
    match read {
        Ok(value) => {
            let written = again(&value).expect("what was written can be read");
            assert_eq!(value, written);
            magnitude(size(&value))
        }
        Err(error) => shape(&error),
    }
}

fn offset_indexes(g: &mut Gen) -> Vec<Vec<u8>> {
    [0, 1, 20, 300].map(|n| rising_index(g, n)).to_vec()
}

fn rising_index(g: &mut Gen, n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let entries: Vec<_> = (1..=n)
        .map(|i| offset_index::Entry {
            relative_offset: i * 10 + g.below(10) as u32,
            position: i * 4096 + g.below(100) as u32,
        })
        .collect();
    offset_index::encode(&entries, &mut out);
    out
}

fn offset_index(bytes: &[u8]) -> u64 {
    if let Ok(mut index) = SparseIndex::from_files(Offset(5), bytes, &[], LOG_BYTES) {
        use_index(&mut index);
    }
    same(
        offset_index::decode(bytes, LOG_BYTES),
        Vec::len,
        |entries| {
            let mut out = Vec::new();
            offset_index::encode(entries, &mut out);
            offset_index::decode(&out, LOG_BYTES)
        },
    )
}

/// What a segment asks its index.
fn use_index(index: &mut SparseIndex) {
    for offset in [0, 5, 6, 100, i64::MAX].map(Offset) {
        assert!(index.floor(offset) < LOG_BYTES, "a place in the file");
        index.knows(offset);
        index.entry_after(offset);
        index.boundary(0, u64::MAX);
        index.floor_time(offset.0);
    }
    index.last_entry(4096);
    index.last_time();
    index.truncate(Offset(50), 1 << 16);
    assert!(index.floor(Offset(i64::MAX)) < 1 << 16, "the file was cut");
}

fn time_indexes(g: &mut Gen) -> Vec<Vec<u8>> {
    let file = |g: &mut Gen, n: i64| {
        let entries: Vec<_> = (1..=n)
            .map(|i| time_index::Entry {
                timestamp: i * 1000 + g.below(999) as i64,
                relative_offset: i as u32,
            })
            .collect();
        let mut out = Vec::new();
        time_index::encode(&entries, &mut out);
        out
    };
    [0, 1, 20, 300].map(|n| file(g, n)).to_vec()
}

fn time_index(bytes: &[u8]) -> u64 {
    if let Ok(mut index) = SparseIndex::from_files(Offset(5), &[], bytes, LOG_BYTES) {
        use_index(&mut index);
    }
    same(time_index::decode(bytes), Vec::len, |entries| {
        let mut out = Vec::new();
        time_index::encode(entries, &mut out);
        time_index::decode(&out)
    })
}

fn txn_indexes(g: &mut Gen) -> Vec<Vec<u8>> {
    let file = |g: &mut Gen, n: i64| {
        let entries: Vec<_> = (1..=n)
            .map(|i| txn_index::AbortedTxn {
                producer_id: ProducerId(g.below(9) as i64),
                first_offset: Offset(i * 10),
                last_offset: Offset(i * 10 + 5),
                last_stable_offset: Offset(i * 10),
            })
            .collect();
        let mut out = Vec::new();
        txn_index::encode(&entries, &mut out);
        out
    };
    [0, 1, 20].map(|n| file(g, n)).to_vec()
}

fn txn_index(bytes: &[u8]) -> u64 {
    same(txn_index::decode(bytes), Vec::len, |entries| {
        let mut out = Vec::new();
        txn_index::encode(entries, &mut out);
        txn_index::decode(&out)
    })
}

fn snapshots(g: &mut Gen) -> Vec<Vec<u8>> {
    let file = |g: &mut Gen, n: i64| {
        let entries: Vec<_> = (0..n)
            .map(|i| producer_snapshot::Entry {
                producer_id: i * 3,
                epoch: g.below(5) as i16,
                last_sequence: g.below(1000) as i32,
                last_offset: i * 100,
                offset_delta: g.below(50) as i32,
                timestamp: 1_700_000_000_000 + i,
                coordinator_epoch: -1,
                current_txn_first_offset: g.once_in(2).then_some(i * 100),
            })
            .collect();
        producer_snapshot::encode(&entries)
    };
    [0, 1, 50].map(|n| file(g, n)).to_vec()
}

fn reseal_snapshot(bytes: &mut Vec<u8>) {
    if bytes.len() > 10 {
        // the count fits the file, mostly the only way past it
        let count = ((bytes.len() - 10) / producer_snapshot::ENTRY_BYTES) as u32;
        bytes.truncate(10 + count as usize * producer_snapshot::ENTRY_BYTES);
        bytes[..2].copy_from_slice(&[0, 1]);
        bytes[6..10].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
}

fn snapshot(bytes: &[u8]) -> u64 {
    let read = producer_snapshot::decode(bytes);
    if let Ok(entries) = &read {
        let mut states = ProducerStates::from_snapshot(entries);
        states.first_open_txn();
        states.to_snapshot();
        for (_, producer) in states.iter() {
            for batch in &producer.batches {
                let _ = (batch.first_offset(), batch.first_sequence());
            }
        }
        states.truncate_end(Offset(500));
    }
    same(read, Vec::len, |entries| {
        producer_snapshot::decode(&producer_snapshot::encode(entries))
    })
}

fn epoch_files(_: &mut Gen) -> Vec<Vec<u8>> {
    let file = |n: i32| {
        let starts: Vec<_> = (0..n)
            .map(|i| EpochStart {
                epoch: LeaderEpoch(i * 2),
                start: Offset(i64::from(i) * 1000),
            })
            .collect();
        epoch_checkpoint::encode(&starts)
    };
    [0, 1, 30].map(file).to_vec()
}

fn epochs(bytes: &[u8]) -> u64 {
    let read = epoch_checkpoint::decode(bytes);
    if let Ok(starts) = &read {
        let mut epochs = LeaderEpochs::from_starts(starts.clone());
        for n in [0, 1, 7, i32::MAX] {
            epochs.end_of(LeaderEpoch(n), Offset(i64::MAX));
            epochs.at(Offset(n.into()));
        }
        epochs.truncate_end(Offset(2500));
        epochs.truncate_start(Offset(500));
        epochs.assign(LeaderEpoch(i32::MAX), Offset(3000));
    }
    same(read, Vec::len, |starts| {
        epoch_checkpoint::decode(&epoch_checkpoint::encode(starts))
    })
}

fn offset_files(g: &mut Gen) -> Vec<Vec<u8>> {
    let file = |g: &mut Gen, n: i32| {
        let entries: Vec<_> = (0..n)
            .map(|i| offset_checkpoint::Entry {
                topic: ["orders", "a.b-c_d", "x"][g.below(3)].to_owned(),
                partition: PartitionId(i),
                offset: Offset(g.below(1 << 40) as i64),
            })
            .collect();
        offset_checkpoint::encode(&entries)
    };
    [0, 1, 30].map(|n| file(g, n)).to_vec()
}

fn offsets(bytes: &[u8]) -> u64 {
    same(offset_checkpoint::decode(bytes), Vec::len, |entries| {
        offset_checkpoint::decode(&offset_checkpoint::encode(entries))
    })
}

fn partition_files(g: &mut Gen) -> Vec<Vec<u8>> {
    vec![
        partition_metadata::encode(Uuid::from_random(g.next(), g.next())),
        b"version: 0\ntopic_id: TiWAFcDuQkGRsS_3YF2R7w".to_vec(),
    ]
}

fn partition(bytes: &[u8]) -> u64 {
    same(
        partition_metadata::decode(bytes),
        |_| 1,
        |id| partition_metadata::decode(&partition_metadata::encode(*id)),
    )
}

fn meta_files(g: &mut Gen) -> Vec<Vec<u8>> {
    vec![
        meta_properties::encode(&meta_properties::MetaProperties {
            cluster_id: "5L6g3nShT-eMCtK--X86sw".to_owned(),
            node_id: NodeId(3),
            directory_id: Uuid::from_random(g.next(), g.next()),
        }),
        b"#\n#Sat Nov 01 10:00:00 UTC 2025\ncluster.id=x y\n! more\n\
          directory.id : TiWAFcDuQkGRsS_3YF2R7w\nnode.id=3\nversion=1\n"
            .to_vec(),
        clean_shutdown::encode(7),
    ]
}

fn meta(bytes: &[u8]) -> u64 {
    same(
        meta_properties::decode(bytes),
        |_| 1,
        |meta| meta_properties::decode(&meta_properties::encode(meta)),
    )
}

fn lists(g: &mut Gen) -> Vec<Vec<u8>> {
    [0, 1, 8]
        .map(|n| {
            DirectoryProperties {
                directory: Uuid::from_random(g.next(), g.next()),
                journals: (0..n)
                    .map(|_| Uuid::from_random(g.next(), g.next()))
                    .collect(),
            }
            .encode()
        })
        .to_vec()
}

fn reseal_list(bytes: &mut Vec<u8>) {
    if let Some(at) = bytes.windows(4).rposition(|word| word == b"crc=") {
        bytes.truncate(at);
    }
    let crc = crc32c(bytes);
    bytes.extend_from_slice(format!("crc={crc:08x}\n").as_bytes());
}

fn list(bytes: &[u8]) -> u64 {
    same(
        DirectoryProperties::decode(bytes),
        |list| {
            for journal in &list.journals {
                properties::ring_file(*journal);
            }
            list.journals.len()
        },
        |list| DirectoryProperties::decode(&list.encode()),
    )
}

/// Some batches in a row, as a `.log` holds them.
fn segments(g: &mut Gen) -> Vec<Vec<u8>> {
    let mut all = batches::made(g);
    all.retain(|batch| batch.len() < 16 << 10);
    // a bomb takes its time each time
    all.retain(|batch| {
        let batch = BatchView::parse(batch).expect("a batch");
        decompress(batch.codec().expect("a codec"), batch.body(), 1 << 20).is_ok()
    });
    let mut log = Vec::new();
    let mut next = Offset(0);
    for batch in &all[..8] {
        let mut batch = batch.clone();
        stamp(&mut batch, next, LeaderEpoch(1));
        next = BatchView::parse(&batch).expect("a batch").next_offset();
        log.extend_from_slice(&batch);
    }
    all.push(log);
    all
}

fn dump_segment(bytes: &[u8]) -> u64 {
    let mut lines = 0;
    let options = DumpOptions { records: true };
    let name = "00000000000000000000.log";
    let outcome = dump(name, bytes, bytes.len() as u64, options, &mut |line| {
        lines += usize::from(!line.to_string().is_empty());
        Ok(())
    });
    shape(&outcome) ^ magnitude(lines)
}
