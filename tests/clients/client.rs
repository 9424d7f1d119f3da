//! What the suite asks of every client, whatever it is written in.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};

/// The codecs of record batches, by the names that all clients share.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// One record as it is given to a producer.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; -1 leaves the choice to the producer.
    pub timestamp: i64,
}

impl Record {
    /// A record with a value and nothing else.
    pub fn of(value: impl Into<Vec<u8>>) -> Record {
        Record {
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: -1,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |bytes: &Option<Vec<u8>>| match bytes {
            None => "null".to_owned(),
            Some(b) if b.len() <= 32 => format!("{:?}", String::from_utf8_lossy(b)),
            Some(b) => format!("{} bytes, CRC {:08x}", b.len(), crc32c::crc32c(b)),
        };
        write!(
            f,
            "{}={} @{}",
            short(&self.key),
            short(&self.value),
            self.timestamp
        )?;
        for (name, value) in &self.headers {
            write!(f, " {name}:{}", short(value))?;
        }
        Ok(())
    }
}

/// One record as a consumer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub record: Record,
}

/// Records for one partition, and how they are to be sent.
pub struct Sending<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub codec: &'a str,
    /// `0`, `1` or `all`
    pub acks: &'a str,
    pub idempotent: bool,
    pub records: &'a [Record],
}

impl<'a> Sending<'a> {
    /// Acknowledged by all and idempotent, as clients send unless told otherwise.
    pub fn new(topic: &'a str, partition: i32, records: &'a [Record]) -> Sending<'a> {
        Sending {
            topic,
            partition,
            codec: "none",
            acks: "all",
            idempotent: true,
            records,
        }
    }

    /// The same without idempotence: an idempotent librdkafka takes half a second to start.
    pub fn plain(topic: &'a str, partition: i32, records: &'a [Record]) -> Sending<'a> {
        Sending {
            idempotent: false,
            ..Sending::new(topic, partition, records)
        }
    }
}

/// How a consumer asks.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: i64,
    pub count: usize,
    /// The most bytes of the partition in one answer; a larger first batch comes all the same.
    pub max_bytes: usize,
}

impl<'a> Reading<'a> {
    /// The first `count` records of a partition.
    pub fn new(topic: &'a str, partition: i32, count: usize) -> Reading<'a> {
        Reading {
            topic,
            partition,
            from: 0,
            count,
            max_bytes: 1 << 20,
        }
    }
}

/// A real client. Every call ends within a bounded time.
pub trait Client: Send {
    /// Sends the records and waits for all acknowledgements; answers the offsets, -1 where the
    /// client was not told (acks=0, kcat).
    fn produce(&mut self, sending: &Sending<'_>) -> Result<Vec<i64>>;

    /// Reads exactly `count` records.
    fn consume(&mut self, reading: &Reading<'_>) -> Result<Vec<Seen>>;

    /// The first offset whose record is at `time` or later; -1 where there is none.
    fn offset_for_time(&mut self, topic: &str, partition: i32, time: i64) -> Result<i64>;

    /// The first offset and the one after the last.
    fn bounds(&mut self, topic: &str, partition: i32) -> Result<(i64, i64)>;

    /// Consumes from the end with fetches that wait for up to `max_wait`; calls `next` once
    /// when it is in place and once after each of `count` records.
    fn follow(
        &mut self,
        _topic: &str,
        _partition: i32,
        _count: usize,
        _max_wait: Duration,
        _next: &mut dyn FnMut(Option<&Seen>) -> Result<()>,
    ) -> Result<()> {
        bail!("this client can't be followed")
    }

    /// The part of a record that this client's producer can write.
    fn can_write(&self, record: &Record) -> Option<Record> {
        Some(record.clone())
    }

    /// How this client's consumer shows a record.
    fn shows(&self, record: &Record) -> Record {
        record.clone()
    }
}
