//! Base, then tables, then entries, in order, on state in memory: files are judged and cut only
//! after the whole replay. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::base::ids::PartitionKey;
use crate::base::topic_name::validate_topic_name;
use crate::log::journal::entry::{EntryView, Item, ItemKind};
use crate::log::journal::table::{Record, Table};
use crate::log::partition::{PartitionFacts, Recovering};
use crate::log::recovery::walk::Loose;
use crate::log::segment::Place;

/// A partition under way.
#[derive(Debug)]
pub(crate) struct Replaying {
    pub topic: String,
    pub generation: u32,
    pub state: Recovering,
    pub damaged: Option<String>,
    /// An earlier run knew that it is, and wrote nothing of it.
    pub was_damaged: bool,
    /// The journal that wrote about it in the last run.
    pub journal: Option<usize>,
    /// Bytes that the journal has behind the damage, if they are asked for.
    pub loose: Loose,
}

impl Replaying {
    fn keep_loose(&mut self, item: &Item, data: &[u8]) {
        let at = Place::new(item.segment, item.position);
        match item.kind {
            ItemKind::Data | ItemKind::Carry => self.loose.push((at, data.to_vec())),
            ItemKind::Truncate => {
                self.loose.retain(|(from, _)| *from < at);
                self.state.truncate(at, item.base_offset);
            }
            ItemKind::LogStart => self.state.advance_log_start(item.base_offset),
            _ => {}
        }
    }
}

/// The entry that an item comes from.
struct Source<'a> {
    journal: usize,
    path: &'a Path,
    sequence: u64,
    position: u64,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, sequence, position) = (self.path.display(), self.sequence, self.position);
        write!(f, "entry {sequence} of {path} at byte {position}")
    }
}

/// Everything that a directory's base, tables and journals say.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub partitions: BTreeMap<PartitionKey, Replaying>,
    /// Deleted ones, with the topic's name where it is known.
    pub dropped: BTreeMap<PartitionKey, Option<String>>,
    /// Items about partitions that nothing names.
    pub unknown: BTreeSet<PartitionKey>,
    pub items: u64,
    /// Keep what journals hold of a log behind the damage in it.
    pub keep_loose: bool,
}

impl Replay {
    /// Takes a base's or a journal's table in; later records of a partition replace earlier ones.
    pub fn table(&mut self, journal: Option<usize>, table: Table) {
        for record in table.records {
            self.record(journal, record);
        }
    }

    fn record(&mut self, journal: Option<usize>, record: Record) {
        tracing::trace!(?journal, key = %record.key.partition, facts = ?record.facts, "record");
        let newer = self
            .partitions
            .get(&record.key)
            .is_none_or(|known| record.generation >= known.generation);
        if !newer {
            return;
        }
        match record.facts {
            None => {
                self.drop_partition(record.key);
            }
            Some(facts) => {
                self.dropped.remove(&record.key);
                let mut state = Recovering::new(facts);
                if let Some(older) = self.partitions.get(&record.key) {
                    state.remember_sealed(&older.state);
                }
                self.partitions.insert(
                    record.key,
                    Replaying {
                        topic: record.topic,
                        generation: record.generation,
                        state,
                        was_damaged: record.damaged.is_some(),
                        damaged: record.damaged,
                        journal,
                        loose: Vec::new(),
                    },
                );
            }
        }
    }

    fn drop_partition(&mut self, key: PartitionKey) {
        let topic = self
            .partitions
            .remove(&key)
            .map(|partition| partition.topic);
        self.unknown.remove(&key);
        let known = self.dropped.entry(key).or_default();
        *known = known.take().or(topic);
    }

    /// Takes an entry in. `now_ms` is when a segment that is begun here was created.
    pub fn entry(&mut self, journal: usize, path: &Path, entry: &EntryView<'_>, now_ms: i64) {
        let sequence = entry.header.sequence;
        let source = Source {
            journal,
            path,
            sequence,
            position: entry.header.position,
        };
        for item in entry.items() {
            let Ok((item, data)) = item else {
                // the list's CRC agrees: a newer broker's item
                self.damage_journal(
                    journal,
                    &format!("entry {sequence} holds an item that this broker does not know"),
                );
                return;
            };
            self.items += 1;
            self.item(&source, &item, data, now_ms);
        }
    }

