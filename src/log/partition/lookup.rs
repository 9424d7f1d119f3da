//! Offsets by time.

use std::rc::Rc;

use crate::base::ids::{LeaderEpoch, Offset};
use crate::base::time::Timestamp;
use crate::log::format::names::Kind;
use crate::log::partition::Partition;
use crate::log::partition::error::ReadError;
use crate::log::segment::scan::BatchFault;
use crate::log::segment::{Access, BatchHeader, Largest, Place, SparseIndex};
use crate::wire::batch::{BatchView, records};
use crate::wire::compress::{Codec, decompress};

/// A record that a lookup by time found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
}

impl Partition {
    /// The first record below `limit` that is as new as `timestamp`.
    ///
    /// # Errors
    /// As [`Partition::read_cold`].
    pub async fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        limit: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        for base in self.bases() {
            let Some(largest) = self.largest(base).await? else {
                continue;
            };
            if largest.timestamp < timestamp.0 {
                continue;
            }
            let floor = self.floor_time(base, timestamp).await?;
            let mut at = floor.max(self.log_start());
            while at < limit {
                let Some(found) = self.find(at).await? else {
                    break;
                };
                let header = found.header;
                if header.base_offset >= limit {
                    break;
                }
                if header.max_timestamp >= timestamp.0
                    && let Some(record) = self
                        .record_since(
                            Place::new(found.segment, found.position),
                            &header,
                            timestamp,
                        )
                        .await?
                {
                    let visible = record.offset < limit && record.offset >= self.log_start();
                    if visible {
                        return Ok(Some(record));
                    }
                }
                at = header.next_offset();
            }
        }
        Ok(None)
    }

    /// The first of the newest records below `limit` (KIP-734).
    ///
    /// # Errors
    /// As [`Partition::read_cold`].
    pub async fn max_timestamp(&self, limit: Offset) -> Result<Option<TimedOffset>, ReadError> {
        let mut newest: Option<Largest> = None;
        for base in self.bases() {
            let found = match self.largest(base).await? {
                Some(largest) if largest.offset < limit => Some(largest),
                Some(_) => self.largest_below(base, limit).await?,
                None => None,
            };
            if let Some(found) = found
                && newest.is_none_or(|newest| newest.timestamp < found.timestamp)
            {
                newest = Some(found);
            }
        }
        let Some(newest) = newest else {
            return Ok(None);
        };
        let Some(found) = self.find(newest.offset).await? else {
            return Ok(None);
        };
        let place = Place::new(found.segment, found.position);
        self.record_since(place, &found.header, Timestamp(newest.timestamp))
            .await
    }

    fn bases(&self) -> Vec<Offset> {
        let state = self.state.borrow();
        state
            .segments
            .iter()
            .filter(|segment| segment.end > state.log_start)
            .map(|segment| segment.base)
            .collect()
    }

    /// A segment's newest timestamp, from its time index where it is not known.
    async fn largest(&self, base: Offset) -> Result<Option<Largest>, ReadError> {
        {
            let state = self.state.borrow();
            let Some(i) = state.index_of(base) else {
                return Ok(None);
            };
            let segment = &state.segments[i];
            if segment.largest.is_some() || segment.len() == 0 {
                return Ok(segment.largest);
            }
        }
        let mut largest = self.index(base).await?.last_time();
        if !self.is_true(largest).await? {
            largest = self.renew_index(base).await?.last_time();
        }
        if let Some(segment) = self.state.borrow_mut().by_base(base)
            && segment.largest.is_none()
        {
            segment.largest = largest;
        }
        Ok(largest)
    }

    /// Up to this offset no record of a segment is as new as `timestamp`.
    async fn floor_time(&self, base: Offset, timestamp: Timestamp) -> Result<Offset, ReadError> {
        let mut floor = self.index(base).await?.floor_time(timestamp.0);
        if !self.is_true(floor).await? {
            floor = self.renew_index(base).await?.floor_time(timestamp.0);
        }
        Ok(floor.map_or(base, |floor| floor.offset))
    }

    /// A time index is a hint, too, and has no checksum: the batch that an entry names must have
    /// its time.
    async fn is_true(&self, entry: Option<Largest>) -> Result<bool, ReadError> {
        let Some(entry) = entry else {
            return Ok(true);
        };
        if entry.offset < self.log_start() {
            return Ok(true); // nothing of it is looked at
        }
        let found = self.find(entry.offset).await?;
        Ok(found.is_some_and(|found| {
            found.header.base_offset <= entry.offset
                && found.header.max_timestamp == entry.timestamp
        }))
    }

    /// Makes the index of a segment anew whose files say what is not true.
    async fn renew_index(&self, base: Offset) -> Result<Rc<SparseIndex>, ReadError> {
        let path = self.path(base, Kind::TimeIndex);
        tracing::warn!(path = %path.display(), "the time index is not true of the log, it is made anew");
        let index = self.rebuild_index(base).await?;
        if self.state.borrow().active().base != base {
            self.write_index_files(base, &index)?;
        }
        Ok(index)
    }

    /// The newest timestamp of a segment's batches that lie wholly below `limit`.
    async fn largest_below(
        &self,
        base: Offset,
        limit: Offset,
    ) -> Result<Option<Largest>, ReadError> {
        let mut largest: Option<Largest> = None;
        let mut at = base.max(self.log_start());
        while at < limit {
            let Some(found) = self.find(at).await? else {
                break;
            };
            let header = found.header;
            if found.segment != base || header.next_offset() > limit {
                break;
            }
            if largest.is_none_or(|largest| largest.timestamp < header.max_timestamp) {
                largest = Some(Largest {
                    timestamp: header.max_timestamp,
                    offset: header.last_offset(),
                });
            }
            at = header.next_offset();
        }
        Ok(largest)
    }

    /// A whole batch, from memory or from the file.
    pub(super) async fn batch_bytes(
        &self,
        place: Place,
        header: &BatchHeader,
    ) -> Result<Vec<u8>, ReadError> {
        let len = header.len as usize;
        let in_memory = {
            let state = self.state.borrow();
            state.index_of(place.segment).and_then(|i| {
                let mut bytes = vec![0; len];
                let tail = &state.segments[i].tail;
                tail.copy(place.position, &mut bytes).then_some(bytes)
            })
        };
        if let Some(bytes) = in_memory {
            return Ok(bytes);
        }
        let file = self.open_file(place.segment, Access::Read)?;
        let bytes = self
            .read_window(&file, place.segment, place.position, len)
            .await?;
        if bytes.len() < len {
            return Err(self.corrupt(place, "the file ends before its log"));
        }
        Ok(bytes.to_vec())
    }
}

