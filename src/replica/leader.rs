//! The leader's rules, for now with a single replica: itself.

use crate::base::error_code::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};

/// A request that knows another leadership than ours (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// The client's is older: it has stale metadata.
    #[error("leader epoch {asked} is older than {ours}")]
    Fenced {
        /// The client's.
        asked: LeaderEpoch,
        /// Ours.
        ours: LeaderEpoch,
    },
    /// The client's is newer: we have not heard of it yet.
    #[error("leader epoch {asked} is newer than {ours}")]
    Unknown {
        /// The client's.
        asked: LeaderEpoch,
        /// Ours.
        ours: LeaderEpoch,
    },
    /// We do not lead the partition.
    #[error("not the leader")]
    NotLeader,
}

impl EpochError {
    /// The code in answers.
    pub fn code(self) -> ErrorCode {
        match self {
            EpochError::Fenced { .. } => ErrorCode::FencedLeaderEpoch,
            EpochError::Unknown { .. } => ErrorCode::UnknownLeaderEpoch,
            EpochError::NotLeader => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// Fewer replicas in sync than a produce with acks=all needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MinIsrError {
    /// Seen before the append: nothing was written.
    #[error("{in_sync} replicas in sync, {needed} needed")]
    Before {
        /// How many are.
        in_sync: u32,
        /// How many are needed.
        needed: u32,
    },
    /// Seen after it: the record is in the log.
    #[error("{in_sync} replicas in sync after the append, {needed} needed")]
    After {
        /// How many are.
        in_sync: u32,
        /// How many are needed.
        needed: u32,
    },
}

impl MinIsrError {
    /// The code in answers.
    pub fn code(self) -> ErrorCode {
        match self {
            MinIsrError::Before { .. } => ErrorCode::NotEnoughReplicas,
            MinIsrError::After { .. } => ErrorCode::NotEnoughReplicasAfterAppend,
        }
    }
}

/// A partition that this machine leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    epoch: LeaderEpoch,
    /// `None` when the leadership was lost.
    leads: bool,
    replicas: u32,
    in_sync: u32,
    high_watermark: Offset,
}

impl Leader {
    /// Leads with `epoch`, alone; `durable_end` is the flushed end of the log.
    pub fn alone(epoch: LeaderEpoch, durable_end: Offset) -> Leader {
        Leader {
            epoch,
            leads: true,
            replicas: 1,
            in_sync: 1,
            high_watermark: durable_end,
        }
    }

    /// The epoch of this leadership.
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// One past the last offset that consumers may see.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// One past the last offset that readers of committed records may see: without transactions
    /// the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark
    }

    /// Leadership was lost, or the log directory went offline.
    pub fn resign(&mut self) {
        self.leads = false;
    }

    /// Takes over with a newer epoch.
    ///
    /// # Panics
    /// If the epoch is not newer: a bug of ours.
    pub fn take_over(&mut self, epoch: LeaderEpoch) {
        assert!(epoch > self.epoch, "leader epochs only grow");
        self.epoch = epoch;
        self.leads = true;
    }

    /// Compares the epoch that a request carries, -1 for none.
    ///
    /// # Errors
    /// If it is not this leadership's.
    pub fn check_epoch(&self, asked: LeaderEpoch) -> Result<(), EpochError> {
        let ours = self.epoch;
        if asked == LeaderEpoch::NONE {
            // the leadership counts, not the epoch
        } else if asked < ours {
            return Err(EpochError::Fenced { asked, ours });
        } else if asked > ours {
            return Err(EpochError::Unknown { asked, ours });
        }
        if self.leads {
            Ok(())
        } else {
            Err(EpochError::NotLeader)
        }
    }

    /// The smallest number of in-sync replicas for acks=all: never more than there are replicas.
    pub fn effective_min_isr(&self, min_insync_replicas: u32) -> u32 {
        min_insync_replicas.min(self.replicas).max(1)
    }

    /// Before an append with acks=all.
    ///
    /// # Errors
    /// If too few replicas are in sync.
    pub fn check_min_isr(&self, min_insync_replicas: u32) -> Result<(), MinIsrError> {
        let (in_sync, needed) = (self.in_sync, self.effective_min_isr(min_insync_replicas));
        if in_sync < needed {
            return Err(MinIsrError::Before { in_sync, needed });
        }
        Ok(())
    }

    /// Whether an append with acks=all that ends at `end` may be acknowledged.
    ///
    /// # Errors
    /// If it is replicated, but too few replicas are in sync now.
    pub fn is_committed(&self, end: Offset, min_insync_replicas: u32) -> Result<bool, MinIsrError> {
        if self.high_watermark < end {
            return Ok(false);
        }
        let (in_sync, needed) = (self.in_sync, self.effective_min_isr(min_insync_replicas));
        if in_sync < needed {
            return Err(MinIsrError::After { in_sync, needed });
        }
        Ok(true)
    }

    /// The log is flushed up to `end`: with a single replica that is the high watermark. True if it
    /// moved.
    ///
    /// # Panics
    /// If the flushed end went back: a bug of ours, since only a truncation may do that.
    pub fn flushed(&mut self, end: Offset) -> bool {
        assert!(
            end >= self.high_watermark,
            "the high watermark never goes back"
        );
        let moved = end > self.high_watermark;
        self.high_watermark = end;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> Leader {
        Leader::alone(LeaderEpoch(5), Offset(10))
    }

    #[test]
    fn requests_with_another_epoch_are_fenced() {
        let mut leader = leader();
        let code = |l: &Leader, e| l.check_epoch(LeaderEpoch(e)).map_err(EpochError::code);
        assert_eq!(code(&leader, -1), Ok(()));
        assert_eq!(code(&leader, 5), Ok(()));
        assert_eq!(code(&leader, 4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(code(&leader, 6), Err(ErrorCode::UnknownLeaderEpoch));
        leader.resign();
        assert_eq!(code(&leader, -1), Err(ErrorCode::NotLeaderOrFollower));
        assert_eq!(code(&leader, 4), Err(ErrorCode::FencedLeaderEpoch));
        leader.take_over(LeaderEpoch(7));
        assert_eq!(code(&leader, 5), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(code(&leader, 7), Ok(()));
    }

    #[test]
    fn the_high_watermark_is_the_flushed_end_and_never_goes_back() {
        let mut leader = leader();
        assert!(!leader.flushed(Offset(10)));
        assert_eq!(leader.is_committed(Offset(12), 1), Ok(false));
        assert!(leader.flushed(Offset(12)));
        assert_eq!(leader.is_committed(Offset(12), 1), Ok(true));
        assert_eq!(leader.last_stable_offset(), Offset(12));
        let back = std::panic::catch_unwind(move || leader.flushed(Offset(11)));
        assert!(back.is_err());
    }

    #[test]
    fn min_isr_never_asks_for_more_than_there_are_replicas() {
        let mut leader = leader();
        assert_eq!(leader.check_min_isr(2), Ok(()));
        leader.replicas = 3;
        assert_eq!(
            leader.check_min_isr(2),
            Err(MinIsrError::Before {
                in_sync: 1,
                needed: 2
            })
        );
        leader.flushed(Offset(11));
        assert!(leader.is_committed(Offset(11), 2).is_err());
        leader.in_sync = 2;
        assert_eq!(leader.is_committed(Offset(11), 2), Ok(true));
    }
}
