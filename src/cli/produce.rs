//! `corelane produce`: lines of standard input become records.

use std::io::{self, BufRead};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::base::ids::ProducerId;
use crate::base::time::Timestamp;
use crate::cli::args::{Acks, Produce};
use crate::cli::client::{ClientError, Cluster, TopicInfo, by_key};
use crate::cli::output::{Output, counted};
use crate::cli::payload;
use crate::cli::progress::Progress;
use crate::cli::send::Sender;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// How long a batch waits for more lines.
const LINGER: Duration = Duration::from_millis(10);
/// Lines read ahead.
const LINES_AHEAD: usize = 4096;

/// A record before it has a partition.
#[derive(Debug, PartialEq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
}

pub fn run(options: &Produce, output: &Output) -> anyhow::Result<()> {
    let mut cluster = Cluster::open(&options.broker.bootstrap, options.broker.timeout)?;
    let topic = wait_for_topic(&mut cluster, &options.topic, options.broker.timeout)?;
    let producer = match options.acks {
        Acks::All => producer_id(&mut cluster, options.broker.timeout)?,
        _ => None,
    };
    let mut sender = Sender::new(cluster, topic, options, producer);
    let (lines, input) = mpsc::sync_channel(LINES_AHEAD);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = stdin.read_until(b'\n', &mut line);
            let end = !matches!(read, Ok(n) if n > 0);
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let sent = match read {
                Ok(0) => return,
                Ok(_) => lines.send(Ok(line)),
                Err(e) => lines.send(Err(e)),
            };
            if end || sent.is_err() {
                return;
            }
        }
    });

    let mut progress = Progress::new(None, "{pos} records, {per_sec}, {elapsed}");
    let mut number = 0u64;
    let mut deadline: Option<Instant> = None;
    loop {
        let line = match deadline {
            None => input.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => input.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match line {
            Ok(line) => {
                number += 1;
                let line = line.context("standard input")?;
                let record = record(&line, options, output.json)
                    .map_err(|problem| anyhow::anyhow!("line {number}: {problem}"))?;
                let partition = place(&record, options, sender.partitions(), number)?;
                sender.add(partition, &record, now());
                progress.add(1);
                if sender.is_full() {
                    sender.flush()?;
                    deadline = None;
                } else if deadline.is_none() {
                    deadline = Some(Instant::now() + LINGER);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                sender.flush()?;
                deadline = None;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    sender.flush()?;
    progress.end();
    report(&sender, options, output)
}

fn report(sender: &Sender<'_>, options: &Produce, output: &Output) -> anyhow::Result<()> {
    let total = sender.done().map(|d| d.records).sum();
    if output.json {
        let partition = |done: &crate::cli::send::Done| {
            let offsets = (options.acks != Acks::None).then_some(done.offsets);
            json!({
                "partition": done.partition,
                "records": done.records,
                "first_offset": offsets.map(|(first, _)| first),
                "last_offset": offsets.map(|(_, last)| last),
            })
        };
        let partitions: Vec<_> = sender.done().map(partition).collect();
        output.object(&json!({
            "topic": options.topic,
            "records": total,
            "partitions": partitions,
        }))?;
    } else {
        let word = match options.acks {
            Acks::None => "sent",
            _ => "produced",
        };
        output.note(&format!(
            "{word} {} to {}",
            counted(total, "record"),
            options.topic
        ));
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |d| d.as_millis() as i64))
}

/// A topic that may be made by being asked for.
fn wait_for_topic(
    cluster: &mut Cluster,
    name: &str,
    timeout: Duration,
) -> Result<TopicInfo, ClientError> {
    let deadline = Instant::now() + timeout;
    loop {
        let found = cluster.topic(name, true);
        let ready = match &found {
            Ok(topic) => topic.partitions.iter().all(|p| p.leader >= 0),
            Err(error) => !error.is_retriable(),
        };
        if ready || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// An id that lets the broker drop what was sent twice; none where it hands out none.
fn producer_id(
    cluster: &mut Cluster,
    timeout: Duration,
) -> Result<Option<(ProducerId, i16)>, ClientError> {
    let deadline = Instant::now() + timeout;
    loop {
        let connection = cluster.controller()?;
        let Ok(version) = connection.version::<InitProducerIdRequest<'_>>(i16::MAX) else {
            return Ok(None);
        };
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer: InitProducerIdResponse = connection.call(&request, version)?;
        match ClientError::check(answer.error_code, None, || "a producer id".into()) {
            Ok(()) => {
                let id = ProducerId(answer.producer_id);
                return Ok(Some((id, answer.producer_epoch)));
            }
            // a broker that has just started may not have a block of them yet
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
}

fn place(
    record: &Record,
    options: &Produce,
    partitions: &[i32],
    number: u64,
) -> anyhow::Result<i32> {
    // lines of another topic say where they were there
    let asked = options.partition.or(record.partition);
    match asked {
        Some(partition) if partitions.contains(&partition) => Ok(partition),
        Some(partition) => Err(ClientError::NoPartition {
            topic: options.topic.clone(),
            partition,
        }
        .into()),
        None if partitions.is_empty() => bail!("{} has no partitions", options.topic),
        None => Ok(match &record.key {
            Some(key) => partitions[by_key(key, partitions.len())],
            // some lines to each in turn: batches stay large
            None => partitions[(number / 64) as usize % partitions.len()],
        }),
    }
}

fn record(line: &[u8], options: &Produce, json: bool) -> Result<Record, String> {
    let own = |(name, value): &(String, String)| (name.clone(), Some(value.clone().into_bytes()));
    let headers: Vec<_> = options.headers.iter().map(own).collect();
    if json {
        return from_json(line, headers);
    }
    let (key, value) = match &options.key_separator {
        None => (None, line),
        Some(separator) => match find(line, separator.as_bytes()) {
            Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
            None => return Err(format!("no key: {separator:?} is not there")),
        },
    };
    Ok(Record {
        key: key.map(<[u8]>::to_vec),
        value: Some(value.to_vec()),
        headers,
        partition: None,
        timestamp: None,
    })
}

/// What a line of JSON may have.
const FIELDS: [&str; 7] = [
    "key",
    "value",
    "headers",
    "partition",
    "timestamp",
    "topic",
    "offset",
];

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len().max(1))
        .position(|w| w == separator)
}

/// `{"key": .., "value": .., "headers": [{"key": .., "value": ..}], "partition": .., "timestamp":
/// ..}`, as `consume --json` writes them with topic and offset, which are passed over; all may be left
/// out. A name that is none of these is most likely misspelt, and its record would lack what it says.
fn from_json(line: &[u8], mut headers: Vec<(String, Option<Vec<u8>>)>) -> Result<Record, String> {
    let value: Value = serde_json::from_slice(line).map_err(|e| format!("no JSON: {e}"))?;
    let Value::Object(fields) = value else {
        return Err("an object with key and value was expected".into());
    };
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("{name:?} is none of {}", FIELDS.join(", ")));
    }
    let number = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{name} is a number, not {value}")),
    };
    let bytes = |name| payload::from_json(fields.get(name).unwrap_or(&Value::Null));
    if let Some(list) = fields.get("headers") {
        let list = list.as_array().ok_or("headers are a list")?;
        for header in list {
            let key = header.get("key").and_then(Value::as_str);
            let key = key.ok_or("a header has a key")?.to_owned();
            let value = payload::from_json(header.get("value").unwrap_or(&Value::Null))?;
            headers.push((key, value));
        }
    }
    let partition = number("partition")?.map(i32::try_from).transpose();
    Ok(Record {
        key: bytes("key")?,
        value: bytes("value")?,
        headers,
        partition: partition.map_err(|_| "there is no such partition")?,
        timestamp: number("timestamp")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Arguments, Command};
    use clap::Parser;

    fn options(arguments: &[&str]) -> Produce {
        let all = ["corelane", "produce", "t"].iter().chain(arguments);
        match Arguments::parse_from(all).command {
            Command::Produce(options) => options,
            _ => unreachable!("produce was asked for"),
        }
    }

    #[test]
    fn a_line_is_a_value_or_a_key_and_a_value() {
        let plain = record(b"a:b", &options(&[]), false).unwrap();
        assert_eq!((plain.key, plain.value), (None, Some(b"a:b".to_vec())));
        let keyed = record(b"a::b", &options(&["-k", ":"]), false).unwrap();
        assert_eq!(keyed.key, Some(b"a".to_vec()));
        assert_eq!(keyed.value, Some(b":b".to_vec()));
        assert!(record(b"ab", &options(&["-k", ":"]), false).is_err());
    }

    #[test]
    fn json_lines_say_all_that_a_record_has() {
        let line = br#"{"key":null,"value":{"hex":"00ff"},"partition":3,"timestamp":5,
            "headers":[{"key":"h","value":"v"},{"key":"h"}]}"#;
        let read = record(line, &options(&["-H", "a=b"]), true).unwrap();
        assert_eq!(read.key, None);
        assert_eq!(read.value, Some(vec![0, 255]));
        assert_eq!((read.partition, read.timestamp), (Some(3), Some(5)));
        let names: Vec<_> = read.headers.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a", "h", "h"]);
        for wrong in [
            r#"[]"#,
            r#"{"vaule":"v"}"#,
            r#"{"partition":"3"}"#,
            r#"{"partition":3000000000}"#,
            r#"{"timestamp":"now"}"#,
            r#"{"headers":{"h":"v"}}"#,
        ] {
            assert!(
                record(wrong.as_bytes(), &options(&[]), true).is_err(),
                "{wrong}"
            );
        }
        let copied = br#"{"topic":"a","offset":3,"partition":1,"value":"v"}"#;
        let copied = record(copied, &options(&[]), true).unwrap();
        assert_eq!(
            place(&copied, &options(&["-p", "0"]), &[0, 1], 0).unwrap(),
            0
        );
        assert_eq!(place(&copied, &options(&[]), &[0, 1], 0).unwrap(), 1);
    }
}
