//! `corelane consume`: records become lines of standard output.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;

use crate::base::ids::Uuid;
use crate::broker::offsets::{EARLIEST, LATEST};
use crate::cli::args::{Consume, StartOffset};
use crate::cli::client::{ClientError, Cluster, TopicInfo};
use crate::cli::output::Output;
use crate::cli::payload;
use crate::wire::array::Array;
use crate::wire::batch::{BatchError, BatchView, RecordView, batches, records};
use crate::wire::compress::decompress;
use crate::wire::messages::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

/// Bytes of an answer, and of a partition in it.
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// How long a fetch waits for records.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// A batch of more than this is none that a broker took.
const INFLATED_BYTES_MAX: usize = 1 << 30;

pub fn run(options: &Consume, output: &Output) -> anyhow::Result<()> {
    let mut cluster = Cluster::open(&options.broker.bootstrap, options.broker.timeout)?;
    let mut topic = cluster.topic(&options.topic, false)?;
    if let Some(missing) = options.partitions.iter().find(|p| {
        let there = |info: &crate::cli::client::PartitionInfo| info.index == **p;
        !topic.partitions.iter().any(there)
    }) {
        return Err(ClientError::NoPartition {
            topic: options.topic.clone(),
            partition: *missing,
        }
        .into());
    }
    if !options.partitions.is_empty() {
        let wanted = |p: &crate::cli::client::PartitionInfo| options.partitions.contains(&p.index);
        topic.partitions.retain(wanted);
    }
    let end = offsets(&mut cluster, &topic, LATEST)?;
    let start = match options.offset {
        StartOffset::Earliest => offsets(&mut cluster, &topic, EARLIEST)?,
        StartOffset::Latest => end.clone(),
        StartOffset::At(offset) => {
            let last = end.iter().max().copied().unwrap_or(0);
            if offset > last && !options.follow {
                bail!(
                    "offset {offset} is beyond the end of {}, which is {last}",
                    topic.name
                );
            }
            vec![offset; topic.partitions.len()]
        }
    };
    let mut reader = Reader {
        positions: topic
            .partitions
            .iter()
            .zip(start.iter().zip(&end))
            .map(|(p, (start, end))| (p.index, (*start, *end)))
            .collect(),
        cluster,
        topic,
        options,
        left: options.count.unwrap_or(u64::MAX),
        out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
        json: output.json,
    };
    reader.run()?;
    reader.out.flush()?;
    Ok(())
}

/// The offset of each partition for a timestamp, or for a special one below 0.
pub fn offsets(
    cluster: &mut Cluster,
    topic: &TopicInfo,
    timestamp: i64,
) -> anyhow::Result<Vec<i64>> {
    let found = cluster.offsets(topic, timestamp)?;
    let of = |p: &crate::cli::client::PartitionInfo| found.get(&p.index).copied();
    let all: Option<Vec<i64>> = topic.partitions.iter().map(of).collect();
    all.context("the broker left partitions out of its answer")
}

struct Reader<'o, W: Write> {
    cluster: Cluster,
    topic: TopicInfo,
    options: &'o Consume,
    /// By partition: the next offset, and the end when we began.
    positions: BTreeMap<i32, (i64, i64)>,
    left: u64,
    out: BufWriter<W>,
    json: bool,
}

impl<W: Write> Reader<'_, W> {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut failures = 0;
        while self.left > 0 && !self.at_end() {
            match self.round() {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    self.out.flush()?; // nothing more for now: show what there is
                }
                Err(error) => {
                    let client = error.downcast_ref::<ClientError>();
                    failures += 1;
                    if !client.is_some_and(ClientError::is_retriable) || failures > 20 {
                        return Err(error);
                    }
                    self.out.flush()?;
                    thread::sleep(Duration::from_millis(100));
                    self.renew()?;
                }
            }
        }
        Ok(())
    }

    fn at_end(&self) -> bool {
        !self.options.follow && self.positions.values().all(|(next, end)| next >= end)
    }

    /// Asks for the leaders again: they may have moved.
    fn renew(&mut self) -> anyhow::Result<()> {
        let leaders: Vec<i32> = self.topic.partitions.iter().map(|p| p.leader).collect();
        for leader in leaders {
            self.cluster.forget(leader);
        }
        if let Ok(mut topic) = self.cluster.topic(&self.topic.name, false) {
            let wanted =
                |p: &crate::cli::client::PartitionInfo| self.positions.contains_key(&p.index);
            topic.partitions.retain(wanted);
            self.topic = topic;
        }
        Ok(())
    }

    /// One fetch from every leader. False if none had anything.
    fn round(&mut self) -> anyhow::Result<bool> {
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        for partition in &self.topic.partitions {
            let (next, end) = self.positions[&partition.index];
            if self.options.follow || next < end {
                let ask = FetchPartition {
                    partition: partition.index,
                    fetch_offset: next,
                    partition_max_bytes: PARTITION_BYTES,
                    ..Default::default()
                };
                by_leader.entry(partition.leader).or_default().push(ask);
            }
        }
        let mut sent = Vec::new();
        for (leader, partitions) in by_leader {
            sent.push((leader, self.ask(leader, partitions)?));
        }
        let mut any = false;
        for (leader, (id, version)) in sent {
            // the answer borrows from its connection, and what it holds moves our positions
            let mut taken = Vec::new();
            let connection = self.cluster.node(leader)?;
            let answer: FetchResponse<'_> = connection.receive(id, version)?;
            ClientError::check(answer.error_code, None, || "fetch".into())?;
            for topic in &answer.responses {
                for partition in &topic.partitions {
                    let index = partition.partition_index;
                    let what = || format!("partition {index} of {}", self.topic.name);
                    ClientError::check(partition.error_code, None, what)?;
                    taken.push((index, partition.records.bytes()));
                }
            }
            let mut print = Print {
                options: self.options,
                topic: &self.topic.name,
                json: self.json,
                out: &mut self.out,
                left: &mut self.left,
            };
            for (index, bytes) in taken {
                let position = self
                    .positions
                    .get_mut(&index)
                    .context("a partition not asked for")?;
                let limit = if self.options.follow {
                    i64::MAX
                } else {
                    position.1
                };
                let next = print.batches(index, bytes, position.0, limit)?;
                any |= next > position.0;
                position.0 = next;
            }
        }
        Ok(any)
    }

    fn ask(&mut self, leader: i32, partitions: Vec<FetchPartition>) -> anyhow::Result<(i32, i16)> {
        let connection = self.cluster.node(leader)?;
        let newest = if self.topic.id == Uuid::ZERO { 12 } else { 17 };
        let version = connection.version::<FetchRequest<'_>>(newest)?;
        let topic = FetchTopic {
            topic: &self.topic.name,
            topic_id: self.topic.id,
            partitions: partitions.into(),
        };
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT.as_millis() as i32,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            topics: Array::Slice(std::slice::from_ref(&topic)),
            ..Default::default()
        };
        Ok((connection.send(&request, version)?, version))
    }
}

