//! A log whose journal is gone: its ring was in the page cache of an earlier boot of the machine, or
//! it is damaged and given up. Batches are read from the files, checked from the recovery point on,
//! and the log ends before the first bad one.

use std::path::Path;

use super::error::OpenError;
use super::overlay::Overlay;
use crate::base::ids::{Offset, TopicId};
use crate::log::aside::owner;
use crate::log::format::names::{self, Kind};
use crate::log::journal::scan::RingSource;
use crate::log::partition::Recovering;
use crate::log::segment::scan::{BatchFault, SegmentScan};
use crate::log::segment::{BatchHeader, HEADER_BYTES, Place};
use crate::ring::Ring;

/// Bytes of a log that no state knows, each at its place.
pub(crate) type Loose = Vec<(Place, Vec<u8>)>;

/// Walks the files of a partition of `topic` and makes `state` what they hold, together with what
/// the journal gave `state` and with `loose` bytes of it. Answers where the log was cut, if the
/// table, the journal or the files said more than is whole. A directory that says it is another
/// topic's holds nothing of this one: the power cut took the deletion of its name back.
pub(crate) fn walk(
    ring: &Ring,
    dir: &Path,
    topic: TopicId,
    state: &mut Recovering,
    loose: &Loose,
) -> Result<Option<Place>, OpenError> {
    let others = owner(ring, dir).is_some_and(|owner| owner != topic);
    let entries = match ring.exists(dir) && !others {
        true => ring.read_dir(dir).map_err(OpenError::io(dir))?,
        false => Vec::new(),
    };
    let from = state.drained();
    let settled = state.pending().map(|(at, bytes)| (at, bytes.to_vec()));
    // of what is in a file already, the file counts
    let lens: Vec<(Offset, u64)> = entries
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Log)) => Some((base, entry.len)),
            _ => None,
        })
        .collect();
    let beyond = loose.iter().filter_map(|(at, bytes)| {
        let len = lens.iter().find(|(base, _)| *base == at.segment);
        let len = len.map_or(0, |(_, len)| *len);
        let skip = len.saturating_sub(at.position) as usize;
        Some((at.plus(skip as u64), bytes.get(skip..)?.to_vec()))
    });
    let pending: Loose = beyond.chain(settled).collect();
    let mut bases: Vec<Offset> = lens
        .iter()
        .map(|(base, _)| *base)
        .chain(pending.iter().map(|(at, _)| at.segment))
        .filter(|base| *base >= from.segment)
        .collect();
    bases.sort();
    bases.dedup();
    let mut end = (Place::new(from.segment, 0), from.segment);
    let mut whole = true;
    for base in bases {
        if base != end.1 || !whole {
            whole = false;
            break;
        }
        let patches = pending.iter().map(|(at, bytes)| (*at, bytes.as_slice()));
        let io = || OpenError::io(names::file(dir, base, Kind::Log));
        let segment = Overlay::open(ring, dir, base, patches).map_err(io())?;
        end.0 = Place::new(base, 0);
        whole = walk_segment(&segment, from, &mut end, state).map_err(io())?;
    }
    let said_more = state.end() > end.1;
    if said_more {
        state.truncate(end.0, end.1);
    }
    Ok((said_more || !whole).then_some(end.0))
}

/// True if the segment is whole batches to its end. Of those below `trusted` only the headers are
/// read.
fn walk_segment(
    segment: &Overlay<'_>,
    trusted: Place,
    end: &mut (Place, Offset),
    state: &mut Recovering,
) -> std::io::Result<bool> {
    let len = segment.len();
    let mut head = [0; HEADER_BYTES];
    while end.0 < trusted && end.0.position < len {
        let got = segment.read(end.0.position, &mut head)?;
        let Some(header) = BatchHeader::parse(&head[..got]) else {
            return Ok(false);
        };
        let next = end.0.plus(u64::from(header.len));
        if next > trusted {
            break;
        }
        if next.position > len || !follows(&header, end) {
            return Ok(false);
        }
        if state.pointer(end.0, &head, next).is_err() {
            return Ok(false);
        }
        *end = (next, header.next_offset());
    }
    let mut scan = SegmentScan::new(segment, end.0.position, len);
    loop {
        let batch = match scan.next_batch() {
            Ok(Some((_, batch))) => batch,
            Ok(None) => return Ok(true),
            Err(BatchFault::Read(error)) => return Err(error),
            Err(_) => return Ok(false),
        };
        let header = BatchHeader::parse(batch.bytes());
        let Some(header) = header.filter(|header| follows(header, end)) else {
            return Ok(false);
        };
        if !batch.verify_crc() {
            return Ok(false);
        }
        let at = end.0;
        let next = at.plus(u64::from(header.len));
        let taken = match segment.is_in_file(at.position, next.position) {
            true => state.pointer(at, batch.bytes(), next),
            false => state.batch(at, batch.bytes()),
        };
        if taken.is_err() {
            return Ok(false);
        }
        *end = (next, header.next_offset());
    }
}

fn follows(header: &BatchHeader, end: &(Place, Offset)) -> bool {
    header.base_offset == end.1
}
