//! The files beside a segment against the batches in it, batch by batch as those are walked over.

use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use super::finding::Finding;
use crate::base::ids::Offset;
use crate::log::format::names::{self, Kind};
use crate::log::format::{offset_index, producer_snapshot, time_index, txn_index};
use crate::ring::Ring;
use crate::wire::batch::BatchView;

/// Whether an index must be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The segment is finished and so are its indexes.
    Complete,
    /// It may end early, but all that it says must be true.
    True,
    /// It was written by Kafka.
    Kafkas,
}

/// What is wrong with a side file: it can be made anew from the log.
pub(super) struct SideFault {
    pub(super) base: Offset,
    pub(super) finding: Finding,
}

/// A segment's side files while its batches go by.
pub(super) struct Sides {
    base: Offset,
    wanted: Wanted,
    index_path: PathBuf,
    time_path: PathBuf,
    index: Peekable<IntoIter<(u64, offset_index::Entry)>>,
    times: Peekable<IntoIter<(u64, time_index::Entry)>>,
    last_time: Option<i64>,
    newest: i64,
    faults: Vec<SideFault>,
    told: [bool; 2],
}

const REBUILD: &str = "It is made anew from the log by `corelane log repair --apply`";

fn read(ring: &Ring, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match ring.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Sides {
    /// Reads the side files of the segment `base` of `dir`, whose log has `len` bytes and, where that
    /// is known, ends before `end`.
    pub(super) fn read(
        ring: &Ring,
        dir: &Path,
        base: Offset,
        len: u64,
        end: Option<Offset>,
        wanted: Wanted,
    ) -> Sides {
        let mut sides = Sides {
            base,
            wanted,
            index_path: names::file(dir, base, Kind::Index),
            time_path: names::file(dir, base, Kind::TimeIndex),
            index: Vec::new().into_iter().peekable(),
            times: Vec::new().into_iter().peekable(),
            last_time: None,
            newest: -1,
            faults: Vec::new(),
            told: [false; 2],
        };
        let path = sides.index_path.clone();
        if let Some(bytes) = sides.bytes(ring, &path) {
            match offset_index::decode(&bytes, len) {
                Ok(entries) => sides.index = placed(entries, offset_index::ENTRY_BYTES),
                Err(error) => sides.wrong(&path, None, error),
            }
        }
        let path = sides.time_path.clone();
        if let Some(bytes) = sides.bytes(ring, &path) {
            match time_index::decode(&bytes) {
                Ok(entries) => {
                    sides.last_time = Some(entries.last().map_or(-1, |entry| entry.timestamp));
                    sides.times = placed(entries, time_index::ENTRY_BYTES);
                }
                Err(error) => sides.wrong(&path, None, error),
            }
        }
        let path = names::file(dir, base, Kind::TxnIndex);
        if let Some(bytes) = sides.bytes(ring, &path) {
            match txn_index::decode(&bytes) {
                Ok(entries) => {
                    let outside = entries.iter().position(|entry| {
                        entry.last_offset < base || end.is_some_and(|end| entry.last_offset >= end)
                    });
                    if let Some(i) = outside {
                        let at = (i * txn_index::ENTRY_BYTES) as u64;
                        sides.wrong(&path, Some(at), "an entry lies outside the segment");
                    }
                }
                Err(error) => sides.wrong(&path, None, error),
            }
        }
        sides
    }

    fn bytes(&mut self, ring: &Ring, path: &Path) -> Option<Vec<u8>> {
        match read(ring, path) {
            Ok(found) => found,
            Err(error) => {
                self.wrong(path, None, error);
                None
            }
        }
    }

    fn wrong(&mut self, path: &Path, at: Option<u64>, what: impl ToString) {
        let mut finding = Finding::damage(path, what.to_string()).todo(REBUILD);
        finding.at = at;
        self.faults.push(SideFault {
            base: self.base,
            finding,
        });
    }

    /// A good batch goes by.
    pub(super) fn batch(&mut self, position: u64, batch: &BatchView<'_>) {
        let (first, last) = (batch.base_offset(), batch.last_offset());
        while let Some((at, entry)) = self.index.peek().copied() {
            if u64::from(entry.position) > position {
                break;
            }
            self.index.next();
            let named = self.base.plus(entry.relative_offset.into());
            let here = u64::from(entry.position) == position;
            // Kafka's may name the last offset of batches that came together
            let right = match self.wanted {
                Wanted::Kafkas => named >= first,
                Wanted::Complete | Wanted::True => named == last,
            };
            if !(self.told[0] || here && right) {
                self.told[0] = true;
                let path = self.index_path.clone();
                let what = format!(
                    "no batch with offset {named} begins at byte {} of the log",
                    entry.position
                );
                self.wrong(&path, Some(at), what);
            }
        }
        let time = batch.max_timestamp().0;
        while let Some((at, entry)) = self.times.peek().copied() {
            let named = self.base.plus(entry.relative_offset.into());
            if named > last {
                break;
            }
            self.times.next();
            let right = named >= first && entry.timestamp == time && entry.timestamp >= self.newest;
            if !right && !self.told[1] {
                self.told[1] = true;
                let path = self.time_path.clone();
                let what = format!(
                    "{} is not the newest time up to offset {named}",
                    entry.timestamp
                );
                self.wrong(&path, Some(at), what);
            }
        }
        self.newest = self.newest.max(time);
    }

    /// The batches are over; `whole` if none of them was bad.
    pub(super) fn finish(mut self, whole: bool) -> Vec<SideFault> {
        if !whole {
            return self.faults;
        }
        if let Some((at, entry)) = self.index.next()
            && !self.told[0]
        {
            let path = self.index_path.clone();
            let what = format!("byte {} of the log begins no batch", entry.position);
            self.wrong(&path, Some(at), what);
        }
        if self.told[1] {
            return self.faults;
        }
        let path = self.time_path.clone();
        if let Some((at, entry)) = self.times.next() {
            let named = self.base.plus(entry.relative_offset.into());
            self.wrong(&path, Some(at), format!("offset {named} is not in the log"));
        } else if self.wanted == Wanted::Complete
            && self.last_time.is_some_and(|last| last < self.newest)
        {
            let what = format!("it ends before the newest time, {}", self.newest);
            self.wrong(&path, None, what);
        }
        self.faults
    }
}

fn placed<T>(entries: Vec<T>, bytes: usize) -> Peekable<IntoIter<(u64, T)>> {
    let placed = entries.into_iter().enumerate();
    let placed: Vec<(u64, T)> = placed.map(|(i, e)| ((i * bytes) as u64, e)).collect();
    placed.into_iter().peekable()
}

/// A snapshot of the producers at the offset that names it.
pub(super) fn snapshot(ring: &Ring, dir: &Path, base: Offset) -> Option<SideFault> {
    let path = names::file(dir, base, Kind::Snapshot);
    let what = match read(ring, &path) {
        Ok(None) => return None,
        Err(error) => error.to_string(),
        Ok(Some(bytes)) => match producer_snapshot::decode(&bytes) {
            Err(error) => error.to_string(),
            Ok(entries) => {
                let late = entries.iter().find(|entry| entry.last_offset >= base.0)?;
                format!(
                    "producer {} has offset {} in it, which is not below the snapshot's",
                    late.producer_id, late.last_offset
                )
            }
        },
    };
    let finding = Finding::damage(path, what).todo(
        "Producers are read from an older one or from the log; `corelane log repair --apply` sets \
         it aside",
    );
    Some(SideFault { base, finding })
}