struct Print<'a, W: Write> {
    options: &'a Consume,
    topic: &'a str,
    json: bool,
    out: &'a mut W,
    left: &'a mut u64,
}

impl<W: Write> Print<'_, W> {
    /// Writes the records from `from` to below `limit`; returns the offset to go on from.
    fn batches(
        &mut self,
        partition: i32,
        bytes: &[u8],
        from: i64,
        limit: i64,
    ) -> anyhow::Result<i64> {
        let mut next = from;
        for batch in batches(bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                // an answer may end in the middle of a batch
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => bail!("partition {partition} at offset {next}: {error}"),
            };
            if batch.next_offset().0 <= next {
                continue;
            }
            if !batch.verify_crc() {
                let offset = batch.base_offset();
                bail!("partition {partition}: the batch at offset {offset} has a wrong checksum");
            }
            if !batch.is_control() {
                self.batch(partition, &batch, next, limit)
                    .with_context(|| format!("the batch at offset {}", batch.base_offset()))?;
            }
            next = batch.next_offset().0;
            if *self.left == 0 {
                break;
            }
        }
        Ok(next)
    }

    fn batch(
        &mut self,
        partition: i32,
        batch: &BatchView<'_>,
        from: i64,
        limit: i64,
    ) -> anyhow::Result<()> {
        let plain;
        let body = match batch.codec() {
            Some(crate::wire::compress::Codec::None) => batch.body(),
            Some(codec) => {
                plain = decompress(codec, batch.body(), INFLATED_BYTES_MAX)?;
                &plain
            }
            None => bail!("it is under a codec that nobody knows"),
        };
        for record in records(body, batch.records_count()) {
            let record = record?;
            let offset = batch.base_offset().0 + i64::from(record.offset_delta);
            if offset < from || offset >= limit {
                continue;
            }
            if *self.left == 0 {
                break;
            }
            *self.left -= 1;
            let timestamp = match batch.is_log_append_time() {
                true => batch.max_timestamp().0,
                false => batch.base_timestamp().0 + record.timestamp_delta,
            };
            self.record(partition, offset, timestamp, &record)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        partition: i32,
        offset: i64,
        timestamp: i64,
        record: &RecordView<'_>,
    ) -> io::Result<()> {
        if self.json {
            let header = |h: crate::wire::batch::HeaderView<'_>| {
                json!({
                    "key": String::from_utf8_lossy(h.key),
                    "value": payload::to_json(h.value),
                })
            };
            let headers: Vec<_> = record.headers().map(header).collect();
            let object = json!({
                "topic": self.topic,
                "partition": partition,
                "offset": offset,
                "timestamp": timestamp,
                "key": payload::to_json(record.key),
                "value": payload::to_json(record.value),
                "headers": headers,
            });
            return writeln!(self.out, "{object}");
        }
        if self.options.headers {
            for (i, header) in record.headers().enumerate() {
                if i > 0 {
                    self.out.write_all(b",")?;
                }
                self.out.write_all(header.key)?;
                self.out.write_all(b"=")?;
                self.out.write_all(header.value.unwrap_or_default())?;
            }
            self.out.write_all(b"\t")?;
        }
        if let Some(separator) = &self.options.key_separator {
            self.out.write_all(record.key.unwrap_or_default())?;
            self.out.write_all(separator.as_bytes())?;
        }
        self.out.write_all(record.value.unwrap_or_default())?;
        self.out.write_all(b"\n")
    }
}