/// Larger batches are not inflated to look for a record in them.
const MAX_INFLATED_BYTES: usize = 256 << 20;

impl Partition {
    /// The first record of a batch that is as new as `timestamp`.
    async fn record_since(
        &self,
        place: Place,
        header: &BatchHeader,
        timestamp: Timestamp,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let found = |timestamp: i64, offset: Offset| TimedOffset {
            timestamp: Timestamp(timestamp),
            offset,
            leader_epoch: header.leader_epoch,
        };
        if header.is_log_append_time() {
            return Ok((header.max_timestamp >= timestamp.0)
                .then(|| found(header.max_timestamp, header.base_offset)));
        }
        let corrupt = || self.corrupt(place, "the batch is not what was written");
        let bytes = self.batch_bytes(place, header).await?;
        let view = BatchView::parse(&bytes).map_err(|_| corrupt())?;
        if !view.verify_crc() {
            return Err(self.corrupt(place, BatchFault::Checksum));
        }
        let inflated;
        let body = match view.codec().ok_or_else(corrupt)? {
            Codec::None => view.body(),
            codec => {
                inflated =
                    decompress(codec, view.body(), MAX_INFLATED_BYTES).map_err(|_| corrupt())?;
                &inflated
            }
        };
        for record in records(body, header.count) {
            let record = record.map_err(|_| corrupt())?;
            let time = header.base_timestamp.saturating_add(record.timestamp_delta);
            if time >= timestamp.0 {
                let offset = header.base_offset.plus(record.offset_delta.into());
                return Ok(Some(found(time, offset)));
            }
        }
        Ok(None)
    }
}
