//! What a journal did, for metrics and benchmarks.

use std::cell::Cell;

use crate::base::limits::PAGE_BYTES;

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Counts {
    commits: Cell<u64>,
    journal_bytes: Cell<u64>,
    flushes: Cell<u64>,
    segment_bytes: Cell<u64>,
    carried_bytes: Cell<u64>,
    checkpoints: Cell<u64>,
    table_bytes: Cell<u64>,
    bypasses: Cell<u64>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountsNow {
    /// Entries written.
    pub commits: u64,
    /// Bytes of entries, tails carried included.
    pub journal_bytes: u64,
    /// Flushes of any file.
    pub flushes: u64,
    /// Bytes written to segments.
    pub segment_bytes: u64,
    /// Bytes of tails that were brought forward.
    pub carried_bytes: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Bytes written to tables and superblocks.
    pub table_bytes: u64,
    /// Rounds of batches that went past the journal.
    pub bypasses: u64,
}

fn add(counter: &Cell<u64>, n: u64) {
    counter.set(counter.get() + n);
}

impl Counts {
    pub(crate) fn commit(&self, bytes: u64) {
        add(&self.commits, 1);
        add(&self.journal_bytes, bytes);
    }
    pub(crate) fn flush(&self) {
        add(&self.flushes, 1);
    }
    pub(crate) fn segment(&self, bytes: u64) {
        add(&self.segment_bytes, bytes);
    }
    pub(crate) fn carry(&self, bytes: u64) {
        add(&self.carried_bytes, bytes);
    }
    pub(crate) fn checkpoint(&self, table_bytes: u64) {
        add(&self.checkpoints, 1);
        add(&self.table_bytes, table_bytes);
    }
    pub(crate) fn superblock_page(&self) {
        add(&self.table_bytes, PAGE_BYTES as u64);
        self.flush();
    }
    pub(crate) fn bypass(&self) {
        add(&self.bypasses, 1);
    }

    /// The counters now.
    pub fn now(&self) -> CountsNow {
        CountsNow {
            commits: self.commits.get(),
            journal_bytes: self.journal_bytes.get(),
            flushes: self.flushes.get(),
            segment_bytes: self.segment_bytes.get(),
            carried_bytes: self.carried_bytes.get(),
            checkpoints: self.checkpoints.get(),
            table_bytes: self.table_bytes.get(),
            bypasses: self.bypasses.get(),
        }
    }
}

impl CountsNow {
    /// Of two journals together.
    pub fn plus(self, other: CountsNow) -> CountsNow {
        CountsNow {
            commits: self.commits + other.commits,
            journal_bytes: self.journal_bytes + other.journal_bytes,
            flushes: self.flushes + other.flushes,
            segment_bytes: self.segment_bytes + other.segment_bytes,
            carried_bytes: self.carried_bytes + other.carried_bytes,
            checkpoints: self.checkpoints + other.checkpoints,
            table_bytes: self.table_bytes + other.table_bytes,
            bypasses: self.bypasses + other.bypasses,
        }
    }
}
