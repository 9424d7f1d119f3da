//! What a cut made unknown is read from the log again: headers only.

use crate::base::ids::Offset;
use crate::log::format::names::{self, Kind};
use crate::log::format::producer_snapshot;
use crate::log::partition::Partition;
use crate::log::partition::error::LogError;
use crate::log::partition::facts::LastBatch;
use crate::log::partition::find::Walk;
use crate::log::producers::ProducerStates;
use crate::log::segment::{Access, BatchHeader, Largest};

/// Read at a time.
const WINDOW_BYTES: usize = 256 << 10;

impl Partition {
    /// Learns the active segment's last batch, newest timestamp and age, and the producers, from
    /// the log itself: after a cut, and for facts that [need it].
    ///
    /// [need it]: super::PartitionFacts::needs_recall
    ///
    /// # Errors
    /// The system's, or no batch where one must be.
    pub async fn recall(&self) -> Result<(), LogError> {
        let (mut largest, mut first, mut last) = (None, None, None);
        let base = self.state.borrow().active().base;
        self.headers(base, |position, header| {
            first.get_or_insert(header.max_timestamp);
            last = Some(LastBatch {
                position,
                crc: header.crc,
            });
            if largest.is_none_or(|largest: Largest| largest.timestamp < header.max_timestamp) {
                largest = Some(Largest {
                    timestamp: header.max_timestamp,
                    offset: header.last_offset(),
                });
            }
        })
        .await?;
        {
            let mut state = self.state.borrow_mut();
            let active = state.active_mut();
            active.last_batch = last;
            active.largest = largest;
            active.first_timestamp = first;
        }
        let producers = self.read_producers().await?;
        self.state.borrow_mut().producers = producers;
        Ok(())
    }

    /// The producers as the newest usable snapshot and the batches since then say.
    async fn read_producers(&self) -> Result<ProducerStates, LogError> {
        let (bases, end): (Vec<Offset>, Offset) = {
            let state = self.state.borrow();
            let bases = state.segments.iter().map(|segment| segment.base);
            (bases.collect(), state.end())
        };
        let (mut producers, mut from) = (ProducerStates::default(), Offset(0));
        for base in bases.iter().rev() {
            let path = self.path(*base, Kind::Snapshot);
            let Some(bytes) = self.read_side_file(&path).await? else {
                continue;
            };
            match producer_snapshot::decode(&bytes) {
                Ok(entries) => {
                    producers = ProducerStates::from_snapshot(&entries);
                    from = *base;
                    break;
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "snapshot is broken, an older one is used");
                }
            }
        }
        for base in bases.into_iter().filter(|base| *base >= from) {
            self.headers(base, |_, header| {
                if header.next_offset() <= end {
                    producers.note(header);
                }
            })
            .await?;
        }
        Ok(producers)
    }

    /// The headers of all batches of a segment, in the file and in memory.
    async fn headers(
        &self,
        base: Offset,
        mut each: impl FnMut(u64, &BatchHeader),
    ) -> Result<(), LogError> {
        let Some((boundary, on_disk)) = ({
            let state = self.state.borrow();
            let segment = state.index_of(base).map(|i| &state.segments[i]);
            segment.map(|segment| (segment.boundary, segment.on_disk))
        }) else {
            return Ok(());
        };
        if on_disk && boundary.position > 0 {
            let file = self.open_file(base, Access::Read)?;
            let mut walk = Walk::new(file, base, 0, boundary.position, WINDOW_BYTES);
            while let Some((position, header)) = walk.next(self).await? {
                each(position, &header);
            }
            if walk.position() != boundary.position {
                return Err(LogError::Damaged {
                    path: names::file(&self.dir(), base, Kind::Log),
                    what: format!("no batch at byte {}", walk.position()),
                });
            }
        }
        let state = self.state.borrow();
        if let Some(i) = state.index_of(base) {
            let mut position = boundary.position;
            while let Some(header) = state.segments[i].peek(position) {
                each(position, &header);
                position += u64::from(header.len);
            }
        }
        Ok(())
    }
}
