//! What clients know of one partition.

use std::collections::BTreeMap;

/// Records are named by numbers that grow and are never used twice.
#[derive(Default)]
pub struct Model {
    pub name: String,
    /// By offset: acked with acks=all, or seen by a consumer. Never lost, never changed.
    durable: BTreeMap<i64, u64>,
    /// Acked with acks=1 since the last power cut.
    written: BTreeMap<i64, u64>,
    /// Where a record was acked or seen.
    places: BTreeMap<u64, i64>,
    high_watermark: i64,
    /// Records below this were sent.
    sent: u64,
    idempotent: bool,
}

impl Model {
    pub fn new(name: String, idempotent: bool) -> Model {
        Model {
            name,
            idempotent,
            ..Model::default()
        }
    }

    pub fn sending(&mut self, record: u64) {
        self.sent = self.sent.max(record + 1);
    }

    pub fn acked(&mut self, offset: i64, record: u64, all: bool) {
        match all {
            true => self.is_durable(offset, record, "acked"),
            false => drop(self.written.insert(offset, record)),
        }
    }

    fn is_durable(&mut self, offset: i64, record: u64, how: &str) {
        let name = &self.name;
        let was = self.durable.insert(offset, record);
        assert!(
            was.is_none_or(|was| was == record),
            "{name}: offset {offset} held record {was:?}, now {record} is {how}"
        );
        let place = self.places.insert(record, offset);
        assert!(
            place.is_none_or(|place| place == offset),
            "{name}: record {record} was at {place:?}, {how} at {offset}"
        );
        let before = self.durable.range(..offset).next_back();
        let after = self.durable.range(offset + 1..).next();
        assert!(
            before.is_none_or(|(_, r)| *r < record) && after.is_none_or(|(_, r)| *r > record),
            "{name}: record {record} at {offset} is out of order: {before:?} {after:?}"
        );
    }

    /// A consumer was shown this, below this high watermark.
    pub fn seen(&mut self, offset: i64, record: u64, high_watermark: i64) {
        let name = &self.name;
        assert!(
            offset < high_watermark,
            "{name}: {offset} is not below {high_watermark}"
        );
        assert!(record < self.sent, "{name}: nobody sent record {record}");
        self.is_durable(offset, record, "seen");
    }

    pub fn watermark(&mut self, now: i64) {
        let (name, was) = (&self.name, self.high_watermark);
        assert!(
            now >= was,
            "{name}: the high watermark went back from {was} to {now}"
        );
        self.high_watermark = now;
    }

    /// acks=1 promises nothing any more.
    pub fn power_cut(&mut self) {
        self.written.clear();
    }

    /// What is there in the end.
    pub fn ended(&self, found: &BTreeMap<i64, u64>) {
        let name = &self.name;
        for (n, offset) in found.keys().enumerate() {
            assert_eq!(n as i64, *offset, "{name}: offsets without a gap");
        }
        for (what, must) in [
            ("acks=all or seen", &self.durable),
            ("acks=1", &self.written),
        ] {
            for (offset, record) in must {
                assert_eq!(
                    found.get(offset),
                    Some(record),
                    "{name}: offset {offset} of {} ({what}, idempotent: {})",
                    found.len(),
                    self.idempotent
                );
            }
        }
    }

    pub fn known(&self) -> usize {
        self.durable.len() + self.written.len()
    }
}
