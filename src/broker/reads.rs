//! Reading partitions on the shard that owns them: one round over what a fetch wants.

use std::rc::Rc;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey, ShardId};
use crate::broker::leader;
use crate::broker::session::{SessionTopic, SlotId, Told, Wanted};
use crate::broker::shard::Shard;
use crate::log::partition::Partition;
use crate::log::partition::{Part, ReadError, ReadPlan};
use crate::wire::batch::{BatchHeader, attributes};
use crate::wire::compress::Codec;
use smallvec::SmallVec;

/// First version of Fetch whose readers know zstd.
const ZSTD_FROM: i16 = 10;
/// Records up to this size are copied into an answer.
const INLINE_BYTES: usize = 1024;
/// First version of Fetch that names topics by id.
pub const IDS_FROM: i16 = 13;

/// One partition of a fetch, from question to answer.
#[derive(Debug)]
pub struct Item {
    /// Its topic as the client names it.
    pub topic: SessionTopic,
    /// Its place in the session.
    pub slot: Option<SlotId>,
    /// The partition, if it is known.
    pub key: Option<PartitionKey>,
    /// The shard that owns it.
    pub owner: ShardId,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What there is.
    pub found: Found,
    /// The answer names it.
    pub included: bool,
}

impl Item {
    /// Reading it came to something that is answered at once, whatever else there is.
    pub fn is_urgent(&self) -> bool {
        let failed = !self.found.error.0.is_none();
        self.key.is_some() && (failed || self.found.diverging.is_some())
    }
}

/// What a read of one partition found.
#[derive(Debug, Default)]
pub struct Found {
    /// Its error; 0 for none.
    pub error: Code,
    /// End of what may be read, -1 with an error.
    pub high_watermark: i64,
    /// End of what readers of committed records may read, -1 with an error.
    pub last_stable: i64,
    /// First offset there is, -1 with an error.
    pub log_start: i64,
    /// Where the client's history leaves ours: epoch and its end offset.
    pub diverging: Option<(i32, i64)>,
    /// The partition's leader epoch, -1 where unknown.
    pub leader_epoch: i32,
    /// Bytes of whole batches.
    pub bytes: usize,
    /// Where they are.
    pub parts: SmallVec<[Part; 4]>,
}

/// An error code that defaults to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub ErrorCode);

impl Default for Code {
    fn default() -> Code {
        Code(ErrorCode::None)
    }
}

impl Found {
    /// An error, and nothing else.
    pub fn failed(error: ErrorCode) -> Found {
        Found {
            error: Code(error),
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            leader_epoch: -1,
            ..Found::default()
        }
    }

    /// What a session needs to know of it.
    pub fn told(&self) -> Told {
        Told {
            error: self.error.0,
            bytes: self.bytes,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            diverging: self.diverging.is_some(),
        }
    }

    /// Bytes that it holds of the arena, beyond those that are copied into an answer.
    pub fn held_bytes(&self) -> usize {
        if self.is_inline() {
            return 0;
        }
        let held = self.parts.iter().map(|part| match part {
            Part::Memory(buf) => buf.len(),
            Part::File { .. } => 0,
        });
        held.sum()
    }

    /// Small records in one run of memory are copied into the envelope of an answer: that costs less
    /// than another piece.
    pub fn is_inline(&self) -> bool {
        self.bytes <= INLINE_BYTES && matches!(self.parts[..], [Part::Memory(_)])
    }

    /// Lets the records go, for now.
    pub fn leave(&mut self) {
        self.bytes = 0;
        self.parts.clear();
    }
}

/// How much one round may read.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Bytes over all partitions.
    pub max_bytes: usize,
    /// The first batch is read even above the bounds.
    pub at_least_one: bool,
    /// Version of the request.
    pub version: i16,
    /// Memory is scarce: what is in files comes from there.
    pub from_files: bool,
}

impl Round {
    /// Reads one partition that this shard owns, and counts what it found. Awaits only the disk,
    /// and only for a place that no memory knows.
    pub async fn read(&mut self, shard: &Rc<Shard>, key: &PartitionKey, wanted: &Wanted) -> Found {
        let Some(partition) = shard.partition(key) else {
            return Found::failed(self.missing(shard, key));
        };
        let found = self.read_partition(shard, &partition, wanted).await;
        if found.bytes > 0 {
            self.at_least_one = false;
            self.max_bytes = self.max_bytes.saturating_sub(found.bytes);
        }
        found
    }

