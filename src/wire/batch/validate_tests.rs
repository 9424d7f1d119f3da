use super::*;
use crate::base::checksum::crc32c;
use crate::base::ids::ProducerId;
use crate::wire::batch::{BATCH_HEADER_BYTES, BatchBuilder, CRC_START, attributes};
use crate::wire::compress::compress;

const NOW: i64 = 1_700_000_000_000;

fn options() -> ValidateOptions {
    ValidateOptions {
        max_message_bytes: 1 << 20,
        max_inflated_bytes: 8 << 20,
        timestamps: TimestampRule::Create {
            earliest: Timestamp(0),
            latest: Timestamp(NOW + 3_600_000),
        },
        key_required: false,
        zstd_allowed: true,
    }
}

fn builder(codec: Codec) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    let headers = [("h", Some(b"v".as_slice())), ("h", None), ("", Some(b""))];
    builder.append(Timestamp(NOW), Some(b"k0"), Some(&[7; 300]), &headers);
    builder.append(Timestamp(NOW + 9), Some(b"k1"), None, &[]);
    builder.append(Timestamp(NOW - 5), Some(b""), Some(b"v2"), &[]);
    builder
}

fn check(bytes: &[u8], options: &ValidateOptions) -> Result<BatchFacts, InvalidBatch> {
    let batch = BatchView::parse(bytes).unwrap();
    validate(&batch, options, &mut Scratch::default())
}

fn refused(bytes: &[u8], options: &ValidateOptions) -> (ErrorCode, String) {
    let error = check(bytes, options).unwrap_err();
    (error.error_code(), error.to_string())
}

/// Changes header or records, and makes the checksum right again.
fn forged(codec: Codec, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = builder(codec).build().unwrap();
    change(&mut bytes);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Puts other records into a batch, under its codec.
fn with_body(codec: Codec, records: &[u8]) -> Vec<u8> {
    forged(codec, |bytes| {
        bytes.truncate(BATCH_HEADER_BYTES);
        bytes.extend(compress(codec, records).unwrap());
    })
}

fn plain_records() -> Vec<u8> {
    builder(Codec::None).build().unwrap()[BATCH_HEADER_BYTES..].to_vec()
}

#[test]
fn a_good_batch_is_accepted_under_every_codec() {
    for codec in Codec::ALL {
        let bytes = builder(codec).build().unwrap();
        let facts = check(&bytes, &options()).unwrap();
        let expected = BatchFacts {
            count: 3,
            max_timestamp: Timestamp(NOW + 9),
            max_timestamp_delta: 1,
            header_agrees: true,
        };
        assert_eq!(facts, expected, "{codec}");
    }
}

#[test]
fn a_header_that_lies_about_the_largest_timestamp_is_found_out() {
    let bytes = forged(Codec::Lz4, |b| {
        b[35..43].copy_from_slice(&7i64.to_be_bytes());
    });
    let facts = check(&bytes, &options()).unwrap();
    assert!(!facts.header_agrees);
    assert_eq!(facts.max_timestamp, Timestamp(NOW + 9));
}

#[test]
fn each_rule_about_the_header_has_its_error() {
    use ErrorCode::*;
    let set = |at: usize, to: &[u8]| {
        let to = to.to_vec();
        forged(Codec::None, move |b| {
            b[at..at + to.len()].copy_from_slice(&to);
        })
    };
    let cases = [
        (
            set(0, &[0, 0, 0, 0, 0, 0, 0, 1]),
            InvalidRecord,
            "base offset",
        ),
        (set(57, &[0, 0, 0, 0]), InvalidRecord, "no count"),
        (
            set(57, &[0, 0, 0, 2]),
            InvalidRecord,
            "do not end at offset 2",
        ),
        (set(57, &[0xff; 4]), InvalidRecord, "no count"),
        (
            set(23, &[0, 0, 0, 9]),
            InvalidRecord,
            "do not end at offset 9",
        ),
        (
            set(21, &(attributes::CONTROL).to_be_bytes()),
            InvalidRecord,
            "control",
        ),
        (
            set(21, &(attributes::LOG_APPEND_TIME).to_be_bytes()),
            InvalidTimestamp,
            "broker's",
        ),
        (set(21, &[0, 5]), InvalidRecord, "5 is no codec"),
        (set(43, &[0; 8]), InvalidRecord, "-1 is no sequence"),
    ];
    for (bytes, code, text) in cases {
        let (found, message) = refused(&bytes, &options());
        assert_eq!(found, code, "{message}");
        assert!(message.contains(text), "{message}");
    }

    let mut flipped = builder(Codec::None).build().unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&flipped, &options()).0, CorruptMessage);

    let small = ValidateOptions {
        max_message_bytes: 100,
        ..options()
    };
    let good = builder(Codec::None).build().unwrap();
    assert_eq!(refused(&good, &small).0, MessageTooLarge);

    let old = ValidateOptions {
        zstd_allowed: false,
        ..options()
    };
    let zstd = builder(Codec::Zstd).build().unwrap();
    assert_eq!(refused(&zstd, &old).0, UnsupportedCompressionType);
    assert!(check(&builder(Codec::Lz4).build().unwrap(), &old).is_ok());
}

