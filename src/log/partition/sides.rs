//! The files beside a segment's records: hints that Kafka expects and that this broker can do
//! without. They are never flushed here.

use std::io;
use std::path::PathBuf;

use crate::base::ids::Offset;
use crate::log::format::names::Kind;
use crate::log::format::{epoch_checkpoint, names};
use crate::log::partition::Partition;
use crate::log::partition::error::LogError;
use crate::log::segment::SparseIndex;
use crate::ring::driver::OpenOptions;

impl Partition {
    /// Writes `.index` and `.timeindex` of a segment, whole: see [`Partition::index`].
    pub(super) async fn write_indexes(&self, base: Offset) -> Result<(), LogError> {
        let (grown, largest) = {
            let state = self.state.borrow();
            let segment = state.index_of(base).map(|i| &state.segments[i]);
            segment.map_or((false, None), |s| (s.index.is_some(), s.largest))
        };
        if !grown
            && let Some(there) = self.load_index(base, self.len_of(base)).await?
            && (largest.is_none() || there.last_time() == largest)
        {
            return Ok(()); // an earlier stop wrote them, and nothing came since
        }
        let mut index = (*self.index(base).await?).clone();
        if let Some(largest) = largest {
            index.note_time(largest);
        }
        self.write_index_files(base, &index)
    }

    pub(super) fn write_index_files(
        &self,
        base: Offset,
        index: &SparseIndex,
    ) -> Result<(), LogError> {
        let (offsets, times) = index.to_files();
        self.write_side_file(self.path(base, Kind::Index), &offsets)?;
        self.write_side_file(self.path(base, Kind::TimeIndex), &times)
    }

    pub(super) fn write_epochs(&self) -> Result<(), LogError> {
        let bytes = epoch_checkpoint::encode(self.state.borrow().epochs.starts());
        let path = self.dir().join(epoch_checkpoint::FILE_NAME);
        self.write_side_file(path, &bytes)
    }

    pub(super) fn write_side_file(&self, path: PathBuf, bytes: &[u8]) -> Result<(), LogError> {
        if self.is_gone() {
            return Ok(());
        }
        let options = OpenOptions {
            write: true,
            create: true,
            truncate: true,
            ..OpenOptions::default()
        };
        let ring = &self.context.ring;
        ring.open(&path, options)
            .and_then(|file| file.write_now(bytes, 0))
            .map_err(|source| LogError::Io { path, source })
    }

    pub(super) fn remove_side_files(&self, base: Offset) -> Result<(), LogError> {
        for kind in [Kind::Index, Kind::TimeIndex, Kind::TxnIndex] {
            self.remove_if_there(names::file(&self.dir(), base, kind))?;
        }
        Ok(())
    }

    pub(super) fn remove_if_there(&self, path: PathBuf) -> Result<(), LogError> {
        match self.context.ring.remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(LogError::Io { path, source })
            }
            _ => Ok(()),
        }
    }
}