    fn item(&mut self, source: &Source<'_>, item: &Item, data: &[u8], now_ms: i64) {
        let (journal, sequence) = (source.journal, source.sequence);
        tracing::trace!(sequence, key = %item.key.partition, kind = ?item.kind, segment = item.segment.0, position = item.position, len = item.len, base = item.base_offset.0, last = item.last_offset.0, durable = item.durable_position, "item");
        if self.dropped.contains_key(&item.key) {
            return;
        }
        if item.kind == ItemKind::Drop {
            self.drop_partition(item.key);
            return;
        }
        if item.kind == ItemKind::Adopt && !self.partitions.contains_key(&item.key) {
            let topic = std::str::from_utf8(data).ok();
            // it becomes the name of a directory
            let Some(topic) = topic.filter(|t| validate_topic_name(t).is_ok()) else {
                self.unknown.insert(item.key);
                return;
            };
            self.partitions.insert(
                item.key,
                Replaying {
                    topic: topic.to_owned(),
                    generation: item.generation,
                    state: Recovering::new(PartitionFacts::empty(item.base_offset, now_ms)),
                    damaged: None,
                    was_damaged: false,
                    journal: Some(journal),
                    loose: Vec::new(),
                },
            );
        }
        let Some(partition) = self.partitions.get_mut(&item.key) else {
            self.unknown.insert(item.key);
            return;
        };
        partition.journal = Some(journal);
        if partition.damaged.is_some() {
            if self.keep_loose && item.holds(data) {
                partition.keep_loose(item, data);
            }
            return;
        }
        if !item.holds(data) {
            partition.damaged = Some(format!(
                "{source} holds rotten bytes of offsets {} to {}",
                item.base_offset, item.last_offset
            ));
            return;
        }
        let at = Place::new(item.segment, item.position);
        let state = &mut partition.state;
        let applied = match item.kind {
            ItemKind::Data => state.batch(at, data),
            ItemKind::Carry => {
                state.bytes(at, data);
                Ok(())
            }
            ItemKind::Pointer => {
                state.pointer(at, data, Place::new(item.segment, item.durable_position))
            }
            ItemKind::Roll => {
                state.roll(item.base_offset, now_ms);
                Ok(())
            }
            ItemKind::Truncate => {
                state.truncate(at, item.base_offset);
                Ok(())
            }
            ItemKind::LogStart => {
                state.advance_log_start(item.base_offset);
                Ok(())
            }
            ItemKind::Epoch => {
                state.epoch(item.epoch, item.base_offset);
                Ok(())
            }
            ItemKind::Adopt => {
                partition.generation = partition.generation.max(item.generation);
                Ok(())
            }
            ItemKind::Release | ItemKind::Drop => Ok(()),
        };
        if let Err(error) = applied {
            partition.damaged = Some(format!("{source}: {error}"));
        }
    }

    /// Entries of a journal are lost: whatever is not known to belong to another journal may have
    /// been in them.
    pub fn damage_journal(&mut self, journal: usize, reason: &str) {
        for partition in self.partitions.values_mut() {
            if partition.journal.is_none_or(|of| of == journal) {
                partition.damaged.get_or_insert_with(|| reason.to_owned());
            }
        }
    }

    /// As [`Replay::damage_journal`] for journals of which nothing can be read: whatever is not known
    /// to belong to one of `readable` may have been in them.
    pub fn damage_unless(&mut self, readable: &[usize], reason: &str) {
        for partition in self.partitions.values_mut() {
            if partition.journal.is_none_or(|of| !readable.contains(&of)) {
                partition.damaged.get_or_insert_with(|| reason.to_owned());
            }
        }
    }

    /// A partition of which only its files say anything; `lost` if more was known of it once.
    pub fn adopt(&mut self, key: PartitionKey, topic: &str, facts: PartitionFacts, lost: bool) {
        let damaged = "only its directory names it: what base or table said of it is lost";
        self.partitions.insert(
            key,
            Replaying {
                topic: topic.to_owned(),
                generation: 0,
                state: Recovering::new(facts),
                damaged: lost.then(|| damaged.to_owned()),
                was_damaged: lost,
                journal: None,
                loose: Vec::new(),
            },
        );
    }

    /// An item of a journal that an earlier start gave up.
    pub fn loosen(&mut self, item: &Item, data: &[u8]) {
        let damaged = self.partitions.get_mut(&item.key);
        if let Some(partition) = damaged.filter(|partition| partition.damaged.is_some())
            && item.holds(data)
        {
            partition.keep_loose(item, data);
        }
    }

    /// The journals that hold bytes of partitions.
    pub fn written_to(&self) -> BTreeMap<PartitionKey, usize> {
        let here = self.partitions.iter().filter(|(_, p)| !p.was_damaged);
        here.filter_map(|(key, p)| Some((*key, p.journal?)))
            .collect()
    }

    /// Marks partitions whose bytes do not reach from their files to their end.
    pub fn check(&mut self) {
        for partition in self.partitions.values_mut() {
            if partition.damaged.is_none()
                && let Err(error) = partition.state.check()
            {
                partition.damaged = Some(error.to_string());
            }
        }
    }
}
