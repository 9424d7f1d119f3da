//! First batches of idempotent producers that a partition could not take.
//!
//! A partition takes any sequence from a producer that it does not know, for it may have forgotten
//! it (KIP-98). So of several batches on their way the second one would be taken where the first
//! was refused a moment before, for want of space or because the partition was not there yet, and
//! the first one could never follow. What was refused is remembered here until it comes again.

use std::collections::BTreeMap;

use crate::base::ids::PartitionKey;
use crate::wire::batch::BatchView;

/// So many are remembered; then all are forgotten, as a restart forgets them.
const MAX: usize = 4096;

/// See the module. Ordered, because clients choose the ids that they send.
#[derive(Default)]
pub struct Refusals(BTreeMap<(PartitionKey, i64), First>);

/// The refused batch of a producer that comes before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The producer's epoch.
    pub epoch: i16,
    /// Sequence of its first record.
    pub sequence: i32,
}

fn first_of(batch: &BatchView<'_>) -> First {
    First {
        epoch: batch.producer_epoch(),
        sequence: batch.base_sequence(),
    }
}

impl Refusals {
    /// What must come before this batch of a producer that the partition does not know.
    pub fn before(&self, key: &PartitionKey, batch: &BatchView<'_>) -> Option<First> {
        if self.0.is_empty() || !batch.has_producer_id() {
            return None;
        }
        let refused = self.0.get(&(*key, batch.producer_id().0)).copied()?;
        let this = first_of(batch);
        (refused.epoch == this.epoch && refused.sequence < this.sequence).then_some(refused)
    }

    /// This batch of a producer that the partition does not know was refused, and may be sent again.
    pub fn refused(&mut self, key: &PartitionKey, batch: &BatchView<'_>) {
        if !batch.has_producer_id() {
            return;
        }
        if self.0.len() >= MAX {
            self.0.clear();
        }
        let this = first_of(batch);
        let first = self.0.entry((*key, batch.producer_id().0)).or_insert(this);
        if first.epoch < this.epoch || (first.epoch == this.epoch && this.sequence < first.sequence)
        {
            *first = this;
        }
    }

    /// The partition took this batch: it knows its producer now.
    pub fn taken(&mut self, key: &PartitionKey, batch: &BatchView<'_>) {
        if !self.0.is_empty() {
            self.0.remove(&(*key, batch.producer_id().0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PartitionId, ProducerId, Uuid};
    use crate::base::time::Timestamp;
    use crate::wire::batch::BatchBuilder;
    use crate::wire::compress::Codec;

    fn batch(producer: i64, epoch: i16, sequence: i32) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new(Codec::None).producer(ProducerId(producer), epoch, sequence);
        builder.append(Timestamp(1), None, Some(b"v"), &[]);
        builder.build().unwrap()
    }

    fn key(partition: i32) -> PartitionKey {
        PartitionKey {
            topic: Uuid::ZERO,
            partition: PartitionId(partition),
        }
    }

    #[test]
    fn later_batches_wait_until_the_refused_one_was_taken() {
        let mut refusals = Refusals::default();
        let all: Vec<Vec<u8>> = (0..3).map(|n| batch(7, 0, n)).collect();
        let all: Vec<BatchView<'_>> = all.iter().map(|b| BatchView::parse(b).unwrap()).collect();
        assert_eq!(refusals.before(&key(0), &all[1]), None);
        refusals.refused(&key(0), &all[1]);
        refusals.refused(&key(0), &all[0]);
        refusals.refused(&key(0), &all[2]);
        let first = First {
            epoch: 0,
            sequence: 0,
        };
        assert_eq!(refusals.before(&key(0), &all[1]), Some(first));
        assert_eq!(refusals.before(&key(0), &all[0]), None);
        assert_eq!(refusals.before(&key(1), &all[1]), None, "another partition");
        let other = batch(8, 0, 1);
        let other = BatchView::parse(&other).unwrap();
        assert_eq!(refusals.before(&key(0), &other), None, "another producer");
        refusals.taken(&key(0), &all[0]);
        assert_eq!(refusals.before(&key(0), &all[1]), None);
    }

    #[test]
    fn a_new_epoch_begins_again() {
        let mut refusals = Refusals::default();
        let (old, new) = (batch(7, 0, 4), batch(7, 1, 5));
        let (old, new) = (
            BatchView::parse(&old).unwrap(),
            BatchView::parse(&new).unwrap(),
        );
        refusals.refused(&key(0), &old);
        assert_eq!(refusals.before(&key(0), &new), None);
        refusals.refused(&key(0), &new);
        let later = batch(7, 1, 6);
        let later = BatchView::parse(&later).unwrap();
        assert_eq!(
            refusals.before(&key(0), &later).map(|first| first.sequence),
            Some(5)
        );
    }

    #[test]
    fn it_is_bounded() {
        let mut refusals = Refusals::default();
        for n in 0..3 * MAX as i64 {
            let batch = batch(n, 0, 0);
            refusals.refused(&key(0), &BatchView::parse(&batch).unwrap());
        }
        assert!(refusals.0.len() <= MAX);
    }
}