    fn missing(&self, shard: &Shard, key: &PartitionKey) -> ErrorCode {
        match shard.missing(key, self.version >= IDS_FROM) {
            ErrorCode::KafkaStorageError => storage_error(self.version),
            other => other,
        }
    }

    async fn read_partition(&self, shard: &Shard, partition: &Partition, wanted: &Wanted) -> Found {
        let leader = leader::of(partition);
        let epoch = leader.epoch();
        if let Err(error) = leader.check_epoch(LeaderEpoch(wanted.current_leader_epoch)) {
            let mut found = Found::failed(error.code());
            found.leader_epoch = epoch.0;
            return found;
        }
        let (start, end) = (partition.log_start(), partition.log_end());
        let visible = leader.high_watermark();
        let mut found = Found {
            high_watermark: visible.0,
            last_stable: leader.last_stable_offset().0,
            log_start: start.0,
            leader_epoch: epoch.0,
            ..Found::default()
        };
        let from = Offset(wanted.fetch_offset);
        if wanted.last_fetched_epoch >= 0 {
            match partition.epoch_end_offset(LeaderEpoch(wanted.last_fetched_epoch)) {
                None => return Found::failed(ErrorCode::OffsetOutOfRange),
                Some(_) if from < start => return Found::failed(ErrorCode::OffsetOutOfRange),
                Some(ended) if ended.epoch.0 < wanted.last_fetched_epoch || ended.end < from => {
                    found.diverging = Some((ended.epoch.0, ended.end.0));
                    return found;
                }
                Some(_) => {}
            }
        }
        if from < start || from > end {
            return Found::failed(ErrorCode::OffsetOutOfRange);
        }
        let max_bytes = usize::try_from(wanted.max_bytes)
            .unwrap_or(0)
            .min(self.max_bytes);
        if from >= visible || (max_bytes == 0 && !self.at_least_one) {
            return found;
        }
        let max_bytes = max_bytes as u64;
        let read = match partition.read(from, max_bytes, visible, self.at_least_one) {
            Ok(Some(plan)) => Ok(plan),
            Ok(None) => {
                partition
                    .read_cold(from, max_bytes, visible, self.at_least_one)
                    .await
            }
            Err(error) => Err(error),
        };
        let read = match read {
            Ok(mut plan) => {
                let preferred = match self.from_files {
                    true => partition.prefer_file(&mut plan),
                    false => Ok(()),
                };
                match preferred {
                    Ok(()) if shard.config.fetch.check_crcs => {
                        partition.check_plan(&mut plan).await.map(|()| plan)
                    }
                    Ok(()) => Ok(plan),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(plan) => self.take(plan, found),
            Err(ReadError::OutOfRange { .. }) => Found::failed(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                shard.cannot_read(partition, &error);
                Found::failed(match error {
                    ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
                    ReadError::Gone => self.missing(shard, &partition.key()),
                    _ => storage_error(self.version),
                })
            }
        }
    }

    fn take(&self, plan: ReadPlan, mut found: Found) -> Found {
        if self.version < ZSTD_FROM && begins_with_zstd(&plan) {
            return Found::failed(ErrorCode::UnsupportedCompressionType);
        }
        found.bytes = plan.bytes as usize;
        found.parts = plan.parts;
        found
    }
}

/// Fetch versions up to 5 know no error for the disk.
fn storage_error(version: i16) -> ErrorCode {
    if version <= 5 {
        ErrorCode::NotLeaderOrFollower
    } else {
        ErrorCode::KafkaStorageError
    }
}

// Looks at the header of the first batch only: a topic whose producers change to zstd while old
// consumers read it is seen when they get there.
fn begins_with_zstd(plan: &ReadPlan) -> bool {
    let mut header = [0u8; size_of::<BatchHeader>()];
    let got = match plan.parts.first() {
        Some(Part::Memory(buf)) => {
            let n = buf.len().min(header.len());
            header[..n].copy_from_slice(&buf[..n]);
            n
        }
        Some(Part::File { file, position, .. }) => {
            file.read_now(&mut header, *position).unwrap_or(0)
        }
        None => 0,
    };
    // attributes stand at 21
    let bits = i16::from_be_bytes([header[21], header[22]]);
    debug_assert!(bits & attributes::CONTROL == 0 || got > 0);
    got >= 23 && Codec::from_attributes(bits) == Some(Codec::Zstd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_hear_of_the_disk_as_a_leader_that_is_gone() {
        assert_eq!(storage_error(5), ErrorCode::NotLeaderOrFollower);
        assert_eq!(storage_error(6), ErrorCode::KafkaStorageError);
    }
}
