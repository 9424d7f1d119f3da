//! The two ends of a run: a clean stop, and cutting the log back.

use std::rc::Rc;

use crate::base::ids::Offset;
use crate::log::format::names::{self, Kind};
use crate::log::format::producer_snapshot;
use crate::log::partition::Partition;
use crate::log::partition::drain::Settle;
use crate::log::partition::error::LogError;
use crate::log::partition::segment::{Mark, Segment};
use crate::log::segment::{Access, Place};

impl Partition {
    /// Everything into the files at its exact length, with the side files that Kafka expects; all
    /// of it is durable after the caller's flush of the file system. Nothing may be appended any
    /// more, and everything must be durable in the journal.
    ///
    /// # Errors
    /// The system's: then no clean marker may be written.
    pub async fn close_clean(self: &Rc<Self>) -> Result<(), LogError> {
        let _busy = self.acquire().await;
        self.settle_while_busy(Settle::AtStop).await?;
        let (base, len, on_disk) = {
            let state = self.state.borrow();
            let active = state.active();
            (active.base, active.len(), active.on_disk)
        };
        if !on_disk {
            // Kafka expects the file of the active segment, even if it is empty
            let file = self.open_file(base, Access::Settle)?;
            self.begin_file(&file, base)
                .map_err(|source| LogError::Io {
                    path: self.path(base, Kind::Log),
                    source,
                })?;
        }
        if self.state.borrow().active().allocated != len {
            self.trim(base, len)?;
        }
        let there = self.names()?;
        self.write_indexes(base).await?;
        let (end, snapshot, bases) = {
            let state = self.state.borrow();
            let snapshot = producer_snapshot::encode(&state.producers.to_snapshot());
            let bases = state.segments.iter().map(|segment| segment.base);
            (state.end(), snapshot, bases.collect::<Vec<Offset>>())
        };
        self.write_side_file(self.path(end, Kind::Snapshot), &snapshot)?;
        // Kafka keeps snapshots where segments begin and at the end
        self.remove_snapshots(&there, |base| base != end && !bases.contains(&base))?;
        let sealed = bases.into_iter().filter(|sealed| *sealed != base);
        self.replace_missing_indexes(&there, sealed).await?;
        self.write_epochs()?;
        self.context.files.forget(self.id, base);
        Ok(())
    }

    fn names(&self) -> Result<Vec<(Offset, Kind)>, LogError> {
        let dir = self.dir();
        let entries = self.context.ring.read_dir(&dir);
        let entries = entries.map_err(|source| LogError::Io { path: dir, source })?;
        let names = entries.iter().map(|entry| names::parse_file(&entry.name));
        Ok(names.flatten().collect())
    }

    fn remove_snapshots(
        &self,
        there: &[(Offset, Kind)],
        unwanted: impl Fn(Offset) -> bool,
    ) -> Result<(), LogError> {
        for (base, kind) in there {
            if *kind == Kind::Snapshot && unwanted(*base) {
                self.remove_if_there(self.path(*base, *kind))?;
            }
        }
        Ok(())
    }

    /// A recovery removed indexes that were stale.
    async fn replace_missing_indexes(
        &self,
        there: &[(Offset, Kind)],
        bases: impl Iterator<Item = Offset>,
    ) -> Result<(), LogError> {
        let has = |base, kind| there.contains(&(base, kind));
        for base in bases {
            if !has(base, Kind::Index) || !has(base, Kind::TimeIndex) {
                let index = self.rebuild_index(base).await?;
                self.write_index_files(base, &index)?;
            }
        }
        Ok(())
    }

    /// Cuts the log back so that it ends before the batch at `to`, whose first offset is `end`. The
    /// journal has flushed the cut already.
    ///
    /// # Errors
    /// The system's: the files may be longer than the log then, as after a kill in between.
    pub async fn truncate(self: &Rc<Self>, to: Place, end: Offset) -> Result<(), LogError> {
        let _busy = self.acquire().await;
        if to >= self.end_place() {
            return Ok(());
        }
        let arena = self.context.ring.arena();
        let mut gone: Vec<Offset> = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            state.cuts += 1;
            state.next = None;
            while state.segments.len() > 1 && state.active().base > to.segment {
                let last = state.segments.pop_back();
                gone.extend(last.map(|segment| segment.base));
            }
            if state.active().base > to.segment {
                // the cut lies before everything: begin anew there
                let (created, jitter) = (state.active().created, state.active().jitter);
                gone.push(state.active().base);
                state.segments.clear();
                state
                    .segments
                    .push_back(Segment::begin(to.segment, created, jitter));
            }
            let active = state.active_mut();
            if !active.tail.truncate(to.position, arena) {
                return Err(LogError::Memory(self.dir()));
            }
            active.end = end;
            active.drained = active.drained.min(to.position);
            active.held_from = active.held_from.min(to.position);
            active.cached = active.cached.min(to.position);
            active.boundary = Mark {
                position: active.boundary.position.min(to.position),
                offset: active.boundary.offset.min(end),
            };
            active.last_batch = None;
            active.snapshot = None;
            active.checked.clear();
            if let Some(index) = &mut active.index {
                Rc::make_mut(index).truncate(end, to.position);
            }
            state.producers.truncate_end(end);
            state.epochs.truncate_end(end);
            state.log_start = state.log_start.min(end);
            state.durable = state.durable.min(to);
            state.durable_end = state.durable_end.min(end);
        }
        self.note_end();
        for base in gone {
            self.context.files.forget(self.id, base);
            self.context.indexes.borrow_mut().remove(&(self.id, base));
            self.remove_side_files(base)?;
            self.remove_if_there(self.path(base, Kind::Log))?;
        }
        self.remove_snapshots(&self.names()?, |base| base > end)?;
        self.context
            .indexes
            .borrow_mut()
            .remove(&(self.id, to.segment));
        self.remove_side_files(to.segment)?;
        let on_disk = self.state.borrow().active().on_disk;
        if on_disk {
            let drained = self.state.borrow().active().drained;
            self.trim(to.segment, drained)?;
        }
        self.recall().await
    }
}
