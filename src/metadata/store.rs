//! The metadata log on disk: a thin shell around [`recover`] and [`frame`](super::frame).
//!
//! Two plain files in the first log directory, [`LOG_NAME`] and [`SNAPSHOT_NAME`]: Kafka skips
//! plain files there, but refuses a directory whose name is not a partition's. A commit is one
//! write and one flush. When the log has outgrown the snapshot, a new snapshot is written and the
//! log begins anew; either file is replaced whole. After a failed write or flush the store
//! takes nothing more: what the disk holds is known again only after a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{FileKind, encode, header};
use super::image::Image;
use super::record::Record;
use super::recover::{LogState, RecoverError, recover};
use super::snapshot;
use crate::base::config::BrokerConfig;
use crate::base::limits::METADATA_LOG_BYTES_MIN;
use crate::ring::buf::Buf;
use crate::ring::driver::OpenOptions;
use crate::ring::executor::Ring;
use crate::ring::file::File;

/// Name of the log.
pub const LOG_NAME: &str = "corelane.metadata.log";

/// Name of the snapshot.
pub const SNAPSHOT_NAME: &str = "corelane.metadata.snapshot";

/// Why metadata cannot be read or made durable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The files do not fit together or are damaged.
    #[error(
        "metadata in {directory}: {error}. `corelane log repair` shows what can be made of the rest: \
         give it all of log.dirs, or topics of the others are taken for unknown ones"
    )]
    Recover {
        /// In which directory.
        directory: PathBuf,
        /// What is wrong.
        error: RecoverError,
    },
    /// Reading or writing failed.
    #[error("metadata file {path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The metadata is another cluster's.
    #[error(
        "the metadata in {directory} is of cluster {found}, not of {expected}: \
         another cluster's directory is mounted here, or corelane.cluster.id is wrong"
    )]
    OtherCluster {
        /// In which directory.
        directory: PathBuf,
        /// Whose metadata is there.
        found: String,
        /// Whose was expected.
        expected: String,
    },
    /// There is none, in a directory that had some.
    #[error(
        "{directory} holds data but no {LOG_NAME}: it was deleted or is not mounted; \
         restore it, or move the data away to begin anew"
    )]
    Missing {
        /// In which directory.
        directory: PathBuf,
    },
    /// An earlier failure.
    #[error("metadata cannot be changed after a failed write: mend the disk and restart")]
    Failed,
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The cluster that the directory belongs to, if that is known already; metadata of another one
    /// is refused.
    pub cluster_id: Option<String>,
    /// Id of a cluster that is founded now, if there is none and `cluster_id` does not say.
    pub new_cluster_id: String,
    /// False where the directory holds data already: its metadata must be there then.
    pub may_create: bool,
    /// Size of the log from which on a snapshot may replace it.
    pub log_bytes_min: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cluster_id: None,
            new_cluster_id: String::new(),
            may_create: true,
            log_bytes_min: METADATA_LOG_BYTES_MIN,
        }
    }
}

/// The open metadata log. Its owner commits one batch after the other.
pub struct Store {
    ring: Ring,
    log_path: PathBuf,
    snapshot_path: PathBuf,
    log: File,
    /// Where the next frame goes.
    at: u64,
    sequence: u64,
    /// Log size at which the next snapshot is due.
    snapshot_due: u64,
    log_bytes_min: u64,
    failed: bool,
}

