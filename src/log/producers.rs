//! What one partition knows of its idempotent producers (KIP-98): for each the newest epoch and its
//! last five batches. Checks sequences, finds duplicates, forgets who was silent too long. A plain
//! state machine: time comes in as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::log::append::{AppendError, Origin};
use crate::log::format::producer_snapshot;
use crate::log::segment::BatchHeader;

/// How many batches of a producer are remembered: as many as a client may have in flight.
pub const BATCHES: usize = 5;

const NO_EPOCH: i16 = -1;

/// One remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchMark {
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Its last offset.
    pub last_offset: Offset,
    /// Last offset less first offset.
    pub offset_delta: i32,
    /// Its newest timestamp, in ms.
    pub timestamp: i64,
}

impl BatchMark {
    /// Its first offset.
    pub fn first_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }

    /// Sequence of its first record; wraps at 0 to `i32::MAX`.
    pub fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.offset_delta) & i32::MAX
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its newest epoch; -1 where only a marker is known.
    pub epoch: i16,
    /// Its newest batches in that epoch, oldest first, at most [`BATCHES`].
    pub batches: SmallVec<[BatchMark; BATCHES]>,
    /// When it last wrote, in ms by its own timestamps.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that wrote its newest marker; -1: none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub txn_first_offset: Option<Offset>,
}

