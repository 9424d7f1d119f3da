//! Whose a partition's directory is, and how one gives its name up.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::{PartitionId, TopicId, Uuid};
use crate::log::format::partition_metadata;
use crate::ring::Ring;

/// The topic that a partition's directory says it belongs to.
pub(super) fn owner(ring: &Ring, dir: &Path) -> Option<TopicId> {
    let bytes = ring.read(&dir.join(partition_metadata::FILE_NAME)).ok()?;
    partition_metadata::decode(&bytes).ok()
}

/// Renames the directory of a partition of `topic` to what `named` makes of that, and a number that
/// no other has: [`deleted_dir`](super::format::names::deleted_dir) or
/// [`stray_dir`](super::format::names::stray_dir). Durable once the log directory is flushed.
pub(super) fn set_aside(
    ring: &Ring,
    dir: &Path,
    topic: &str,
    partition: PartitionId,
    named: fn(&str, PartitionId, Uuid) -> String,
) -> io::Result<PathBuf> {
    let unique = Uuid::from_random(ring.random(), ring.random());
    let to = dir.with_file_name(named(topic, partition, unique));
    ring.rename(dir, &to)?;
    Ok(to)
}
