//! The partition itself: what can be asked and told without waiting.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::config::TopicConfig;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey, ProducerId};
use crate::base::time::Timestamp;
use crate::log::append::{AppendError, Origin};
use crate::log::cache::PageHolder;
use crate::log::epochs::EpochEnd;
use crate::log::format::names::{self, Kind};
use crate::log::partition::context::PartitionContext;
use crate::log::partition::facts::{PartitionFacts, SegmentFacts};
use crate::log::partition::observers::{Observer, Observers};
use crate::log::partition::segment::Segment;
use crate::log::partition::state::{Admit, State};
use crate::log::segment::{BatchHeader, HEADER_BYTES, Place};
use crate::ring::buf::Buf;
use crate::ring::sync::Event;

/// Bytes of several partitions that only memory and a journal have.
#[derive(Clone, Debug, Default)]
pub struct Undrained(Rc<Cell<u64>>);

impl Undrained {
    /// How many there are now.
    pub fn bytes(&self) -> u64 {
        self.0.get()
    }

    fn change(&self, before: u64, after: u64) {
        self.0.set(self.0.get() + after - before);
    }
}

/// One partition of this shard. See the module for what it owns.
pub struct Partition {
    pub(super) id: u64,
    pub(super) context: Rc<PartitionContext>,
    pub(super) key: PartitionKey,
    pub(super) topic: String,
    pub(super) dir: RefCell<PathBuf>,
    pub(super) state: RefCell<State>,
    pub(super) log_start: Cell<Offset>,
    pub(super) log_end: Cell<Offset>,
    pub(super) written_end: Cell<Offset>,
    pub(super) durable_end: Cell<Offset>,
    pub(super) leader_epoch: Cell<LeaderEpoch>,
    pub(super) undrained: Cell<u64>,
    pub(super) undrained_of_all: OnceCell<Undrained>,
    pub(super) unreserved: Cell<u64>,
    /// A drain, settling or cut is under way: one at a time.
    pub(super) busy: Cell<bool>,
    pub(super) idle: Event,
    pub(super) gone: Cell<bool>,
    /// Where a reader last met bytes that are not what was written.
    pub(super) rotten: Cell<Option<Place>>,
    pub(super) durable_moved: Event,
    pub(super) observers: Observers,
    pub(super) this: Weak<Partition>,
}

impl Partition {
    /// Topic id and number.
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its directory.
    pub fn dir(&self) -> PathBuf {
        self.dir.borrow().clone()
    }

    /// First offset that can be read.
    pub fn log_start(&self) -> Offset {
        self.log_start.get()
    }

    /// One after the last offset, durable or not.
    pub fn log_end(&self) -> Offset {
        self.log_end.get()
    }

    /// One after the last offset that the journal has written.
    pub fn written_end(&self) -> Offset {
        self.written_end.get()
    }

    /// One after the last offset that a power cut cannot take: the high watermark on a single
    /// machine.
    pub fn durable_end(&self) -> Offset {
        self.durable_end.get()
    }

