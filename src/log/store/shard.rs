//! The log of one shard behind one facade.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::config::{TimestampType, TopicConfig};
use crate::base::ids::{LeaderEpoch, Offset, PartitionId, PartitionKey};
use crate::base::map::Map;
use crate::log::append::{AppendError, Origin, StorageError};
use crate::log::aside::{owner, set_aside};
use crate::log::commit::space::SlotId;
use crate::log::format::names;
use crate::log::journal::entry::ItemKind;
use crate::log::journal::superblock::JournalKind;
use crate::log::journal::table::Record;
use crate::log::partition::{LogError, Partition, PartitionContext, PartitionSpec};
use crate::log::recovery::identity::LOCK_FILE;
use crate::log::recovery::{OpenedPartition, OpenedShard};
use crate::log::store::config::{FlushPolicy, LogConfig};
use crate::log::store::counts::CountsNow;
use crate::log::store::directory::Directory;
use crate::log::store::journal::Journal;
use crate::log::store::slot::Slot;
use crate::log::store::ticket::{Appended, Ticket};
use crate::ring::Ring;
use crate::ring::driver::Descriptor;
use crate::ring::sync::Semaphore;
use crate::wire::batch::BatchView;

/// A partition to be made or opened.
#[derive(Clone, Debug)]
pub struct NewPartition {
    /// Topic id and number.
    pub key: PartitionKey,
    /// Name of the topic.
    pub topic: Arc<str>,
    /// The topic's settings.
    pub config: Arc<TopicConfig>,
}

/// A partition cannot be made, opened or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its files.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its directory or journal.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Clone)]
struct Home {
    partition: Rc<Partition>,
    directory: usize,
    journal: Rc<Journal>,
    slot: SlotId,
    /// When its making is durable.
    made: Ticket,
}

/// A partition that cannot be served.
struct Damaged {
    directory: usize,
    reason: String,
    record: Record,
}

/// See the module. One per shard; all of its tasks end with [`LogStore::stop_clean`] or with the
/// executor.
pub struct LogStore {
    ring: Ring,
    config: Arc<LogConfig>,
    incarnation: u64,
    context: Rc<PartitionContext>,
    directories: Vec<Arc<Directory>>,
    journals: RefCell<Vec<Rc<Journal>>>,
    homes: RefCell<Map<PartitionKey, Home>>,
    /// Partitions that cannot be served, with the reason.
    damaged: RefCell<BTreeMap<PartitionKey, Damaged>>,
    /// Partitions of earlier runs that no readable directory holds: see [`LogStore::withhold`].
    withheld: RefCell<BTreeSet<PartitionKey>>,
    turnstile: Semaphore,
    making: Semaphore,
    creating: Semaphore,
    /// Held as long as the broker runs.
    _locks: Vec<Descriptor>,
}

impl LogStore {
    /// The store over a shard's part of the log directories. Opens every partition of it; `topic`
    /// knows them all, since strays were [set aside](crate::log::recovery::Opened::set_aside_strays).
    ///
    /// # Errors
    /// When a journal cannot be made or no directory is left. A partition that cannot be opened is
    /// no error: see [`LogStore::damage`].
    pub async fn start(
        ring: &Ring,
        config: Arc<LogConfig>,
        opened: OpenedShard,
        topic: impl Fn(&PartitionKey) -> Option<(Arc<str>, Arc<TopicConfig>)>,
    ) -> Result<Rc<LogStore>, StoreError> {
        let mut locks = Vec::new();
        for directory in &opened.directories {
            directory.shard_started();
            for raw in directory.take_locks() {
                locks.push(ring.driver().adopt(raw));
            }
        }
        let store = Rc::new(LogStore {
            context: PartitionContext::new(ring, config.open_segments, config.cache_bytes),
            ring: ring.clone(),
            config,
            incarnation: opened.incarnation,
            directories: opened.directories,
            journals: RefCell::new(Vec::new()),
            homes: RefCell::new(Map::default()),
            damaged: RefCell::new(BTreeMap::new()),
            withheld: RefCell::new(BTreeSet::new()),
            turnstile: Semaphore::new(1),
            making: Semaphore::new(1),
            creating: Semaphore::new(1),
            _locks: locks,
        });
        for (directory, partition) in opened.partitions {
            match topic(&partition.key) {
                Some((_, config)) => store.open_partition(directory, partition, config).await?,
                None => tracing::error!(
                    partition = %partition.key,
                    "no topic has this partition: it was not set aside before"
                ),
            }
        }
        Ok(store)
    }

