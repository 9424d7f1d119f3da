//! Brings what the replay found into the partitions' files: pending bytes at their exact places,
//! files cut to what the log knows, directories made that a crash lost. All of it can be done
//! again: the journals stay as they are until the new base is in place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::error::OpenError;
use super::identity::wait_for_lock;
use super::opened::OpenedPartition;
use super::replay::Replaying;
use crate::base::ids::{LeaderEpoch, Offset, PartitionKey};
use crate::log::aside::{owner, set_aside};
use crate::log::format::names::{self, Kind};
use crate::log::format::partition_metadata;
use crate::log::partition::{Recovering, SegmentFacts};
use crate::log::segment::{BatchHeader, HEADER_BYTES};
use crate::log::store::LogConfig;
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// Settles one partition. Damage found on the way is in the result; an error is the disk's.
pub(super) async fn settle(
    ring: &Ring,
    config: &LogConfig,
    log_dir: &Path,
    key: PartitionKey,
    replayed: Replaying,
    known: &Known<'_>,
) -> Result<OpenedPartition, OpenError> {
    let dir = log_dir.join(names::partition_dir(&replayed.topic, key.partition));
    let mut damaged = replayed.damaged;
    if damaged.is_none() {
        damaged = another_owner(ring, &dir, key, &replayed.state, known);
    }
    if damaged.is_none() {
        clear_name(ring, &dir, key, &replayed.topic, known)?;
        damaged = write_files(ring, config, &dir, key, &replayed.state).await?;
    }
    Ok(OpenedPartition {
        key,
        topic: replayed.topic,
        dir,
        generation: replayed.generation,
        facts: match damaged {
            None => replayed.state.finish(),
            Some(_) => replayed.state.unsettled(),
        },
        leader_epoch: LeaderEpoch::NONE,
        damaged,
    })
}

/// What the replay says of all partitions.
pub(super) struct Known<'a> {
    /// Those that live.
    pub(super) partitions: BTreeSet<PartitionKey>,
    /// Those that were deleted.
    pub(super) dropped: &'a BTreeMap<PartitionKey, Option<String>>,
}

/// Files of this partition were durable here, and the directory says now that it is a topic's that
/// nobody ever deleted here: then that is what is wrong.
fn another_owner(
    ring: &Ring,
    dir: &Path,
    key: PartitionKey,
    state: &Recovering,
    known: &Known<'_>,
) -> Option<String> {
    let topic = owner(ring, dir).filter(|topic| *topic != key.topic)?;
    let owner = PartitionKey { topic, ..key };
    let is_known = known.partitions.contains(&owner) || known.dropped.contains_key(&owner);
    if is_known || !has_files(state) {
        return None;
    }
    Some(format!(
        "{}: it names topic {topic}, the partition is of {}",
        dir.join(partition_metadata::FILE_NAME).display(),
        key.topic
    ))
}

/// Whether something of a partition is in files for good.
fn has_files(state: &Recovering) -> bool {
    let drained = state.drained();
    drained.position > 0 || drained.segment > state.log_start()
}

/// A topic may have the name of one that was deleted before, and a power cut may have taken back the
/// renaming of that one's directory: then it goes aside now. What a living partition calls its own
/// stays.
fn clear_name(
    ring: &Ring,
    dir: &Path,
    key: PartitionKey,
    name: &str,
    known: &Known<'_>,
) -> Result<(), OpenError> {
    let Some(topic) = owner(ring, dir) else {
        return Ok(());
    };
    let owner = PartitionKey { topic, ..key };
    if known.partitions.contains(&owner) {
        return Ok(());
    }
    let named = match known.dropped.contains_key(&owner) {
        true => names::deleted_dir,
        false => names::stray_dir,
    };
    let to = set_aside(ring, dir, name, key.partition, named).map_err(OpenError::io(dir))?;
    tracing::warn!(
        partition = %key, of = %topic, from = %dir.display(), to = %to.display(),
        "its directory is a topic's that is gone: set aside"
    );
    Ok(())
}

/// After a clean stop everything is in the files, unless someone else wrote there since.
pub(super) fn as_it_was_left(
    ring: &Ring,
    log_dir: &Path,
    key: PartitionKey,
    replayed: Replaying,
) -> OpenedPartition {
    let dir = log_dir.join(names::partition_dir(&replayed.topic, key.partition));
    let facts = replayed.state.finish();
    OpenedPartition {
        damaged: replayed
            .damaged
            .or_else(|| another_end(ring, &dir, facts.active())),
        key,
        topic: replayed.topic,
        dir,
        generation: replayed.generation,
        facts,
        leader_epoch: LeaderEpoch::NONE,
    }
}

