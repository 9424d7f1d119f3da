//! Names of files and directories: now, and what of them a power cut may leave.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rng::Rng;
use super::content::{Luck, Seq};

/// A file or directory, whatever its name.
pub(crate) type Ino = u64;

/// The directory at which the file system is mounted.
pub(crate) const ROOT: Ino = 1;

type Tree = BTreeMap<Ino, BTreeMap<String, Ino>>;

/// One change of a name: in this directory, this name now means that.
pub(crate) type Edit = (Ino, String, Option<Ino>);

/// Changes that happen together or not at all.
struct Change {
    seq: Seq,
    edits: Vec<Edit>,
}

/// All directories of a file system.
pub(crate) struct Names {
    live: Tree,
    durable: Tree,
    pending: Vec<Change>,
    /// Changes become durable in their order.
    ordered: bool,
}

impl Names {
    pub(crate) fn new(ordered: bool) -> Names {
        Names {
            live: Tree::new(),
            durable: Tree::new(),
            pending: Vec::new(),
            ordered,
        }
    }

    pub(crate) fn lookup(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.live.get(&dir)?.get(name).copied()
    }

    pub(crate) fn list(&self, dir: Ino) -> impl Iterator<Item = (&String, Ino)> {
        self.live
            .get(&dir)
            .into_iter()
            .flatten()
            .map(|(name, ino)| (name, *ino))
    }

    /// Changes names at once, for everyone who is running.
    pub(crate) fn change(&mut self, seq: Seq, edits: Vec<Edit>) {
        apply(&mut self.live, &edits);
        self.pending.push(Change { seq, edits });
    }

    /// A flush of a directory: its names are durable, and what they build on.
    pub(crate) fn flushed(&mut self, dir: Ino, upto: Seq) {
        if !self.touches(dir, upto) {
            return;
        }
        let mut keys = BTreeSet::new();
        let mut keep = Vec::new();
        for change in self.pending.drain(..).rev() {
            let needed = change.seq <= upto
                && (self.ordered
                    || change
                        .edits
                        .iter()
                        .any(|(d, name, _)| *d == dir || keys.contains(&(*d, name.clone()))));
            if needed {
                keys.extend(change.edits.iter().map(|(d, n, _)| (*d, n.clone())));
            }
            keep.push((needed, change));
        }
        for (needed, change) in keep.into_iter().rev() {
            match needed {
                true => apply(&mut self.durable, &change.edits),
                false => self.pending.push(change),
            }
        }
    }

    fn touches(&self, dir: Ino, upto: Seq) -> bool {
        self.pending
            .iter()
            .any(|c| c.seq <= upto && c.edits.iter().any(|(d, ..)| *d == dir))
    }

    /// Every change up to `upto` is durable.
    pub(crate) fn all_flushed(&mut self, upto: Seq) {
        let (done, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|c| c.seq <= upto);
        self.pending = rest;
        for change in done as Vec<Change> {
            apply(&mut self.durable, &change.edits);
        }
    }

    /// The power fails: any legal subset of the changes that were not flushed is there.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng, luck: Luck) {
        let pending = std::mem::take(&mut self.pending);
        let keep = match luck {
            Luck::Lost => 0.0,
            Luck::Kept => 1.0,
            Luck::Mixed(p) => 0.5 + p / 2.0,
        };
        let prefix = match luck {
            Luck::Lost => 0,
            Luck::Kept => pending.len(),
            Luck::Mixed(_) => rng.index(pending.len() + 1),
        };
        let mut dropped = BTreeSet::new();
        for (i, change) in pending.into_iter().enumerate() {
            let keys = change.edits.iter().map(|(d, n, _)| (*d, n.clone()));
            let lost = match self.ordered {
                true => i >= prefix,
                false => keys.clone().any(|k| dropped.contains(&k)) || !rng.chance(keep),
            };
            match lost {
                true => dropped.extend(keys),
                false => apply(&mut self.durable, &change.edits),
            }
        }
        self.live = self.durable.clone();
    }

    /// Everything with a name now, or that may get one back by a power cut.
    pub(crate) fn reachable(&self) -> BTreeSet<Ino> {
        let mut seen = BTreeSet::from([ROOT]);
        for tree in [&self.live, &self.durable] {
            seen.extend(tree.values().flat_map(|names| names.values().copied()));
        }
        let edits = self.pending.iter().flat_map(|c| &c.edits);
        seen.extend(edits.filter_map(|(_, _, ino)| *ino));
        seen
    }

    /// Forgets directories that are gone.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<Ino>) {
        self.live.retain(|ino, _| !gone.contains(ino));
        self.durable.retain(|ino, _| !gone.contains(ino));
    }

    /// After a power cut: what can be reached from the root.
    pub(crate) fn all_below_root(&self) -> BTreeSet<Ino> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(dir) = open.pop() {
            for (_, ino) in self.list(dir) {
                if seen.insert(ino) {
                    open.push(ino);
                }
            }
        }
        seen
    }
}

fn apply(tree: &mut Tree, edits: &[Edit]) {
    for (dir, name, ino) in edits {
        let names = tree.entry(*dir).or_default();
        match ino {
            Some(ino) => names.insert(name.clone(), *ino),
            None => names.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: &str, ino: Option<Ino>) -> Edit {
        (ROOT, n.to_owned(), ino)
    }

    #[test]
    fn a_rename_is_whole_or_not_at_all_and_never_before_what_it_renames() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let mut names = Names::new(seed % 2 == 0);
            names.change(1, vec![name("a", Some(10))]);
            names.all_flushed(1);
            names.change(2, vec![name("tmp", Some(11))]);
            names.change(3, vec![name("tmp", None), name("a", Some(11))]);
            names.power_cut(&mut Rng::new(seed), Luck::Mixed(0.2));
            outcomes.insert((names.lookup(ROOT, "a"), names.lookup(ROOT, "tmp")));
        }
        let expected = [(Some(10), None), (Some(10), Some(11)), (Some(11), None)];
        assert_eq!(outcomes, BTreeSet::from(expected));
    }

    #[test]
    fn without_a_journal_a_later_name_may_outlive_an_earlier_one() {
        let mut seen = [false; 2];
        for (ordered, seen) in [false, true].into_iter().zip(&mut seen) {
            for seed in 0..200 {
                let mut names = Names::new(ordered);
                names.change(1, vec![name("first", Some(10))]);
                names.change(2, vec![name("second", Some(11))]);
                names.power_cut(&mut Rng::new(seed), Luck::Mixed(0.0));
                *seen |=
                    names.lookup(ROOT, "first").is_none() && names.lookup(ROOT, "second").is_some();
            }
        }
        assert_eq!(seen, [true, false]);
    }

    #[test]
    fn flushing_a_directory_keeps_its_names_and_no_others() {
        let mut names = Names::new(false);
        names.change(1, vec![name("sub", Some(10))]);
        names.change(2, vec![(10, "deep".to_owned(), Some(11))]);
        names.change(3, vec![name("other", Some(12))]);
        names.flushed(ROOT, 3);
        names.power_cut(&mut Rng::new(1), Luck::Lost);
        assert_eq!(names.lookup(ROOT, "sub"), Some(10));
        assert_eq!(names.lookup(ROOT, "other"), Some(12));
        assert_eq!(names.lookup(10, "deep"), None);
    }
}