    async fn open_partition(
        &self,
        directory: usize,
        found: OpenedPartition,
        config: Arc<TopicConfig>,
    ) -> Result<(), StoreError> {
        let key = found.key;
        let record = Record {
            key,
            generation: found.generation,
            topic: found.topic.clone(),
            facts: Some(found.facts.clone()),
            damaged: None,
        };
        let reason = match found.damaged {
            Some(reason) => reason,
            None => match self.try_open(directory, found, config).await? {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
        };
        tracing::error!(partition = %key, reason, "the partition stays offline");
        self.damaged.borrow_mut().insert(
            key,
            Damaged {
                directory,
                reason,
                record,
            },
        );
        Ok(())
    }

    async fn try_open(
        &self,
        directory: usize,
        found: OpenedPartition,
        config: Arc<TopicConfig>,
    ) -> Result<Result<(), LogError>, StoreError> {
        let journal = self.journal(directory, &config).await?;
        let spec = PartitionSpec {
            key: found.key,
            topic: found.topic,
            dir: found.dir,
            config,
            leader_epoch: found.leader_epoch,
        };
        let partition = match Partition::open(&self.context, spec, &found.facts) {
            Ok(partition) => partition,
            Err(error) => return Ok(Err(error)),
        };
        if found.facts.needs_recall()
            && let Err(error) = partition.recall().await
        {
            return Ok(Err(error));
        }
        let slot = add_slot(&journal, &partition, found.generation);
        self.move_in(directory, journal, partition, slot, Ticket::default());
        Ok(Ok(()))
    }

    /// From now on the partition is found and appended to.
    fn move_in(
        &self,
        directory: usize,
        journal: Rc<Journal>,
        partition: Rc<Partition>,
        slot: SlotId,
        made: Ticket,
    ) {
        self.directories[directory].add_partition();
        self.homes.borrow_mut().insert(
            partition.key(),
            Home {
                partition,
                directory,
                journal,
                slot,
                made,
            },
        );
    }

    /// The journal for a topic in a directory; made with the first partition.
    async fn journal(
        &self,
        directory: usize,
        config: &TopicConfig,
    ) -> Result<Rc<Journal>, StoreError> {
        let kind = match self.config.flush_policy {
            FlushPolicy::Interval
                if config.flush_messages.is_none() && config.flush_ms.is_none() =>
            {
                JournalKind::Interval
            }
            _ => JournalKind::Group,
        };
        let home = &self.directories[directory];
        let found = |journals: &Vec<Rc<Journal>>| {
            journals
                .iter()
                .find(|journal| journal.kind == kind && Arc::ptr_eq(&journal.directory, home))
                .cloned()
        };
        if let Some(journal) = found(&self.journals.borrow()) {
            return Ok(journal);
        }
        let _turn = self.making.acquire(1).await;
        if let Some(journal) = found(&self.journals.borrow()) {
            return Ok(journal);
        }
        home.check()?;
        let index = self.journals.borrow().len() as u32 + 1;
        let made = Journal::begin(&self.ring, index, home, kind, &self.config).await;
        let journal = made.map_err(|error| {
            StoreError::Storage(match error.kind() {
                std::io::ErrorKind::StorageFull => home.no_space(),
                _ => {
                    home.take_offline(&format!("making a journal: {error}"));
                    home.offline_error()
                }
            })
        })?;
        self.ring.spawn(journal.clone().run_commits()).detach();
        self.ring.spawn(journal.clone().run_drains()).detach();
        journal.work.notify_all();
        self.journals.borrow_mut().push(journal.clone());
        Ok(journal)
    }

    /// Makes a partition in the directory with the fewest, or hands out the one that is there.
    /// When this returns it survives a power cut.
    ///
    /// # Errors
    /// When every directory is offline, or the file system refuses.
    pub async fn create_partition(&self, new: NewPartition) -> Result<Rc<Partition>, StoreError> {
        let mut made = self.create_partitions(vec![new]).await?;
        Ok(made.pop().expect("one for one"))
    }

    /// As [`LogStore::create_partition`] for many: one commit for all.
    ///
    /// # Errors
    /// As there; those made before stay.
    pub async fn create_partitions(
        &self,
        many: Vec<NewPartition>,
    ) -> Result<Vec<Rc<Partition>>, StoreError> {
        self.create_wanted(many, |_| true).await
    }

    /// As [`LogStore::create_partitions`], leaving out those that are not wanted any more when their
    /// turn comes.
    ///
    /// # Errors
    /// As there.
    pub async fn create_wanted(
        &self,
        many: Vec<NewPartition>,
        wanted: impl Fn(&PartitionKey) -> bool,
    ) -> Result<Vec<Rc<Partition>>, StoreError> {
        let mut made = Vec::with_capacity(many.len());
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut unnamed: Vec<Rc<Journal>> = Vec::new();
        let turn = self.creating.acquire(1).await;
        for new in many {
            let there = self.homes.borrow().get(&new.key).cloned();
            if let Some(there) = there {
                if there.journal.state.borrow().unnamed.has(there.slot) {
                    unnamed.push(there.journal);
                }
                tickets.push(there.made);
                made.push(there.partition);
                continue;
            }
            let directory = self.emptiest()?;
            let journal = self.journal(directory, &new.config).await?;
            journal.directory.check_open()?;
            if !wanted(&new.key) {
                continue;
            }
            let dir = self.directories[directory]
                .path()
                .join(names::partition_dir(&new.topic, new.key.partition));
            let spec = PartitionSpec {
                key: new.key,
                topic: new.topic.to_string(),
                dir,
                config: new.config,
                leader_epoch: LeaderEpoch(0),
            };
            let partition = Partition::create(&self.context, spec)?;
            let slot = add_slot(&journal, &partition, 0);
            journal.mark_new(slot);
            unnamed.push(journal.clone());
            // it is found only now: no batch comes before this item
            let ticket = journal
                .control_when_room(ItemKind::Adopt, slot, Offset(0), new.topic.as_bytes())
                .await?;
            self.move_in(directory, journal, partition.clone(), slot, ticket);
            if tickets.last() != Some(&ticket) {
                tickets.push(ticket);
            }
            made.push(partition);
        }
        drop(turn);
        for ticket in tickets {
            self.flushed(ticket).await?;
        }
        unnamed.sort_by_key(|journal| journal.index);
        unnamed.dedup_by_key(|journal| journal.index);
        for journal in unnamed {
            journal.until_named().await?;
        }
        Ok(made)
    }

    /// A log directory cannot be read, so that a partition which was not found may lie in it.
    pub fn lacks_directory(&self) -> bool {
        self.directories.iter().any(|d| d.is_offline())
    }

    /// Answers KAFKA_STORAGE_ERROR for a partition of an earlier run until a start finds it: made
    /// anew in another directory it would hide its own records and use their offsets again.
    pub fn withhold(&self, key: PartitionKey) {
        self.withheld.borrow_mut().insert(key);
    }

    fn emptiest(&self) -> Result<usize, StoreError> {
        let mut first_error = None;
        let mut best: Option<(usize, usize)> = None;
        for (i, directory) in self.directories.iter().enumerate() {
            if directory.is_full() {
                // where nothing is produced nobody else looks
                directory.look_again(&self.ring, self.config.reserved_disk_bytes);
            }
            if let Err(error) = directory.check() {
                first_error.get_or_insert(error);
                continue;
            }
            let count = directory.partitions();
            if best.is_none_or(|(least, _)| count < least) {
                best = Some((count, i));
            }
        }
        match best {
            Some((_, i)) => Ok(i),
            None => Err(first_error.unwrap_or(StorageError::Deleted).into()),
        }
    }

    /// Deletes a partition: durable when this returns; its files go in the background.
    ///
    /// # Errors
    /// When its directory is offline.
    pub async fn delete_partition(&self, key: &PartitionKey) -> Result<(), StoreError> {
        if let Some(home) = self.homes.borrow().get(key)
            && home.journal.directory.is_closed()
            && !home.journal.directory.is_offline()
        {
            // the next start finds that no topic has it
            return Err(home.journal.directory.stopping_error().into());
        }
        let Some(home) = self.homes.borrow_mut().remove(key) else {
            self.withheld.borrow_mut().remove(key);
            return self.delete_damaged(key).await;
        };
        home.partition.set_gone();
        let directory = &self.directories[home.directory];
        directory.remove_partition();
        let ticket = home
            .journal
            .control_when_room(ItemKind::Drop, home.slot, Offset(0), b"")
            .await?;
        self.flushed(ticket).await?;
        home.journal.forget(home.slot);
        home.journal.until_named().await?;
        let (from, topic) = (home.partition.dir(), home.partition.topic());
        if owner(&self.ring, &from).is_some_and(|owner| owner != key.topic) {
            return Ok(()); // a topic of the same name has the place by now
        }
        self.remove_directory(&home.journal, from, topic, key.partition)
    }

    /// The directory of a partition whose deletion is durable goes in the background.
    fn remove_directory(
        &self,
        journal: &Journal,
        from: PathBuf,
        topic: &str,
        partition: PartitionId,
    ) -> Result<(), StoreError> {
        match set_aside(&self.ring, &from, topic, partition, names::deleted_dir) {
            Ok(to) => journal.doom(to),
            Err(source) => return Err(LogError::Io { path: from, source }.into()),
        }
        Ok(())
    }

    /// Its journal may be gone: the deletion goes to the one that new partitions get.
    async fn delete_damaged(&self, key: &PartitionKey) -> Result<(), StoreError> {
        let found = self.damaged.borrow().get(key).map(|damaged| {
            let record = &damaged.record;
            (damaged.directory, record.generation, record.topic.clone())
        });
        let Some((directory, generation, topic)) = found else {
            return Ok(());
        };
        let journal = self.journal(directory, &TopicConfig::default()).await?;
        let ticket = journal.drop_when_room(*key, generation).await?;
        self.flushed(ticket).await?;
        journal.until_named().await?;
        self.damaged.borrow_mut().remove(key);
        let from = self.directories[directory]
            .path()
            .join(names::partition_dir(&topic, key.partition));
        if owner(&self.ring, &from) != Some(key.topic) {
            return Ok(()); // it is missing, or another's: that was the damage
        }
        self.remove_directory(&journal, from, &topic, key.partition)
    }

    /// A partition of this shard that can be served.
    pub fn partition(&self, key: &PartitionKey) -> Option<Rc<Partition>> {
        self.homes
            .borrow()
            .get(key)
            .map(|home| home.partition.clone())
    }

    /// All partitions of this shard that can be served.
    pub fn partitions(&self) -> Vec<Rc<Partition>> {
        self.homes
            .borrow()
            .values()
            .map(|home| home.partition.clone())
            .collect()
    }

    /// Why a partition of this shard cannot be served: damage, or its directory is offline.
    pub fn damage(&self, key: &PartitionKey) -> Option<String> {
        if let Some(damaged) = self.damaged.borrow().get(key) {
            return Some(damaged.reason.clone());
        }
        if self.withheld.borrow().contains(key) {
            return Some("it may lie in a log directory that is offline".into());
        }
        let homes = self.homes.borrow();
        let directory = &self.directories[homes.get(key)?.directory];
        directory
            .is_offline()
            .then(|| directory.offline_error().to_string())
    }

    /// Whether a partition answers KAFKA_STORAGE_ERROR.
    pub fn is_offline(&self, key: &PartitionKey) -> bool {
        self.damaged.borrow().contains_key(key)
            || self.withheld.borrow().contains(key)
            || self
                .homes
                .borrow()
                .get(key)
                .is_some_and(|home| self.directories[home.directory].is_offline())
    }

    /// A topic's settings from now on.
    pub fn set_topic_config(&self, key: &PartitionKey, config: Arc<TopicConfig>) {
        let Some(home) = self.homes.borrow().get(key).cloned() else {
            return;
        };
        {
            let mut state = home.journal.state.borrow_mut();
            if let Some(slot) = &mut state.slots[home.slot as usize] {
                slot.append_time = config.timestamp_type == TimestampType::LogAppendTime;
            }
        }
        home.partition.set_config(config);
    }

    /// Appends a batch whose CRC and records were checked: assigns its offsets, copies it, never
    /// waits.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing is in the log then.
    pub fn append(
        &self,
        partition: &Rc<Partition>,
        batch: &BatchView<'_>,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let homes = self.homes.borrow();
        let home = homes
            .get(&partition.key())
            .ok_or(AppendError::Storage(StorageError::Deleted))?;
        let outcome = home.journal.append(home.slot, batch, origin)?;
        if outcome.begin_bypass {
            let journal = home.journal.clone();
            self.ring.spawn(journal.run_bypass(home.slot)).detach();
        }
        Ok(outcome.appended)
    }

    /// Waits, in the order of calls, until `bytes` more can be appended. Ready at once when there
    /// is room and nobody waits; from half full on appends are let in at a rate ([`pace`]).
    ///
    /// [`pace`]: crate::log::commit::pace
    pub async fn admit(&self, bytes: usize) {
        if self.turnstile.available() == 1 && self.turnstile.waiting() == 0 && self.is_calm(bytes) {
            return;
        }
        let _turn = self.turnstile.acquire(1).await;
        let later = {
            let journals = self.journals.borrow();
            journals
                .iter()
                .filter_map(|journal| journal.pace(bytes))
                .max()
        };
        if let Some(later) = later {
            self.ring.sleep_until(later).await;
        }
        while let Some(full) = self.full_journal(bytes) {
            let wait = full.progress.wait();
            if !full.has_room_for(bytes) && !full.directory.is_closed() {
                full.drain.notify_all();
                wait.await;
            }
        }
    }

    /// Nobody needs to be held back.
    fn is_calm(&self, bytes: usize) -> bool {
        let journals = self.journals.borrow();
        journals
            .iter()
            .all(|journal| journal.has_room_for(bytes) && journal.is_calm())
    }

    fn full_journal(&self, bytes: usize) -> Option<Rc<Journal>> {
        self.journals
            .borrow()
            .iter()
            .find(|journal| !journal.directory.is_closed() && !journal.has_room_for(bytes))
            .cloned()
    }

    /// Whether a ticket's moment is over, without waiting.
    pub fn reached(&self, ticket: Ticket, flushed: bool) -> bool {
        match self.journal_of(ticket) {
            Some(journal) if ticket.slot > 0 => journal.has_passed(ticket, flushed),
            Some(journal) => journal.has_reached(ticket.mark, flushed),
            None => true,
        }
    }

    /// Waits until what the ticket names is written: it survives a killed process.
    ///
    /// # Errors
    /// When the directory went offline, or the partition was deleted.
    pub async fn written(&self, ticket: Ticket) -> Result<(), StorageError> {
        self.wait(ticket, false).await
    }

    /// Waits until what the ticket names is flushed: it survives a power cut (under
    /// `flush.policy=interval`: a killed process).
    ///
    /// # Errors
    /// As [`LogStore::written`].
    pub async fn flushed(&self, ticket: Ticket) -> Result<(), StorageError> {
        self.wait(ticket, true).await
    }

    async fn wait(&self, ticket: Ticket, flushed: bool) -> Result<(), StorageError> {
        match self.journal_of(ticket) {
            Some(journal) if ticket.slot > 0 => journal.passed(ticket, flushed).await,
            Some(journal) => journal.reached(ticket.mark, flushed).await,
            None => Ok(()),
        }
    }

    fn journal_of(&self, ticket: Ticket) -> Option<Rc<Journal>> {
        let index = ticket.journal.checked_sub(1)? as usize;
        self.journals.borrow().get(index).cloned()
    }

    /// Takes log directories offline that are gone from their paths, or have another file system in
    /// their place: files that are open still take bytes, which nobody would find again. Their lock
    /// file shows it. Other shards see it with their next commit.
    pub fn look_for_directories(&self) {
        for directory in &self.directories {
            let there = || self.ring.exists(&directory.path().join(LOCK_FILE));
            if directory.is_offline() || there() {
                continue;
            }
            directory.take_offline("it was removed or unmounted: its lock file is gone");
            for journal in self.journals() {
                if Arc::ptr_eq(&journal.directory, directory) {
                    journal.fail("the directory", &io::Error::other("is gone"));
                }
            }
        }
    }

    /// Number of the broker's run.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What partitions of this shard share.
    pub fn context(&self) -> &Rc<PartitionContext> {
        &self.context
    }

    /// The log directories, in the configured order.
    pub fn directories(&self) -> &[Arc<Directory>] {
        &self.directories
    }

    /// What the journals of this shard did.
    pub fn counts(&self) -> CountsNow {
        self.journals
            .borrow()
            .iter()
            .fold(CountsNow::default(), |sum, journal| {
                sum.plus(journal.counts.now())
            })
    }

    pub(super) fn journals(&self) -> Vec<Rc<Journal>> {
        self.journals.borrow().clone()
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Partitions of a directory that cannot be served: they stay as they were found.
    pub(super) fn damaged_in(&self, directory: &Arc<Directory>) -> Vec<Record> {
        self.damaged
            .borrow()
            .values()
            .filter(|damaged| Arc::ptr_eq(&self.directories[damaged.directory], directory))
            .map(|damaged| Record {
                damaged: Some(damaged.reason.clone()),
                ..damaged.record.clone()
            })
            .collect()
    }

    /// Partitions of a directory.
    pub(super) fn partitions_in(&self, directory: &Arc<Directory>) -> Vec<(Rc<Partition>, u32)> {
        let homes = self.homes.borrow();
        homes
            .values()
            .filter(|home| Arc::ptr_eq(&home.journal.directory, directory))
            .map(|home| {
                let state = home.journal.state.borrow();
                let generation = state.slots[home.slot as usize]
                    .as_ref()
                    .map_or(0, |slot| slot.generation);
                (home.partition.clone(), generation)
            })
            .collect()
    }
}

fn add_slot(journal: &Journal, partition: &Rc<Partition>, generation: u32) -> SlotId {
    let append_time = partition.config().timestamp_type == TimestampType::LogAppendTime;
    let mut state = journal.state.borrow_mut();
    let id = state.slots.len() as SlotId;
    partition.count_undrained_in(&state.undrained);
    let slot = Slot::new(partition.clone(), generation, append_time);
    state.slots.push(Some(slot));
    id
}
