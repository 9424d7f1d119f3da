//! A log whose journal is gone: its ring was in the page cache of an earlier boot of the machine.
//! Batches are read from the files, checked from the recovery point on, and the log ends before the
//! first bad one.

use std::path::Path;

use super::error::OpenError;
use crate::base::ids::{Offset, TopicId};
use crate::log::aside::owner;
use crate::log::format::names::{self, Kind};
use crate::log::partition::Recovering;
use crate::log::segment::{BatchHeader, HEADER_BYTES, Place};
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};
use crate::wire::batch::BatchView;

/// Walks the files of a partition of `topic` and makes `state` what they hold. Answers where the
/// log was cut, if the table or the files said more than is whole. A directory that says it is
/// another topic's holds nothing of this one: the power cut took the deletion of its name back.
pub(super) fn walk(
    ring: &Ring,
    dir: &Path,
    topic: TopicId,
    state: &mut Recovering,
) -> Result<Option<Place>, OpenError> {
    let others = owner(ring, dir).is_some_and(|owner| owner != topic);
    let entries = match ring.exists(dir) && !others {
        true => ring.read_dir(dir).map_err(OpenError::io(dir))?,
        false => Vec::new(),
    };
    let from = state.drained();
    let mut bases: Vec<(Offset, u64)> = entries
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Log)) if base >= from.segment => Some((base, entry.len)),
            _ => None,
        })
        .collect();
    bases.sort();
    let mut end = (Place::new(from.segment, 0), from.segment);
    let mut whole = true;
    for (base, len) in bases {
        if base != end.1 || !whole {
            whole = false;
            break;
        }
        let path = names::file(dir, base, Kind::Log);
        let file = ring
            .open(&path, OpenOptions::default())
            .map_err(OpenError::io(&path))?;
        end.0 = Place::new(base, 0);
        whole = walk_file(&file, len, from, &mut end, state).map_err(OpenError::io(&path))?;
    }
    let said_more = state.end() > end.1;
    if said_more {
        state.truncate(end.0, end.1);
    }
    Ok((said_more || !whole).then_some(end.0))
}

/// True if the file is whole batches to its end.
fn walk_file(
    file: &File,
    len: u64,
    trusted: Place,
    end: &mut (Place, Offset),
    state: &mut Recovering,
) -> std::io::Result<bool> {
    let mut head = [0; HEADER_BYTES];
    let mut bytes = Vec::new();
    while end.0.position < len {
        if file.read_now(&mut head, end.0.position)? < HEADER_BYTES {
            return Ok(false);
        }
        let Some(header) = BatchHeader::parse(&head).filter(|h| h.base_offset >= end.1) else {
            return Ok(false);
        };
        let next = end.0.plus(u64::from(header.len));
        if next.position > len {
            return Ok(false);
        }
        if next > trusted {
            bytes.resize(header.len as usize, 0);
            let read = file.read_now(&mut bytes, end.0.position)?;
            let good = read == bytes.len()
                && BatchView::parse(&bytes).is_ok_and(|batch| batch.verify_crc());
            if !good {
                return Ok(false);
            }
        }
        if state.pointer(end.0, &head, next).is_err() {
            return Ok(false);
        }
        *end = (next, header.next_offset());
    }
    Ok(true)
}
