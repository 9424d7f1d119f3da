//! Broken input for every decoder: none may panic, none may reserve what a length promises.
//!
//! `CORELANE_FUZZ=n` runs n times as long, `CORELANE_SEED=n` from another seed.

use std::env;

use allocation_counter::measure;

use crate::base::checksum::crc32c;
use crate::base::ids::ProducerId;
use crate::base::limits::INFLATE_WINDOW_BYTES;
use crate::base::time::Timestamp;
use crate::wire::api::ApiKey;
use crate::wire::batch::{
    BatchBuilder, BatchView, CRC_START, Scratch, TimestampRule, ValidateOptions, batches, records,
    validate,
};
use crate::wire::compress::{Codec, decompress};
use crate::wire::error::DecodeError;
use crate::wire::frame::{self, Split, request_header};
use crate::wire::message::Message;
use crate::wire::messages::*;
use crate::wire::random::{Gen, Random};
use crate::wire::read::Reader;
use crate::wire::write::Writer;

/// What an error may allocate: itself, and a path of many fields.
const ERROR_BYTES: u64 = 1024;

fn rounds(default: usize) -> usize {
    let times = env::var("CORELANE_FUZZ").ok().and_then(|n| n.parse().ok());
    default * times.unwrap_or(1)
}

fn seeded() -> Gen {
    let seed = env::var("CORELANE_SEED").ok().and_then(|n| n.parse().ok());
    Gen(seed.unwrap_or(42))
}

/// Breaks bytes in one to four places.
fn mutate(g: &mut Gen, bytes: &mut Vec<u8>) {
    const ODD: [&[u8]; 9] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x80],
        &[0xff, 0xff],
        &[0x7f, 0xff],
        &[0],
        &[0xc3],
    ];
    for _ in 0..=g.below(4) {
        let at = g.below(bytes.len() + 1);
        match g.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, g.next() as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << g.below(8),
            3 if at < bytes.len() => bytes[at] = g.next() as u8,
            4 => {
                let odd = ODD[g.below(ODD.len())];
                let end = bytes.len().min(at + odd.len());
                bytes[at..end].copy_from_slice(&odd[..end - at]);
            }
            _ => {
                let end = at + g.below(bytes.len() - at + 1);
                bytes.drain(at..end.min(at + 4));
            }
        }
    }
}

/// Decodes, and walks over what was decoded. Returns whether it was a message.
fn decode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<(), DecodeError> {
    let mut body = None;
    let made = measure(|| body = Some(M::decode(&mut Reader::new(bytes), version)));
    let body = body.expect("it ran");
    match &body {
        Ok(_) => assert_eq!(made.count_total, 0, "a message borrows"),
        Err(_) => assert!(made.bytes_max <= ERROR_BYTES, "{made:?}"),
    }
    let body = body?;
    let size = body.size(version);
    let mut again = vec![0; size];
    let mut w = Writer::slice(&mut again);
    body.encode(&mut w, version);
    assert!(!w.overflowed() && w.len() == size, "the size foretold");
    Ok(())
}

#[test]
fn broken_messages_are_errors_that_allocate_next_to_nothing() {
    let mut g = seeded();
    let (mut good, mut bad) = (0, 0);
    macro_rules! run {
        ($name:ident) => {
            for version in $name::VERSIONS.0..=$name::VERSIONS.1 {
                for _ in 0..rounds(250) {
                    let message = $name::random(&mut g, version);
                    let mut bytes = Vec::new();
                    message.encode(&mut Writer::vec(&mut bytes), version);
                    mutate(&mut g, &mut bytes);
                    match decode::<$name>(&bytes, version) {
                        Ok(()) => good += 1,
                        Err(error) => {
                            bad += 1;
                            assert!(error.offset() <= bytes.len(), "{error}");
                            let api = Some(($name::API, version));
                            assert_eq!(error.api(), api, "{error}");
                        }
                    }
                }
            }
        };
    }
    each_message!(run);
    assert!(good > 1000 && bad > 1000, "{good} decoded, {bad} did not");
}

/// What a broker does with the bytes of a connection.
fn serve(mut bytes: &[u8]) {
    loop {
        let made = measure(|| {
            let _ = frame::split(bytes, 1 << 20);
        });
        assert_eq!(made.count_total, 0);
        let Split::Frame(range) = frame::split(bytes, 1 << 20) else {
            return;
        };
        let end = range.end;
        let frame = &bytes[range];
        let Ok((header, body)) = request_header(frame) else {
            return;
        };
        let version = header.api_version;
        macro_rules! dispatch {
            ($($name:ident $request:ident,)*) => {
                match header.api_key {
                    $(ApiKey::$name => {
                        let _ = decode::<$request>(body.rest(), version);
                    })*
                    _ => return,
                }
            };
        }
        dispatch! {
            Produce ProduceRequest,
            Fetch FetchRequest,
            ListOffsets ListOffsetsRequest,
            Metadata MetadataRequest,
            ApiVersions ApiVersionsRequest,
            CreateTopics CreateTopicsRequest,
            DeleteTopics DeleteTopicsRequest,
            InitProducerId InitProducerIdRequest,
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
            DescribeCluster DescribeClusterRequest,
            DescribeConfigs DescribeConfigsRequest,
            DescribeTopicPartitions DescribeTopicPartitionsRequest,
        }
        bytes = &bytes[end..];
    }
}

