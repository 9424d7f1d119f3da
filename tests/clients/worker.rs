//! Clients in other languages: a process that takes one job a line, as JSON, and answers in lines.
//!
//! | job | fields | answer |
//! |---|---|---|
//! | `produce` | topic, partition, codec, acks, idempotent, records | `acked`: offsets |
//! | `consume` | topic, partition, from, count, max_partition_bytes | `records` |
//! | `follow` | topic, partition, count, max_wait_ms | `ready`, then each record, then `done` |
//! | `offset_for_time` | topic, partition, time | `offset` |
//! | `bounds` | topic, partition | `first`, `end` |
//! | `describe` (Java) | topic | `partitions`, `replicas` of the first, `nodes` of the cluster |
//!
//! Bytes are hexadecimal text or null, headers a list of pairs. A failed job is answered by
//! `error`.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::{Client, Reading, Record, Seen, Sending};
use crate::support::process::Guard;

/// Between two lines of a worker. Its own limits are shorter and say more.
const LINE_LIMIT: Duration = Duration::from_secs(90);

/// A worker process.
pub struct Worker {
    name: &'static str,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// kafka-python refuses headers without a value, and records without key and value
    nulls: bool,
    _process: Guard,
}

impl Worker {
    /// Starts a worker's command.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Worker> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let (say, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Worker {
            name,
            stdin,
            lines,
            nulls: true,
            _process: Guard(child),
        })
    }

    /// Says that this client's producer can't write a header without a value, nor a record with
    /// neither key nor value.
    pub fn without_some_nulls(mut self) -> Worker {
        self.nulls = false;
        self
    }

    /// What the Java admin client says of a topic: partitions, replicas of one, nodes.
    pub fn describe(&mut self, topic: &str) -> Result<(u64, u64, u64)> {
        let answer = self.ask(&json!({"do": "describe", "topic": topic}))?;
        let count = |name: &str| answer[name].as_u64().context("no count");
        Ok((count("partitions")?, count("replicas")?, count("nodes")?))
    }

    fn line(&mut self) -> Result<Value> {
        let line = match self.lines.recv_timeout(LINE_LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} said nothing for {LINE_LIMIT:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} ended", self.name),
        };
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("{} said what is no JSON: {line}", self.name))?;
        if let Some(error) = answer.get("error") {
            bail!("{}: {error}", self.name);
        }
        Ok(answer)
    }

    fn ask(&mut self, job: &Value) -> Result<Value> {
        writeln!(self.stdin, "{job}").with_context(|| format!("{} ended", self.name))?;
        self.stdin.flush()?;
        self.line()
    }
}

impl Client for Worker {
    fn produce(&mut self, sending: &Sending<'_>) -> Result<Vec<i64>> {
        let records: Vec<Value> = sending.records.iter().map(to_json).collect();
        let answer = self.ask(&json!({
            "do": "produce",
            "topic": sending.topic,
            "partition": sending.partition,
            "codec": sending.codec,
            "acks": sending.acks,
            "idempotent": sending.idempotent,
            "records": records,
        }))?;
        let acked = answer["acked"].as_array().context("no list of offsets")?;
        acked
            .iter()
            .map(|offset| Ok(offset.as_i64().unwrap_or(-1)))
            .collect()
    }

    fn consume(&mut self, reading: &Reading<'_>) -> Result<Vec<Seen>> {
        let answer = self.ask(&json!({
            "do": "consume",
            "topic": reading.topic,
            "partition": reading.partition,
            "from": reading.from,
            "count": reading.count,
            "max_partition_bytes": reading.max_bytes,
        }))?;
        let records = answer["records"].as_array().context("no list of records")?;
        records.iter().map(from_json).collect()
    }

    fn offset_for_time(&mut self, topic: &str, partition: i32, time: i64) -> Result<i64> {
        let answer = self.ask(&json!({
            "do": "offset_for_time", "topic": topic, "partition": partition, "time": time,
        }))?;
        answer["offset"].as_i64().context("no offset")
    }

    fn bounds(&mut self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let answer = self.ask(&json!({"do": "bounds", "topic": topic, "partition": partition}))?;
        let bound = |name: &str| answer[name].as_i64().context("no bound");
        Ok((bound("first")?, bound("end")?))
    }

    fn follow(
        &mut self,
        topic: &str,
        partition: i32,
        count: usize,
        max_wait: Duration,
        next: &mut dyn FnMut(Option<&Seen>) -> Result<()>,
    ) -> Result<()> {
        self.ask(&json!({
            "do": "follow",
            "topic": topic,
            "partition": partition,
            "count": count,
            "max_wait_ms": max_wait.as_millis() as u64,
        }))?;
        next(None)?;
        for _ in 0..count {
            let seen = from_json(&self.line()?)?;
            next(Some(&seen))?;
        }
        self.line()?; // done
        Ok(())
    }

    fn can_write(&self, record: &Record) -> Option<Record> {
        let mut record = record.clone();
        if !self.nulls {
            record.key.as_ref().or(record.value.as_ref())?;
            record.headers.retain(|(_, value)| value.is_some());
        }
        Some(record)
    }
}

fn to_json(record: &Record) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name, to_hex(value.as_deref())]))
        .collect();
    json!({
        "key": to_hex(record.key.as_deref()),
        "value": to_hex(record.value.as_deref()),
        "timestamp": record.timestamp,
        "headers": headers,
    })
}

fn from_json(value: &Value) -> Result<Seen> {
    let headers = value["headers"].as_array().context("no headers")?;
    let headers = headers.iter().map(|header| {
        let name = header[0].as_str().context("a header has a name")?;
        Ok((name.to_owned(), from_hex(&header[1])?))
    });
    Ok(Seen {
        offset: value["offset"].as_i64().context("no offset")?,
        record: Record {
            key: from_hex(&value["key"])?,
            value: from_hex(&value["value"])?,
            headers: headers.collect::<Result<_>>()?,
            timestamp: value["timestamp"].as_i64().context("no timestamp")?,
        },
    })
}

fn to_hex(bytes: Option<&[u8]>) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    Value::String(text)
}

fn from_hex(value: &Value) -> Result<Option<Vec<u8>>> {
    let Some(text) = value.as_str() else {
        return Ok(None);
    };
    let digit = |c: u8| (c as char).to_digit(16).context("no hexadecimal digit");
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.as_bytes().chunks(2) {
        let low = pair.get(1).copied().context("an odd digit")?;
        bytes.push((digit(pair[0])? * 16 + digit(low)?) as u8);
    }
    Ok(Some(bytes))
}
