//! Record batches that Kafka's own client and librdkafka made (`fixtures/batches`, with the
//! programs that made them) are read, accepted, and built alike.

use std::fs;
use std::path::Path;

use corelane::base::ids::ProducerId;
use corelane::base::time::Timestamp;
use corelane::wire::batch::{
    BatchBuilder, BatchFacts, BatchView, Scratch, TimestampRule, ValidateOptions, batches, records,
    validate,
};
use corelane::wire::compress::{Codec, decompress};

#[derive(Debug, PartialEq)]
struct Record {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn fixture(maker: &str, codec: Codec) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/batches");
    fs::read(folder.join(format!("{maker}-{codec}.batch"))).expect("a fixture")
}

fn read(batch: &BatchView<'_>) -> Vec<Record> {
    let codec = batch.codec().expect("a codec");
    let plain = decompress(codec, batch.body(), 1 << 20).expect("compressed bytes");
    let own = |bytes: &[u8]| bytes.to_vec();
    records(&plain, batch.records_count())
        .map(|record| {
            let record = record.expect("a record");
            Record {
                timestamp: batch.base_timestamp().0 + record.timestamp_delta,
                key: record.key.map(own),
                value: record.value.map(own),
                headers: record
                    .headers()
                    .map(|h| (String::from_utf8(h.key.to_vec()).unwrap(), h.value.map(own)))
                    .collect(),
            }
        })
        .collect()
}

fn one<'a>(bytes: &'a [u8], codec: Codec) -> BatchView<'a> {
    let all: Vec<_> = batches(bytes).map(|b| b.expect("a batch")).collect();
    assert_eq!(all.len(), 1);
    let batch = all[0];
    assert_eq!(batch.codec(), Some(codec));
    assert_eq!(batch.total_len(), bytes.len());
    assert!(batch.verify_crc());
    batch
}

fn accept(batch: &BatchView<'_>) -> BatchFacts {
    let options = ValidateOptions {
        max_message_bytes: 1 << 20,
        max_inflated_bytes: 1 << 20,
        timestamps: TimestampRule::Create {
            earliest: Timestamp(1),
            latest: Timestamp(i64::MAX),
        },
        key_required: false,
        zstd_allowed: true,
    };
    validate(batch, &options, &mut Scratch::default()).expect("a good batch")
}

/// What `Make.java` writes.
fn of_java() -> Vec<Record> {
    let record = |i: i64| Record {
        timestamp: 1_700_000_000_000 + 10 * i - if i % 11 == 0 { 1000 } else { 0 },
        key: (i % 5 != 0).then(|| format!("key-{i}").into()),
        value: (i % 7 != 0).then(|| format!("value-{i}-{}", "x".repeat(3 * i as usize)).into()),
        headers: (0..i % 3)
            .map(|j| (format!("h{j}"), (j != 1).then(|| vec![j as u8, i as u8])))
            .collect(),
    };
    (0..60).map(record).collect()
}

#[test]
fn batches_of_the_java_client_are_accepted_and_read() {
    for codec in Codec::ALL {
        let bytes = fixture("java", codec);
        let batch = one(&bytes, codec);
        assert_eq!(read(&batch), of_java(), "{codec}");
        assert_eq!(batch.producer_id(), ProducerId(4242));
        assert_eq!(batch.producer_epoch(), 3);
        assert_eq!((batch.base_sequence(), batch.last_sequence()), (17, 76));
        let facts = accept(&batch);
        assert_eq!(facts.count, 60);
        assert_eq!(facts.max_timestamp, Timestamp(1_700_000_000_590));
        assert_eq!(facts.max_timestamp_delta, 59);
        assert!(facts.header_agrees);
    }
}

#[test]
fn a_batch_is_built_as_the_java_client_builds_it() {
    let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(4242), 3, 17);
    for record in of_java() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        builder.append(
            Timestamp(record.timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    let ours = builder.build().expect("no codec is used");
    assert_eq!(ours, fixture("java", Codec::None));
}

#[test]
fn batches_of_librdkafka_are_accepted_and_read() {
    for codec in Codec::ALL {
        let bytes = fixture("librdkafka", codec);
        let batch = one(&bytes, codec);
        let facts = accept(&batch);
        assert!(facts.header_agrees, "{codec}");
        let read = read(&batch);
        assert_eq!(read.len(), 58, "kcat held the last lines back");
        for (i, record) in read.into_iter().enumerate() {
            let value = format!("value-{i}-{}", "x".repeat(3 * i));
            let expected = Record {
                timestamp: record.timestamp,
                key: Some(format!("key-{i}").into()),
                value: (i % 7 != 0).then(|| value.into()),
                headers: vec![
                    ("h0".into(), Some(b"v0".to_vec())),
                    ("h1".into(), Some(Vec::new())),
                ],
            };
            assert_eq!(record, expected, "{codec} {i}");
        }
    }
}
