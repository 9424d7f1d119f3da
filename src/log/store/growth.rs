//! A ring that is too small for its load becomes longer while that goes on.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::base::time::Monotonic;
use crate::log::journal::superblock::RING_START;
use crate::log::store::journal::{Journal, State};
use crate::ring::buf::{Buf, BufMut};
use crate::ring::driver::Chain;
use crate::ring::{File, Ring};

/// Checkpoints that follow each other faster are worth a longer ring: each flushes the files of
/// every partition that was written to (16 partitions, 140 MB/s: 18 checkpoints a second of 16 MiB
/// cost a quarter of all CPU time).
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Pre-written at a time.
const ZERO_BYTES: usize = 256 << 10;
/// Flushed so often: a flush of more holds up those of the commits.
const FLUSH_BYTES: u64 = 4 << 20;
/// Between two writes, so that commits come first: 64 to 128 MiB a second.
const PAUSE: Duration = Duration::from_millis(2);
/// Without space it is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// How far a longer ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    None,
    /// There was no space: it is tried again, but not before this time.
    NotBefore(Monotonic),
    /// Zeros are written behind its end.
    Writing,
    /// The file is this long, durably: the next superblock may say so.
    Written(u64),
    /// The superblock says so: the ring may take it when its end is free.
    Said(u64),
}

impl Journal {
    /// Begins to make the ring longer, if it may and should: a checkpoint left it half full, or came
    /// `since` after the one before, which is too soon, because it was half full.
    pub(crate) fn grow(self: &Rc<Self>, since: Duration, was_half_full: bool) {
        let (from, to) = {
            let state = self.state.borrow();
            let small = is_half_full(&state) || was_half_full && since < CHECKPOINT_EVERY;
            let may = match state.growth {
                Growth::None => true,
                Growth::NotBefore(when) => self.ring.now() >= when,
                _ => false,
            };
            if !small || !may || state.stopping {
                return;
            }
            let from = state.space.end();
            let capacity = (from - RING_START) * 2;
            (from, RING_START + capacity.min(self.limits.max_ring_bytes))
        };
        if to <= from || !self.has_space_to_grow(to - from) {
            return;
        }
        self.state.borrow_mut().growth = Growth::Writing;
        let journal = self.clone();
        self.ring
            .spawn_background(async move {
                let grown = journal.write_growth(from, to).await;
                let mut state = journal.state.borrow_mut();
                state.growth = match grown {
                    Ok(true) => Growth::Written(to),
                    _ => Growth::NotBefore(journal.ring.now() + TRY_AGAIN),
                };
                drop(state);
                if let Err(error) = grown {
                    journal.fail("making the journal longer", &error);
                }
                journal.progress.notify_all();
            })
            .detach();
    }

    /// False if it was given up, and the file has its length again.
    async fn write_growth(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            if self.directory.is_offline() {
                return Ok(false);
            }
            let upto = (at + FLUSH_BYTES).min(to);
            // others take space meanwhile, the journals of other shards too
            let written = match !self.state.borrow().stopping && self.has_space_to_grow(to - at) {
                true => write_zeros(&self.ring, &self.file, at, upto, PAUSE).await,
                false => Err(io::ErrorKind::StorageFull.into()),
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.file.set_len(from)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            self.file.sync_all().await?;
            at = upto;
        }
        Ok(true)
    }

    /// Whatever makes it longer has ended.
    pub(crate) async fn until_not_growing(&self) {
        loop {
            let wait = self.progress.wait();
            if self.state.borrow().growth != Growth::Writing {
                return;
            }
            wait.await;
        }
    }

    /// A larger ring must not take the space below which produce is refused.
    fn has_space_to_grow(&self, bytes: u64) -> bool {
        let space = self.ring.space(self.directory.path());
        space.is_ok_and(|space| space.available_bytes >= bytes + self.limits.reserved_disk_bytes)
    }
}

pub(crate) fn is_half_full(state: &State) -> bool {
    state.space.used() * 2 > state.space.capacity()
}

/// Writes zeros, so that later writes overwrite: a write into space that was only reserved makes the
/// file system commit too.
pub(crate) async fn write_zeros(
    ring: &Ring,
    file: &File,
    from: u64,
    to: u64,
    pause: Duration,
) -> io::Result<()> {
    let mut buf = ring
        .arena()
        .try_alloc(ZERO_BYTES)
        .unwrap_or_else(|| BufMut::unbudgeted(ZERO_BYTES));
    buf.fill(0);
    let zeros: Buf = buf.freeze(0..ZERO_BYTES);
    let mut at = from;
    while at < to {
        let n = (to - at).min(ZERO_BYTES as u64) as usize;
        file.write_at(Chain::from_iter([zeros.slice(0..n)]), at)
            .await?;
        at += n as u64;
        if !pause.is_zero() {
            ring.sleep(pause).await;
        }
    }
    Ok(())
}
