//! Partitions that no topic has: their directories are set aside, never deleted.

use super::error::OpenError;
use super::opened::{Opened, OpenedPartition};
use super::run::write_base;
use crate::base::ids::PartitionKey;
use crate::log::aside;
use crate::log::format::names;
use crate::ring::Ring;

impl Opened {
    /// Sets aside every partition that `known` does not know, before any shard serves: a topic that
    /// is made again must find its directory's name free, and what the next recovery reads must not
    /// name the old one any more.
    ///
    /// # Errors
    /// The system's.
    pub async fn set_aside_strays(
        &mut self,
        ring: &Ring,
        known: impl Fn(&PartitionKey) -> bool,
    ) -> Result<(), OpenError> {
        for opened in &mut self.directories {
            if opened.directory.is_offline() {
                continue;
            }
            let (kept, strays) = std::mem::take(&mut opened.partitions)
                .into_iter()
                .partition(|partition| known(&partition.key));
            opened.partitions = kept;
            let strays: Vec<OpenedPartition> = strays;
            if strays.is_empty() {
                continue;
            }
            for stray in &strays {
                set_aside(ring, stray)?;
            }
            let dir = opened.directory.path();
            ring.sync_dir(dir).await.map_err(OpenError::io(dir))?;
            let id = opened.directory.id();
            write_base(ring, dir, id, &opened.partitions, self.incarnation).await?;
        }
        Ok(())
    }
}

fn set_aside(ring: &Ring, stray: &OpenedPartition) -> Result<(), OpenError> {
    if aside::owner(ring, &stray.dir) != Some(stray.key.topic) {
        tracing::warn!(partition = %stray.key, "no topic has this partition, and its directory is gone");
        return Ok(());
    }
    let (topic, partition) = (&stray.topic, stray.key.partition);
    let to = aside::set_aside(ring, &stray.dir, topic, partition, names::stray_dir)
        .map_err(OpenError::io(&stray.dir))?;
    tracing::warn!(
        partition = %stray.key, from = %stray.dir.display(), to = %to.display(),
        "no topic has this partition: set aside"
    );
    Ok(())
}
