//! The journals of a log directory, read: superblock, table, entries. Nothing is written here.

use std::io;
use std::path::{Path, PathBuf};

use super::replay::Replay;
use crate::base::ids::Uuid;
use crate::base::limits::PAGE_BYTES;
use crate::log::journal::properties::{ring_file, table_file};
use crate::log::journal::scan::{Ending, RingSource, ScanError, Scanner};
use crate::log::journal::superblock::{JournalKind, Superblock};
use crate::log::journal::table::{Table, TableError};
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// The byte from which on it cannot be used, where that is known.
    pub at: Option<u64>,
    /// What is wrong there.
    pub what: String,
}

impl Fault {
    /// Something is wrong with the file as a whole.
    pub fn new(path: &Path, what: impl ToString) -> Fault {
        Fault {
            path: path.to_owned(),
            at: None,
            what: what.to_string(),
        }
    }

    pub(crate) fn at(path: &Path, at: u64, what: impl ToString) -> Fault {
        Fault {
            at: Some(at),
            ..Fault::new(path, what)
        }
    }

    /// What a table or a base says of itself.
    pub(crate) fn table(path: &Path, error: &TableError) -> Fault {
        let at = match error {
            TableError::Damaged { at, .. } => Some(*at),
            TableError::Newer(_) => None,
        };
        Fault {
            at,
            ..Fault::new(path, error)
        }
    }
}

/// A file as bytes to walk over.
pub(crate) struct Bytes(pub(crate) File);

impl RingSource for Bytes {
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_now(buf, at)
    }
}

/// A journal that `corelane.properties` lists.
pub(crate) struct Found {
    pub(crate) id: Uuid,
    pub(crate) path: PathBuf,
    pub(crate) file: Bytes,
    pub(crate) superblock: Superblock,
}

/// Opens a journal's ring file, to be locked before it is read if others may write there still.
pub(crate) fn open_ring(ring: &Ring, dir: &Path, id: Uuid, write: bool) -> Result<File, Fault> {
    let path = dir.join(ring_file(id));
    let options = OpenOptions {
        write,
        ..OpenOptions::default()
    };
    ring.open(&path, options)
        .map_err(|error| Fault::new(&path, error))
}

/// Reads a ring file's superblock.
pub(crate) fn read_superblock(dir: &Path, id: Uuid, file: File) -> Result<Found, Fault> {
    let path = dir.join(ring_file(id));
    let mut pages = vec![0; 2 * PAGE_BYTES];
    let fail = |what: &dyn ToString| Fault::at(&path, 0, what.to_string());
    file.read_now(&mut pages, 0).map_err(|error| fail(&error))?;
    let superblock = Superblock::choose(&pages).map_err(|error| fail(&error))?;
    if superblock.journal != id {
        return Err(fail(&format!("it is journal {}", superblock.journal)));
    }
    match file.len() {
        Ok(len) if len >= superblock.ring_end => {}
        Ok(len) => {
            let what = format!("it has {len} bytes, {} were written", superblock.ring_end);
            return Err(Fault::at(&path, len, what));
        }
        Err(error) => return Err(fail(&error)),
    }
    Ok(Found {
        id,
        path,
        file: Bytes(file),
        superblock,
    })
}

/// The table that a journal's superblock names.
pub(crate) fn read_table(ring: &Ring, dir: &Path, journal: &Found) -> Result<Table, Fault> {
    let part = journal.superblock.table;
    if part.len == 0 {
        return Ok(Table::default());
    }
    let path = dir.join(table_file(journal.id, part.file));
    let bytes = ring.read(&path).map_err(|error| Fault::new(&path, error))?;
    Table::decode_table(&bytes, journal.id, part).map_err(|error| Fault::table(&path, &error))
}

/// A ring in the page cache does not outlive the machine's boot.
pub(crate) fn is_of_another_boot(ring: &Ring, journal: &Found) -> bool {
    journal.superblock.kind == JournalKind::Interval && journal.superblock.boot_id != ring.boot_id()
}

/// Replays a journal. `Some` names what cannot be read of it although it was durable: the partitions
/// that may have been there are marked, and all before it is replayed.
pub(crate) fn replay_journal(
    ring: &Ring,
    index: usize,
    journal: &Found,
    replay: &mut Replay,
) -> Result<Option<Fault>, Fault> {
    let path = &journal.path;
    let now_ms = ring.wall().0;
    let mut scanner = Scanner::new(&journal.file, journal.superblock.scan_start());
    loop {
        match scanner.next_entry() {
            Ok(Some(entry)) => replay.entry(index, path, &entry, now_ms),
            Ok(None) => break,
            Err(error @ ScanError::Read { at, .. }) => return Err(Fault::at(path, at, error)),
            Err(error @ ScanError::Newer(_)) => return Err(Fault::new(path, error)),
        }
    }
    let verdict = scanner.verdict();
    let shown = path.display();
    tracing::info!(path = %shown, entries = verdict.entries, "journal replayed");
    match verdict.ending {
        Ending::Whole => Ok(None),
        Ending::Torn { sequence, position } => {
            tracing::warn!(path = %shown, sequence, position, "dropped the journal's torn tail, which was never durable");
            Ok(None)
        }
        Ending::Damaged {
            sequence,
            position,
            proof,
        } => {
            let reason = format!(
                "journal {shown} is damaged at byte {position}: entry {sequence} was durable and cannot be read ({proof})"
            );
            replay.damage_journal(index, &reason);
            let what =
                format!("entry {sequence} of the journal was durable and cannot be read ({proof})");
            Ok(Some(Fault::at(path, position, what)))
        }
    }
}

/// Takes what can be read of a journal that an earlier start set aside: bytes of partitions that
/// are damaged since.
pub(crate) fn replay_evidence(ring: &Ring, path: &Path, replay: &mut Replay) -> Result<(), Fault> {
    let file = ring
        .open(path, OpenOptions::default())
        .map_err(|error| Fault::new(path, error))?;
    let mut pages = vec![0; 2 * PAGE_BYTES];
    file.read_now(&mut pages, 0)
        .map_err(|error| Fault::at(path, 0, error))?;
    let superblock = Superblock::choose(&pages).map_err(|error| Fault::at(path, 0, error))?;
    let source = Bytes(file);
    let mut scanner = Scanner::new(&source, superblock.scan_start());
    while let Ok(Some(entry)) = scanner.next_entry() {
        for (item, data) in entry.items().flatten() {
            replay.loosen(&item, data);
        }
    }
    Ok(())
}

/// Whether durable entries of a journal cannot be read.
pub(crate) fn is_damaged(journal: &Found) -> io::Result<bool> {
    let mut scanner = Scanner::new(&journal.file, journal.superblock.scan_start());
    loop {
        match scanner.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(matches!(scanner.verdict().ending, Ending::Damaged { .. })),
            Err(ScanError::Newer(_)) => return Ok(true),
            Err(ScanError::Read { source, .. }) => return Err(source),
        }
    }
}

/// What a damaged journal is called once a start has taken it off the list.
pub(crate) fn evidence(journal: &Path) -> PathBuf {
    let mut name = journal.to_owned().into_os_string();
    name.push(".damaged");
    name.into()
}
