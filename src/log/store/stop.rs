//! A clean stop: everything in the files at its exact length, and a base that says so.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::Offset;
use crate::log::append::StorageError;
use crate::log::format::offset_checkpoint::{self, Entry};
use crate::log::format::{clean_shutdown, meta_properties};
use crate::log::journal::properties::{BASE_FILE, META_ASIDE};
use crate::log::journal::table::{BlockBuilder, Record};
use crate::log::partition::LogError;
use crate::log::store::directory::Directory;
use crate::log::store::journal::Journal;
use crate::log::store::shard::{LogStore, StoreError};
use crate::log::store::slot::Slot;
use crate::ring::Ring;
use crate::ring::driver::OpenOptions;

impl Journal {
    /// Waits until everything appended is durable, then ends the journal's tasks. Nothing new is
    /// taken; who waits to be is told.
    async fn stop(&self) -> Result<(), StorageError> {
        self.wake_all();
        self.until_nothing_bypasses().await?;
        let last = {
            let state = self.state.borrow();
            match state.open.is_empty() {
                true => state.open.number - 1,
                false => state.open.number,
            }
        };
        self.reached(last, true).await?;
        self.state.borrow_mut().stopping = true;
        self.wake_all();
        loop {
            let wait = self.progress.wait();
            if self.state.borrow().stopped_drains {
                break;
            }
            wait.await;
        }
        match self.directory.is_offline() {
            true => Err(self.directory.offline_error()),
            false => Ok(()),
        }
    }
}

impl Journal {
    /// Batches on their way past the journal are in no group yet: their pointers come when they are
    /// in their segments.
    async fn until_nothing_bypasses(&self) -> Result<(), StorageError> {
        loop {
            let wait = self.progress.wait();
            if self.directory.is_offline() {
                return Err(self.directory.offline_error());
            }
            let bypasses = |slot: &Slot| {
                !slot.partition.is_gone() && (slot.bypassing || !slot.bypass.is_empty())
            };
            {
                let state = self.state.borrow();
                if !state.slots.iter().flatten().any(bypasses) {
                    return Ok(());
                }
                if state.parked > 0 {
                    return Err(self.directory.no_space());
                }
            }
            wait.await;
        }
    }
}

impl LogStore {
    /// Ends this shard's part of the log: nothing may be appended any more. What was appended is
    /// flushed, settled and closed with Kafka's side files; the last shard to stop writes the clean
    /// marker of each directory and gives `meta.properties` its name back.
    ///
    /// # Errors
    /// The first one; the directory that it is about is then recovered at the next start.
    pub async fn stop_clean(&self) -> Result<(), StoreError> {
        let mut first = Ok(());
        for directory in self.directories() {
            let records = self.stop_directory(directory).await;
            let records = match records {
                Ok(records) => Some(records),
                Err(error) => {
                    tracing::warn!(dir = %directory.path().display(), %error, "no clean stop here");
                    if first.is_ok() {
                        first = Err(error);
                    }
                    None
                }
            };
            if let Some(all) = directory.shard_stopped(records) {
                let finished = finish(self.ring(), directory, all).await;
                let finished = finished.map_err(|source| LogError::Io {
                    path: directory.path().to_path_buf(),
                    source,
                });
                if first.is_ok() {
                    first = finished.map_err(StoreError::from);
                }
            }
        }
        first
    }

    async fn stop_directory(&self, directory: &Arc<Directory>) -> Result<Vec<Record>, StoreError> {
        // a request may still be on its way when its connection is gone
        directory.close();
        for journal in self.journals() {
            if Arc::ptr_eq(&journal.directory, directory) {
                journal.stop().await?;
            }
        }
        if directory.is_offline() {
            return Err(directory.offline_error().into());
        }
        let io = |source| LogError::Io {
            path: directory.path().to_path_buf(),
            source,
        };
        // opened before what it flushes is written, so that it tells what could not be
        let file_system = self.ring().open_dir(directory.path()).map_err(io)?;
        let mut records = self.damaged_in(directory);
        for (partition, generation) in self.partitions_in(directory) {
            partition.until_durable(partition.log_end()).await;
            partition.close_clean().await?;
            records.push(Record {
                key: partition.key(),
                generation,
                topic: partition.topic().to_owned(),
                facts: Some(partition.closing_facts()),
                damaged: None,
            });
        }
        file_system.sync_fs().map_err(io)?;
        Ok(records)
    }
}

/// Where Kafka expects each log to end, to be readable up to, and to start.
fn write_checkpoints(ring: &Ring, path: &Path, records: &[Record]) -> io::Result<()> {
    let mut ends = Vec::with_capacity(records.len());
    let mut starts = Vec::new();
    for record in records {
        let Some(facts) = &record.facts else {
            continue;
        };
        let entry = |offset| Entry {
            topic: record.topic.clone(),
            partition: record.key.partition,
            offset,
        };
        ends.push(entry(facts.end()));
        if facts.log_start > Offset(0) {
            starts.push(entry(facts.log_start));
        }
    }
    for (name, entries) in [
        (offset_checkpoint::RECOVERY_POINT, &ends),
        (offset_checkpoint::REPLICATION, &ends),
        (offset_checkpoint::LOG_START, &starts),
    ] {
        let options = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            ..OpenOptions::default()
        };
        ring.open(&path.join(name), options)?
            .write_now(&offset_checkpoint::encode(entries), 0)?;
    }
    Ok(())
}

/// Flushes the file system, then says that all is there.
async fn finish(ring: &Ring, directory: &Directory, records: Vec<Record>) -> io::Result<()> {
    let path = directory.path();
    write_checkpoints(ring, path, &records)?;
    ring.sync_fs(path)?;
    let mut block = BlockBuilder::new();
    for record in &records {
        block.push(
            record.key,
            record.generation,
            &record.topic,
            record.facts.as_ref(),
            record.damaged.as_deref(),
        );
    }
    let (bytes, _) = block.finish(directory.id(), directory.incarnation(), true, 0);
    ring.write_atomic(&path.join(BASE_FILE), &bytes).await?;
    let shutdown = path.join(clean_shutdown::FILE_NAME);
    ring.write_atomic(&shutdown, &clean_shutdown::encode(-1))
        .await?;
    let meta = path.join(meta_properties::FILE_NAME);
    ring.rename(&path.join(META_ASIDE), &meta)?;
    ring.sync_dir(path).await?;
    Ok(())
}
