//! Reads a ring from its first entry to its end, and says what kind of end it is.
//!
//! | what stands at the next place | a later header or the superblock proves it was durable | verdict |
//! |---|---|---|
//! | a whole entry of this chain | - | replayed |
//! | a whole header and list, an item's bytes rotten | no | torn: the end |
//! | the same | yes | replayed; that item's partition is damaged |
//! | anything else | no | the end; torn if a header of this run lies beyond |
//! | anything else | yes | damaged: everything from here on is missing |
//! | anything else, and the superblock names an entry here | - | damaged |
//!
//! The proof is a header of this journal and this incarnation, anywhere in the ring, whose
//! `durable_through` is at or above the missing sequence: it was written only after the flush
//! of that sequence had been reaped.

use std::io;

use crate::base::ids::Uuid;
use crate::base::limits::PAGE_BYTES;
use crate::log::journal::entry::{EntryHeader, EntryKind, EntryView, HeaderError};

const PAGE: u64 = PAGE_BYTES as u64;
const WINDOW_BYTES: usize = 1 << 20;

/// Where a ring's bytes come from: a file, or a slice in tests.
pub trait RingSource {
    /// Fills `buf` from `at`; short only at the end of the ring file.
    ///
    /// # Errors
    /// What the disk says.
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl RingSource for [u8] {
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        let n = buf.len().min(self.len() - at);
        buf[..n].copy_from_slice(&self[at..at + n]);
        Ok(n)
    }
}

/// What the superblock says about where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanStart {
    /// The journal.
    pub journal: Uuid,
    /// The run that owns the ring's entries.
    pub incarnation: u64,
    /// First byte of the ring's data in the file.
    pub ring_start: u64,
    /// One past its last.
    pub ring_end: u64,
    /// Place of the first entry to replay.
    pub position: u64,
    /// Its sequence.
    pub sequence: u64,
    /// CRC of the header before it.
    pub previous_crc: u32,
    /// CRC of its header; `None`: nothing is to be replayed unless a run wrote on from here.
    pub first_crc: Option<u32>,
    /// Known to be durable, from the superblock.
    pub durable_through: u64,
}

/// How a ring ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was written after the last entry.
    Whole,
    /// Something was begun that never was durable, and is dropped.
    Torn {
        /// The first sequence that is not whole.
        sequence: u64,
        /// Where it should stand.
        position: u64,
    },
    /// Durable entries cannot be read.
    Damaged {
        /// The first sequence that is missing.
        sequence: u64,
        /// Where it should stand.
        position: u64,
        /// What proves that it was durable.
        proof: String,
    },
}

/// Where the next entry would go, and how the ring ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One past the last good entry.
    pub position: u64,
    /// The sequence after the last good one.
    pub next_sequence: u64,
    /// CRC of the last good header.
    pub previous_crc: u32,
    /// Entries that were read.
    pub entries: u64,
    /// How it ended.
    pub ending: Ending,
}

/// A scan that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk.
    #[error("cannot read the journal at byte {at}: {source}")]
    Read {
        /// Place in the ring file.
        at: u64,
        /// What the disk says.
        source: io::Error,
    },
    /// Written by a newer broker.
    #[error("the journal holds entries of format {0}, newer than this broker knows")]
    Newer(u16),
}

/// Walks a ring once.
pub struct Scanner<'s, S: ?Sized> {
    source: &'s S,
    start: ScanStart,
    position: u64,
    sequence: u64,
    previous_crc: u32,
    entries: u64,
    window: Vec<u8>,
    window_at: u64,
    newest_proof: Option<(u64, u64)>,
    ending: Option<Ending>,
}

impl<'s, S: RingSource + ?Sized> Scanner<'s, S> {
    /// Begins at the place that the superblock names.
    pub fn new(source: &'s S, start: ScanStart) -> Scanner<'s, S> {
        Scanner {
            source,
            start,
            position: start.position,
            sequence: start.sequence,
            previous_crc: start.previous_crc,
            entries: 0,
            window: Vec::new(),
            window_at: 0,
            newest_proof: None,
            ending: None,
        }
    }

    /// The next entry whose header and list are whole and in the chain; its items' bytes are
    /// the caller's to check: a rotten one here was durable once, so its partition is damaged.
    ///
    /// # Errors
    /// The disk, or a newer format.
    pub fn next_entry(&mut self) -> Result<Option<EntryView<'_>>, ScanError> {
        if self.ending.is_some() {
            return Ok(None);
        }
        let Some((header, crc)) = self.header_in_chain()? else {
            self.ending = Some(self.judge()?);
            return Ok(None);
        };
        let len = header.entry_len as usize;
        // the end of the ring that a SKIP fills is never written: its list is empty
        let whole = if header.items == 0 { PAGE_BYTES } else { len };
        self.load(self.position, whole)?;
        let at = (self.position - self.window_at) as usize;
        let bytes = &self.window[at..at + whole.min(self.window.len() - at)];
        let list_ok = EntryView::new(header, crc, bytes).is_some();
        let items_ok = list_ok && items_whole(header, crc, bytes);
        if !list_ok || !items_ok && !self.was_durable()? {
            self.ending = Some(self.judge()?);
            return Ok(None);
        }
        // a search for proof may have moved the window
        self.load(self.position, whole)?;
        let at = (self.position - self.window_at) as usize;
        self.position = match header.kind {
            EntryKind::Skip => self.start.ring_start,
            _ => self.position + u64::from(header.entry_len),
        };
        self.sequence += 1;
        self.previous_crc = crc;
        self.entries += 1;
        Ok(EntryView::new(header, crc, &self.window[at..at + whole]))
    }

