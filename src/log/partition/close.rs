//! The two ends of a run: a clean stop, and cutting the log back.

use std::rc::Rc;

use crate::base::ids::Offset;
use crate::log::format::names::{self, Kind};
use crate::log::format::producer_snapshot;
use crate::log::partition::Partition;
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
        self.settle_while_busy(true).await?;
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
        self.write_indexes(base).await?;
        let (end, snapshot) = {
            let state = self.state.borrow();
            let snapshot = producer_snapshot::encode(&state.producers.to_snapshot());
            (state.end(), snapshot)
        };
        self.write_side_file(self.path(end, Kind::Snapshot), &snapshot)?;
        self.remove_old_snapshots(end)?;
        self.write_epochs()?;
        self.context.files.forget(self.id, base);
        Ok(())
    }

    /// Snapshots of earlier stops: Kafka keeps those where segments begin and at the end.
    fn remove_old_snapshots(&self, end: Offset) -> Result<(), LogError> {
        let dir = self.dir();
        let ring = &self.context.ring;
        let entries = ring.read_dir(&dir).map_err(|source| LogError::Io {
            path: dir.clone(),
            source,
        })?;
        for entry in entries {
            if let Some((base, Kind::Snapshot)) = names::parse_file(&entry.name)
                && base != end
                && self.state.borrow().index_of(base).is_none()
            {
                self.remove_if_there(dir.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Cuts the log back so that it ends before the batch at `to`, whose first offset is `end`. The
    /// journal has flushed the cut already. Answers false if producer state was lost with it, which
    /// must then be rebuilt from the log.
    ///
    /// # Errors
    /// The system's: the files may be longer than the log then, as after a kill in between.
    pub async fn truncate(self: &Rc<Self>, to: Place, end: Offset) -> Result<bool, LogError> {
        let _busy = self.acquire().await;
        if to >= self.end_place() {
            return Ok(true);
        }
        let arena = self.context.ring.arena();
        let mut gone: Vec<Offset> = Vec::new();
        let whole = {
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
            active.cached = active.cached.min(to.position);
            active.boundary = Mark {
                position: active.boundary.position.min(to.position),
                offset: active.boundary.offset.min(end),
            };
            active.last_batch = None;
            active.snapshot = None;
            if let Some(index) = &mut active.index {
                Rc::make_mut(index).truncate(end, to.position);
            }
            let whole = state.producers.truncate_end(end);
            state.epochs.truncate_end(end);
            state.log_start = state.log_start.min(end);
            state.durable = state.durable.min(to);
            state.durable_end = state.durable_end.min(end);
            whole
        };
        self.note_end();
        for base in gone {
            self.context.files.forget(self.id, base);
            self.context.indexes.borrow_mut().remove(&(self.id, base));
            self.remove_side_files(base)?;
            self.remove_if_there(self.path(base, Kind::Log))?;
            self.remove_if_there(self.path(base, Kind::Snapshot))?;
        }
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
        self.recall().await?;
        Ok(whole)
    }
}
