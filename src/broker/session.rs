//! Incremental fetch sessions (KIP-227): what a client asked for, remembered, so that its next
//! fetch names only what changed and its answer holds only what is new.
//!
//! Pure: time and randomness come in as arguments. Sessions belong to the shard of the connection
//! that made them and move with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::error_code::ErrorCode;
use crate::base::ids::{PartitionId, TopicId};
use crate::base::limits::NAMED_PER_REQUEST_MAX;
use crate::base::map::Map;
use crate::base::time::Monotonic;
use crate::base::topic_name::validate_topic_name;

/// A session is not given up for another before it is this old and this long unused (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
pub const EVICTION_AGE: Duration = Duration::from_secs(120);

/// Partitions of one session: as many as one request may name. A session whose requests add up to
/// more is closed, and the client told so.
pub const PARTITIONS_MAX: usize = 10 * NAMED_PER_REQUEST_MAX;
/// Bytes of the names of one session, each partition's counted: so many partitions with names as long
/// as most are. Names need not be those of topics that exist, and all are told again as long as they
/// are not.
pub const NAMES_MAX: usize = 80 * PARTITIONS_MAX;

/// A full fetch that makes a session.
pub const INITIAL_EPOCH: i32 = 0;
/// A fetch without a session; with a session's id it closes that one.
pub const FINAL_EPOCH: i32 = -1;

/// A topic as the client's version names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionTopic {
    /// Version 13 and later.
    Id(TopicId),
    /// Before.
    Name(Arc<str>),
}

impl SessionTopic {
    /// The same, borrowed.
    pub fn named(&self) -> NamedTopic<'_> {
        match self {
            SessionTopic::Id(id) => NamedTopic::Id(*id),
            SessionTopic::Name(name) => NamedTopic::Name(name),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            SessionTopic::Id(_) => 0,
            SessionTopic::Name(name) => name.len(),
        }
    }
}

/// A topic in a request, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedTopic<'a> {
    /// Version 13 and later.
    Id(TopicId),
    /// Before.
    Name(&'a str),
}

impl NamedTopic<'_> {
    /// Whether there can ever be such a topic. A session keeps no others: nothing would come of it,
    /// and their names may be a hundred times as long.
    pub fn can_exist(self) -> bool {
        match self {
            NamedTopic::Id(_) => true,
            NamedTopic::Name(name) => validate_topic_name(name).is_ok(),
        }
    }

    fn owned(self) -> SessionTopic {
        match self {
            NamedTopic::Id(id) => SessionTopic::Id(id),
            NamedTopic::Name(name) => SessionTopic::Name(name.into()),
        }
    }

    fn is(self, topic: &SessionTopic) -> bool {
        match (self, topic) {
            (NamedTopic::Id(a), SessionTopic::Id(b)) => a == *b,
            (NamedTopic::Name(a), SessionTopic::Name(b)) => *a == **b,
            _ => false,
        }
    }
}

/// What a client wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which partition of its topic.
    pub partition: PartitionId,
    /// From where on.
    pub fetch_offset: i64,
    /// At most so many bytes.
    pub max_bytes: i32,
    /// The leader epoch that the client knows, -1 for none (KIP-320).
    pub current_leader_epoch: i32,
    /// The epoch of the last record it has, -1 for none (KIP-595).
    pub last_fetched_epoch: i32,
}

/// What an answer would say of one partition, as far as a session cares.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its error.
    pub error: ErrorCode,
    /// Bytes of records.
    pub bytes: usize,
    /// End of what may be read.
    pub high_watermark: i64,
    /// First offset there is.
    pub log_start: i64,
    /// The client's history diverges.
    pub diverging: bool,
}

#[derive(Debug)]
struct Slot {
    topic: SessionTopic,
    wanted: Wanted,
    told_high_watermark: i64,
    told_log_start: i64,
    served: bool,
}

/// A place in a session; stays the same while the partition is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u32);

/// One client's session.
#[derive(Debug)]
pub struct Session {
    id: i32,
    epoch: i32,
    by_id: bool,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    order: Vec<u32>,
    spare: Vec<u32>,
    index: BTreeMap<(SessionTopic, i32), u32>,
    name_bytes: usize,
    created: Monotonic,
    last_used: Monotonic,
    _slot: Taken,
}

