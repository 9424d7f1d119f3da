//! What a journal got last, found in its ring file.

use std::path::PathBuf;

use corelane::base::limits::PAGE_BYTES;
use corelane::log::journal::entry::{EntryHeader, EntryKind};
use corelane::ring::sim::{MachineId, Rng, SimWorld};

/// The newest entry of a journal that holds data.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which of the log directories it is in.
    pub dir: usize,
    path: PathBuf,
    at: u64,
    len: u64,
    sequence: u64,
}

impl Entry {
    /// Those of all journals of these directories.
    pub fn newest(world: &SimWorld, machine: MachineId, dirs: &[PathBuf]) -> Vec<Entry> {
        let mut newest = Vec::new();
        for (dir, path) in dirs.iter().enumerate() {
            let files = world.files(machine, path).into_iter();
            let rings = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "journal"));
            newest.extend(rings.filter_map(|(path, _)| {
                let bytes = world.read_file(machine, &path);
                let entries = (0..bytes.len()).step_by(PAGE_BYTES).filter_map(|at| {
                    let (header, _) = EntryHeader::decode(&bytes[at..]).ok()?;
                    let here = header.position == at as u64;
                    (here && header.kind == EntryKind::Group).then_some(header)
                });
                let header = entries.max_by_key(|header| header.sequence)?;
                Some(Entry {
                    dir,
                    at: header.position,
                    len: header.list_range().end as u64,
                    sequence: header.sequence,
                    path,
                })
            }));
        }
        newest
    }

    /// Flips a bit of it.
    pub fn rot(&self, world: &SimWorld, machine: MachineId, rng: &mut Rng) {
        let (at, bit) = (self.at + rng.below(self.len), rng.below(8) as u8);
        world.rot(machine, &self.path, at, bit);
    }
}
