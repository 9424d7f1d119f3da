//! Where each leader epoch of a partition begins (KIP-101): a plain list that rises in both
//! columns. Answers where an epoch ended, which is where a follower or consumer that knew only
//! that epoch must cut.

use crate::base::ids::{LeaderEpoch, Offset};
pub use crate::log::format::epoch_checkpoint::EpochStart;

/// The epochs of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs(Vec<EpochStart>);

/// How an epoch is known to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch that is not above the one asked for.
    pub epoch: LeaderEpoch,
    /// One after its last offset.
    pub end: Offset,
}

impl LeaderEpochs {
    /// From a list as it was stored.
    pub fn from_starts(starts: Vec<EpochStart>) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for entry in starts {
            epochs.assign(entry.epoch, entry.start);
        }
        epochs
    }

    /// As it is stored.
    pub fn starts(&self) -> &[EpochStart] {
        &self.0
    }

    /// The newest, if a record was ever appended.
    pub fn latest(&self) -> Option<EpochStart> {
        self.0.last().copied()
    }

    /// Notes that the record at `start` has this epoch; true if that is news. Epochs that began at
    /// or after `start`, or are above, were never real: they go.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.0 < 0
            || self
                .latest()
                .is_some_and(|last| last.epoch == epoch && last.start <= start)
        {
            return false;
        }
        while self
            .latest()
            .is_some_and(|last| last.epoch >= epoch || last.start >= start)
        {
            self.0.pop();
        }
        self.0.push(EpochStart { epoch, start });
        true
    }

    /// Where `asked` ended in a log that ends at `log_end`; `None` where the epoch is above all
    /// known ones. An epoch below all known ones ended where the first known one begins.
    pub fn end_of(&self, asked: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if asked.0 < 0 {
            return None;
        }
        let above = self.0.partition_point(|entry| entry.epoch <= asked);
        match (self.0.get(..above).and_then(<[_]>::last), self.0.get(above)) {
            (Some(known), None) if known.epoch == asked => Some(EpochEnd {
                epoch: asked,
                end: log_end,
            }),
            (_, None) => None,
            (Some(known), Some(next)) => Some(EpochEnd {
                epoch: known.epoch,
                end: next.start,
            }),
            (None, Some(next)) => Some(EpochEnd {
                epoch: asked,
                end: next.start,
            }),
        }
    }

    /// The epoch of the record at `offset`.
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let above = self.0.partition_point(|entry| entry.start <= offset);
        self.0.get(..above)?.last().map(|entry| entry.epoch)
    }

    /// The log now ends at `end`.
    pub fn truncate_end(&mut self, end: Offset) {
        self.0.retain(|entry| entry.start < end);
    }

    /// The log now starts at `start`: older epochs go, the one that holds `start` begins there.
    pub fn truncate_start(&mut self, start: Offset) {
        let above = self.0.partition_point(|entry| entry.start <= start);
        if above > 0 {
            self.0.drain(..above - 1);
            self.0[0].start = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in starts {
            assert!(epochs.assign(LeaderEpoch(*epoch), Offset(*start)));
        }
        epochs
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs
            .starts()
            .iter()
            .map(|entry| (entry.epoch.0, entry.start.0))
            .collect()
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = |asked: i32| {
            epochs
                .end_of(LeaderEpoch(asked), Offset(42))
                .map(|end| (end.epoch.0, end.end.0))
        };
        assert_eq!(end(7), Some((7, 42)), "the newest ends with the log");
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(5), Some((4, 30)), "an unknown one between");
        assert_eq!(end(1), Some((1, 10)), "one below all");
        assert_eq!(end(8), None, "one above all");
        assert_eq!(end(-1), None);
        assert_eq!(
            LeaderEpochs::default().end_of(LeaderEpoch(0), Offset(0)),
            None
        );
    }

    #[test]
    fn only_a_new_epoch_is_noted() {
        let mut epochs = epochs(&[(1, 0)]);
        assert!(!epochs.assign(LeaderEpoch(1), Offset(5)));
        assert!(!epochs.assign(LeaderEpoch(-1), Offset(5)));
        assert!(epochs.assign(LeaderEpoch(2), Offset(6)));
        assert_eq!(pairs(&epochs), [(1, 0), (2, 6)]);
    }

    #[test]
    fn an_epoch_without_a_record_gives_way() {
        let mut epochs = epochs(&[(1, 0), (2, 6)]);
        assert!(epochs.assign(LeaderEpoch(3), Offset(6)));
        assert_eq!(pairs(&epochs), [(1, 0), (3, 6)]);
    }

    #[test]
    fn the_epoch_of_an_offset_is_the_last_that_began() {
        let epochs = epochs(&[(2, 10), (4, 20)]);
        assert_eq!(epochs.at(Offset(9)), None);
        assert_eq!(epochs.at(Offset(10)), Some(LeaderEpoch(2)));
        assert_eq!(epochs.at(Offset(25)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn cutting_either_end_keeps_what_is_in_between() {
        let mut list = epochs(&[(2, 10), (4, 20), (7, 30)]);
        list.truncate_end(Offset(30));
        assert_eq!(pairs(&list), [(2, 10), (4, 20)]);
        list.truncate_start(Offset(15));
        assert_eq!(pairs(&list), [(2, 15), (4, 20)]);
        list.truncate_start(Offset(20));
        assert_eq!(pairs(&list), [(4, 20)]);
        list.truncate_start(Offset(5));
        assert_eq!(pairs(&list), [(4, 20)]);
        list.truncate_end(Offset(0));
        assert_eq!(pairs(&list), []);
    }
}