#[test]
fn broken_streams_of_frames_end_without_panic() {
    let mut g = seeded();
    for _ in 0..rounds(10_000) {
        let mut stream = Vec::new();
        for _ in 0..=g.below(3) {
            let version = g.below(14) as i16;
            let w = &mut Writer::vec(&mut stream);
            match g.below(4) {
                0 => frame::request(
                    version.max(3),
                    1,
                    Some("c"),
                    &ProduceRequest::random(&mut g, version.max(3)),
                    w,
                ),
                1 => frame::request(
                    version.max(4),
                    2,
                    None,
                    &FetchRequest::random(&mut g, version.max(4)),
                    w,
                ),
                2 => frame::request(
                    version,
                    3,
                    Some(""),
                    &MetadataRequest::random(&mut g, version),
                    w,
                ),
                _ => frame::request(
                    version % 6,
                    4,
                    Some("c"),
                    &ApiVersionsRequest::random(&mut g, version % 6),
                    w,
                ),
            }
        }
        serve(&stream);
        mutate(&mut g, &mut stream);
        serve(&stream);
        let noise: Vec<u8> = (0..g.below(64)).map(|_| g.next() as u8).collect();
        serve(&noise);
    }
}

fn options() -> ValidateOptions {
    ValidateOptions {
        max_message_bytes: 1 << 20,
        max_inflated_bytes: 1 << 20,
        timestamps: TimestampRule::Create {
            earliest: Timestamp(0),
            latest: Timestamp(i64::MAX),
        },
        key_required: false,
        zstd_allowed: true,
    }
}

fn random_batch(g: &mut Gen) -> Vec<u8> {
    let codec = Codec::ALL[g.below(5)];
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(1), 0, 0);
    for i in 0..1 + g.below(4) {
        let value = vec![b'v'; g.below(200)];
        let headers = [("key", Some(value.as_slice())), ("other", None)];
        let key = g.once_in(2).then_some(b"key".as_slice());
        let headers = &headers[..g.below(3)];
        builder.append(Timestamp(1000 + i as i64), key, Some(&value), headers);
    }
    builder.build().expect("codecs work in memory")
}

/// Makes the checksum right again, so that what lies behind that check is reached.
fn seal(bytes: &mut [u8]) {
    if bytes.len() > CRC_START {
        let crc = crc32c(&bytes[CRC_START..]);
        bytes[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    }
}

#[test]
fn broken_batches_are_errors_that_allocate_within_bounds() {
    let mut g = seeded();
    let mut scratch = Scratch::default();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..rounds(20_000) {
        let mut bytes = random_batch(&mut g);
        mutate(&mut g, &mut bytes);
        if g.once_in(2) && bytes.len() > 12 {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        seal(&mut bytes);
        for batch in batches(&bytes) {
            let Ok(batch) = batch else {
                bad += 1;
                break;
            };
            let mut verdict = None;
            let made = measure(|| verdict = Some(validate(&batch, &options(), &mut scratch)));
            match verdict.expect("it ran") {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
            // codecs keep windows of their own: LZ4's are the largest, three blocks of 4 MiB
            let bound = match batch.codec() {
                Some(Codec::None) | None => 4 * ERROR_BYTES,
                _ => (INFLATE_WINDOW_BYTES + (17 << 20) + 40 * bytes.len()) as u64,
            };
            assert!(made.bytes_max <= bound, "{made:?} of {:?}", batch.codec());
            walk(&batch);
        }
    }
    assert!(good > 500 && bad > 500, "{good} accepted, {bad} refused");
}

/// What a consumer does with a batch.
fn walk(batch: &BatchView<'_>) {
    let plain = match batch.codec() {
        Some(codec) => decompress(codec, batch.body(), 1 << 20),
        None => return,
    };
    let Ok(plain) = plain else {
        return;
    };
    let made = measure(|| {
        for record in records(&plain, batch.records_count()) {
            let Ok(record) = record else {
                return;
            };
            let headers = record.headers();
            assert_eq!(headers.len(), headers.count(), "headers were checked");
        }
    });
    assert!(made.bytes_max <= ERROR_BYTES, "{made:?}");
}

#[test]
fn good_batches_are_checked_without_allocation() {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..1000 {
        builder.append(Timestamp(i), Some(b"key"), Some(&[1; 100]), &[("h", None)]);
    }
    let bytes = builder.build().expect("codecs work in memory");
    let batch = BatchView::parse(&bytes).expect("a batch");
    let mut scratch = Scratch::default();
    let made = measure(|| {
        validate(&batch, &options(), &mut scratch).expect("a good batch");
    });
    assert_eq!(made.count_total, 0, "{made:?}");
}