impl Session {
    /// Its number on the wire.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// It holds more than a client has a use for: see [`PARTITIONS_MAX`] and [`NAMES_MAX`].
    pub fn is_too_large(&self) -> bool {
        self.order.len() > PARTITIONS_MAX || self.name_bytes > NAMES_MAX
    }

    /// Partitions in it.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a partition or changes what is wanted of it.
    pub fn want(&mut self, topic: NamedTopic<'_>, wanted: Wanted) -> SlotId {
        // neighbours in a request share a topic: no second copy of its name
        let name = match self
            .order
            .last()
            .and_then(|n| self.slots[*n as usize].as_ref())
        {
            Some(last) if topic.is(&last.topic) => last.topic.clone(),
            _ => topic.owned(),
        };
        let key = (name, wanted.partition.0);
        if let Some(n) = self.index.get(&key) {
            if let Some(slot) = &mut self.slots[*n as usize] {
                slot.wanted = wanted;
            }
            return SlotId(*n);
        }
        self.name_bytes += key.0.bytes();
        let slot = Some(Slot {
            topic: key.0.clone(),
            wanted,
            told_high_watermark: -1,
            told_log_start: -1,
            served: false,
        });
        let n = match self.free.pop() {
            Some(n) => {
                self.slots[n as usize] = slot;
                n
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.index.insert(key, n);
        self.order.push(n);
        SlotId(n)
    }

    /// Takes a partition out.
    pub fn forget(&mut self, topic: NamedTopic<'_>, partition: PartitionId) {
        let key = (topic.owned(), partition.0);
        if let Some(n) = self.index.remove(&key) {
            self.name_bytes -= key.0.bytes();
            self.slots[n as usize] = None;
            self.free.push(n);
            self.order.retain(|o| *o != n);
        }
    }

    /// What is wanted, in the order in which it is to be served.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &SessionTopic, Wanted)> {
        self.order.iter().filter_map(|n| {
            let slot = self.slots[*n as usize].as_ref()?;
            Some((SlotId(*n), &slot.topic, slot.wanted))
        })
    }

    /// The topic of a place that is still taken.
    pub fn topic(&self, at: SlotId) -> Option<&SessionTopic> {
        self.slots.get(at.0 as usize)?.as_ref().map(|s| &s.topic)
    }

    /// Whether the answer must name this partition; notes that it was told.
    pub fn tell(&mut self, at: SlotId, told: Told) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(at.0 as usize) else {
            return false;
        };
        let mut must = told.bytes > 0;
        slot.served = must;
        if slot.told_high_watermark != told.high_watermark {
            slot.told_high_watermark = told.high_watermark;
            must = true;
        }
        if slot.told_log_start != told.log_start {
            slot.told_log_start = told.log_start;
            must = true;
        }
        if !told.error.is_none() || told.diverging {
            // so that the first answer without an error is given whatever it says
            slot.told_high_watermark = -1;
            must = true;
        }
        must
    }

    /// Sends partitions that just got data to the end of the line: others go first next time.
    pub fn send_back(&mut self) {
        self.spare.clear();
        let (slots, spare) = (&mut self.slots, &mut self.spare);
        self.order.retain(|n| {
            let slot = slots[*n as usize].as_mut();
            let back = slot.is_some_and(|slot| std::mem::take(&mut slot.served));
            if back {
                spare.push(*n);
            }
            !back
        });
        self.order.append(&mut self.spare);
    }
}

/// How a fetch is to be answered.
#[derive(Debug)]
pub enum Context {
    /// All that is asked, no session.
    Sessionless,
    /// All that is asked, and a session is to be made of it.
    Create,
    /// What changed in a session.
    Incremental(Rc<RefCell<Session>>),
    /// Not at all: this error, and no partition.
    Refused(ErrorCode),
}

/// Room for the sessions of a machine (`max.incremental.fetch.session.cache.slots`), which its shards
/// share: a session takes a slot when it is made and keeps it when it moves.
#[derive(Debug)]
pub struct Slots {
    total: usize,
    taken: AtomicUsize,
}

