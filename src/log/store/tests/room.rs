//! Who is let in, who waits, and what a want of space must not become.

use std::path::Path;
use std::time::Duration;

use super::harness::*;

#[test]
fn a_superblock_that_finds_no_space_takes_nothing_that_was_acked() {
    let machine = Machine::new(72);
    let run = machine.start();
    for n in 0..4 {
        run.create(n);
        run.produce(n, b"acked");
    }
    machine.world.run_for(Duration::from_secs(5)); // the seal is written
    // on a file system that never overwrites
    machine
        .world
        .refuse_writes(machine.id, Path::new("/data"), 1);
    machine.world.run_for(Duration::from_secs(20));
    machine.world.kill(run.process);
    let run = machine.start();
    for n in 0..4 {
        assert_eq!(run.values(n).len(), 1, "partition {n}");
    }
}
