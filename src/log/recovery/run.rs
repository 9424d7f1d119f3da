//! The recovery of one log directory, from its base to a new run.

use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::identity::{self, Identity};
use super::opened::OpenedPartition;
use super::replay::Replay;
use super::settle::{Known, as_it_was_left, settle};
use super::walk::walk;
use crate::base::ids::{LeaderEpoch, PartitionKey, Uuid};
use crate::base::limits::PAGE_BYTES;
use crate::log::aside::{owner, set_aside};
use crate::log::format::meta_properties::MetaProperties;
use crate::log::format::{clean_shutdown, names};
use crate::log::journal::properties::{
    BASE_FILE, DirectoryProperties, FILE_NAME, ring_file, table_file,
};
use crate::log::journal::scan::{Ending, RingSource, ScanError, Scanner};
use crate::log::journal::superblock::{JournalKind, RING_START, Superblock, TableRef};
use crate::log::journal::table::{BlockBuilder, Table};
use crate::log::store::{FreeJournal, LogConfig};
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// What became of a directory.
#[derive(Debug, Default)]
pub(super) struct Recovered {
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

struct RingFile(File);

impl RingSource for RingFile {
    fn read(&self, at: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_now(buf, at)
    }
}

/// A journal that `corelane.properties` lists.
struct Found {
    id: Uuid,
    path: PathBuf,
    file: RingFile,
    superblock: Superblock,
}

/// The directory's base; an error takes the directory offline.
pub(super) fn read_base(ring: &Ring, identity: &Identity) -> Result<Table, String> {
    let path = identity.path.join(BASE_FILE);
    if identity.properties.is_none() {
        return Ok(Table {
            clean: true,
            ..Table::default()
        });
    }
    let bytes = ring
        .read(&path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Table::decode_base(&bytes, identity.directory_id)
        .map_err(|error| format!("{}: {error}", path.display()))
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
    let listed = match &identity.properties {
        Some(properties) => properties.journals.clone(),
        None => Vec::new(),
    };
    let mut journals = Vec::new();
    let mut forgotten = false;
    for id in listed {
        let path = dir.join(ring_file(id));
        if !ring.exists(&path) && ring.exists(&evidence(&path)) {
            // the start that found it damaged was cut before it said so in the list
            forgotten = true;
            continue;
        }
        match open_journal(ring, config, dir, id).await? {
            Ok(found) => journals.push(found),
            Err(reason) => return Ok(Recovered::offline(reason)),
        }
    }
    identity::set_meta_aside(ring, identity, meta).await?;
    let clean = base.clean;
    let mut replay = Replay::default();
    let base_incarnation = base.incarnation;
    replay.table(None, base);
    let mut damaged_journals = Vec::new();
    if !clean {
        ring.sync_fs(dir).map_err(OpenError::io(dir))?;
        let live: Vec<usize> = (0..journals.len())
            .filter(|i| journals[*i].superblock.incarnation == base_incarnation)
            .collect();
        for i in &live {
            if let Err(reason) = read_table(ring, dir, *i, &journals[*i], &mut replay) {
                return Ok(Recovered::offline(reason));
            }
        }
        // what an earlier start, cut since, has replayed and not set aside yet
        for (i, journal) in journals.iter().enumerate() {
            if journal.superblock.incarnation < base_incarnation
                && !is_of_another_boot(ring, journal)
                && is_damaged(journal)?
            {
                damaged_journals.push(i);
            }
        }
        for i in live {
            if is_of_another_boot(ring, &journals[i]) {
                walk_files(ring, dir, i, &mut replay)?;
                continue;
            }
            match replay_journal(ring, i, &journals[i], &mut replay) {
                Ok(false) => {}
                Ok(true) => damaged_journals.push(i),
                Err(reason) => return Ok(Recovered::offline(reason)),
            }
        }
        replay.check();
        for key in &replay.unknown {
            tracing::warn!(partition = %key, dir = %dir.display(), "the journal holds bytes of a partition that nothing names");
        }
    }
    let partitions = settle_all(ring, config, identity, &mut replay, clean, incarnation).await?;
    if !clean {
        ring.sync_fs(dir).map_err(OpenError::io(dir))?;
    }
    write_base(ring, dir, identity.directory_id, &partitions, incarnation).await?;
    let shutdown = dir.join(clean_shutdown::FILE_NAME);
    if ring.exists(&shutdown) {
        ring.remove_file(&shutdown)
            .map_err(OpenError::io(&shutdown))?;
    }
    let mut free = Vec::new();
    for (i, journal) in journals.into_iter().enumerate() {
        if damaged_journals.contains(&i) {
            keep_evidence(ring, &journal)?;
            ring.sync_dir(dir).await.map_err(OpenError::io(dir))?;
        } else {
            free.push(reset(ring, journal, incarnation).await?);
        }
    }
    if identity.properties.is_none() || forgotten || !damaged_journals.is_empty() {
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
) -> Result<Result<Found, String>, OpenError> {
    let path = dir.join(ring_file(id));
    let options = OpenOptions {
        write: true,
        ..OpenOptions::default()
    };
    let fail = |what: String| Ok(Err(format!("{}: {what}", path.display())));
    let file = match ring.open(&path, options) {
        Ok(file) => file,
        Err(error) => return fail(error.to_string()),
    };
    identity::wait_for_lock(ring, &file, &path, config).await?;
    let mut pages = vec![0; 2 * PAGE_BYTES];
    if let Err(error) = file.read_now(&mut pages, 0) {
        return fail(error.to_string());
    }
    let superblock = match Superblock::choose(&pages) {
        Ok(superblock) => superblock,
        Err(error) => return fail(error.to_string()),
    };
    if superblock.journal != id {
        return fail(format!("it is journal {}", superblock.journal));
    }
    match file.len() {
        Ok(len) if len >= superblock.ring_end => {}
        Ok(len) => {
            return fail(format!(
                "it has {len} bytes, {} were written",
                superblock.ring_end
            ));
        }
        Err(error) => return fail(error.to_string()),
    }
    Ok(Ok(Found {
        id,
        path,
        file: RingFile(file),
        superblock,
    }))
}

fn read_table(
    ring: &Ring,
    dir: &Path,
    index: usize,
    journal: &Found,
    replay: &mut Replay,
) -> Result<(), String> {
    let part = journal.superblock.table;
    if part.len == 0 {
        return Ok(());
    }
    let path = dir.join(table_file(journal.id, part.file));
    let fail = |what: String| format!("{}: {what}", path.display());
    let bytes = ring.read(&path).map_err(|error| fail(error.to_string()))?;
    let table =
        Table::decode_table(&bytes, journal.id, part).map_err(|error| fail(error.to_string()))?;
    replay.table(Some(index), table);
    Ok(())
}

/// A ring in the page cache does not outlive the machine's boot.
fn is_of_another_boot(ring: &Ring, journal: &Found) -> bool {
    journal.superblock.kind == JournalKind::Interval && journal.superblock.boot_id != ring.boot_id()
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
        if let Some(at) = walk(ring, &path, key.topic, &mut partition.state)? {
            tracing::warn!(partition = %key, %at, "the log was cut to what is whole in its files");
        }
    }
    Ok(())
}

/// Replays a journal; true if entries of it are lost.
fn replay_journal(
    ring: &Ring,
    index: usize,
    journal: &Found,
    replay: &mut Replay,
) -> Result<bool, String> {
    let path = journal.path.display();
    let superblock = &journal.superblock;
    let now_ms = ring.wall().0;
    let mut scanner = Scanner::new(&journal.file, superblock.scan_start());
    loop {
        match scanner.next_entry() {
            Ok(Some(entry)) => replay.entry(index, &entry, now_ms),
            Ok(None) => break,
            Err(error @ (ScanError::Read { .. } | ScanError::Newer(_))) => {
                return Err(format!("{path}: {error}"));
            }
        }
    }
    let verdict = scanner.verdict();
    tracing::info!(%path, entries = verdict.entries, "journal replayed");
    match verdict.ending {
        Ending::Whole => Ok(false),
        Ending::Torn { sequence, position } => {
            tracing::warn!(%path, sequence, position, "dropped the journal's torn tail, which was never durable");
            Ok(false)
        }
        Ending::Damaged {
            sequence,
            position,
            proof,
        } => {
            let reason = format!(
                "journal {path} is damaged at byte {position}: entry {sequence} was durable and cannot be read ({proof})"
            );
            tracing::error!(reason, "partitions of this journal go offline");
            replay.damage_journal(index, &reason);
            Ok(true)
        }
    }
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
            false => LeaderEpoch((last.0 + 1).max(i32::try_from(incarnation).unwrap_or(i32::MAX))),
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
pub(super) async fn write_base(
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
    ring.rename(&journal.path, &evidence(&journal.path))
        .map_err(OpenError::io(&journal.path))
}

fn evidence(journal: &Path) -> PathBuf {
    let mut name = journal.to_owned().into_os_string();
    name.push(".damaged");
    name.into()
}

fn is_damaged(journal: &Found) -> Result<bool, OpenError> {
    let mut scanner = Scanner::new(&journal.file, journal.superblock.scan_start());
    loop {
        match scanner.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(matches!(scanner.verdict().ending, Ending::Damaged { .. })),
            Err(ScanError::Newer(_)) => return Ok(true),
            Err(ScanError::Read { source, .. }) => {
                return Err(OpenError::io(&journal.path)(source));
            }
        }
    }
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
