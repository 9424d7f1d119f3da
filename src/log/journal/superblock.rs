//! The first two pages of a ring file, A and B, written one after the other with a flush between:
//! one of them is always whole. They say which run owns the ring, where replay begins, and which
//! table holds what the entries before that did.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::checksum::crc32c;
use crate::base::ids::Uuid;
use crate::base::limits::{INCARNATION_MAX, PAGE_BYTES, STORED_NUMBER_MAX};
use crate::log::journal::scan::ScanStart;

/// The ring's data begins behind the two superblocks.
pub const RING_START: u64 = 2 * PAGE_BYTES as u64;
/// The newest format that this broker reads and the one it writes.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 8] = *b"CLJSUPER";
const BOOT_ID_BYTES: usize = 48;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    format: U16,
    kind: U16,
    has_first: U32,
    journal: [u8; 16],
    update: U64,
    incarnation: U64,
    ring_end: U64,
    position: U64,
    sequence: U64,
    durable_through: U64,
    table_len: U64,
    previous_crc: U32,
    first_crc: U32,
    table_file: U32,
    table_crc: U32,
    boot_id: [u8; BOOT_ID_BYTES],
    crc: U32,
}

/// How the entries of a ring are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum JournalKind {
    /// Past the page cache, each entry flushed.
    Group = 1,
    /// Through the page cache, flushed with checkpoints only.
    Interval = 2,
}

/// Which part of which table file belongs to a superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRef {
    /// 0 or 1: the two files are used in turn.
    pub file: u32,
    /// Bytes of it that count.
    pub len: u64,
    /// CRC of the last block's header; the blocks are chained.
    pub crc: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The journal.
    pub journal: Uuid,
    /// How its entries are written.
    pub kind: JournalKind,
    /// Counts the superblock's writes: the greater one of two counts.
    pub update: u64,
    /// The run that owns the entries.
    pub incarnation: u64,
    /// One past the ring's last byte in the file.
    pub ring_end: u64,
    /// Place of the first entry to replay.
    pub position: u64,
    /// Its sequence.
    pub sequence: u64,
    /// CRC of the header before it.
    pub previous_crc: u32,
    /// CRC of its header, if it is written already.
    pub first_crc: Option<u32>,
    /// Entries up to this sequence were durable when this was written.
    pub durable_through: u64,
    /// The table.
    pub table: TableRef,
    /// The boot of the machine, which a ring in the page cache does not outlive.
    pub boot_id: String,
}

/// Why no superblock can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// Neither page is whole.
    #[error("no whole superblock")]
    NoneWhole,
    /// Written by a newer broker.
    #[error("superblock format {0} is newer than this broker knows ({FORMAT})")]
    Newer(u16),
}

