//! What clients know of one partition, and what must hold of all that they are told.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{Rule, rule};

/// How a record was acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// acks=0: nobody says so.
    None,
    /// acks=1: it survives the process.
    Leader,
    /// acks=all: it survives the machine.
    All,
}

/// The name of a record, which no other has: its producer, and a number that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub producer: u32,
    pub number: u32,
}

impl Record {
    pub fn to_bytes(self) -> [u8; 8] {
        ((u64::from(self.producer) << 32) | u64::from(self.number)).to_be_bytes()
    }

    /// The name at the front of a value, if the rest of the value follows from it.
    pub fn of_value(value: &[u8]) -> Option<Record> {
        let (name, rest) = value.split_first_chunk::<8>()?;
        let name = u64::from_be_bytes(*name);
        let record = Record {
            producer: (name >> 32) as u32,
            number: name as u32,
        };
        rest.iter().all(|b| *b == record.fill()).then_some(record)
    }

    /// What the rest of its value is made of.
    pub fn fill(self) -> u8 {
        (self.producer ^ self.number) as u8
    }
}

/// Batches that rot struck, first and last offset: they need not be served.
type Rotten = Vec<(i64, i64)>;

/// A partition, as all of its clients together know it.
pub struct Model {
    pub name: String,
    /// By offset: acked as durable, or seen by a consumer. Never lost, never changed.
    durable: BTreeMap<i64, Record>,
    /// Acked by acks=1 since the last power cut.
    written: BTreeMap<i64, Record>,
    /// Where a record is.
    places: BTreeMap<Record, i64>,
    high_watermark: i64,
    /// What was sent here, acked or not.
    sent: BTreeSet<Record>,
    /// Power cuts of the broker's machine that this knows of.
    power: u64,
    /// Under the interval policy a power cut may take records off the end.
    weak: bool,
    /// It may have: what is left has to be looked at before anything is added.
    unsettled: bool,
    rotten: Rotten,
    /// Rot struck what it has in a journal: it need not serve, but if it does, then all.
    may_refuse: bool,
}

impl Model {
    pub fn new(name: String, weak: bool, power: u64) -> Model {
        Model {
            name,
            durable: BTreeMap::new(),
            written: BTreeMap::new(),
            places: BTreeMap::new(),
            high_watermark: 0,
            sent: BTreeSet::new(),
            power,
            weak,
            unsettled: false,
            rotten: Rotten::new(),
            may_refuse: false,
        }
    }

    /// Takes note of the power cuts so far.
    pub fn power_cuts(&mut self, now: u64) {
        if self.power != now {
            self.power = now;
            self.written.clear();
            self.unsettled |= self.weak;
        }
    }

    /// There were so many power cuts, and the last one could not take anything.
    pub fn outlives(&mut self, power_cuts: u64) {
        // an earlier one may not have been noted yet
        self.power_cuts(power_cuts - 1);
        self.power = power_cuts;
    }

    pub fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Records that it must have.
    pub fn known(&self) -> usize {
        self.durable.len()
    }

    pub fn sending(&mut self, record: Record) {
        self.sent.insert(record);
    }

    /// A record was acked. `asked` is how many power cuts there were when it was sent.
    pub fn acked(&mut self, offset: i64, record: Record, acks: Acks, asked: u64) {
        let same_power = asked == self.power && !self.unsettled;
        match acks {
            _ if self.weak && !same_power => {}
            Acks::All => self.is_durable(offset, record, "acked"),
            Acks::Leader if self.weak => self.is_durable(offset, record, "acked"),
            Acks::Leader if same_power => self.is_written(offset, record),
            Acks::Leader | Acks::None => {}
        }
    }

    fn is_written(&mut self, offset: i64, record: Record) {
        if let Some(known) = self.durable.get(&offset) {
            rule!(
                Rule::Offsets,
                *known == record,
                "{}: offset {offset} holds {known:?}, now {record:?} is acked there",
                self.name
            );
            return;
        }
        if let Some(was) = self.written.insert(offset, record) {
            rule!(
                Rule::Acked,
                was == record,
                "{}: {was:?} was acked at offset {offset}, now {record:?} is acked there",
                self.name
            );
        }
    }

