//! Segments: batches laid end to end, ours and Kafka's alike.

use crate::log::dump::{DumpError, Line, Value, Walk};
use crate::log::journal::scan::RingSource;
use crate::wire::batch::{BatchError, BatchView, records};
use crate::wire::compress::{Codec, decompress};

/// Read at once; a larger batch is read by itself.
const WINDOW_BYTES: usize = 1 << 20;
/// No batch is larger: Kafka's largest segments are.
const BATCH_BYTES_MAX: usize = 1 << 31;
/// What the records of one batch may inflate to.
const INFLATED_BYTES_MAX: usize = 1 << 30;

pub(super) fn walk<S: RingSource + ?Sized>(walk: &mut Walk<'_, S>) -> Result<(), DumpError> {
    let mut window = Vec::new();
    let mut window_at = 0u64;
    let mut at = 0u64;
    let mut last = None;
    while at < walk.len {
        let skip = (at - window_at) as usize;
        let error = match BatchView::parse(window.get(skip..).unwrap_or(&[])) {
            Ok(batch) => {
                let line = line(at, &batch, last);
                walk.put(line)?;
                if walk.options.records {
                    show_records(walk, &batch)?;
                }
                last = Some(batch.last_offset().0);
                at += batch.total_len() as u64;
                continue;
            }
            Err(error) => error,
        };
        let needed = match error {
            BatchError::Truncated { needed, .. } if needed <= BATCH_BYTES_MAX => needed,
            error => return trouble(walk, at, &error.to_string()),
        };
        let here = window.len().saturating_sub(skip);
        if at + here as u64 >= walk.len {
            let left = walk.len - at;
            return trouble(
                walk,
                at,
                &format!("{needed} bytes are needed, {left} are left"),
            );
        }
        let want = (walk.len - at).min(needed.max(WINDOW_BYTES) as u64) as usize;
        window.resize(want, 0);
        let got = walk.read(at, &mut window)?;
        window.truncate(got);
        window_at = at;
        if got <= here {
            return trouble(walk, at, "the file ends before its length");
        }
    }
    Ok(())
}

/// A last line about bytes that are no batch.
fn trouble<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    at: u64,
    problem: &str,
) -> Result<(), DumpError> {
    let line = Line::new("end").with("position", at);
    let zeros = only_zeros(walk, at)?;
    walk.put(match zeros {
        true => line.with("zeros", walk.len - at),
        false => line.wrong(problem),
    })
}

fn only_zeros<S: RingSource + ?Sized>(walk: &Walk<'_, S>, mut at: u64) -> Result<bool, DumpError> {
    let mut buf = vec![0; WINDOW_BYTES];
    while at < walk.len {
        let want = (walk.len - at).min(WINDOW_BYTES as u64) as usize;
        let got = walk.read(at, &mut buf[..want])?;
        if got == 0 || buf[..got].iter().any(|b| *b != 0) {
            return Ok(got == 0);
        }
        at += got as u64;
    }
    Ok(true)
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
