//! What was sent, acked and read: every record once, in order.

use std::collections::BTreeMap;

use crate::base::map::Map;
use crate::cli::bench::value::Name;

/// A partition and a producer: the records of each pair are counted from 0.
type Pair = (u32, u32);

/// Records of one pair that went to the broker: all below these numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    sent: u64,
    acked: u64,
}

/// What producers did.
#[derive(Default)]
pub struct Ledger {
    lines: Map<Pair, Line>,
    /// Over all pairs.
    all: Line,
}

impl Ledger {
    fn line(&mut self, producer: u32, partition: u32) -> &mut Line {
        self.lines.entry((partition, producer)).or_default()
    }

    /// The next `count` records are sent; the number of the first.
    pub fn send(&mut self, producer: u32, partition: u32, count: u64) -> u64 {
        let line = self.line(producer, partition);
        let first = line.sent;
        line.sent += count;
        self.all.sent += count;
        first
    }

    /// `count` records from this number on were acked.
    pub fn ack(
        &mut self,
        producer: u32,
        partition: u32,
        first: u64,
        count: u64,
    ) -> Result<(), String> {
        let line = self.line(producer, partition);
        if line.acked != first {
            return Err(format!(
                "producer {producer}, partition {partition}: an ack for record {first}, {} comes next",
                line.acked
            ));
        }
        line.acked += count;
        self.all.acked += count;
        Ok(())
    }

    /// Records that were acked, of all partitions.
    pub fn acked_in_all(&self) -> u64 {
        self.all.acked
    }

    /// Records whose acks are missing.
    pub fn unacked(&self) -> u64 {
        self.all.sent - self.all.acked
    }

    /// Records that were acked, by partition.
    pub fn acked_by_partition(&self) -> BTreeMap<i32, u64> {
        let mut acked = BTreeMap::new();
        for ((partition, _), line) in &self.lines {
            *acked.entry(*partition as i32).or_default() += line.acked;
        }
        acked
    }

    /// Records of a partition that were acked.
    pub fn acked(&self, partition: u32) -> u64 {
        let its = self.lines.iter().filter(|(pair, _)| pair.0 == partition);
        its.map(|(_, line)| line.acked).sum()
    }
}

/// What one reader of partitions got.
#[derive(Default)]
pub struct Reads {
    next: Map<Pair, u64>,
    /// Records that were read.
    pub records: u64,
}

impl Reads {
    /// A record was read from this partition.
    pub fn read(
        &mut self,
        ledger: &Ledger,
        partition: u32,
        offset: i64,
        name: &Name,
    ) -> Result<(), String> {
        let pair = (partition, name.producer);
        let next = self.next.entry(pair).or_default();
        let expected = *next;
        let sent = ledger.lines.get(&pair).map_or(0, |line| line.sent);
        *next += 1;
        self.records += 1;
        let elsewhere = (name.partition, name.producer);
        let what = match name.number {
            _ if !ledger.lines.contains_key(&elsewhere) => {
                return Err(format!(
                    "partition {partition}, offset {offset} is no record of this run"
                ));
            }
            _ if name.partition != partition => format!("was sent to partition {}", name.partition),
            n if n >= sent => "was never sent".to_owned(),
            n if n < expected => format!("is there twice, or out of order: {expected} comes next"),
            n if n > expected => format!("follows a loss: {expected} comes next"),
            _ => return Ok(()),
        };
        Err(format!(
            "partition {partition}, offset {offset}: record {} of producer {} {what}",
            name.number, name.producer
        ))
    }

    /// Takes all that was acked so far for read.
    pub fn skip(&mut self, ledger: &Ledger) {
        let lines = ledger.lines.iter();
        self.next = lines.map(|(pair, line)| (*pair, line.acked)).collect();
    }

    /// The partition is read from its start again.
    pub fn forget(&mut self, partition: u32) {
        self.next.retain(|pair, _| pair.0 != partition);
    }

    fn of(&self, pair: &Pair) -> u64 {
        self.next.get(pair).copied().unwrap_or(0)
    }

    /// Whether all that was acked was read.
    pub fn is_level(&self, ledger: &Ledger) -> bool {
        let mut lines = ledger.lines.iter();
        lines.all(|(pair, line)| self.of(pair) >= line.acked)
    }

    /// What was acked and not read, and the first of it.
    pub fn missing(&self, ledger: &Ledger) -> Option<String> {
        let lines = ledger.lines.iter();
        let behind = lines.filter(|(pair, line)| self.of(pair) < line.acked);
        let behind: Vec<_> = behind.collect();
        let all: u64 = behind
            .iter()
            .map(|(pair, line)| line.acked - self.of(pair))
            .sum();
        let (pair, _) = behind.iter().min_by_key(|(pair, _)| **pair)?;
        Some(format!(
            "{all} acked records were not read; the first is record {} of producer {} in partition {}",
            self.of(pair),
            pair.1,
            pair.0
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Monotonic;

    fn name(partition: u32, number: u64) -> Name {
        Name {
            producer: 1,
            partition,
            number,
            due: Monotonic(0),
        }
    }

    #[test]
    fn losses_duplicates_and_strangers_are_found() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.send(1, 0, 3), 0);
        assert_eq!(ledger.send(1, 0, 2), 3);
        ledger.send(1, 1, 5);
        ledger.ack(1, 0, 0, 3).unwrap();
        assert!(ledger.ack(1, 0, 4, 1).is_err(), "an ack is missing");
        let mut reads = Reads::default();
        reads.read(&ledger, 0, 0, &name(0, 0)).unwrap();
        assert!(!reads.is_level(&ledger));
        let missing = reads.missing(&ledger).unwrap();
        assert!(missing.contains("2 acked records were not read; the first is record 1"));
        let mut wrong = |offset, name, what: &str| {
            let said = reads.read(&ledger, 0, offset, &name).unwrap_err();
            assert!(said.contains(what), "{said}");
        };
        wrong(1, name(0, 0), "twice");
        wrong(2, name(0, 4), "loss");
        wrong(3, name(1, 3), "sent to");
        wrong(3, name(0, 9), "never");
        wrong(4, name(2, 0), "no record of this run");
    }

    #[test]
    fn a_reader_may_begin_at_the_end_and_begin_again() {
        let mut ledger = Ledger::default();
        ledger.send(1, 0, 3);
        ledger.ack(1, 0, 0, 2).unwrap();
        assert_eq!((ledger.acked(0), ledger.acked(1)), (2, 0));
        let mut tail = Reads::default();
        tail.skip(&ledger);
        assert!(tail.is_level(&ledger));
        tail.read(&ledger, 0, 2, &name(0, 2)).unwrap();
        let mut again = Reads::default();
        for _ in 0..3 {
            again.read(&ledger, 0, 0, &name(0, 0)).unwrap();
            again.forget(0);
        }
        assert_eq!((again.records, tail.records), (3, 1));
    }
}
