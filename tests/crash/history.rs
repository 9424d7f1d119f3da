//! What the outside world was told about one partition: acknowledged records and records seen by
//! a consumer. The log that the broker serves is judged by it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

/// How records of a topic are sent, which decides what may stand in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// idempotent, acks=all: every record once, without a gap between records
    EachOnce,
    /// sent once, never again: a record that was not acknowledged may be missing, and the client
    /// sends what waits for a broker in any order
    AtMostOnce,
}

/// One record of a log, by the number that its producer gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place in the order of its producer, from 0.
    pub number: u64,
    /// Of its whole value.
    pub checksum: u32,
}

/// The value of a record: its number, its length and noise that both determine.
pub fn value(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// Reads a value back; an error if it is not what [`value`] makes.
pub fn entry(bytes: &[u8]) -> Result<Entry> {
    let number = bytes.first_chunk().context("a record without a number")?;
    let number = u64::from_be_bytes(*number);
    ensure!(
        bytes == value(number, bytes.len()),
        "the value of record {number} is changed"
    );
    Ok(Entry {
        number,
        checksum: crc32c::crc32c(bytes),
    })
}

#[derive(Default)]
struct Told {
    /// number to offset
    acked: BTreeMap<u64, i64>,
    /// by offset, from 0
    seen: Vec<Entry>,
    /// a broken promise that was noticed at once
    broken: Option<String>,
}

/// What was told about one partition.
pub struct History {
    pub topic: String,
    pub partition: i32,
    pub promise: Promise,
    told: Mutex<Told>,
}

/// A copy of what was told up to a moment.
pub struct Snapshot {
    acked: BTreeMap<u64, i64>,
    seen: usize,
}

impl History {
    /// An empty history.
    pub fn new(topic: &str, partition: i32, promise: Promise) -> History {
        History {
            topic: topic.to_owned(),
            partition,
            promise,
            told: Mutex::default(),
        }
    }

    /// A producer was told that a record stands at an offset.
    pub fn acked(&self, number: u64, offset: i64) {
        self.told().acked.insert(number, offset);
    }

    /// A consumer saw a record.
    pub fn seen(&self, offset: i64, bytes: &[u8]) {
        let mut told = self.told();
        let next = told.seen.len() as i64;
        match entry(bytes) {
            Ok(entry) if offset == next => told.seen.push(entry),
            Ok(_) => {
                let text = format!("a consumer saw offset {offset} where {next} comes");
                told.broken.get_or_insert(text);
            }
            Err(error) => {
                let text = format!("a consumer saw at offset {offset}: {error}");
                told.broken.get_or_insert(text);
            }
        }
    }

    /// Something else went wrong that must not.
    pub fn broke(&self, what: String) {
        self.told().broken.get_or_insert(what);
    }

    /// How many records were acknowledged.
    pub fn acked_count(&self) -> usize {
        self.told().acked.len()
    }

    /// The offset after the last one seen.
    pub fn seen_end(&self) -> i64 {
        self.told().seen.len() as i64
    }

    /// What was told up to now. Taken before the log is read, so that the log must hold it.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let told = self.told();
        if let Some(broken) = &told.broken {
            bail!("{}-{}: {broken}", self.topic, self.partition);
        }
        Ok(Snapshot {
            acked: told.acked.clone(),
            seen: told.seen.len(),
        })
    }

    /// Judges a log, whole from offset 0, by what was told before it was read.
    pub fn judge(&self, log: &[Entry], before: &Snapshot) -> Result<()> {
        let name = format!("{}-{}", self.topic, self.partition);
        let mut numbers = BTreeMap::new();
        for (offset, entry) in log.iter().enumerate() {
            if let Some(first) = numbers.insert(entry.number, offset) {
                bail!(
                    "{name}: record {} is at {first} and at {offset}",
                    entry.number
                );
            }
            ensure!(
                self.promise == Promise::AtMostOnce || entry.number == offset as u64,
                "{name}: record {} is at offset {offset}",
                entry.number
            );
        }
        for (number, offset) in &before.acked {
            let found = log.get(*offset as usize).map(|e| e.number);
            ensure!(
                found == Some(*number),
                "{name}: record {number} was acknowledged at offset {offset}, where {found:?} is \
                 (the log ends at {})",
                log.len()
            );
        }
        let told = self.told();
        for (offset, seen) in told.seen[..before.seen].iter().enumerate() {
            let found = log.get(offset);
            ensure!(
                found == Some(seen),
                "{name}: {seen:?} was seen at offset {offset}, where {found:?} is now (the log \
                 ends at {})",
                log.len()
            );
        }
        Ok(())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no holder panics")
    }
}

/// The judge finds each kind of broken promise; run before the broker is judged by it.
pub fn self_test() -> Result<()> {
    let entries = |numbers: &[u64]| -> Vec<Entry> {
        let made = numbers.iter().map(|n| entry(&value(*n, 20)));
        made.map(|e| e.expect("made by value")).collect()
    };
    let history = |promise| {
        let history = History::new("t", 0, promise);
        for number in 0..3 {
            history.acked(number, number as i64);
            history.seen(number as i64, &value(number, 20));
        }
        history
    };
    let once = history(Promise::EachOnce);
    let before = once.snapshot()?;
    once.judge(&entries(&[0, 1, 2, 3]), &before)?;
    for (what, log) in [
        ("lost", &[0, 1][..]),
        ("doubled", &[0, 1, 1, 2]),
        ("reordered", &[0, 2, 1]),
        ("with a gap", &[0, 1, 2, 4]),
        ("replaced", &[0, 1, 3]),
    ] {
        let verdict = once.judge(&entries(log), &before);
        ensure!(verdict.is_err(), "a log {what} was taken for good");
    }
    let at_most = history(Promise::AtMostOnce);
    let before = at_most.snapshot()?;
    at_most.judge(&entries(&[0, 1, 2, 7]), &before)?;
    for (what, log) in [("lost", &[0, 1][..]), ("doubled", &[0, 1, 2, 7, 7])] {
        let verdict = at_most.judge(&entries(log), &before);
        ensure!(verdict.is_err(), "a log {what} was taken for good");
    }
    at_most.seen(9, &value(9, 20));
    ensure!(
        at_most.snapshot().is_err(),
        "a skipped offset was not noticed"
    );
    let mut changed = value(1, 20);
    changed[15] ^= 1;
    ensure!(entry(&changed).is_err(), "a changed value was not noticed");
    Ok(())
}
