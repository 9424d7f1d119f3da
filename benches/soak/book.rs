//! What was sent, acked and read of one topic, and whether the three agree.

use std::collections::BTreeMap;

/// One partition. Every record is sent once, so it may stand in the log once or, where its ack was
/// cut off, not at all.
#[derive(Default)]
pub struct Partition {
    /// The number of the record at each offset, from 0.
    read: Vec<u32>,
    /// Acked and not read yet: offset to number.
    acked: BTreeMap<i64, u32>,
    /// By number: it was read.
    known: Vec<bool>,
    /// Records that were ever acked.
    pub acks: u64,
}

impl Partition {
    /// The offset that is read next.
    pub fn next_offset(&self) -> i64 {
        self.read.len() as i64
    }

    /// A producer was told that its record stands there.
    pub fn acked(&mut self, offset: i64, number: u32) -> Result<(), String> {
        self.acks += 1;
        match usize::try_from(offset).ok().map(|at| self.read.get(at)) {
            None => Err(format!("record {number} was acked at offset {offset}")),
            Some(None) => match self.acked.insert(offset, number) {
                None => Ok(()),
                Some(other) => Err(format!(
                    "records {other} and {number} were acked at offset {offset}"
                )),
            },
            Some(Some(found)) if *found == number => Ok(()),
            Some(Some(found)) => Err(format!(
                "record {number} was acked at offset {offset}, where {found} was read"
            )),
        }
    }

    /// A consumer was given a record.
    pub fn read(&mut self, offset: i64, number: u32) -> Result<(), String> {
        if offset != self.next_offset() {
            let next = self.next_offset();
            return Err(format!("offset {offset} was read where {next} comes"));
        }
        if let Some(acked) = self.acked.remove(&offset)
            && acked != number
        {
            return Err(format!(
                "record {acked} was acked at offset {offset}, where {number} was read"
            ));
        }
        let at = number as usize;
        if at >= self.known.len() {
            self.known.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.known[at], true) {
            return Err(format!(
                "record {number} was read again, at offset {offset}"
            ));
        }
        self.read.push(number);
        Ok(())
    }

    /// Acked records that nobody has read yet.
    pub fn unread(&self) -> usize {
        self.acked.len()
    }
}

/// Each kind of broken promise is noticed; run before a broker is judged.
pub fn self_test() {
    let mut good = Partition::default();
    good.acked(0, 5).expect("an ack");
    good.read(0, 5).expect("what was acked");
    good.read(1, 7).expect("read before its ack");
    good.acked(1, 7).expect("what was read");
    assert_eq!(good.unread(), 0);
    assert!(good.read(3, 8).is_err(), "a gap");
    assert!(good.read(2, 7).is_err(), "a record twice");
    assert!(good.acked(1, 8).is_err(), "another one was read there");
    good.acked(2, 9).expect("an ack");
    assert_eq!(good.unread(), 1, "lost until it is read");
    assert!(good.read(2, 10).is_err(), "another one in its place");
}
