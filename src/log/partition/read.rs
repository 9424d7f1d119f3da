//! Reads: from memory at once, else by looking for the place in the file first.

use std::rc::Rc;

use crate::base::ids::Offset;
use crate::log::format::names::Kind;
use crate::log::partition::Partition;
use crate::log::partition::error::{LogError, ReadError};
use crate::log::partition::plan::{Part, ReadPlan};
use crate::log::partition::state::{Located, Span, State, Wish};
use crate::log::segment::{Access, BatchHeader, Place, SparseIndex};

/// Why a read is refused where a file has something else.
pub(super) const BATCH_MISSING: &str = "the batch that must be here is not";

/// What a lookup in a file found.
pub(super) struct Found {
    pub(super) segment: Offset,
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    pub(super) index: Rc<SparseIndex>,
}

impl Partition {
    /// Whole batches from the one that holds `from` on, of one segment, below `limit`, at most
    /// `max_bytes`; with `at_least_one`, the first batch even if it is larger. `None` where only
    /// the disk can tell the place: then [`Partition::read_cold`] does.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] below the start or above the log's end; the system's when the
    /// segment's file cannot be opened.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: u64,
        limit: Offset,
        at_least_one: bool,
    ) -> Result<Option<ReadPlan>, ReadError> {
        let mut plan = ReadPlan::default();
        let known = self.read_into(from, max_bytes, limit, at_least_one, &mut plan)?;
        Ok(known.then_some(plan))
    }

    /// As [`Partition::read`], into a plan that is used again; false where only the disk can tell.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub fn read_into(
        &self,
        from: Offset,
        max_bytes: u64,
        limit: Offset,
        at_least_one: bool,
        plan: &mut ReadPlan,
    ) -> Result<bool, ReadError> {
        plan.clear();
        let state = self.state.borrow();
        self.check_range(&state, from)?;
        if from >= limit {
            return Ok(true);
        }
        let Some(limit) = state.limit_place(limit) else {
            return Ok(false);
        };
        let wish = Wish {
            max_bytes,
            limit,
            at_least_one,
        };
        match state.locate(from) {
            Located::Cold { .. } => return Ok(false),
            Located::End => {}
            Located::At {
                segment,
                position,
                header,
            } => {
                let span = state.span(segment, position, &header, wish, None);
                self.plan(&state, span, plan)?;
            }
        }
        Ok(true)
    }

    /// As [`Partition::read`], but reads the disk where it must to find the place. `limit` stands
    /// between two batches.
    ///
    /// # Errors
    /// As [`Partition::read`], and [`ReadError::Corrupt`] where the file has no batch.
    pub async fn read_cold(
        &self,
        from: Offset,
        max_bytes: u64,
        limit: Offset,
        at_least_one: bool,
    ) -> Result<ReadPlan, ReadError> {
        if let Some(plan) = self.read(from, max_bytes, limit, at_least_one)? {
            return Ok(plan);
        }
        let (limit_place, cuts) = {
            let state = self.state.borrow();
            (state.limit_place(limit), state.cuts)
        };
        let limit_place = match limit_place {
            Some(place) => place,
            None => match self.find(limit).await? {
                Some(found) => Place::new(found.segment, found.position),
                None => self.end_place(),
            },
        };
        let Some(found) = self.find(from).await? else {
            return Ok(ReadPlan::default());
        };
        let state = self.state.borrow();
        self.check_range(&state, from)?;
        let Some(i) = state.index_of(found.segment) else {
            return Err(self.out_of_range(&state, from)); // deleted meanwhile
        };
        let place = Place::new(found.segment, found.position);
        let end = place.position + u64::from(found.header.len);
        let below = found.header.base_offset < limit && state.cuts == cuts;
        if below && Place::new(found.segment, end) > limit_place {
            // a batch that begins below the limit ends there at the latest: this header tells of
            // other offsets or another length than were written
            return Err(self.corrupt(place, BATCH_MISSING));
        }
        let wish = Wish {
            max_bytes,
            limit: limit_place,
            at_least_one,
        };
        let span = state.span(i, found.position, &found.header, wish, Some(&found.index));
        let mut plan = ReadPlan::default();
        self.plan(&state, span, &mut plan)?;
        Ok(plan)
    }

    /// Makes a plan hold as little memory as it can: what is in the segment's file comes from there,
    /// and what is not, if anything is, another time.
    ///
    /// # Errors
    /// The system's when the file cannot be opened.
    pub fn prefer_file(&self, plan: &mut ReadPlan) -> Result<(), ReadError> {
        let in_memory = plan.parts.iter().any(|p| matches!(p, Part::Memory(_)));
        let drained = {
            let state = self.state.borrow();
            let segment = state.index_of(plan.end.segment);
            segment.map_or(0, |i| state.segments[i].boundary.position)
        };
        let from = plan.end.position - plan.bytes;
        if !in_memory || drained <= from {
            return Ok(());
        }
        let file = self.open_file(plan.end.segment, Access::Read)?;
        let to = plan.end.position.min(drained);
        plan.parts.clear();
        plan.parts.push(Part::File {
            file,
            position: from,
            len: to - from,
        });
        plan.bytes = to - from;
        plan.end.position = to;
        Ok(())
    }

    fn check_range(&self, state: &State, offset: Offset) -> Result<(), ReadError> {
        if self.is_gone() {
            return Err(ReadError::Gone);
        }
        match offset < state.log_start || offset > state.end() {
            true => Err(self.out_of_range(state, offset)),
            false => Ok(()),
        }
    }

    fn out_of_range(&self, state: &State, asked: Offset) -> ReadError {
        ReadError::OutOfRange {
            asked,
            start: state.log_start,
            end: state.end(),
        }
    }

    fn plan(
        &self,
        state: &State,
        span: Option<Span>,
        plan: &mut ReadPlan,
    ) -> Result<(), ReadError> {
        let Some(span) = span else {
            return Ok(());
        };
        let segment = &state.segments[span.segment];
        let in_memory = segment.tail.start().clamp(span.from, span.to);
        if span.from < in_memory {
            if span.from >= segment.held_from {
                self.context.cache.missed();
            }
            let file = self.open_file(segment.base, Access::Read)?;
            plan.parts.push(Part::File {
                file,
                position: span.from,
                len: in_memory - span.from,
            });
        }
        if in_memory < span.to {
            segment.tail.share(in_memory, span.to, |part| {
                plan.parts.push(Part::Memory(part))
            });
        }
        plan.bytes = span.to - span.from;
        plan.first_offset = Some(span.first_offset);
        plan.end = Place::new(segment.base, span.to);
        Ok(())
    }

    /// A segment's file for that use.
    pub(super) fn open_file(
        &self,
        base: Offset,
        access: Access,
    ) -> Result<crate::ring::File, LogError> {
        let path = || self.path(base, Kind::Log);
        self.context
            .files
            .open(self.id, base, access, path)
            .map(|(file, _)| file)
            .map_err(|source| LogError::Io {
                path: path(),
                source,
            })
    }
}
