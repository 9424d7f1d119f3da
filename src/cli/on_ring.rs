//! A ring for a command.

use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::ring::uring::UringDriver;
use crate::ring::{Executor, ExecutorOptions, Ring};

/// Runs `work` on a ring of this thread with so many bytes of buffers.
pub fn on_ring<T>(
    arena_bytes: usize,
    work: impl AsyncFnOnce(Ring) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let options = ExecutorOptions {
        arena_bytes,
        poll: Duration::ZERO,
    };
    let driver = Rc::new(UringDriver::new()?);
    let mut executor = Executor::with_options(driver, ShardId(0), options);
    let ring = executor.ring();
    executor.block_on(work(ring))
}