/// A file's bytes, flushed: what a killed process wrote last may be in the page cache alone, and
/// nothing may rest on it that a power cut can take back.
async fn read_if_there(ring: &Ring, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let io = |error| StoreError::Io {
        path: path.to_owned(),
        error,
    };
    match open_file(ring, path) {
        Ok(file) => {
            file.sync_all().await.map_err(io)?;
            Ok(Some(ring.read(path).map_err(io)?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

impl Store {
    /// Reads what is in `directory`, which exists and is locked by the caller; founds a cluster
    /// where nothing is. A torn last write is dropped.
    ///
    /// # Errors
    /// For damage, another cluster, a missing log, a newer format, and IO errors.
    pub async fn open(
        ring: &Ring,
        directory: &Path,
        broker: &Arc<BrokerConfig>,
        options: &StoreOptions,
    ) -> Result<(Store, Image), StoreError> {
        let log_path = directory.join(LOG_NAME);
        let snapshot_path = directory.join(SNAPSHOT_NAME);
        // the names too: a log that replaced another must not vanish under what is appended to it
        ring.sync_dir(directory)
            .await
            .map_err(|error| StoreError::Io {
                path: directory.to_owned(),
                error,
            })?;
        let bytes = read_if_there(ring, &log_path).await?;
        let snapshot = read_if_there(ring, &snapshot_path).await?;
        let found = recover(broker, snapshot.as_deref(), bytes.as_deref()).map_err(|error| {
            StoreError::Recover {
                directory: directory.to_owned(),
                error,
            }
        })?;
        let io = |error| StoreError::Io {
            path: log_path.clone(),
            error,
        };
        let mut image = found.image;
        let at = match found.log {
            LogState::Append { at, .. } => at,
            LogState::New if !options.may_create => {
                return Err(StoreError::Missing {
                    directory: directory.to_owned(),
                });
            }
            LogState::New => {
                let id = options.cluster_id.as_ref();
                let (first, bytes) = found_cluster(&image, id.unwrap_or(&options.new_cluster_id));
                ring.write_atomic(&log_path, &bytes).await.map_err(io)?;
                image = first;
                bytes.len() as u64
            }
            LogState::Replace => {
                let bytes = header(FileKind::Log, image.sequence());
                ring.write_atomic(&log_path, &bytes).await.map_err(io)?;
                bytes.len() as u64
            }
        };
        if let Some(expected) = &options.cluster_id
            && image.cluster_id() != expected
        {
            return Err(StoreError::OtherCluster {
                directory: directory.to_owned(),
                found: image.cluster_id().to_owned(),
                expected: expected.clone(),
            });
        }
        let log = open_file(ring, &log_path).map_err(io)?;
        if found.torn > 0 {
            let torn = found.torn;
            tracing::warn!(torn, "dropped the metadata log's unfinished last write");
        }
        if let (LogState::Append { last, end, at }, Some(bytes)) = (found.log, bytes) {
            log.set_len(at).map_err(io)?;
            log.write_now(&bytes[last..end], last as u64).map_err(io)?;
            log.sync_all().await.map_err(io)?;
        }
        let snapshot_bytes = snapshot.map_or(0, |bytes| bytes.len() as u64);
        let store = Store {
            ring: ring.clone(),
            log_path,
            snapshot_path,
            log,
            at,
            sequence: image.sequence(),
            snapshot_due: snapshot_due(options.log_bytes_min, snapshot_bytes),
            log_bytes_min: options.log_bytes_min,
            failed: false,
        };
        Ok((store, image))
    }

    /// Number of the next batch.
    pub fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// Makes a batch durable. `image` is what it leads to, for the snapshot.
    ///
    /// # Errors
    /// If writing or flushing failed: whether the batch is durable shows at the next start, and the
    /// store takes nothing more.
    pub async fn commit(&mut self, image: &Image, records: &[Record]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        debug_assert_eq!(image.sequence(), self.next_sequence(), "batches in order");
        let mut frame = Vec::new();
        encode(&mut frame, self.next_sequence(), records);
        let length = frame.len() as u64;
        if let Err(error) = self.write(frame).await {
            self.failed = true;
            return Err(StoreError::Io {
                path: self.log_path.clone(),
                error,
            });
        }
        self.at += length;
        self.sequence += 1;
        if self.at >= self.snapshot_due {
            self.snapshot(image).await;
        }
        Ok(())
    }

    async fn write(&self, frame: Vec<u8>) -> io::Result<()> {
        let chain = std::iter::once(Buf::from(frame)).collect();
        self.log.write_at(chain, self.at).await?;
        self.log.sync_data().await
    }

    /// Writes the image and begins a new log. The batch is durable already: if there is no room for
    /// a snapshot, the log goes on and it is tried again later.
    async fn snapshot(&mut self, image: &Image) {
        let mut bytes = header(FileKind::Snapshot, image.sequence()).to_vec();
        encode(&mut bytes, image.sequence(), &snapshot::records(image));
        if let Err(error) = self.ring.write_atomic(&self.snapshot_path, &bytes).await {
            tracing::warn!(%error, "no metadata snapshot could be written; the log goes on");
            self.snapshot_due = self.at.saturating_mul(2);
            return;
        }
        let first = header(FileKind::Log, image.sequence());
        let replaced = match self.ring.write_atomic(&self.log_path, &first).await {
            Ok(()) => open_file(&self.ring, &self.log_path),
            Err(error) => Err(error),
        };
        match replaced {
            Ok(log) => {
                self.log = log;
                self.at = first.len() as u64;
                self.snapshot_due = snapshot_due(self.log_bytes_min, bytes.len() as u64);
            }
            // either log may have the name now: writing on could be lost
            Err(error) => {
                self.failed = true;
                tracing::error!(%error, "the metadata log could not be replaced");
            }
        }
    }
}

fn open_file(ring: &Ring, path: &Path) -> io::Result<File> {
    ring.open(
        path,
        OpenOptions {
            write: true,
            ..OpenOptions::default()
        },
    )
}

/// A log may grow to twice its snapshot: replaying it costs no more than the snapshot does, and a
/// byte is written three times at most.
fn snapshot_due(log_bytes_min: u64, snapshot_bytes: u64) -> u64 {
    log_bytes_min.max(snapshot_bytes.saturating_mul(2))
}

fn found_cluster(empty: &Image, cluster_id: &str) -> (Image, Vec<u8>) {
    let mut draft = super::controller::Draft::new(empty, Vec::new());
    draft.found_cluster(cluster_id);
    let (image, records) = draft.finish(1);
    let mut bytes = header(FileKind::Log, 0).to_vec();
    encode(&mut bytes, 1, &records);
    (image, bytes)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