impl Producer {
    fn new() -> Producer {
        Producer {
            epoch: NO_EPOCH,
            batches: SmallVec::new(),
            last_timestamp: -1,
            coordinator_epoch: -1,
            txn_first_offset: None,
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    fn note(&mut self, header: &BatchHeader) {
        if self.epoch != header.producer_epoch {
            self.batches.clear();
            self.epoch = header.producer_epoch;
        }
        if self.batches.len() == BATCHES {
            self.batches.remove(0);
        }
        self.batches.push(BatchMark {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        self.last_timestamp = header.max_timestamp;
        if header.is_transactional() && self.txn_first_offset.is_none() {
            self.txn_first_offset = Some(header.base_offset);
        }
    }
}

/// What a check says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues its producer's sequence (or there is none).
    Fresh,
    /// It is in the log already.
    Duplicate(BatchMark),
}

/// The producers of one partition. Ordered, because clients choose the ids that they send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProducerStates(BTreeMap<i64, Box<Producer>>);

impl ProducerStates {
    /// Whether a batch may follow what the log has.
    ///
    /// # Errors
    /// A gap in the sequence, a fenced epoch, a plain batch inside a transaction.
    pub fn check(&self, header: &BatchHeader, origin: Origin) -> Result<Verdict, AppendError> {
        if !header.has_producer() || origin == Origin::Leader {
            return Ok(Verdict::Fresh);
        }
        let Some(known) = self.0.get(&header.producer_id) else {
            return Ok(Verdict::Fresh); // expired, deleted or new: any sequence will do
        };
        if origin == Origin::Client
            && header.producer_epoch == known.epoch
            && let Some(batch) = known.batches.iter().find(|batch| {
                batch.first_sequence() == header.base_sequence
                    && batch.last_sequence == header.last_sequence()
            })
        {
            return Ok(Verdict::Duplicate(*batch));
        }
        if header.producer_epoch < known.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer: header.producer_id,
                got: header.producer_epoch,
                current: known.epoch,
            });
        }
        if header.is_control() {
            return Ok(Verdict::Fresh);
        }
        if origin == Origin::Client && known.epoch != NO_EPOCH {
            let last = known.last_sequence();
            let expected = match header.producer_epoch == known.epoch {
                true => last.wrapping_add(1) & i32::MAX,
                false => 0, // a new epoch begins again
            };
            if header.base_sequence != expected {
                return Err(AppendError::OutOfOrderSequence {
                    producer: header.producer_id,
                    epoch: header.producer_epoch,
                    got: header.base_sequence,
                    expected,
                });
            }
        }
        if known.txn_first_offset.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState(format!(
                "producer {} has an open transaction",
                header.producer_id
            )));
        }
        Ok(Verdict::Fresh)
    }

    /// Notes an appended batch with its offsets. A batch that is known already (a replay) changes
    /// nothing.
    pub fn note(&mut self, header: &BatchHeader) {
        if !header.has_producer() || header.is_control() {
            return;
        }
        let producer = self
            .0
            .entry(header.producer_id)
            .or_insert_with(|| Box::new(Producer::new()));
        let known = producer
            .batches
            .last()
            .is_some_and(|last| last.last_offset >= header.last_offset());
        if !known {
            producer.note(header);
        }
    }

    /// Notes the end of a producer's transaction.
    pub fn note_marker(&mut self, header: &BatchHeader, coordinator_epoch: i32) {
        let producer = self
            .0
            .entry(header.producer_id)
            .or_insert_with(|| Box::new(Producer::new()));
        if producer.epoch != header.producer_epoch {
            producer.batches.clear();
            producer.epoch = header.producer_epoch;
        }
        producer.coordinator_epoch = coordinator_epoch;
        producer.txn_first_offset = None;
        producer.last_timestamp = header.max_timestamp;
    }

    /// Forgets producers that wrote nothing for `expiration` (`producer.id.expiration.ms`) and
    /// have no open transaction; answers how many.
    pub fn expire(&mut self, now: Timestamp, expiration: Duration) -> usize {
        let before = self.0.len();
        let expiration = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        self.0.retain(|_, producer| {
            producer.txn_first_offset.is_some()
                || now.0.saturating_sub(producer.last_timestamp) < expiration
        });
        before - self.0.len()
    }

    /// The log now ends at `end`. Answers false if a producer lost every batch that was known of
    /// it: then its older ones must be read from the log again.
    pub fn truncate_end(&mut self, end: Offset) -> bool {
        let mut whole = true;
        self.0.retain(|_, producer| {
            let before = producer.batches.len();
            producer.batches.retain(|batch| batch.last_offset < end);
            if let Some(first) = producer.txn_first_offset
                && first >= end
            {
                producer.txn_first_offset = None;
            }
            let lost = before > 0 && producer.batches.is_empty();
            whole &= !lost;
            !lost
        });
        whole
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_txn(&self) -> Option<Offset> {
        self.0
            .values()
            .filter_map(|producer| producer.txn_first_offset)
            .min()
    }

    /// By producer id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.0.iter().map(|(id, producer)| (*id, &**producer))
    }

    /// Puts a producer in as it was stored.
    pub fn insert(&mut self, id: i64, producer: Producer) {
        self.0.insert(id, Box::new(producer));
    }

    /// Whether this one is known.
    pub fn knows(&self, id: i64) -> bool {
        self.0.contains_key(&id)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries of a `.snapshot` file.
    pub fn to_snapshot(&self) -> Vec<producer_snapshot::Entry> {
        self.iter()
            .map(|(producer_id, producer)| {
                let last = producer.batches.last();
                producer_snapshot::Entry {
                    producer_id,
                    epoch: producer.epoch,
                    last_sequence: producer.last_sequence(),
                    last_offset: last.map_or(-1, |batch| batch.last_offset.0),
                    offset_delta: last.map_or(0, |batch| batch.offset_delta),
                    timestamp: producer.last_timestamp,
                    coordinator_epoch: producer.coordinator_epoch,
                    current_txn_first_offset: producer.txn_first_offset.map(|offset| offset.0),
                }
            })
            .collect()
    }

    /// From the entries of a `.snapshot` file.
    pub fn from_snapshot(entries: &[producer_snapshot::Entry]) -> ProducerStates {
        let mut states = ProducerStates::default();
        for entry in entries {
            let mut producer = Producer {
                epoch: entry.epoch,
                batches: SmallVec::new(),
                last_timestamp: entry.timestamp,
                coordinator_epoch: entry.coordinator_epoch,
                txn_first_offset: entry.current_txn_first_offset.map(Offset),
            };
            if entry.last_offset >= 0 {
                producer.batches.push(BatchMark {
                    last_sequence: entry.last_sequence,
                    last_offset: Offset(entry.last_offset),
                    offset_delta: entry.offset_delta,
                    timestamp: entry.timestamp,
                });
            }
            states.insert(entry.producer_id, producer);
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::LeaderEpoch;

    fn batch(base: i64, epoch: i16, sequence: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base),
            len: 100,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: 1000,
            max_timestamp: 1000 + base,
            producer_id: 77,
            producer_epoch: epoch,
            base_sequence: sequence,
            count,
        }
    }

    fn verdict(states: &ProducerStates, header: BatchHeader) -> Result<Verdict, i16> {
        states
            .check(&header, Origin::Client)
            .map_err(|e| e.code().code())
    }

    fn states(batches: &[BatchHeader]) -> ProducerStates {
        let mut states = ProducerStates::default();
        for header in batches {
            assert_eq!(verdict(&states, *header), Ok(Verdict::Fresh));
            states.note(header);
        }
        states
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        let states = ProducerStates::default();
        assert_eq!(verdict(&states, batch(0, 3, 500, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn the_next_batch_begins_one_after_the_last() {
        let states = states(&[batch(0, 0, 0, 3)]);
        assert_eq!(verdict(&states, batch(3, 0, 3, 1)), Ok(Verdict::Fresh));
        assert_eq!(verdict(&states, batch(3, 0, 4, 1)), Err(45));
        assert_eq!(verdict(&states, batch(3, 0, 2, 1)), Err(45));
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_as_a_duplicate() {
        let sent: Vec<_> = (0..6).map(|n| batch(n * 2, 0, n as i32 * 2, 2)).collect();
        let states = states(&sent);
        for header in &sent[1..] {
            let Ok(Verdict::Duplicate(found)) = verdict(&states, *header) else {
                panic!("{header:?}");
            };
            assert_eq!(found.first_offset(), header.base_offset);
            assert_eq!(found.last_offset, header.last_offset());
        }
        assert_eq!(verdict(&states, sent[0]), Err(45), "the sixth is forgotten");
        assert_eq!(
            verdict(&states, batch(2, 0, 2, 1)),
            Err(45),
            "part of a known batch is no duplicate"
        );
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_begins_at_zero() {
        let states = states(&[batch(0, 4, 0, 1)]);
        assert_eq!(verdict(&states, batch(1, 3, 1, 1)), Err(47));
        assert_eq!(verdict(&states, batch(1, 5, 1, 1)), Err(45));
        assert_eq!(verdict(&states, batch(1, 5, 0, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn sequences_go_on_at_zero_after_the_largest() {
        let states = states(&[batch(0, 0, i32::MAX - 1, 2)]);
        assert_eq!(verdict(&states, batch(2, 0, 0, 1)), Ok(Verdict::Fresh));
        let wrapped = states_after_wrap();
        assert_eq!(verdict(&wrapped, batch(3, 0, 1, 1)), Ok(Verdict::Fresh));
        let Ok(Verdict::Duplicate(found)) = verdict(&wrapped, batch(0, 0, i32::MAX - 1, 3)) else {
            panic!("a batch across the wrap is known");
        };
        assert_eq!(found.first_sequence(), i32::MAX - 1);
    }

    fn states_after_wrap() -> ProducerStates {
        states(&[batch(0, 0, i32::MAX - 1, 3)])
    }

    #[test]
    fn a_copied_batch_is_taken_as_it_is() {
        let states = states(&[batch(0, 4, 0, 1)]);
        let header = batch(1, 3, 99, 1);
        assert_eq!(states.check(&header, Origin::Leader), Ok(Verdict::Fresh));
    }

    #[test]
    fn who_is_silent_too_long_is_forgotten() {
        let mut states = states(&[batch(0, 0, 0, 1)]);
        let day = Duration::from_secs(86_400);
        assert_eq!(states.expire(Timestamp(1000 + 86_399_999), day), 0);
        assert_eq!(states.expire(Timestamp(1000 + 86_400_000), day), 1);
        assert_eq!(verdict(&states, batch(1, 0, 44, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn a_plain_batch_inside_a_transaction_is_refused() {
        let mut open = batch(0, 0, 0, 1);
        open.attributes = 1 << 4;
        let mut states = states(&[open]);
        assert_eq!(states.first_open_txn(), Some(Offset(0)));
        assert_eq!(verdict(&states, batch(1, 0, 1, 1)), Err(48));
        states.note_marker(&batch(1, 0, -1, 1), 3);
        assert_eq!(states.first_open_txn(), None);
        assert_eq!(verdict(&states, batch(2, 0, 1, 1)), Ok(Verdict::Fresh));
    }

    #[test]
    fn replaying_what_is_known_changes_nothing() {
        let sent: Vec<_> = (0..3).map(|n| batch(n, 0, n as i32, 1)).collect();
        let states = states(&sent);
        let mut again = states.clone();
        for header in &sent {
            again.note(header);
        }
        assert_eq!(again, states);
    }

    #[test]
    fn a_cut_forgets_batches_beyond_and_says_when_nothing_is_left() {
        let mut states = states(&[batch(0, 0, 0, 2), batch(2, 0, 2, 2)]);
        assert!(states.truncate_end(Offset(2)));
        assert_eq!(verdict(&states, batch(2, 0, 2, 2)), Ok(Verdict::Fresh));
        assert!(!states.truncate_end(Offset(0)));
        assert!(states.is_empty());
    }

    #[test]
    fn a_snapshot_keeps_the_newest_batch() {
        let states = states(&[batch(0, 2, 0, 2), batch(2, 2, 2, 2)]);
        let entries = states.to_snapshot();
        assert_eq!((entries[0].last_sequence, entries[0].last_offset), (3, 3));
        let back = ProducerStates::from_snapshot(&entries);
        assert!(matches!(
            verdict(&back, batch(2, 2, 2, 2)),
            Ok(Verdict::Duplicate(_))
        ));
        assert_eq!(verdict(&back, batch(0, 2, 0, 2)), Err(45));
        assert_eq!(verdict(&back, batch(4, 2, 4, 2)), Ok(Verdict::Fresh));
    }
}