impl Superblock {
    /// One page.
    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut boot_id = [0; BOOT_ID_BYTES];
        let n = self.boot_id.len().min(BOOT_ID_BYTES);
        boot_id[..n].copy_from_slice(&self.boot_id.as_bytes()[..n]);
        let mut raw = Raw {
            magic: MAGIC,
            format: FORMAT.into(),
            kind: (self.kind as u16).into(),
            has_first: u32::from(self.first_crc.is_some()).into(),
            journal: self.journal.0,
            update: self.update.into(),
            incarnation: self.incarnation.into(),
            ring_end: self.ring_end.into(),
            position: self.position.into(),
            sequence: self.sequence.into(),
            durable_through: self.durable_through.into(),
            table_len: self.table.len.into(),
            previous_crc: self.previous_crc.into(),
            first_crc: self.first_crc.unwrap_or(0).into(),
            table_file: self.table.file.into(),
            table_crc: self.table.crc.into(),
            boot_id,
            crc: 0.into(),
        };
        let end = size_of::<Raw>() - 4;
        raw.crc = crc32c(&raw.as_bytes()[..end]).into();
        let mut page = [0; PAGE_BYTES];
        page[..size_of::<Raw>()].copy_from_slice(raw.as_bytes());
        page
    }

    fn decode(page: &[u8]) -> Result<Superblock, SuperblockError> {
        let (raw, _) = Raw::ref_from_prefix(page).map_err(|_| SuperblockError::NoneWhole)?;
        let end = size_of::<Raw>() - 4;
        if raw.magic != MAGIC || raw.crc.get() != crc32c(&raw.as_bytes()[..end]) {
            return Err(SuperblockError::NoneWhole);
        }
        if raw.format.get() > FORMAT {
            return Err(SuperblockError::Newer(raw.format.get()));
        }
        let kind = match raw.kind.get() {
            1 => JournalKind::Group,
            2 => JournalKind::Interval,
            _ => return Err(SuperblockError::NoneWhole),
        };
        let numbers = [
            raw.update.get(),
            raw.ring_end.get(),
            raw.sequence.get(),
            raw.durable_through.get(),
            raw.table_len.get(),
        ];
        if numbers.into_iter().any(|n| n > STORED_NUMBER_MAX)
            || raw.incarnation.get() > INCARNATION_MAX
        {
            return Err(SuperblockError::NoneWhole);
        }
        let ring_end = raw.ring_end.get();
        let position = raw.position.get();
        let page = PAGE_BYTES as u64;
        if !ring_end.is_multiple_of(page)
            || !position.is_multiple_of(page)
            || ring_end <= RING_START
            || position < RING_START
            || position > ring_end
        {
            return Err(SuperblockError::NoneWhole);
        }
        let boot = raw.boot_id.split(|b| *b == 0).next().unwrap_or(&[]);
        Ok(Superblock {
            journal: Uuid(raw.journal),
            kind,
            update: raw.update.get(),
            incarnation: raw.incarnation.get(),
            ring_end,
            position,
            sequence: raw.sequence.get(),
            previous_crc: raw.previous_crc.get(),
            first_crc: (raw.has_first.get() != 0).then(|| raw.first_crc.get()),
            durable_through: raw.durable_through.get(),
            table: TableRef {
                file: raw.table_file.get() & 1,
                len: raw.table_len.get(),
                crc: raw.table_crc.get(),
            },
            boot_id: String::from_utf8_lossy(boot).into_owned(),
        })
    }

    /// The newer whole one of the two pages A and B, which begin a ring file.
    ///
    /// # Errors
    /// If neither is whole, or one was written by a newer broker.
    pub fn choose(pages: &[u8]) -> Result<Superblock, SuperblockError> {
        let (a, b) = pages.split_at(pages.len().min(PAGE_BYTES));
        match (Superblock::decode(a), Superblock::decode(b)) {
            (Err(newer @ SuperblockError::Newer(_)), _) => Err(newer),
            (_, Err(newer @ SuperblockError::Newer(_))) => Err(newer),
            (Ok(a), Ok(b)) => Ok(if b.update > a.update { b } else { a }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(_), Err(_)) => Err(SuperblockError::NoneWhole),
        }
    }

    /// Whether one of the two pages is whole by itself.
    pub fn is_whole(page: &[u8]) -> bool {
        Superblock::decode(page).is_ok()
    }

    /// Where a scan of the ring begins.
    pub fn scan_start(&self) -> ScanStart {
        ScanStart {
            journal: self.journal,
            incarnation: self.incarnation,
            ring_start: RING_START,
            ring_end: self.ring_end,
            position: self.position,
            sequence: self.sequence,
            previous_crc: self.previous_crc,
            first_crc: self.first_crc,
            durable_through: self.durable_through,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(update: u64) -> Superblock {
        Superblock {
            journal: Uuid([3; 16]),
            kind: JournalKind::Group,
            update,
            incarnation: 4,
            ring_end: 16 << 20,
            position: RING_START,
            sequence: 77,
            previous_crc: 5,
            first_crc: None,
            durable_through: 76,
            table: TableRef {
                file: 1,
                len: 900,
                crc: 8,
            },
            boot_id: "3b0e4c8e-0000-4000-8000-000000000000".into(),
        }
    }

    fn pages(a: u64, b: u64) -> Vec<u8> {
        [superblock(a).encode(), superblock(b).encode()].concat()
    }

    #[test]
    fn the_newer_page_counts() {
        assert_eq!(Superblock::choose(&pages(7, 6)), Ok(superblock(7)));
        assert_eq!(Superblock::choose(&pages(7, 8)), Ok(superblock(8)));
        let mut first = superblock(1);
        first.first_crc = Some(0);
        let both = [first.encode(), first.encode()].concat();
        assert_eq!(Superblock::choose(&both), Ok(first));
    }

    #[test]
    fn a_torn_page_leaves_the_other() {
        for (torn, whole) in [(0, 8), (PAGE_BYTES, 7)] {
            let mut both = pages(7, 8);
            both[torn + 40] ^= 1;
            assert_eq!(Superblock::choose(&both), Ok(superblock(whole)));
        }
        let mut none = pages(7, 8);
        none[40] ^= 1;
        none[PAGE_BYTES + 40] ^= 1;
        assert_eq!(Superblock::choose(&none), Err(SuperblockError::NoneWhole));
        assert_eq!(Superblock::choose(&[]), Err(SuperblockError::NoneWhole));
    }

    #[test]
    fn numbers_that_no_broker_reaches_are_no_superblock() {
        let refused = |change: &dyn Fn(&mut Superblock)| {
            let mut wrong = superblock(7);
            change(&mut wrong);
            let pages = [wrong.encode(), wrong.encode()].concat();
            Superblock::choose(&pages).is_err()
        };
        assert!(!refused(&|s| s.incarnation = INCARNATION_MAX));
        assert!(refused(&|s| s.incarnation = INCARNATION_MAX + 1));
        assert!(refused(&|s| s.update = u64::MAX));
        assert!(refused(&|s| s.sequence = u64::MAX));
        assert!(refused(&|s| s.durable_through = u64::MAX));
        assert!(refused(&|s| s.ring_end = u64::MAX - 4095));
        assert!(refused(&|s| s.table.len = u64::MAX));
    }
}
