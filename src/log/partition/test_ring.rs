//! A ring on the simulated driver, for tests that use files.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::ring::sim::{SimOptions, SimWorld};
use crate::ring::uring::UringDriver;
use crate::ring::{Executor, Ring};

/// Runs a future to its end on one shard of one machine, with a disk at `/data`.
pub(crate) fn run<F>(seed: u64, test: impl FnOnce(Ring) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let world = SimWorld::new(seed, SimOptions::default());
    let machine = world.machine(&[Path::new("/data")]);
    let process = world.process(machine);
    let ring = world.shard(process, ShardId(0));
    let ended = Rc::new(Cell::new(false));
    let end = ended.clone();
    let test = test(ring.clone());
    world.spawn(process, &ring, async move {
        test.await;
        end.set(true);
    });
    let limit = Duration::from_secs(24 * 3600);
    assert!(
        world.run_until(limit, || ended.get()),
        "the test waits for something that never comes"
    );
}

/// As [`run`], on the real driver.
pub(crate) fn run_real<F: Future<Output = ()>>(test: impl FnOnce(Ring) -> F) {
    let driver = Rc::new(UringDriver::new().expect("io_uring works here"));
    let mut executor = Executor::new(driver, ShardId(0));
    let ring = executor.ring();
    executor.block_on(test(ring));
}
