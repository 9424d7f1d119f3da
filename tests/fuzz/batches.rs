//! Record batches as producers send them, and the compressed bytes in them.

use std::fs;
use std::path::Path;

use allocation_counter::measure;
use corelane::base::checksum::crc32c;
use corelane::base::ids::{LeaderEpoch, Offset, ProducerId};
use corelane::base::limits::INFLATE_WINDOW_BYTES;
use corelane::base::time::Timestamp;
use corelane::log::segment::BatchHeader;
use corelane::wire::batch::{
    BatchBuilder, BatchView, CRC_START, Scratch, TimestampRule, ValidateOptions, batches, records,
    stamp, validate,
};
use corelane::wire::compress::{Codec, compress, decompress};

use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[
    Target {
        name: "record_batches",
        seeds: made,
        mutate,
        repair: Some(|bytes| repair(bytes)),
        run: accept,
        max_bytes: 64 << 10,
        memory: |n| CODEC_BYTES + INFLATED as u64 * 2 + 40 * n as u64,
    },
    Target {
        name: "compressed_bytes",
        seeds: packed,
        mutate,
        repair: None,
        run: inflate,
        max_bytes: 64 << 10,
        memory: |n| CODEC_BYTES + INFLATED as u64 * 2 + 40 * n as u64,
    },
];

/// Codecs keep windows of their own: LZ4's are the largest, three blocks of 4 MiB.
const CODEC_BYTES: u64 = INFLATE_WINDOW_BYTES as u64 + (17 << 20);
/// What an error may allocate, and a few records that are named.
const ERROR_BYTES: u64 = 4096;
/// What a batch may inflate to here; a bomb holds more.
const INFLATED: usize = 1 << 20;

fn options() -> ValidateOptions {
    ValidateOptions {
        max_message_bytes: 1 << 20,
        max_inflated_bytes: INFLATED as u64,
        timestamps: TimestampRule::Create {
            earliest: Timestamp(0),
            latest: Timestamp(i64::MAX),
        },
        key_required: false,
        zstd_allowed: true,
    }
}

/// Batches of ours in every codec, bombs among them, and those that Kafka's clients made.
pub fn made(g: &mut Gen) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for codec in Codec::ALL {
        for n in 1..5 {
            all.push(batch(g, codec, n));
        }
        let mut bomb = BatchBuilder::new(codec);
        let bytes = if codec == Codec::None { 9000 } else { 4 << 20 };
        bomb.append(Timestamp(1000), None, Some(&vec![0; bytes]), &[]);
        all.push(bomb.build().expect("codecs work in memory"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/batches");
    for entry in fs::read_dir(folder).expect("the fixtures are there") {
        let path = entry.expect("the fixtures are there").path();
        if path.extension().is_some_and(|e| e == "batch") {
            all.push(fs::read(path).expect("a fixture"));
        }
    }
    all
}

/// A batch of `n` records with keys, values and headers, from an idempotent producer.
pub fn batch(g: &mut Gen, codec: Codec, n: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(1), 0, 0);
    for i in 0..n {
        let value = vec![b'v'; g.below(200)];
        let headers = [("key", Some(value.as_slice())), ("other", None)];
        let key = g.once_in(2).then_some(b"key".as_slice());
        let headers = &headers[..g.below(3)];
        builder.append(Timestamp(1000 + i as i64), key, Some(&value), headers);
    }
    builder.build().expect("codecs work in memory")
}

/// Makes length and checksum of the last batch right.
pub fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        if at + batch.total_len() >= bytes.len() {
            break;
        }
        at += batch.total_len();
    }
    let last = &mut bytes[at..];
    if last.len() > CRC_START {
        let length = (last.len() - 12) as i32;
        last[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c(&last[CRC_START..]);
        last[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    }
}

/// What a broker does with the records of a Produce, and a consumer with what it then gets.
fn accept(bytes: &[u8]) -> u64 {
    let mut scratch = Scratch::default();
    let mut found = 0u64;
    for batch in batches(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return found ^ shape(&error),
        };
        let mut verdict = None;
        let made = measure(|| verdict = Some(validate(&batch, &options(), &mut scratch)));
        let verdict = verdict.expect("it ran");
        let most = match batch.codec() {
            Some(Codec::None) | None => ERROR_BYTES,
            _ => CODEC_BYTES + 40 * bytes.len() as u64,
        };
        assert!(made.bytes_max <= most, "{made:?} of {:?}", batch.codec());
        found = found.rotate_left(5) ^ shape(&verdict.as_ref().map(|_| ()));
        let header = BatchHeader::parse(batch.bytes());
        if verdict.is_ok() {
            // what is accepted is stamped, and then is the log's own
            let header = header.expect("the log can read the header of what was accepted");
            assert_eq!(header.len as usize, batch.total_len());
            let mut own = batch.bytes().to_vec();
            stamp(&mut own, Offset(1 << 40), LeaderEpoch(7));
            let again = BatchView::parse(&own).expect("a stamped batch is one");
            assert!(again.verify_crc(), "a stamp leaves the checksum alone");
            assert_eq!(again.next_offset(), again.last_offset().plus(1));
        }
        found ^= walk(&batch, verdict.is_ok());
    }
    found
}

/// What a consumer does with a batch. `accepted`: the broker took it, so nothing may be wrong.
fn walk(batch: &BatchView<'_>, accepted: bool) -> u64 {
    let Some(codec) = batch.codec() else {
        return 1;
    };
    let plain = match decompress(codec, batch.body(), INFLATED) {
        Ok(plain) => plain,
        Err(error) => {
            assert!(!accepted, "accepted, but: {error}");
            return shape(&error);
        }
    };
    let mut count = 0;
    let mut found = 0;
    let made = measure(|| {
        for record in records(&plain, batch.records_count()) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    assert!(!accepted, "accepted, but: {error}");
                    found = shape(&error);
                    return;
                }
            };
            let headers = record.headers();
            assert_eq!(headers.len(), headers.count(), "headers were checked");
            count += 1;
        }
    });
    assert!(made.bytes_max <= ERROR_BYTES, "{made:?}");
    if accepted {
        assert_eq!(
            count,
            batch.records_count(),
            "every record of an accepted batch"
        );
    }
    found ^ magnitude(count as usize)
}

/// A codec's number, then what it made.
fn packed(g: &mut Gen) -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..3000).map(|i: usize| (i * i / 7 % 251) as u8).collect();
    let noise = g.bytes(500);
    let plain = [Vec::new(), b"a".repeat(100), text, noise, vec![0; 8 << 20]];
    let mut all = Vec::new();
    for (i, codec) in Codec::ALL.into_iter().enumerate() {
        for plain in &plain {
            let plain = if codec == Codec::None {
                &plain[..plain.len().min(500)]
            } else {
                plain
            };
            let packed = compress(codec, plain).expect("codecs work in memory");
            all.push([&[i as u8][..], &packed].concat());
        }
    }
    all
}

fn inflate(input: &[u8]) -> u64 {
    let Some((codec, bytes)) = input.split_first() else {
        return 0;
    };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    match decompress(codec, bytes, INFLATED) {
        Ok(plain) => {
            assert!(plain.len() <= INFLATED);
            magnitude(plain.len()) << 8 | codec as u64
        }
        Err(error) => shape(&error) ^ codec as u64,
    }
}