#[test]
fn each_rule_about_records_has_its_error_also_under_a_codec() {
    use ErrorCode::*;
    for codec in Codec::ALL {
        let records = plain_records();
        let trailing = with_body(codec, &[records.clone(), vec![0]].concat());
        assert_eq!(refused(&trailing, &options()).0, InvalidRecord, "{codec}");
        let cut = with_body(codec, &records[..records.len() - 1]);
        assert_eq!(refused(&cut, &options()).0, InvalidRecord, "{codec}");

        // the first record's length is two bytes, then come attributes, time, offset
        let mut gap = records.clone();
        assert_eq!(gap[4], 0);
        gap[4] = 2;
        let error = check(&with_body(codec, &gap), &options()).unwrap_err();
        assert_eq!(error.error_code(), InvalidRecord, "{codec}");
        let problem = RecordProblem::OffsetDelta {
            found: 1,
            expected: 0,
        };
        assert_eq!(error.records, [super::InvalidRecord { index: 0, problem }]);

        let mut longer = records.clone();
        longer[0] += 2;
        assert_eq!(
            refused(&with_body(codec, &longer), &options()).0,
            InvalidRecord
        );
    }
}

#[test]
fn a_compacted_topic_names_the_records_without_key() {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(Timestamp(NOW), Some(b""), None, &[]);
    builder.append(Timestamp(NOW), None, Some(b"v"), &[]);
    let bytes = builder.build().unwrap();
    assert!(check(&bytes, &options()).is_ok());
    let compacted = ValidateOptions {
        key_required: true,
        ..options()
    };
    let error = check(&bytes, &compacted).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
    let problem = RecordProblem::NoKey;
    assert_eq!(error.records, [super::InvalidRecord { index: 1, problem }]);
}

#[test]
fn timestamps_out_of_bounds_are_refused_unless_the_append_sets_them() {
    let mut builder = BatchBuilder::new(Codec::Gzip);
    builder.append(Timestamp::NONE, None, None, &[]);
    let none = builder.build().unwrap();
    assert!(
        check(&none, &options()).is_ok(),
        "no timestamp is no wrong one"
    );
    builder.append(Timestamp(NOW + 3_600_001), None, None, &[]);
    let late = builder.build().unwrap();
    let error = check(&late, &options()).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidTimestamp);
    assert_eq!(error.records.len(), 1);
    let append = ValidateOptions {
        timestamps: TimestampRule::LogAppend,
        ..options()
    };
    assert!(check(&late, &append).is_ok());
}

#[test]
fn many_bad_records_make_a_short_list() {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..1000 {
        builder.append(Timestamp(-2), None, None, &[]);
    }
    let error = check(&builder.build().unwrap(), &options()).unwrap_err();
    assert_eq!(error.records.len(), RECORD_ERRORS);
    assert_eq!(error.to_string(), "1000 records are refused");
}

#[test]
fn what_inflates_beyond_the_bound_is_refused_as_too_large() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.append(Timestamp(NOW), None, Some(&vec![0; 9 << 20]), &[]);
        let bytes = builder.build().unwrap();
        assert_eq!(
            refused(&bytes, &options()).0,
            ErrorCode::MessageTooLarge,
            "{codec}"
        );
    }
}

#[test]
fn bytes_that_no_codec_wrote_are_corrupt() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = forged(codec, |bytes| {
            bytes.truncate(BATCH_HEADER_BYTES);
            bytes.extend([
                0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ]);
        });
        let code = refused(&bytes, &options()).0;
        assert_eq!(code, ErrorCode::CorruptMessage, "{codec}");
    }
}

#[test]
fn a_producer_with_a_sequence_is_accepted() {
    let bytes = builder(Codec::None)
        .producer(ProducerId(4), 0, i32::MAX)
        .build()
        .unwrap();
    assert!(check(&bytes, &options()).is_ok());
    let view = BatchView::parse(&bytes).unwrap();
    assert_eq!(view.last_sequence(), 1, "numbers go on at 0");
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
    let made = allocation_counter::measure(|| {
        validate(&batch, &options(), &mut scratch).expect("a good batch");
    });
    assert_eq!(made.count_total, 0, "{made:?}");
}
