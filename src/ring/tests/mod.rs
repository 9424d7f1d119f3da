//! The rules of the runtime, held against the real driver.

mod buffers;
mod disk;
mod net;
mod tasks;
mod threads;

use std::path::Path;
use std::rc::Rc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::driver::{Chain, OpenOptions};
use super::uring::UringDriver;
use super::{Executor, Ring};
use crate::base::ids::ShardId;
use crate::ring::buf::Buf;

/// Runs a test's body on a shard of its own.
fn on_ring<T, F: Future<Output = T>>(body: impl FnOnce(Ring) -> F) -> T {
    let driver = UringDriver::new().expect("a kernel with io_uring");
    let mut executor = Executor::new(Rc::new(driver), ShardId(0));
    let ring = executor.ring();
    executor.block_on(body(ring))
}

/// A directory on the file system of this checkout, which knows direct IO where `/tmp` may not.
fn scratch() -> tempfile::TempDir {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    std::fs::create_dir_all(target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

fn chain(parts: &[&[u8]]) -> Chain {
    parts.iter().map(|part| Buf::from(part.to_vec())).collect()
}

/// Drops a flushed file from the page cache.
fn evict(path: &Path) {
    let raw = std::fs::File::open(path).unwrap();
    posix_fadvise(&raw, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

const NEW: OpenOptions = OpenOptions {
    write: true,
    create: true,
    create_new: false,
    truncate: true,
    direct: false,
    directory: false,
    own_read_ahead: false,
};
