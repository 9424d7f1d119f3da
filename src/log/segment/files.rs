//! The open segment files of a shard: a bounded number, the ones not used for longest go first.
//! A file that something still reads or writes stays open until that is done.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use crate::base::ids::Offset;
use crate::base::map::Map;
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// How a segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read through the page cache, for consumers and lookups.
    Read,
    /// Written past the page cache, whole pages. Carries the lock that keeps a second broker
    /// waiting until this one's writes have ended.
    Drain,
    /// Written through the page cache at any length. Never while a drain is in flight.
    Settle,
}

/// Names an open file: a number of the partition on this shard, a segment, a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    partition: u64,
    base: Offset,
    access: Access,
}

struct Slot {
    key: Key,
    file: File,
    used: bool,
}

/// See the module.
pub struct SegmentFiles {
    ring: Ring,
    max: usize,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: Vec<Slot>,
    by_key: Map<Key, usize>,
    hand: usize,
}

impl SegmentFiles {
    /// At most `max` files stay open.
    pub fn new(ring: &Ring, max: usize) -> SegmentFiles {
        SegmentFiles {
            ring: ring.clone(),
            max: max.max(1),
            inner: RefCell::new(Inner::default()),
        }
    }

    /// The file, opened if it is not: for writing it is made if it does not exist. The flag says
    /// that it was opened just now.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(
        &self,
        partition: u64,
        base: Offset,
        access: Access,
        path: impl FnOnce() -> std::path::PathBuf,
    ) -> io::Result<(File, bool)> {
        let key = Key {
            partition,
            base,
            access,
        };
        let mut inner = self.inner.borrow_mut();
        if let Some(i) = inner.by_key.get(&key).copied() {
            let slot = &mut inner.slots[i];
            slot.used = true;
            return Ok((slot.file.clone(), false));
        }
        let file = self.open_path(&path(), access)?;
        inner.insert(key, file.clone(), self.max);
        Ok((file, true))
    }

    fn open_path(&self, path: &Path, access: Access) -> io::Result<File> {
        let write = access != Access::Read;
        self.ring.open(
            path,
            OpenOptions {
                write,
                create: write,
                direct: access == Access::Drain,
                ..OpenOptions::default()
            },
        )
    }

    /// Closes what is open of a segment (once nothing uses it).
    pub fn forget(&self, partition: u64, base: Offset) {
        let mut inner = self.inner.borrow_mut();
        for access in [Access::Read, Access::Drain, Access::Settle] {
            inner.remove(&Key {
                partition,
                base,
                access,
            });
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.inner.borrow().slots.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn insert(&mut self, key: Key, file: File, max: usize) {
        let slot = Slot {
            key,
            file,
            used: true,
        };
        if self.slots.len() < max {
            self.by_key.insert(key, self.slots.len());
            self.slots.push(slot);
            return;
        }
        // second chance: the hand passes by what was used since it came last
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            let old = &mut self.slots[self.hand];
            if !std::mem::take(&mut old.used) {
                break;
            }
        }
        let old = std::mem::replace(&mut self.slots[self.hand], slot);
        self.by_key.remove(&old.key);
        self.by_key.insert(key, self.hand);
    }

    fn remove(&mut self, key: &Key) {
        let Some(i) = self.by_key.remove(key) else {
            return;
        };
        self.slots.swap_remove(i);
        if let Some(moved) = self.slots.get(i) {
            self.by_key.insert(moved.key, i);
        }
    }
}