impl Slots {
    /// So many, all free.
    pub fn new(total: usize) -> Slots {
        Slots {
            total,
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.total).then_some(taken + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.taken.fetch_update(set, fetch, more).is_ok()
    }
}

/// A slot taken; free again when it goes.
#[derive(Debug)]
struct Taken(Arc<Slots>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sessions of a shard.
#[derive(Debug)]
pub struct SessionCache {
    slots: Arc<Slots>,
    sessions: Map<i32, Rc<RefCell<Session>>>,
    evicted: u64,
}

impl SessionCache {
    /// Without a session yet; `slots` are the machine's.
    pub fn new(slots: Arc<Slots>) -> SessionCache {
        SessionCache {
            slots,
            sessions: Map::default(),
            evicted: 0,
        }
    }

    /// Sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many were given up for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What a fetch with this session id and epoch means. An incremental one moves the session's
    /// epoch on; changing the session is the caller's.
    pub fn begin(&mut self, id: i32, epoch: i32, by_id: bool, now: Monotonic) -> Context {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != 0 {
                self.sessions.remove(&id);
            }
            return match epoch {
                FINAL_EPOCH => Context::Sessionless,
                _ => Context::Create,
            };
        }
        let Some(session) = self.sessions.get(&id) else {
            return Context::Refused(ErrorCode::FetchSessionIdNotFound);
        };
        let mut s = session.borrow_mut();
        if s.by_id != by_id {
            return Context::Refused(ErrorCode::FetchSessionTopicIdError);
        }
        if s.epoch != epoch {
            return Context::Refused(ErrorCode::InvalidFetchSessionEpoch);
        }
        s.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        s.last_used = now;
        drop(s);
        Context::Incremental(session.clone())
    }

    /// Makes a session if there is room, or an old one of this shard to give up for it. `random` names
    /// it.
    pub fn create(
        &mut self,
        partitions: usize,
        by_id: bool,
        now: Monotonic,
        mut random: impl FnMut() -> u64,
    ) -> Option<Rc<RefCell<Session>>> {
        if !self.slots.take() {
            let victim = self.victim(partitions, now)?;
            self.sessions.remove(&victim);
            self.evicted += 1;
            // free unless a request of the victim is being worked on, or another shard was faster
            if !self.slots.take() {
                return None;
            }
        }
        let slot = Taken(self.slots.clone());
        let id = loop {
            let id = (random() & 0x7fff_ffff) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Rc::new(RefCell::new(Session {
            id,
            epoch: 1,
            by_id,
            slots: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            spare: Vec::new(),
            index: BTreeMap::new(),
            name_bytes: 0,
            created: now,
            last_used: now,
            _slot: slot,
        }));
        self.sessions.insert(id, session.clone());
        Some(session)
    }

    // One long unused, else the smallest of those old enough, if it is smaller than the new one.
    fn victim(&self, partitions: usize, now: Monotonic) -> Option<i32> {
        let oldest = self.sessions.values().min_by_key(|s| {
            let s = s.borrow();
            (s.last_used, s.id)
        })?;
        if now.since(oldest.borrow().last_used) > EVICTION_AGE {
            return Some(oldest.borrow().id);
        }
        let smallest = self
            .sessions
            .values()
            .filter(|s| now.since(s.borrow().created) > EVICTION_AGE)
            .min_by_key(|s| {
                let s = s.borrow();
                (s.len(), s.id)
            })?;
        let smallest = smallest.borrow();
        (smallest.len() < partitions).then_some(smallest.id)
    }

    /// Takes a session out: it is closed, or moves to another shard.
    pub fn remove(&mut self, id: i32) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        Rc::try_unwrap(session).ok().map(RefCell::into_inner)
    }

    /// Takes a session over from another shard; false (and it is gone) when its number is taken, which
    /// the client learns by an error that makes it start anew.
    pub fn adopt(&mut self, session: Session) -> bool {
        if self.sessions.contains_key(&session.id) {
            return false;
        }
        self.sessions
            .insert(session.id, Rc::new(RefCell::new(session)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::TOPIC_NAME_BYTES;

    fn cache(slots: usize) -> SessionCache {
        SessionCache::new(Arc::new(Slots::new(slots)))
    }

    const AT: Monotonic = Monotonic(1_000_000_000);

    fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
        Wanted {
            partition: PartitionId(partition),
            fetch_offset,
            max_bytes: 1024,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn told(high_watermark: i64) -> Told {
        Told {
            error: ErrorCode::None,
            bytes: 0,
            high_watermark,
            log_start: 0,
            diverging: false,
        }
    }

    fn made(cache: &mut SessionCache, partitions: i32, now: Monotonic) -> Rc<RefCell<Session>> {
        let mut n = cache.len() as u64 + 1;
        let session = cache
            .create(partitions as usize, false, now, || {
                n += 1;
                n
            })
            .expect("there is room");
        for p in 0..partitions {
            session
                .borrow_mut()
                .want(NamedTopic::Name("t"), wanted(p, 0));
        }
        session
    }

    fn order(session: &Session) -> Vec<i32> {
        session.iter().map(|(_, _, w)| w.partition.0).collect()
    }

    #[test]
    fn epochs_count_on_and_others_are_refused() {
        let mut cache = self::cache(2);
        let id = made(&mut cache, 1, AT).borrow().id();
        assert!(matches!(
            cache.begin(id, 1, false, AT),
            Context::Incremental(_)
        ));
        assert!(matches!(
            cache.begin(id, 2, false, AT),
            Context::Incremental(_)
        ));
        assert!(matches!(
            cache.begin(id, 2, false, AT),
            Context::Refused(ErrorCode::InvalidFetchSessionEpoch)
        ));
        assert!(matches!(
            cache.begin(id + 1, 1, false, AT),
            Context::Refused(ErrorCode::FetchSessionIdNotFound)
        ));
        assert!(matches!(
            cache.begin(id, 3, true, AT),
            Context::Refused(ErrorCode::FetchSessionTopicIdError)
        ));
    }

    #[test]
    fn the_epoch_after_the_last_is_one() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, 1, AT);
        session.borrow_mut().epoch = i32::MAX;
        let id = session.borrow().id();
        assert!(matches!(
            cache.begin(id, i32::MAX, false, AT),
            Context::Incremental(_)
        ));
        assert!(matches!(
            cache.begin(id, 1, false, AT),
            Context::Incremental(_)
        ));
    }

    #[test]
    fn a_final_epoch_closes_the_session() {
        let mut cache = self::cache(1);
        let id = made(&mut cache, 1, AT).borrow().id();
        assert!(matches!(
            cache.begin(id, FINAL_EPOCH, false, AT),
            Context::Sessionless
        ));
        assert!(cache.is_empty());
    }

    #[test]
    fn only_news_are_told() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, 1, AT);
        let mut s = session.borrow_mut();
        let at = s.iter().next().unwrap().0;
        assert!(s.tell(at, told(5)), "the first answer");
        assert!(!s.tell(at, told(5)), "nothing new");
        assert!(s.tell(at, told(6)), "a new high watermark");
        assert!(
            s.tell(
                at,
                Told {
                    log_start: 2,
                    ..told(6)
                }
            ),
            "a new start"
        );
        let failed = Told {
            error: ErrorCode::NotLeaderOrFollower,
            log_start: 2,
            ..told(6)
        };
        assert!(s.tell(at, failed), "an error");
        assert!(
            s.tell(
                at,
                Told {
                    log_start: 2,
                    ..told(6)
                }
            ),
            "no error any more"
        );
        assert!(
            s.tell(
                at,
                Told {
                    bytes: 1,
                    log_start: 2,
                    ..told(6)
                }
            ),
            "records"
        );
    }

    #[test]
    fn partitions_that_got_data_go_to_the_end() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, 4, AT);
        let mut s = session.borrow_mut();
        let places: Vec<SlotId> = s.iter().map(|(at, _, _)| at).collect();
        for at in [places[0], places[2]] {
            s.tell(
                at,
                Told {
                    bytes: 1,
                    ..told(0)
                },
            );
        }
        s.send_back();
        assert_eq!(order(&s), [1, 3, 0, 2]);
    }

    #[test]
    fn forgotten_partitions_are_gone_and_changed_ones_changed() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, 3, AT);
        let mut s = session.borrow_mut();
        s.forget(NamedTopic::Name("t"), PartitionId(1));
        s.forget(NamedTopic::Name("t"), PartitionId(9));
        s.want(NamedTopic::Name("t"), wanted(2, 77));
        s.want(NamedTopic::Name("u"), wanted(0, 5));
        assert_eq!(order(&s), [0, 2, 0]);
        assert_eq!(s.iter().nth(1).unwrap().2.fetch_offset, 77);
    }

    #[test]
    fn a_young_session_is_never_given_up() {
        let mut cache = self::cache(1);
        made(&mut cache, 1, AT);
        assert!(
            cache
                .create(100, false, AT + Duration::from_secs(60), || 9)
                .is_none()
        );
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn an_unused_session_is_given_up_for_any_a_used_one_for_a_larger() {
        let later = AT + EVICTION_AGE + Duration::from_secs(1);
        let mut cache = self::cache(1);
        made(&mut cache, 8, AT);
        assert!(cache.create(1, false, later, || 9).is_some(), "long unused");

        let mut cache = self::cache(1);
        let id = made(&mut cache, 8, AT).borrow().id();
        cache.begin(id, 1, false, later);
        assert!(cache.create(8, false, later, || 9).is_none(), "not larger");
        assert!(cache.create(9, false, later, || 9).is_some(), "larger");
        assert_eq!(cache.evicted(), 1);
    }

    #[test]
    fn shards_share_the_slots_and_each_gives_up_its_own() {
        let slots = Arc::new(Slots::new(2));
        let mut one = SessionCache::new(slots.clone());
        let mut other = SessionCache::new(slots);
        let first = made(&mut one, 1, AT).borrow().id();
        made(&mut one, 1, AT);
        assert!(other.create(9, false, AT, || 7).is_none(), "none is free");
        let later = AT + EVICTION_AGE + Duration::from_secs(1);
        assert!(other.create(9, false, later, || 7).is_none(), "nor its own");
        one.remove(first);
        assert!(other.create(9, false, AT, || 7).is_some());
        assert!(one.create(9, false, later, || 8).is_some(), "for its own");
        assert_eq!((one.len(), other.len()), (1, 1));
    }

    #[test]
    fn a_session_of_very_many_partitions_is_told_apart() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, PARTITIONS_MAX as i32, AT);
        assert!(!session.borrow().is_too_large());
        let another = wanted(PARTITIONS_MAX as i32, 0);
        session.borrow_mut().want(NamedTopic::Name("t"), another);
        assert!(session.borrow().is_too_large());
    }

    #[test]
    fn a_session_of_very_many_bytes_of_names_is_told_apart() {
        let mut cache = self::cache(1);
        let session = made(&mut cache, 0, AT);
        let mut s = session.borrow_mut();
        let names = NAMES_MAX / TOPIC_NAME_BYTES + 1;
        let name = |n: usize| format!("{n:0width$}", width = TOPIC_NAME_BYTES);
        for n in 0..names {
            assert!(!s.is_too_large(), "{n}");
            s.want(NamedTopic::Name(&name(n)), wanted(0, 0));
        }
        assert!(s.is_too_large());
        s.forget(NamedTopic::Name(&name(3)), PartitionId(0));
        assert!(!s.is_too_large(), "what is forgotten counts no more");
    }

    #[test]
    fn a_session_moves_with_its_connection() {
        let slots = Arc::new(Slots::new(1));
        let (mut from, mut to) = (SessionCache::new(slots.clone()), SessionCache::new(slots));
        let id = made(&mut from, 2, AT).borrow().id();
        let session = from.remove(id).expect("nobody else holds it");
        assert!(to.adopt(session));
        assert!(matches!(
            to.begin(id, 1, false, AT),
            Context::Incremental(_)
        ));
    }
}
