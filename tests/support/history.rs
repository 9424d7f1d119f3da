//! What the outside world was told about one partition: acknowledged records and records seen by
//! a consumer. The log that the broker serves is judged by it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use super::sequence;

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
    /// number to offset, and when that was told
    acked: BTreeMap<u64, (i64, u64)>,
    /// by offset, from 0, and when it was seen
    seen: Vec<(Entry, u64)>,
    /// a broken promise that was noticed at once
    broken: Option<String>,
}

/// What was told about one partition, everything with its place in the [`sequence`].
pub struct History {
    pub topic: String,
    pub partition: i32,
    pub promise: Promise,
    told: Mutex<Told>,
}

/// What was told up to a moment, which a log has to hold.
#[derive(Clone)]
pub struct Demand {
    name: String,
    promise: Promise,
    acked: BTreeMap<u64, i64>,
    seen: Vec<Entry>,
}

/// How a log differs from what was demanded of it; all zero if it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged records that are not at their offset.
    pub lost: u64,
    /// Offsets at which a consumer saw something else, or which are gone.
    pub unseen: u64,
    /// Records that are there more than once.
    pub doubled: u64,
    /// Records of an idempotent producer behind a gap or out of order.
    pub disordered: u64,
    /// The first finding, in words.
    pub first: Option<String>,
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
        let mut told = self.told();
        told.acked.insert(number, (offset, sequence::next()));
    }

    /// A consumer saw a record.
    pub fn seen(&self, offset: i64, bytes: &[u8]) {
        let mut told = self.told();
        let next = told.seen.len() as i64;
        match entry(bytes) {
            Ok(entry) if offset == next => told.seen.push((entry, sequence::next())),
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

    /// Everything that was seen, by offset.
    pub fn log(&self) -> Vec<Entry> {
        self.told().seen.iter().map(|(entry, _)| *entry).collect()
    }

    /// A number above those of all records seen, for a producer that begins now.
    pub fn unused_number(&self) -> u64 {
        let told = self.told();
        let highest = told.seen.iter().map(|(entry, _)| entry.number + 1).max();
        highest.unwrap_or(0)
    }

    /// What was told up to now. Taken before the log is read, so that the log must hold it.
    pub fn demand(&self) -> Result<Demand> {
        self.demand_before(u64::MAX)
    }

    /// What was told before a place in the [`sequence`].
    pub fn demand_before(&self, end: u64) -> Result<Demand> {
        let told = self.told();
        let name = format!("{}-{}", self.topic, self.partition);
        if let Some(broken) = &told.broken {
            bail!("{name}: {broken}");
        }
        let acked = told.acked.iter().filter(|(_, (_, when))| *when < end);
        let seen = told.seen.iter().take_while(|(_, when)| *when < end);
        Ok(Demand {
            name,
            promise: self.promise,
            acked: acked
                .map(|(number, (offset, _))| (*number, *offset))
                .collect(),
            seen: seen.map(|(entry, _)| *entry).collect(),
        })
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no holder panics")
    }
}

impl Demand {
    /// Acknowledgements that count.
    pub fn acked_count(&self) -> usize {
        self.acked.len()
    }

    /// Records seen that count.
    pub fn seen_count(&self) -> usize {
        self.seen.len()
    }

    /// Takes the acknowledgements out, where they do not promise what is tested.
    pub fn forget_acks(&mut self) {
        self.acked.clear();
    }

    /// Demands what was told of the same log later as well.
    pub fn extend(&mut self, later: &Demand) {
        self.acked.extend(&later.acked);
        if let Some(more) = later.seen.get(self.seen.len()..) {
            self.seen.extend_from_slice(more);
        }
    }

    /// Judges a log, whole from offset 0.
    pub fn judge(&self, log: &[Entry]) -> Verdict {
        let name = &self.name;
        let mut verdict = Verdict::default();
        let mut numbers = BTreeMap::new();
        for (offset, entry) in log.iter().enumerate() {
            let number = entry.number;
            if let Some(first) = numbers.insert(number, offset) {
                verdict.doubled += 1;
                verdict.found(|| format!("{name}: record {number} is at {first} and at {offset}"));
            } else if self.promise == Promise::EachOnce && number != offset as u64 {
                verdict.disordered += 1;
                verdict.found(|| format!("{name}: record {number} is at offset {offset}"));
            }
        }
        for (number, offset) in &self.acked {
            let found = log.get(*offset as usize).map(|e| e.number);
            if found != Some(*number) {
                verdict.lost += 1;
                verdict.found(|| {
                    format!(
                        "{name}: record {number} was acknowledged at offset {offset}, where \
                         {found:?} is (the log ends at {})",
                        log.len()
                    )
                });
            }
        }
        for (offset, seen) in self.seen.iter().enumerate() {
            let found = log.get(offset);
            if found != Some(seen) {
                verdict.unseen += 1;
                verdict.found(|| {
                    format!(
                        "{name}: {seen:?} was seen at offset {offset}, where {found:?} is now \
                         (the log ends at {})",
                        log.len()
                    )
                });
            }
        }
        verdict
    }
}

impl Verdict {
    fn found(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }

    /// Adds what was found in another log.
    pub fn add(&mut self, other: Verdict) {
        self.lost += other.lost;
        self.unseen += other.unseen;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.first = self.first.take().or(other.first);
    }

    /// An error if anything was found.
    pub fn into_result(self) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some(first) => bail!(
                "{first} (in all {} lost, {} unseen, {} doubled, {} out of order)",
                self.lost,
                self.unseen,
                self.doubled,
                self.disordered
            ),
        }
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
    let before = once.demand()?;
    before.judge(&entries(&[0, 1, 2, 3])).into_result()?;
    for (what, log) in [
        ("lost", &[0, 1][..]),
        ("doubled", &[0, 1, 1, 2]),
        ("reordered", &[0, 2, 1]),
        ("with a gap", &[0, 1, 2, 4]),
        ("replaced", &[0, 1, 3]),
    ] {
        let verdict = before.judge(&entries(log));
        ensure!(
            verdict.into_result().is_err(),
            "a log {what} was taken for good"
        );
    }
    let at_most = history(Promise::AtMostOnce);
    let before = at_most.demand()?;
    before.judge(&entries(&[0, 1, 2, 7])).into_result()?;
    for (what, log) in [("lost", &[0, 1][..]), ("doubled", &[0, 1, 2, 7, 7])] {
        let verdict = before.judge(&entries(log));
        ensure!(
            verdict.into_result().is_err(),
            "a log {what} was taken for good"
        );
    }
    let end = sequence::next();
    at_most.acked(7, 3);
    at_most.seen(3, &value(7, 20));
    let (earlier, later) = (at_most.demand_before(end)?, at_most.demand()?);
    let lost = entries(&[0, 1, 2]);
    earlier.judge(&lost).into_result()?;
    let verdict = later.judge(&lost);
    ensure!(
        (verdict.lost, verdict.unseen) == (1, 1),
        "what was told after a moment was not told from what was before: {verdict:?}"
    );
    at_most.seen(9, &value(9, 20));
    ensure!(
        at_most.demand().is_err(),
        "a skipped offset was not noticed"
    );
    let mut changed = value(1, 20);
    changed[15] ^= 1;
    ensure!(entry(&changed).is_err(), "a changed value was not noticed");
    Ok(())
}
