//! Journals: the superblock, then the entries of the run that it names.

use crate::base::limits::PAGE_BYTES;
use crate::log::dump::{DumpError, Line, Value, Walk};
use crate::log::journal::entry::{EntryView, Item, ItemKind};
use crate::log::journal::scan::{Ending, RingSource, Scanner};
use crate::log::journal::superblock::{JournalKind, RING_START, Superblock};
use crate::wire::batch::BatchView;

/// True if the file begins as a ring file does.
pub(super) fn is_journal<S: RingSource + ?Sized>(walk: &Walk<'_, S>) -> Result<bool, DumpError> {
    let mut pages = vec![0; RING_START as usize];
    let got = walk.read(0, &mut pages)?;
    let begins = |at: usize| pages[..got].get(at..at + 8) == Some(b"CLJSUPER");
    Ok(begins(0) || begins(PAGE_BYTES))
}

pub(super) fn walk<S: RingSource + ?Sized>(walk: &mut Walk<'_, S>) -> Result<(), DumpError> {
    let mut pages = vec![0; RING_START as usize];
    let got = walk.read(0, &mut pages)?;
    let superblock = match Superblock::choose(&pages[..got]) {
        Ok(superblock) => superblock,
        Err(error) => return walk.put(Line::new("superblock").wrong(error)),
    };
    walk.put(about(&superblock))?;
    let source = walk.source;
    let mut scanner = Scanner::new(source, superblock.scan_start());
    loop {
        let entry = match scanner.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return walk.put(Line::new("end").wrong(error)),
        };
        show(walk, &entry)?;
    }
    let verdict = scanner.verdict();
    let end = Line::new("end")
        .with("position", verdict.position)
        .with("next_sequence", verdict.next_sequence)
        .with("entries", verdict.entries);
    walk.put(match verdict.ending {
        Ending::Whole => end.with("ending", "whole"),
        Ending::Torn { sequence, .. } => end.with("ending", "torn").with("torn_sequence", sequence),
        Ending::Damaged {
            sequence, proof, ..
        } => end.with("ending", "damaged").wrong(format!(
            "entry {sequence} was durable and can't be read: {proof}"
        )),
    })
}

fn about(superblock: &Superblock) -> Line {
    Line::new("superblock")
        .with("journal", superblock.journal.to_string())
        .with(
            "type",
            match superblock.kind {
                JournalKind::Group => "group",
                JournalKind::Interval => "interval",
            },
        )
        .with("update", superblock.update)
        .with("incarnation", superblock.incarnation)
        .with("ring_end", superblock.ring_end)
        .with("replay_position", superblock.position)
        .with("replay_sequence", superblock.sequence)
        .with("durable_through", superblock.durable_through)
        .with("table_file", superblock.table.file)
        .with("table_bytes", superblock.table.len)
        .with("boot_id", superblock.boot_id.as_str())
}

fn show<S: RingSource + ?Sized>(
    walk: &mut Walk<'_, S>,
    entry: &EntryView<'_>,
) -> Result<(), DumpError> {
    let header = &entry.header;
    walk.put(
        Line::new("entry")
            .with("position", header.position)
            .with("sequence", header.sequence)
            .with("type", format!("{:?}", header.kind).to_lowercase())
            .with("items", header.items)
            .with("data", header.data_len)
            .with("size", header.entry_len)
            .with("durable_through", header.durable_through)
            .with("crc", Value::Crc(entry.header_crc)),
    )?;
    for item in entry.items() {
        match item {
            Ok((item, data)) => walk.put(item_line(&item, data))?,
            Err(error) => return walk.put(Line::new("item").nested().wrong(error)),
        }
    }
    Ok(())
}

fn item_line(item: &Item, data: &[u8]) -> Line {
    let mut line = Line::new("item")
        .nested()
        .with("type", format!("{:?}", item.kind).to_lowercase())
        .with("topic_id", item.key.topic.to_string())
        .with("partition", item.key.partition.0)
        .with("generation", item.generation)
        .with("leader_epoch", item.epoch.0)
        .with("segment", item.segment.0)
        .with("position", item.position)
        .with("base_offset", item.base_offset.0)
        .with("last_offset", item.last_offset.0)
        .with("bytes", item.len);
    if item.kind == ItemKind::Pointer {
        line = line.with("durable_position", item.durable_position);
    }
    if !item.holds(data) {
        return line.wrong("its bytes are not those that were committed");
    }
    match item.kind {
        ItemKind::Data => match BatchView::parse(data) {
            Ok(batch) => line
                .with("records", batch.records_count())
                .with("producer_id", batch.producer_id().0)
                .with("base_sequence", batch.base_sequence()),
            Err(error) => line.wrong(error),
        },
        _ => line,
    }
}
