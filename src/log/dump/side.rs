//! The files beside the records.

use crate::base::ids::Offset;
use crate::log::dump::{DumpError, Line, Walk};
use crate::log::format::names::Kind;
use crate::log::format::{
    FormatError, epoch_checkpoint, meta_properties, offset_checkpoint, offset_index,
    partition_metadata, producer_snapshot, time_index, txn_index,
};
use crate::log::journal::properties::DirectoryProperties;
use crate::log::journal::scan::RingSource;

fn lines<S, T>(
    walk: &mut Walk<'_, S>,
    found: Result<Vec<T>, FormatError>,
    line: impl Fn(&T) -> Line,
) -> Result<(), DumpError>
where
    S: RingSource + ?Sized,
{
    match found {
        Ok(found) => found.iter().try_for_each(|entry| walk.put(line(entry))),
        Err(error) => walk.put(Line::new("file").wrong(error)),
    }
}

/// Files that a base offset names.
pub(super) fn numbered<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    base: Offset,
    kind: Kind,
    bytes: &[u8],
) -> Result<(), DumpError> {
    let from_base = |relative: u32| base.plus(i64::from(relative)).0;
    match kind {
        Kind::Log => Ok(()),
        Kind::Index => lines(walk, offset_index::decode(bytes, u64::MAX), |e| {
            Line::new("entry")
                .with("offset", from_base(e.relative_offset))
                .with("position", e.position)
        }),
        Kind::TimeIndex => lines(walk, time_index::decode(bytes), |e| {
            Line::new("entry")
                .with("timestamp", e.timestamp)
                .with("offset", from_base(e.relative_offset))
        }),
        Kind::TxnIndex => lines(walk, txn_index::decode(bytes), |e| {
            Line::new("aborted")
                .with("producer_id", e.producer_id.0)
                .with("first_offset", e.first_offset.0)
                .with("last_offset", e.last_offset.0)
                .with("last_stable_offset", e.last_stable_offset.0)
        }),
        Kind::Snapshot => lines(walk, producer_snapshot::decode(bytes), |e| {
            let first = e.current_txn_first_offset;
            let line = Line::new("producer")
                .with("producer_id", e.producer_id)
                .with("epoch", e.epoch)
                .with("last_sequence", e.last_sequence)
                .with("last_offset", e.last_offset)
                .with("offset_delta", e.offset_delta)
                .with("timestamp", e.timestamp)
                .with("coordinator_epoch", e.coordinator_epoch);
            match first {
                Some(first) => line.with("open_transaction_from", first),
                None => line,
            }
        }),
    }
}

pub(super) fn epochs<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    bytes: &[u8],
) -> Result<(), DumpError> {
    lines(walk, epoch_checkpoint::decode(bytes), |e| {
        Line::new("epoch")
            .with("epoch", e.epoch.0)
            .with("start_offset", e.start.0)
    })
}

pub(super) fn offsets<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    bytes: &[u8],
) -> Result<(), DumpError> {
    lines(walk, offset_checkpoint::decode(bytes), |e| {
        Line::new("partition")
            .with("topic", e.topic.as_str())
            .with("partition", e.partition.0)
            .with("offset", e.offset.0)
    })
}

pub(super) fn partition<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    bytes: &[u8],
) -> Result<(), DumpError> {
    let one = partition_metadata::decode(bytes).map(|id| vec![id]);
    lines(walk, one, |id| {
        Line::new("partition").with("topic_id", id.to_string())
    })
}

pub(super) fn journals<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    bytes: &[u8],
) -> Result<(), DumpError> {
    let found = match DirectoryProperties::decode(bytes) {
        Ok(found) => found,
        Err(error) => return walk.put(Line::new("file").wrong(error)),
    };
    walk.put(Line::new("directory").with("directory_id", found.directory.to_string()))?;
    for journal in &found.journals {
        walk.put(
            Line::new("journal")
                .nested()
                .with("id", journal.to_string()),
        )?;
    }
    Ok(())
}

pub(super) fn meta<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    bytes: &[u8],
) -> Result<(), DumpError> {
    let one = meta_properties::decode(bytes).map(|meta| vec![meta]);
    lines(walk, one, |meta| {
        Line::new("directory")
            .with("cluster_id", meta.cluster_id.as_str())
            .with("node_id", meta.node_id.0)
            .with("directory_id", meta.directory_id.to_string())
    })
}