    /// How the ring ended; after [`Scanner::next_entry`] gave `None`.
    pub fn verdict(self) -> Verdict {
        Verdict {
            position: self.position,
            next_sequence: self.sequence,
            previous_crc: self.previous_crc,
            entries: self.entries,
            ending: self.ending.expect("the scan was run to its end"),
        }
    }

    /// The header at the next place, if it continues the chain.
    fn header_in_chain(&mut self) -> Result<Option<(EntryHeader, u32)>, ScanError> {
        self.load(self.position, PAGE_BYTES)?;
        let at = (self.position - self.window_at) as usize;
        let (header, crc) = match EntryHeader::decode(self.window.get(at..).unwrap_or(&[])) {
            Ok(found) => found,
            Err(HeaderError::Newer(format)) => return Err(ScanError::Newer(format)),
            Err(_) => return Ok(None),
        };
        let ours = header.journal == self.start.journal
            && header.incarnation == self.start.incarnation
            && header.position == self.position
            && header.sequence == self.sequence
            && header.previous_crc == self.previous_crc
            && self.position + u64::from(header.entry_len) <= self.start.ring_end
            && (self.entries > 0 || self.start.first_crc.is_none_or(|first| first == crc));
        Ok(ours.then_some((header, crc)))
    }

    fn judge(&mut self) -> Result<Ending, ScanError> {
        let (sequence, position) = (self.sequence, self.position);
        if self.entries == 0 && self.start.first_crc.is_some() {
            return Ok(Ending::Damaged {
                sequence,
                position,
                proof: "the superblock names this entry".into(),
            });
        }
        if self.start.durable_through >= sequence {
            return Ok(Ending::Damaged {
                sequence,
                position,
                proof: "the superblock says that it was durable".into(),
            });
        }
        if let Some(at) = self.proof(sequence)? {
            return Ok(Ending::Damaged {
                sequence,
                position,
                proof: format!("the entry at byte {at} was written after its flush"),
            });
        }
        // anything of this run beyond the end, or half an entry at it
        let begun = self
            .newest_proof
            .is_some_and(|(newest, _)| newest >= sequence)
            || self.half_written(position)?;
        Ok(if begun {
            Ending::Torn { sequence, position }
        } else {
            Ending::Whole
        })
    }

    /// Whether the page holds something that claims to be the missing entry, or is no page of an
    /// older lap as a whole: good enough for a log line, never for a decision.
    fn half_written(&mut self, position: u64) -> Result<bool, ScanError> {
        self.load(position, PAGE_BYTES)?;
        let at = (position - self.window_at) as usize;
        Ok(match EntryHeader::decode(&self.window[at..]) {
            Ok((header, _)) => {
                header.journal == self.start.journal
                    && header.incarnation == self.start.incarnation
                    && header.sequence >= self.sequence
            }
            Err(_) => false,
        })
    }

    fn was_durable(&mut self) -> Result<bool, ScanError> {
        let sequence = self.sequence;
        Ok(self.start.durable_through >= sequence || self.proof(sequence)?.is_some())
    }

    /// Place of a header that proves `sequence` durable.
    fn proof(&mut self, sequence: u64) -> Result<Option<u64>, ScanError> {
        let mut newest: Option<(u64, u64)> = None;
        let mut found = None;
        let mut at = self.start.ring_start;
        let mut page_of = vec![0u8; WINDOW_BYTES];
        while at < self.start.ring_end && found.is_none() {
            let want = (self.start.ring_end - at).min(WINDOW_BYTES as u64) as usize;
            let got = self
                .source
                .read(at, &mut page_of[..want])
                .map_err(|source| ScanError::Read { at, source })?;
            for (i, page) in page_of[..got].chunks_exact(PAGE_BYTES).enumerate() {
                let place = at + i as u64 * PAGE;
                let Ok((header, _)) = EntryHeader::decode(page) else {
                    continue;
                };
                if header.journal != self.start.journal
                    || header.position != place
                    || header.incarnation < self.start.incarnation
                {
                    continue;
                }
                if newest.is_none_or(|(seen, _)| header.sequence > seen) {
                    newest = Some((header.sequence, place));
                }
                if header.durable_through >= sequence {
                    found = Some(place);
                    break;
                }
            }
            if got < want {
                break;
            }
            at += want as u64;
        }
        self.newest_proof = newest;
        Ok(found)
    }

    /// Makes `len` bytes from `at` stand in the window, as far as the file goes.
    fn load(&mut self, at: u64, len: usize) -> Result<(), ScanError> {
        let end = at + len as u64;
        if at >= self.window_at && end <= self.window_at + self.window.len() as u64 {
            return Ok(());
        }
        let upto = (self.start.ring_end - at.min(self.start.ring_end)).min(WINDOW_BYTES as u64);
        let want = len.max(upto as usize);
        self.window.resize(want, 0);
        let got = self
            .source
            .read(at, &mut self.window)
            .map_err(|source| ScanError::Read { at, source })?;
        self.window[got..].fill(0);
        self.window_at = at;
        Ok(())
    }
}

fn items_whole(header: EntryHeader, crc: u32, bytes: &[u8]) -> bool {
    EntryView::new(header, crc, bytes).is_some_and(|entry| {
        entry
            .items()
            .all(|item| item.is_ok_and(|(item, data)| item.holds(data)))
    })
}
