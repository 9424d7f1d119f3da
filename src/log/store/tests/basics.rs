use super::harness::*;
use crate::base::ids::Offset;

#[test]
fn what_is_acked_can_be_read() {
    let machine = Machine::new(1);
    let run = machine.start();
    assert!(run.clean);
    run.create(0);
    let first = run.produce(0, b"one");
    assert_eq!(first.base_offset, Offset(0));
    assert_eq!(run.produce(0, &[2; 100_000]).base_offset, Offset(1));
    assert_eq!(run.produce(0, &[3; 900_000]).base_offset, Offset(2));
    let values = run.values(0);
    assert_eq!(values.len(), 3);
    assert_eq!(values[0], (Offset(0), b"one".to_vec()));
    assert_eq!(values[2].1.len(), 900_000);
}

#[test]
fn a_clean_stop_leaves_a_log_that_opens_without_recovery() {
    let machine = Machine::new(2);
    let run = machine.start();
    run.create(0);
    run.create(1);
    run.produce(0, b"kept");
    run.produce(1, &[9; 400_000]);
    run.stop();
    let run = machine.start();
    assert!(run.clean, "the marker was there");
    assert_eq!(run.values(0), [(Offset(0), b"kept".to_vec())]);
    assert_eq!(run.values(1)[0].1.len(), 400_000);
    assert_eq!(run.produce(0, b"more").base_offset, Offset(1));
    // no clean stop this time
    machine.world.kill(run.process);
    let run = machine.start();
    assert!(!run.clean, "the marker went with the start before");
    assert_eq!(run.values(0).len(), 2);
}
