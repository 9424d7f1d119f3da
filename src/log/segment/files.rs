//! The open segment files of a shard: a bounded number, the ones not used lately go first. A file
//! that something still reads or writes stays open until that is done.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::ids::Offset;
use crate::base::time::Monotonic;
use crate::log::segment::clock::Clock;
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Hoarder, Ring};

/// A lack of descriptors is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(60);

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
type Key = (u64, Offset, Access);

/// See the module.
pub struct SegmentFiles {
    ring: Ring,
    open: RefCell<Clock<Key, File>>,
    /// A lack of descriptors is told again after this.
    tell_after: Cell<Monotonic>,
}

impl SegmentFiles {
    /// At most `max` files stay open.
    pub fn new(ring: &Ring, max: usize) -> SegmentFiles {
        SegmentFiles {
            ring: ring.clone(),
            open: RefCell::new(Clock::new(max.max(1))),
            tell_after: Cell::new(Monotonic(0)),
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
        path: impl FnOnce() -> PathBuf,
    ) -> io::Result<(File, bool)> {
        let key = (partition, base, access);
        if let Some(file) = self.get(partition, base, access) {
            return Ok((file, false));
        }
        let write = access != Access::Read;
        let file = self.ring.open(
            &path(),
            OpenOptions {
                write,
                create: write,
                direct: access == Access::Drain,
                own_read_ahead: access == Access::Read,
                ..OpenOptions::default()
            },
        )?;
        self.open.borrow_mut().insert(key, file.clone(), 1);
        Ok((file, true))
    }

    /// The file, if it is open.
    pub fn get(&self, partition: u64, base: Offset, access: Access) -> Option<File> {
        let mut open = self.open.borrow_mut();
        open.get(&(partition, base, access)).cloned()
    }

    /// Closes what is open of a segment (once nothing uses it).
    pub fn forget(&self, partition: u64, base: Offset) {
        let mut open = self.open.borrow_mut();
        for access in [Access::Read, Access::Drain, Access::Settle] {
            open.remove(&(partition, base, access));
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the system has no file descriptor left, files that nothing uses are closed.
impl Hoarder for SegmentFiles {
    fn close_some(&self) -> bool {
        let before = self.len();
        if before == 0 {
            return false;
        }
        self.open.borrow_mut().shrink(before / 2);
        let now = self.ring.now();
        if now >= self.tell_after.get() {
            self.tell_after.set(now + TELL_EVERY);
            tracing::warn!(
                "no file descriptor is left: closing segments that are not in use; \
                 raise the limit with `ulimit -n`"
            );
        }
        true
    }
}
