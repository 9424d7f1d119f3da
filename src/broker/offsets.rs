//! Looking up offsets by time, and ends of epochs, on the shard that owns the partition.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Timestamp;
use crate::broker::leader;
use crate::broker::message::{EpochOutcome, EpochQuery, OffsetOutcome, OffsetQuery};
use crate::broker::shard::Shard;
use crate::log::partition::{Partition, ReadError};

/// The end of what may be read.
pub const LATEST: i64 = -1;
/// The first offset there is.
pub const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// The first offset on this machine (KIP-405).
pub const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage (KIP-1005).
pub const LATEST_TIERED: i64 = -5;
/// The first offset not yet uploaded (KIP-1023).
pub const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version of ListOffsets that may ask so; `None` for what is no selector.
pub fn selector_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. => Some(0),
        LATEST | EARLIEST => Some(0),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

/// Answers one question about time.
pub async fn offset(shard: &Rc<Shard>, query: OffsetQuery) -> OffsetOutcome {
    let Some(partition) = shard.partition(&query.key) else {
        return OffsetOutcome::nothing(shard.missing(&query.key, false));
    };
    let leader = leader::of(&partition);
    let epoch = leader.epoch();
    if let Err(error) = leader.check_epoch(LeaderEpoch(query.current_leader_epoch)) {
        return OffsetOutcome::nothing(error.code());
    }
    let visible = leader.high_watermark();
    let at = |offset: Offset, epoch: LeaderEpoch| OffsetOutcome {
        error: ErrorCode::None,
        timestamp: -1,
        offset: offset.0,
        leader_epoch: epoch.0,
    };
    let found = match query.timestamp {
        LATEST => return at(visible, epoch),
        EARLIEST | EARLIEST_LOCAL => return at(partition.log_start(), earliest_epoch(&partition)),
        MAX_TIMESTAMP => partition.max_timestamp(visible).await,
        0.. => {
            let timestamp = Timestamp(query.timestamp);
            partition.offset_for_timestamp(timestamp, visible).await
        }
        // nothing is tiered
        _ => return OffsetOutcome::nothing(ErrorCode::None),
    };
    match found {
        Ok(Some(found)) => OffsetOutcome {
            timestamp: found.timestamp.0,
            ..at(found.offset, found.leader_epoch)
        },
        Ok(None) => OffsetOutcome::nothing(ErrorCode::None),
        Err(ReadError::Gone) => OffsetOutcome::nothing(shard.missing(&query.key, false)),
        Err(error) => {
            shard.cannot_read(&partition, &error);
            OffsetOutcome::nothing(ErrorCode::KafkaStorageError)
        }
    }
}

/// The epoch of the first record there is, or -1 in an empty log.
fn earliest_epoch(partition: &Partition) -> LeaderEpoch {
    let epoch = partition.epoch_at(partition.log_start());
    epoch.unwrap_or(LeaderEpoch::NONE)
}

/// Answers one question about an epoch.
pub fn epoch_end(shard: &Rc<Shard>, query: EpochQuery) -> EpochOutcome {
    let nothing = |error| EpochOutcome {
        error,
        leader_epoch: -1,
        end_offset: -1,
    };
    let Some(partition) = shard.partition(&query.key) else {
        return nothing(shard.missing(&query.key, false));
    };
    let asked = LeaderEpoch(query.current_leader_epoch);
    if let Err(error) = leader::of(&partition).check_epoch(asked) {
        return nothing(error.code());
    }
    match partition.epoch_end_offset(LeaderEpoch(query.leader_epoch)) {
        Some(ended) => EpochOutcome {
            error: ErrorCode::None,
            leader_epoch: ended.epoch.0,
            end_offset: ended.end.0,
        },
        None => nothing(ErrorCode::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_came_with_their_versions() {
        let from: Vec<Option<i16>> = [5, -1, -2, -3, -4, -5, -6, -7, i64::MIN]
            .map(selector_from)
            .to_vec();
        let expected = [0, 0, 0, 7, 8, 9, 11].map(Some);
        assert_eq!(from[..7], expected);
        assert_eq!(from[7..], [None, None]);
    }
}
