//! kcat from Debian, which brings an old librdkafka (2.0): the client that is shown one node.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Reading, Record, Seen, Sending};
use crate::support::process::run_ok;

const LIMIT: Duration = Duration::from_secs(60);
/// Between key and value, and between records, on kcat's standard input and output.
const AFTER_KEY: &str = "<after-key>";
const AFTER_RECORD: &str = "<after-record>";

/// kcat as a client of the suite.
pub struct Kcat {
    bootstrap: String,
}

impl Kcat {
    /// A client of the broker at `bootstrap`.
    pub fn new(bootstrap: &str) -> Kcat {
        Kcat {
            bootstrap: bootstrap.to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kcat");
        // cargo names the directory of the librdkafka that it built: kcat must keep Debian's
        command.env_remove("LD_LIBRARY_PATH");
        command.args(["-b", &self.bootstrap, "-q", "-m", "30"]);
        command
    }

    /// How many brokers kcat's listing of the topic shows.
    pub fn nodes(&self, topic: &str) -> Result<usize> {
        let output = run_ok(self.command().args(["-L", "-t", topic]), b"", LIMIT)?;
        let text = output.text();
        let line = text.lines().find(|l| l.ends_with("brokers:"));
        let count = line.and_then(|l| l.trim().split(' ').next());
        count
            .context("no line that counts brokers")?
            .parse()
            .context("no count")
    }

    /// The topics that kcat's listing of everything shows.
    pub fn topics(&self) -> Result<Vec<String>> {
        let text = run_ok(self.command().arg("-L"), b"", LIMIT)?.text();
        let names = text.lines().filter_map(|l| {
            let rest = l.trim().strip_prefix("topic \"")?;
            Some(rest.split_once('"')?.0.to_owned())
        });
        Ok(names.collect())
    }

    /// An offset by time, or -1 for the end and -2 for the beginning.
    fn query(&self, topic: &str, partition: i32, time: i64) -> Result<i64> {
        let which = format!("{topic}:{partition}:{time}");
        let output = run_ok(self.command().args(["-Q", "-t", &which]), b"", LIMIT)?;
        let text = output.text();
        let offset = text.trim().rsplit(' ').next().context("no answer")?;
        offset.parse().with_context(|| format!("no offset: {text}"))
    }

    /// What kcat prints for `%h`: a value ends at its first zero byte.
    fn header_text(headers: &[(String, Option<Vec<u8>>)]) -> Vec<u8> {
        let parts: Vec<Vec<u8>> = headers
            .iter()
            .map(|(name, value)| {
                let value = value.as_deref().unwrap_or(b"NULL");
                let value = value.split(|b| *b == 0).next().unwrap_or_default();
                [name.as_bytes(), b"=", value].concat()
            })
            .collect();
        parts.join(&b","[..])
    }
}

impl Client for Kcat {
    fn produce(&mut self, sending: &Sending<'_>) -> Result<Vec<i64>> {
        let mut command = self.command();
        command
            .args(["-P", "-t", sending.topic])
            .args(["-p", &sending.partition.to_string()])
            .args(["-z", sending.codec, "-K", AFTER_KEY, "-D", AFTER_RECORD])
            .args(["-X", &format!("acks={}", sending.acks)])
            .args(["-X", &format!("enable.idempotence={}", sending.idempotent)])
            .args(["-X", "message.max.bytes=4194304", "-X", "linger.ms=20"]);
        // headers are the same for all records of one run
        for (name, value) in sending.records.first().map_or(&[][..], |r| &r.headers) {
            let value = value.as_deref().map(String::from_utf8_lossy);
            let header = value.map_or(name.clone(), |v| format!("{name}={v}"));
            command.args(["-H", &header]);
        }
        let mut input = Vec::new();
        for record in sending.records {
            if let Some(key) = &record.key {
                input.extend_from_slice(key);
                input.extend_from_slice(AFTER_KEY.as_bytes());
            }
            input.extend_from_slice(record.value.as_deref().unwrap_or_default());
            input.extend_from_slice(AFTER_RECORD.as_bytes());
        }
        run_ok(&mut command, &input, LIMIT)?;
        Ok(vec![-1; sending.records.len()])
    }

    fn consume(&mut self, reading: &Reading<'_>) -> Result<Vec<Seen>> {
        let format = format!("%o %T %K %S\n%k%s%h{AFTER_RECORD}");
        let mut command = self.command();
        command
            .args(["-C", "-t", reading.topic])
            .args(["-p", &reading.partition.to_string()])
            .args(["-o", &reading.from.to_string()])
            .args(["-c", &reading.count.to_string()])
            .args([
                "-X",
                &format!("fetch.message.max.bytes={}", reading.max_bytes),
            ])
            .args(["-f", &format]);
        let output = run_ok(&mut command, b"", LIMIT)?;
        let mut rest = &output.stdout[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|b| *b == b'\n')
                .context("no head line")?;
            let head = str::from_utf8(&rest[..end])?;
            let numbers = head
                .split(' ')
                .map(str::parse)
                .collect::<Result<Vec<i64>, _>>()?;
            let [offset, timestamp, key, value] = numbers[..] else {
                anyhow::bail!("a head line with {} numbers", numbers.len());
            };
            rest = &rest[end + 1..];
            let mut take = |length: i64| -> Result<Option<Vec<u8>>> {
                let Ok(length) = usize::try_from(length) else {
                    return Ok(None); // -1: null
                };
                ensure!(length <= rest.len(), "kcat's output ends early");
                let (taken, after) = rest.split_at(length);
                rest = after;
                Ok(Some(taken.to_vec()))
            };
            let (key, value) = (take(key)?, take(value)?);
            let mark = AFTER_RECORD.as_bytes();
            let end = rest.windows(mark.len()).position(|w| w == mark);
            let end = end.context("no end of a record")?;
            let headers = match &rest[..end] {
                [] => Vec::new(),
                text => vec![(String::new(), Some(text.to_vec()))],
            };
            rest = &rest[end + mark.len()..];
            seen.push(Seen {
                offset,
                record: Record {
                    key,
                    value,
                    headers,
                    timestamp,
                },
            });
        }
        ensure!(
            seen.len() == reading.count,
            "kcat gave {} records",
            seen.len()
        );
        Ok(seen)
    }

    fn offset_for_time(&mut self, topic: &str, partition: i32, time: i64) -> Result<i64> {
        self.query(topic, partition, time)
    }

    fn bounds(&mut self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let first = self.query(topic, partition, -2)?;
        Ok((first, self.query(topic, partition, -1)?))
    }

    /// kcat can give neither a time nor a null value, and the same headers to all records.
    fn can_write(&self, record: &Record) -> Option<Record> {
        record.value.as_ref()?;
        let mut record = record.clone();
        record.timestamp = -1;
        record.headers = vec![
            ("name".to_owned(), Some(b"value".to_vec())),
            ("name".to_owned(), Some(Vec::new())),
            ("none".to_owned(), None),
        ];
        Some(record)
    }

    /// kcat shows all headers as one text.
    fn shows(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if !record.headers.is_empty() {
            let text = Kcat::header_text(&record.headers);
            record.headers = vec![(String::new(), Some(text))];
        }
        record
    }
}
