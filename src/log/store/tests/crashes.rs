use super::harness::*;
use crate::ring::sim::Luck;

#[test]
fn acked_records_survive_a_killed_process() {
    let machine = Machine::new(3);
    let run = machine.start();
    run.create(0);
    for n in 0..50u8 {
        run.produce(0, &[n; 700]);
    }
    machine.world.kill(run.process);
    let run = machine.start();
    let values = run.values(0);
    assert_eq!(values.len(), 50);
    assert!(
        values
            .iter()
            .enumerate()
            .all(|(i, v)| v.1 == [i as u8; 700])
    );
}

#[test]
fn acked_records_survive_a_power_cut() {
    for (seed, luck) in [
        (4, Luck::Lost),
        (5, Luck::Kept),
        (6, Luck::Mixed(0.5)),
        (7, Luck::Mixed(0.5)),
    ] {
        let machine = Machine::new(seed);
        let run = machine.start();
        run.create(0);
        for n in 0..50u8 {
            run.produce(0, &[n; 700]);
        }
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        assert_eq!(run.values(0).len(), 50);
    }
}