    /// Epoch of the records that are appended now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.get()
    }

    /// Epoch of the newest record.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.state.borrow().epochs.latest().map(|entry| entry.epoch)
    }

    /// Epoch of the record at an offset.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.state.borrow().epochs.at(offset)
    }

    /// Where a leader epoch ended (KIP-101); `None` if it is above all known ones.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.state.borrow().epochs.end_of(epoch, self.log_end())
    }

    /// The topic's settings.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.state.borrow().config.clone()
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_txn(&self) -> Option<Offset> {
        self.state.borrow().producers.first_open_txn()
    }

    /// The settings from now on.
    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.state.borrow_mut().config = config;
        self.observers.moved();
    }

    /// The epoch of what is appended from now on.
    pub fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        self.state.borrow_mut().leader_epoch = epoch;
        self.leader_epoch.set(epoch);
        self.observers.moved();
    }

    /// Nothing below `start` can be read from now on.
    pub fn set_log_start(&self, start: Offset) {
        if start <= self.log_start() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.log_start = start;
        state.epochs.truncate_start(start);
        drop(state);
        self.log_start.set(start);
        self.observers.moved();
    }

    /// It was deleted, or its directory went offline: wakes all who wait.
    pub fn set_gone(&self) {
        self.gone.set(true);
        self.durable_moved.notify_all();
        self.observers.moved();
    }

    /// Whether [`Partition::set_gone`] was called.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Adds an observer.
    pub fn observe(&self, observer: &Rc<dyn Observer>, token: u32) {
        self.observers.add(observer, token);
    }

    /// Removes the observer with that token.
    pub fn unobserve(&self, token: u32) {
        self.observers.remove(token);
    }

    /// Checks a batch, which a client sent unstamped, against all that this partition knows, and
    /// says where it goes. Reserves the memory for it. Whoever gets a slot pushes before anything
    /// else happens to the partition, or drops the slot.
    ///
    /// # Errors
    /// Sequence, epoch, size, or no memory ([`AppendError::Busy`]). Nothing changed then.
    pub fn prepare(&self, header: &BatchHeader, origin: Origin) -> Result<Admit, AppendError> {
        let ring = &self.context.ring;
        let admit = self
            .state
            .borrow_mut()
            .admit(header, origin, ring.wall().0, || ring.random())?;
        if matches!(admit, Admit::Append(_)) && !self.reserve(header.len as usize) {
            return Err(AppendError::Busy);
        }
        Ok(admit)
    }

    fn reserve(&self, bytes: usize) -> bool {
        let (arena, now) = (self.context.ring.arena(), self.context.ring.now());
        let reserve = || {
            let mut state = self.state.borrow_mut();
            state.taker().tail.reserve(bytes, arena, now)
        };
        if reserve() {
            return true;
        }
        self.context.cache.make_room(2 * bytes) > 0 && reserve()
    }

    /// The directory keeps so much space more for the segment of the prepared batch.
    pub fn claim(&self, bytes: u64) {
        self.state.borrow_mut().taker().claimed += bytes;
        self.unreserved.set(self.unreserved.get() + bytes);
    }

    /// Space that was claimed and that no file has yet.
    pub fn unreserved_bytes(&self) -> u64 {
        self.unreserved.get()
    }

    pub(super) fn count_unreserved(&self) {
        let state = self.state.borrow();
        let unfinished = state.segments.range(state.first_unfinished()..);
        self.unreserved
            .set(unfinished.map(Segment::unreserved).sum());
    }

    /// Appends a prepared batch: its stamped header and its records. Copies them to the pages of
    /// the active segment, which `prepare` may have decided to begin. Answers with the place of
    /// its first byte.
    pub fn push(&self, head: &[u8; HEADER_BYTES], records: &[u8]) -> Place {
        let header = BatchHeader::parse(head).expect("a prepared batch has a header");
        debug_assert_eq!(header.len as usize, HEADER_BYTES + records.len());
        let mut state = self.state.borrow_mut();
        let place = state.push(&header, head, records);
        self.log_end.set(state.end());
        self.set_undrained(self.undrained.get() + u64::from(header.len));
        place
    }

    /// The journal has written everything below `end`.
    pub fn advance_written(&self, end: Offset) {
        if end > self.written_end() {
            self.written_end.set(end);
        }
    }

    /// The journal has flushed everything below `end`, whose last byte stands before `place`.
    pub fn advance_durable(&self, end: Offset, place: Place) {
        if end <= self.durable_end() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.durable = place;
        state.durable_end = end;
        drop(state);
        self.durable_end.set(end);
        self.advance_written(end);
        self.durable_moved.notify_all();
        self.observers.moved();
    }

    /// Waits until the durable end has passed `offset` (it is durable then) or the partition is
    /// gone.
    pub async fn until_durable(&self, end: Offset) {
        while self.durable_end() < end && !self.is_gone() {
            self.durable_moved.wait().await;
        }
    }

    /// Whether it remembers batches of an idempotent producer.
    pub fn knows_producer(&self, id: ProducerId) -> bool {
        self.state.borrow().producers.knows(id.0)
    }

    /// Forgets producers that were silent too long.
    pub fn expire_producers(&self, now: Timestamp, expiration: std::time::Duration) -> usize {
        self.state.borrow_mut().producers.expire(now, expiration)
    }

    /// Bytes that only memory and the journal have.
    pub fn undrained_bytes(&self) -> u64 {
        self.undrained.get()
    }

    pub(super) fn set_undrained(&self, bytes: u64) {
        let before = self.undrained.replace(bytes);
        if let Some(all) = self.undrained_of_all.get() {
            all.change(before, bytes);
        }
    }

    /// From now on the bytes that only memory and the journal have count there too.
    pub fn count_undrained_in(&self, all: &Undrained) {
        if self.undrained_of_all.set(all.clone()).is_ok() {
            all.change(0, self.undrained_bytes());
        }
    }

    /// One after the last byte.
    pub fn end_place(&self) -> Place {
        self.state.borrow().end_place()
    }

    /// Below this place every byte is in its file (not necessarily flushed).
    pub fn drained_place(&self) -> Place {
        let state = self.state.borrow();
        let i = state.first_undrained();
        let segment = i.map_or_else(|| state.active(), |i| &state.segments[i]);
        Place::new(segment.base, segment.drained)
    }

    /// The bytes from a place to the end of its segment, for a journal to carry forward; empty if
    /// they are not all in memory.
    pub fn bytes_from(&self, place: Place) -> SmallVec<[Buf; 2]> {
        let state = self.state.borrow();
        let mut parts = SmallVec::new();
        if let Some(i) = state.index_of(place.segment) {
            let tail = &state.segments[i].tail;
            if tail.start() <= place.position && place.position < tail.end() {
                tail.share(place.position, tail.end(), |part| parts.push(part));
            }
        }
        parts
    }

    /// Everything about it that is not in its segments' files, at the log's end.
    pub fn facts(&self) -> PartitionFacts {
        self.state.borrow().facts()
    }

    /// As [`Partition::facts`], with the length of every sealed segment: for a clean stop.
    pub fn closing_facts(&self) -> PartitionFacts {
        self.state.borrow().closing_facts()
    }

    /// The first offset of each segment and its length in bytes, oldest first.
    pub fn segments(&self) -> Vec<SegmentFacts> {
        self.state
            .borrow()
            .segments
            .iter()
            .map(Segment::facts)
            .collect()
    }

    pub(super) fn path(&self, base: Offset, kind: Kind) -> PathBuf {
        names::file(&self.dir.borrow(), base, kind)
    }

    pub(super) fn note_end(&self) {
        let state = self.state.borrow();
        let end = state.end();
        self.log_end.set(end);
        self.written_end.set(self.written_end().min(end));
        self.durable_end.set(self.durable_end().min(end));
        self.log_start.set(state.log_start);
        let undrained = state.segments.iter().map(Segment::undrained).sum();
        drop(state);
        self.set_undrained(undrained);
        self.count_unreserved();
        self.observers.moved();
    }

    pub(super) fn weak(&self) -> Weak<dyn PageHolder> {
        self.this.clone()
    }
}

impl PageHolder for Partition {
    fn release(&self, segment: Offset, position: u64) -> usize {
        let mut state = self.state.borrow_mut();
        let sealed = state.active().base != segment;
        let Some(segment) = state.by_base(segment) else {
            return 0;
        };
        if sealed && segment.undrained() == 0 && position >= segment.len() {
            let freed = segment.tail.release_all();
            if segment.snapshot.is_none()
                && let Some(index) = segment.index.take()
            {
                let key = (self.id, segment.base);
                let weight = index.memory_bytes();
                let mut indexes = self.context.indexes.borrow_mut();
                indexes.insert(key, index, weight);
            }
            return freed;
        }
        let position = position.min(segment.boundary.position);
        segment.tail.release_below(position)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.set_undrained(0);
        for segment in &self.state.get_mut().segments {
            self.context.files.forget(self.id, segment.base);
        }
    }
}
