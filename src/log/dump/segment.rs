//! Segments: batches laid end to end, ours and Kafka's alike.

use crate::log::dump::{DumpError, Line, Value, Walk};
use crate::log::journal::scan::RingSource;
use crate::log::segment::scan::{BatchFault, SegmentScan, only_zeros};
use crate::wire::batch::{BatchView, records};
use crate::wire::compress::{Codec, decompress};

/// What the records of one batch may inflate to.
const INFLATED_BYTES_MAX: usize = 1 << 30;

pub(super) fn walk<S: RingSource + ?Sized>(walk: &mut Walk<'_, S>) -> Result<(), DumpError> {
    let source = walk.source;
    let mut scan = SegmentScan::new(source, 0, walk.len);
    let mut last = None;
    loop {
        match scan.next_batch() {
            Ok(None) => return Ok(()),
            Ok(Some((at, batch))) => {
                walk.put(line(at, &batch, last))?;
                if walk.options.records {
                    show_records(walk, &batch)?;
                }
                last = Some(batch.last_offset().0);
            }
            Err(BatchFault::Read(error)) => return Err(DumpError::Read(error)),
            Err(fault) => return trouble(walk, scan.position(), &fault.to_string()),
        }
    }
}

/// A last line about bytes that are no batch.
fn trouble<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    at: u64,
    problem: &str,
) -> Result<(), DumpError> {
    let line = Line::new("end").with("position", at);
    let zeros = only_zeros(walk.source, at, walk.len).map_err(DumpError::Read)?;
    walk.put(match zeros {
        true => line.with("zeros", walk.len - at),
        false => line.wrong(problem),
    })
}

fn line(at: u64, batch: &BatchView<'_>, last: Option<i64>) -> Line {
    let codec = batch.codec().map_or("unknown", Codec::name);
    let mut line = Line::new("batch")
        .with("position", at)
        .with("base_offset", batch.base_offset().0)
        .with("last_offset", batch.last_offset().0)
        .with("count", batch.records_count())
        .with("size", batch.total_len() as u64)
        .with("leader_epoch", batch.leader_epoch().0)
        .with("max_timestamp", batch.max_timestamp().0)
        .with(
            "timestamps",
            match batch.is_log_append_time() {
                true => "append",
                false => "create",
            },
        )
        .with("codec", codec)
        .with("producer_id", batch.producer_id().0)
        .with("producer_epoch", batch.producer_epoch())
        .with("base_sequence", batch.base_sequence())
        .with("transactional", batch.is_transactional())
        .with("control", batch.is_control())
        .with("crc", Value::Crc(batch.crc()));
    if batch.has_delete_horizon() {
        line = line.with("delete_horizon", batch.base_timestamp().0);
    }
    if !batch.verify_crc() {
        return line.wrong("the checksum does not match");
    }
    match last {
        Some(last) if batch.base_offset().0 <= last => line.wrong(format!(
            "it begins at or below {last}, where the one before it ends"
        )),
        _ => line,
    }
}

fn show_records<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    batch: &BatchView<'_>,
) -> Result<(), DumpError> {
    let Some(codec) = batch.codec() else {
        return Ok(());
    };
    let plain = match decompress(codec, batch.body(), INFLATED_BYTES_MAX) {
        Ok(plain) => plain,
        Err(error) => return walk.put(Line::new("records").nested().wrong(error)),
    };
    for record in records(&plain, batch.records_count()) {
        let record = match record {
            Ok(record) => record,
            Err(error) => return walk.put(Line::new("record").nested().wrong(error)),
        };
        let offset = batch
            .base_offset()
            .0
            .wrapping_add(record.offset_delta.into());
        let time = match batch.is_log_append_time() {
            true => batch.max_timestamp().0,
            false => batch
                .base_timestamp()
                .0
                .wrapping_add(record.timestamp_delta),
        };
        let own = |bytes: Option<&[u8]>| Value::Bytes(bytes.map(<[u8]>::to_vec));
        let mut line = Line::new("record")
            .nested()
            .with("offset", offset)
            .with("timestamp", time)
            .with("key", own(record.key))
            .with("value", own(record.value));
        for header in record.headers() {
            let value = String::from_utf8_lossy(header.value.unwrap_or(b"null"));
            let text = format!("{}:{value}", String::from_utf8_lossy(header.key));
            line = line.with("header", text);
        }
        walk.put(line)?;
    }
    Ok(())
}
