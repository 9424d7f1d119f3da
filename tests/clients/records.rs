//! The records that every client writes and every client reads back.

use std::sync::OnceLock;

use crate::client::Record;
use crate::support::wait;

/// A producer's own timestamps begin here: an hour ago. Records that are older than a week would
/// fall to retention.
pub fn epoch_ms() -> i64 {
    static EPOCH: OnceLock<i64> = OnceLock::new();
    *EPOCH.get_or_init(|| wait::wall_ms() - 3_600_000)
}

/// Bytes without a pattern that a codec could use.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Every shape of a record: null and empty keys and values, headers of all kinds, timestamps that
/// go back, all byte values, 900 KiB that compress and 900 KiB that don't, many tiny ones.
pub fn every_shape() -> Vec<Record> {
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    let all_bytes: Vec<u8> = (0..=255).collect();
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let mut records = vec![
        Record {
            key: some(b"key"),
            ..Record::of("value")
        },
        Record {
            key: None,
            ..Record::of("no key")
        },
        Record {
            key: some(b""),
            ..Record::of("an empty key")
        },
        Record {
            key: some(b"an empty value"),
            ..Record::of("")
        },
        Record {
            key: some(b"a null value"),
            value: None,
            ..Record::of("")
        },
        Record {
            key: None,
            value: None,
            ..Record::of("")
        },
        Record {
            key: some(&all_bytes),
            ..Record::of(all_bytes.clone())
        },
        Record {
            headers: vec![header("one", Some(b"1"))],
            ..Record::of("a header")
        },
        Record {
            headers: vec![
                header("twice", Some(b"first")),
                header("twice", Some(b"second")),
                header("empty", Some(b"")),
                header("null", None),
                header("bytes", Some(&all_bytes)),
                header("größe", Some("größe".as_bytes())),
                header("", Some(b"a name of no length")),
            ],
            ..Record::of("headers")
        },
        Record {
            timestamp: epoch_ms() + 5_000,
            ..Record::of("later")
        },
        Record {
            timestamp: epoch_ms() - 5_000,
            ..Record::of("earlier")
        },
        Record {
            timestamp: 1, // librdkafka takes 0 for now
            ..Record::of("in 1970")
        },
        Record::of(noise(900 << 10, 7)),
        Record::of(b"again and again ".repeat(900 << 6)),
    ];
    for n in 0..300 {
        records.push(Record {
            key: some(format!("{n}").as_bytes()),
            ..Record::of(vec![b'a' + (n % 26) as u8; n % 3])
        });
    }
    // timestamps are the producer's own from here on, where a client can give them
    for (n, record) in records.iter_mut().enumerate() {
        if record.timestamp < 0 {
            record.timestamp = epoch_ms() + n as i64;
        }
    }
    records
}

/// `count` small numbered records whose timestamps are a second apart.
pub fn numbered(count: usize) -> Vec<Record> {
    let record = |n: usize| Record {
        key: Some(format!("key-{n}").into_bytes()),
        timestamp: epoch_ms() + 1_000 * n as i64,
        ..Record::of(format!("record {n}"))
    };
    (0..count).map(record).collect()
}