/// What differs at the end of a log from what the clean stop recorded. One read: its length is
/// compared when it is opened.
fn another_end(ring: &Ring, dir: &Path, active: &SegmentFacts) -> Option<String> {
    let last = active.last_batch?;
    let path = names::file(dir, active.base, Kind::Log);
    let mut head = [0; HEADER_BYTES];
    let read = ring
        .open(&path, OpenOptions::default())
        .and_then(|file| file.read_now(&mut head, last.position));
    let what = match read {
        Ok(HEADER_BYTES) => match BatchHeader::parse(&head) {
            Some(header) if header.crc == last.crc && header.next_offset() == active.end => {
                return None;
            }
            Some(_) => "another batch than",
            None => "no batch instead of",
        },
        Ok(_) => "nothing instead of",
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    Some(format!(
        "{}: byte {} holds {what} the last one (offset {}, CRC {:08x}): someone else wrote here \
         since the clean stop. Put the file back as it was, or delete the topic",
        path.display(),
        last.position,
        active.end.0 - 1,
        last.crc,
    ))
}

/// `Some` says what is wrong with the files; nothing was written then.
async fn write_files(
    ring: &Ring,
    config: &LogConfig,
    dir: &Path,
    key: PartitionKey,
    state: &Recovering,
) -> Result<Option<String>, OpenError> {
    let drained = state.drained();
    if !ring.exists(dir) {
        if has_files(state) {
            return Ok(Some(format!("its directory {} is missing", dir.display())));
        }
        ring.create_dir_all(dir).map_err(OpenError::io(dir))?;
    }
    match owner(ring, dir) {
        Some(topic) if topic == key.topic => {}
        Some(topic) => return Ok(Some(format!("its directory belongs to topic {topic}"))),
        // a crash kept the name of the file and not its bytes
        None => write_now(
            ring,
            &dir.join(partition_metadata::FILE_NAME),
            &partition_metadata::encode(key.topic),
        )?,
    }
    let files = ring.read_dir(dir).map_err(OpenError::io(dir))?;
    let mut logs: Vec<(Offset, u64)> = files
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Log)) => Some((base, entry.len)),
            _ => None,
        })
        .collect();
    logs.sort();
    for segment in state.segments() {
        let found = logs.iter().find(|(base, _)| *base == segment.base);
        let in_file = match segment.base.cmp(&drained.segment) {
            std::cmp::Ordering::Less => segment.len,
            std::cmp::Ordering::Equal => drained.position,
            std::cmp::Ordering::Greater => 0,
        };
        let len = found.map_or(0, |(_, len)| *len);
        if len < in_file {
            return Ok(Some(format!(
                "segment {} has {len} bytes, {in_file} were durable",
                segment.base
            )));
        }
        let nothing_to_do = found.is_some() && len == segment.len && in_file == segment.len;
        if nothing_to_do {
            continue;
        }
        let path = names::file(dir, segment.base, Kind::Log);
        let file = open(ring, &path)?;
        wait_for_lock(ring, &file, &path, config).await?;
        for (at, bytes) in state.pending() {
            if at.segment == segment.base && at.position < segment.len {
                let room = (segment.len - at.position).min(bytes.len() as u64) as usize;
                file.write_now(&bytes[..room], at.position)
                    .map_err(OpenError::io(&path))?;
            }
        }
        let now = file.len().map_err(OpenError::io(&path))?;
        if now != segment.len {
            if now > segment.len {
                tracing::info!(
                    path = %path.display(), from = now, to = segment.len,
                    "cutting bytes that no ack covered"
                );
            }
            file.set_len(segment.len).map_err(OpenError::io(&path))?;
        }
    }
    let stale: Vec<Offset> = state.stale_indexes().collect();
    let newest = state.segments().last().map_or(Offset(0), |s| s.base);
    for entry in &files {
        let Some((base, kind)) = names::parse_file(&entry.name) else {
            continue;
        };
        let index = matches!(kind, Kind::Index | Kind::TimeIndex);
        if base > newest || (index && stale.contains(&base)) {
            let path = dir.join(&entry.name);
            tracing::info!(path = %path.display(), "removing a file that says nothing true of the log");
            ring.remove_file(&path).map_err(OpenError::io(&path))?;
        }
    }
    Ok(None)
}

fn open(ring: &Ring, path: &Path) -> Result<File, OpenError> {
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    ring.open(path, options).map_err(OpenError::io(path))
}

fn write_now(ring: &Ring, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let file = open(ring, path)?;
    file.set_len(0).map_err(OpenError::io(path))?;
    file.write_now(bytes, 0).map_err(OpenError::io(path))
}