    fn is_durable(&mut self, offset: i64, record: Record, how: &str) {
        let name = &self.name;
        match self.durable.insert(offset, record) {
            Some(known) if known == record => return,
            Some(known) => rule!(
                Rule::Offsets,
                false,
                "{name}: offset {offset} held {known:?}, now {record:?} is {how}"
            ),
            None => {}
        }
        if let Some(written) = self.written.remove(&offset) {
            rule!(
                Rule::Acked,
                written == record,
                "{name}: {written:?} was acked at offset {offset}, now {record:?} is {how}"
            );
        }
        let place = self.places.insert(record, offset);
        rule!(
            Rule::Once,
            place.is_none_or(|place| place == offset),
            "{name}: {record:?} was at {place:?}, is {how} at {offset}"
        );
        let of_its = |r: Record| r.producer == record.producer;
        let all = &self.places;
        let before = all.range(..record).next_back().filter(|(r, _)| of_its(**r));
        let after = all.range(record..).nth(1).filter(|(r, _)| of_its(**r));
        rule!(
            Rule::Acked,
            before.is_none_or(|(_, o)| *o < offset) && after.is_none_or(|(_, o)| *o > offset),
            "{name}: {record:?}, {how} at {offset}, is out of order: {before:?}, {after:?}"
        );
    }

    /// A consumer that asked when there were so many power cuts was shown this, below this high
    /// watermark.
    pub fn seen(&mut self, offset: i64, record: Record, high_watermark: i64, asked: u64) {
        let name = &self.name;
        rule!(
            Rule::Watermark,
            offset < high_watermark,
            "{name}: offset {offset} is shown, the high watermark is {high_watermark}"
        );
        rule!(
            Rule::Offsets,
            self.sent.contains(&record),
            "{name}: nobody sent {record:?} here, it is at {offset}"
        );
        if self.weak && (self.unsettled || asked != self.power) {
            return;
        }
        self.is_durable(offset, record, "seen");
    }

    /// The high watermark in an answer; `before` is what was known when the question was asked.
    pub fn watermark(&mut self, now: i64, before: i64, asked: u64) {
        if self.weak && (self.unsettled || asked != self.power) {
            return;
        }
        rule!(
            Rule::Watermark,
            now >= before,
            "{}: the high watermark went back from {before} to {now}",
            self.name
        );
        self.high_watermark = self.high_watermark.max(now);
    }

    /// Rot struck a batch.
    pub fn rots(&mut self, first: i64, last: i64) {
        self.rotten.push((first, last));
    }

    /// Whether an offset is in a batch that rotted.
    pub fn is_rotten(&self, offset: i64) -> bool {
        self.rotten.iter().any(|(a, b)| (*a..=*b).contains(&offset))
    }

    /// Whether this record may be at this offset, as far as anybody knows.
    pub fn may_be(&self, offset: i64, record: Record) -> bool {
        self.durable
            .get(&offset)
            .is_none_or(|known| *known == record)
    }

    /// Rot struck a journal that may hold some of it.
    pub fn may_refuse(&mut self) {
        self.may_refuse = true;
    }

    pub fn has_rot(&self) -> bool {
        self.may_refuse || !self.rotten.is_empty()
    }

    /// All that is there, from the start to the end, while nothing is added. What rotted is
    /// missing.
    pub fn holds(&self, found: &BTreeMap<i64, Record>) {
        let name = &self.name;
        self.has_no_gap(found);
        for (what, must) in [
            ("acked with acks=all, or seen", &self.durable),
            ("acked with acks=1", &self.written),
        ] {
            for (offset, record) in must {
                rule!(
                    Rule::Acked,
                    found.get(offset) == Some(record) || self.is_rotten(*offset),
                    "{name}: {record:?} at offset {offset} was {what}; there is {:?}, the last offset is {:?}",
                    found.get(offset),
                    found.last_key_value()
                );
            }
        }
    }

    /// Offsets follow each other, but for what rotted; one past the last.
    fn has_no_gap(&self, found: &BTreeMap<i64, Record>) -> i64 {
        let mut next = 0;
        for offset in found.keys() {
            let gap = (next..*offset).find(|o| !self.is_rotten(*o));
            rule!(
                Rule::Offsets,
                gap.is_none(),
                "{}: a gap at {gap:?}, before {offset}",
                self.name
            );
            next = offset + 1;
        }
        next
    }

    /// What a power cut left under the interval policy, when there had been so many of them: any
    /// part from the start on, unchanged. What rotted is missing.
    pub fn settled(&mut self, found: BTreeMap<i64, Record>, power: u64) {
        if power != self.power {
            return; // and another one came
        }
        let name = &self.name;
        let next = self.has_no_gap(&found);
        for (offset, record) in &found {
            let known = self.durable.get(offset);
            rule!(
                Rule::Acked,
                known.is_none_or(|known| known == record),
                "{name}: offset {offset} held {known:?}, after a power cut it holds {record:?}"
            );
        }
        self.places = found.iter().map(|(o, r)| (*r, *o)).collect();
        rule!(
            Rule::Once,
            self.places.len() == found.len(),
            "{name}: after a power cut a record is there twice"
        );
        self.high_watermark = next;
        self.durable = found;
        self.unsettled = false;
    }
}
