//! The recovery of one log directory, from its base to a new run.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::OpenError;
use super::identity::{self, Identity};
use super::journals::{
    Fault, Found, evidence, is_damaged, is_of_another_boot, open_ring, read_superblock, read_table,
    replay_journal,
};
use super::opened::OpenedPartition;
use super::replay::Replay;
use super::settle::{Known, as_it_was_left, settle};
use super::walk::walk;
use crate::base::ids::{LeaderEpoch, PartitionKey, Uuid};
use crate::base::limits::PAGE_BYTES;
use crate::log::aside::{owner, set_aside};
use crate::log::format::meta_properties::MetaProperties;
use crate::log::format::{clean_shutdown, names};
use crate::log::journal::properties::{BASE_FILE, DirectoryProperties, FILE_NAME, ring_file};
use crate::log::journal::superblock::{RING_START, Superblock, TableRef};
use crate::log::journal::table::{BlockBuilder, Table};
use crate::log::store::{FreeJournal, LogConfig};
use crate::ring::Ring;

/// What became of a directory.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub journals: Vec<FreeJournal>,
    pub partitions: Vec<OpenedPartition>,
    pub clean: bool,
    pub offline: Option<String>,
}

impl Recovered {
    pub fn offline(reason: String) -> Recovered {
        Recovered {
            offline: Some(reason),
            ..Recovered::default()
        }
    }
}

/// The directory's base; an error takes the directory offline.
pub(crate) fn read_base(ring: &Ring, identity: &Identity) -> Result<Table, Fault> {
    let path = identity.path.join(BASE_FILE);
    if identity.properties.is_none() {
        return Ok(Table {
            clean: true,
            ..Table::default()
        });
    }
    let bytes = ring.read(&path).map_err(|error| Fault::new(&path, error))?;
    Table::decode_base(&bytes, identity.directory_id).map_err(|error| Fault::table(&path, &error))
}

/// What a directory's base, journals and tables say together.
pub(crate) struct Reading {
    pub(crate) journals: Vec<Found>,
    /// Of those, the ones whose entries are lost from somewhere on.
    pub(crate) damaged: Vec<usize>,
    /// Journals of which nothing can be read, and that are given up.
    pub(crate) unreadable: Vec<Uuid>,
    pub(crate) replay: Replay,
    /// The list of journals must be written anew.
    pub(crate) relist: bool,
    pub(crate) clean: bool,
}

/// Recovers a directory whose base was read, and begins the run `incarnation` in it.
pub(super) async fn recover(
    ring: &Ring,
    config: &LogConfig,
    identity: &Identity,
    meta: &MetaProperties,
    base: Table,
    incarnation: u64,
) -> Result<Recovered, OpenError> {
    let dir = &identity.path;
    let mut journals = Vec::new();
    let mut relist = identity.properties.is_none();
    for id in identity.journals() {
        if is_set_aside(ring, dir, id) {
            // the start that found it damaged was cut before it said so in the list
            relist = true;
            continue;
        }
        match open_journal(ring, config, dir, id).await? {
            Ok(found) => journals.push(found),
            Err(fault) => return Ok(Recovered::offline(fault.to_string())),
        }
    }
    identity::set_meta_aside(ring, identity, meta).await?;
    if !base.clean {
        ring.sync_fs(dir).map_err(OpenError::io(dir))?;
    }
    let (clean, base_incarnation) = (base.clean, base.incarnation);
    let mut reading = Reading {
        journals,
        damaged: Vec::new(),
        unreadable: Vec::new(),
        replay: Replay::default(),
        relist,
        clean,
    };
    reading.replay.table(None, base);
    if !clean && let Err(fault) = read_journals(ring, dir, base_incarnation, &mut reading)? {
        return Ok(Recovered::offline(fault.to_string()));
    }
    finish(ring, config, identity, reading, incarnation).await
}

/// Replays what the last run left in the journals; the inner error takes the directory offline.
fn read_journals(
    ring: &Ring,
    dir: &Path,
    base_incarnation: u64,
    reading: &mut Reading,
) -> Result<Result<(), Fault>, OpenError> {
    let Reading {
        journals,
        damaged,
        replay,
        ..
    } = reading;
    let live: Vec<usize> = (0..journals.len())
        .filter(|i| journals[*i].superblock.incarnation == base_incarnation)
        .collect();
    for i in &live {
        match read_table(ring, dir, &journals[*i]) {
            Ok(table) => replay.table(Some(*i), table),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    // what an earlier start, cut since, has replayed and not set aside yet
    for (i, journal) in journals.iter().enumerate() {
        if journal.superblock.incarnation < base_incarnation
            && !is_of_another_boot(ring, journal)
            && is_damaged(journal).map_err(OpenError::io(&journal.path))?
        {
            damaged.push(i);
        }
    }
    for i in live {
        if is_of_another_boot(ring, &journals[i]) {
            walk_files(ring, dir, i, replay)?;
            continue;
        }
        match replay_journal(ring, i, &journals[i], replay) {
            Ok(None) => {}
            Ok(Some(fault)) => {
                tracing::error!(%fault, "partitions of this journal go offline");
                damaged.push(i);
            }
            Err(fault) => return Ok(Err(fault)),
        }
    }
    replay.check();
    for key in &replay.unknown {
        tracing::warn!(partition = %key, dir = %dir.display(), "the journal holds bytes of a partition that nothing names");
    }
    Ok(Ok(()))
}

/// Settles what was read into the files and begins a new run: with the new base it is done, and
/// until then all of it can be done again.
pub(crate) async fn finish(
    ring: &Ring,
    config: &LogConfig,
    identity: &Identity,
    reading: Reading,
    incarnation: u64,
) -> Result<Recovered, OpenError> {
    let dir = &identity.path;
    let Reading {
        journals,
        mut damaged,
        unreadable,
        mut replay,
        relist,
        clean,
    } = reading;
    let written_to = match clean {
        true => BTreeMap::new(), // all is in the files
        false => replay.written_to(),
    };
    // opened before anything is written, so that its flush tells what could not be
    let file_system = ring.open_dir(dir).map_err(OpenError::io(dir))?;
    let partitions = settle_all(ring, config, identity, &mut replay, clean, incarnation).await?;
    if !clean {
        file_system.sync_fs().map_err(OpenError::io(dir))?;
    }
    write_base(ring, dir, identity.directory_id, &partitions, incarnation).await?;
    let shutdown = dir.join(clean_shutdown::FILE_NAME);
    if ring.exists(&shutdown) {
        ring.remove_file(&shutdown)
            .map_err(OpenError::io(&shutdown))?;
    }
    // what a partition has in a journal is in no file as long as it cannot be settled
    let unsettled = partitions.iter().filter(|found| found.damaged.is_some());
    damaged.extend(unsettled.filter_map(|found| written_to.get(&found.key)));
    for id in unreadable {
        let path = dir.join(ring_file(id));
        if ring.exists(&path) {
            ring.rename(&path, &evidence(&path))
                .map_err(OpenError::io(&path))?;
        }
    }
    let mut free = Vec::new();
    for (i, journal) in journals.into_iter().enumerate() {
        if damaged.contains(&i) {
            keep_evidence(ring, &journal)?;
            ring.sync_dir(dir).await.map_err(OpenError::io(dir))?;
        } else {
            free.push(reset(ring, journal, incarnation).await?);
        }
    }
    if relist || !damaged.is_empty() {
        let properties = DirectoryProperties {
            directory: identity.directory_id,
            journals: free.iter().map(|journal| journal.id).collect(),
        };
        let path = dir.join(FILE_NAME);
        ring.write_atomic(&path, &properties.encode())
            .await
            .map_err(OpenError::io(&path))?;
    }
    clear_leftovers(ring, identity, &free)?;
    Ok(Recovered {
        journals: free,
        partitions,
        clean,
        offline: None,
    })
}

/// Waits for the ring's lock, which falls when the last write of a killed process has ended, and
/// reads the superblock. The inner error takes the directory offline.
async fn open_journal(
    ring: &Ring,
    config: &LogConfig,
    dir: &Path,
    id: Uuid,
) -> Result<Result<Found, Fault>, OpenError> {
    let file = match open_ring(ring, dir, id, true) {
        Ok(file) => file,
        Err(fault) => return Ok(Err(fault)),
    };
    identity::wait_for_lock(ring, &file, &dir.join(ring_file(id)), config).await?;
    Ok(read_superblock(dir, id, file))
}

/// A journal that a start found damaged has another name.
pub(crate) fn is_set_aside(ring: &Ring, dir: &Path, id: Uuid) -> bool {
    let path = dir.join(ring_file(id));
    !ring.exists(&path) && ring.exists(&evidence(&path))
}

/// What may have been in that ring is looked for in the files.
fn walk_files(
    ring: &Ring,
    dir: &Path,
    journal: usize,
    replay: &mut Replay,
) -> Result<(), OpenError> {
    tracing::warn!(dir = %dir.display(), "the machine was started anew: what was not flushed is gone");
    for (key, partition) in &mut replay.partitions {
        if partition.damaged.is_some() || partition.journal.is_some_and(|of| of != journal) {
            continue;
        }
        let path = dir.join(names::partition_dir(&partition.topic, key.partition));
        if let Some(at) = walk(ring, &path, key.topic, &mut partition.state, &Vec::new())? {
            tracing::warn!(partition = %key, %at, "the log was cut to what is whole in its files");
        }
    }
    Ok(())
}

async fn settle_all(
    ring: &Ring,
    config: &LogConfig,
    identity: &Identity,
    replay: &mut Replay,
    clean: bool,
    incarnation: u64,
) -> Result<Vec<OpenedPartition>, OpenError> {
    let dir = &identity.path;
    for (key, topic) in &replay.dropped {
        if let Some(topic) = topic {
            finish_deletion(ring, dir, *key, topic)?;
        }
    }
    let mut partitions = Vec::with_capacity(replay.partitions.len());
    let replayed = std::mem::take(&mut replay.partitions);
    let known = Known {
        partitions: replayed.keys().copied().collect(),
        dropped: &replay.dropped,
    };
    for (key, replaying) in replayed {
        let mut opened = match clean {
            true => as_it_was_left(ring, dir, key, replaying),
            false => settle(ring, config, dir, key, replaying, &known).await?,
        };
        let last = opened
            .facts
            .epochs
            .last()
            .map_or(LeaderEpoch(-1), |entry| entry.epoch);
        opened.leader_epoch = match clean {
            true => LeaderEpoch(last.0.max(0)),
            false => LeaderEpoch(
                (last.0.saturating_add(1)).max(i32::try_from(incarnation).unwrap_or(i32::MAX)),
            ),
        };
        partitions.push(opened);
    }
    Ok(partitions)
}

/// A deletion that is durable in the journal, whose directory may still have its old name.
fn finish_deletion(
    ring: &Ring,
    dir: &Path,
    key: PartitionKey,
    topic: &str,
) -> Result<(), OpenError> {
    let from = dir.join(names::partition_dir(topic, key.partition));
    if owner(ring, &from) != Some(key.topic) {
        return Ok(());
    }
    set_aside(ring, &from, topic, key.partition, names::deleted_dir)
        .map(drop)
        .map_err(OpenError::io(&from))
}

/// Replaces the base: with it the recovery is done.
pub(crate) async fn write_base(
    ring: &Ring,
    dir: &Path,
    directory_id: Uuid,
    partitions: &[OpenedPartition],
    incarnation: u64,
) -> Result<(), OpenError> {
    let mut block = BlockBuilder::new();
    for partition in partitions {
        block.push(
            partition.key,
            partition.generation,
            &partition.topic,
            Some(&partition.facts),
            partition.damaged.as_deref(),
        );
    }
    let (bytes, _) = block.finish(directory_id, incarnation, false, 0);
    let path = dir.join(BASE_FILE);
    ring.write_atomic(&path, &bytes)
        .await
        .map_err(OpenError::io(path))
}

/// A damaged journal stays for whoever wants to look, under another name. It is taken off the list
/// after that: in between, a start knows it by that name.
fn keep_evidence(ring: &Ring, journal: &Found) -> Result<(), OpenError> {
    let to = evidence(&journal.path);
    tracing::warn!(
        from = %journal.path.display(), to = %to.display(),
        "a journal is kept: it holds what partitions that are offline have in no file"
    );
    ring.rename(&journal.path, &to)
        .map_err(OpenError::io(&journal.path))
}

/// An empty ring of the new run.
async fn reset(ring: &Ring, journal: Found, incarnation: u64) -> Result<FreeJournal, OpenError> {
    let old = &journal.superblock;
    let superblock = Superblock {
        update: old.update + 1,
        incarnation,
        position: RING_START,
        previous_crc: 0,
        first_crc: None,
        durable_through: old.sequence.saturating_sub(1),
        table: TableRef::default(),
        boot_id: ring.boot_id(),
        ..old.clone()
    };
    let page = superblock.encode();
    let file = &journal.file.0;
    for at in 0..2 {
        file.write_now(&page, at * PAGE_BYTES as u64)
            .map_err(OpenError::io(&journal.path))?;
        file.sync_data()
            .await
            .map_err(OpenError::io(&journal.path))?;
    }
    Ok(FreeJournal {
        id: journal.id,
        ring_end: superblock.ring_end,
        position: RING_START,
        sequence: superblock.sequence,
        previous_crc: 0,
        update: superblock.update,
    })
}

/// Removes what a crash left half made or half removed: rings that were never listed, directories
/// of deleted partitions.
fn clear_leftovers(
    ring: &Ring,
    identity: &Identity,
    journals: &[FreeJournal],
) -> Result<(), OpenError> {
    for entry in &identity.entries {
        let path = identity.path.join(&entry.name);
        let known = |name: &str| {
            journals
                .iter()
                .any(|journal| name.contains(&journal.id.to_string()))
        };
        if entry.is_dir && entry.name.ends_with("-delete") {
            ring.remove_dir_all(&path).map_err(OpenError::io(path))?;
        } else if !entry.is_dir
            && entry.name.starts_with("corelane-")
            && (entry.name.ends_with(".journal") || entry.name.contains(".table"))
            && !known(&entry.name)
            && ring.exists(&path)
        {
            ring.remove_file(&path).map_err(OpenError::io(path))?;
        }
    }
    Ok(())
}
