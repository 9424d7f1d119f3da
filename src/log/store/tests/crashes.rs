use std::time::Duration;

use super::harness::*;
use crate::log::store::FlushPolicy;
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

#[test]
fn without_flushes_a_power_cut_takes_only_what_no_interval_covered() {
    for (seed, luck) in [
        (8, Luck::Lost),
        (9, Luck::Kept),
        (10, Luck::Mixed(0.5)),
        (11, Luck::Mixed(0.5)),
    ] {
        let mut machine = Machine::new(seed);
        machine.config.flush_policy = FlushPolicy::Interval;
        machine.config.flush_interval = Duration::from_secs(2);
        let run = machine.start();
        run.create(0);
        for n in 0..20u8 {
            run.produce(0, &[n; 3_000]);
        }
        machine.world.run_for(Duration::from_secs(20));
        for n in 20..60u8 {
            run.produce(0, &[n; 3_000]);
        }
        machine.world.power_cut(machine.id, luck);
        let run = machine.start();
        let values = run.values(0);
        assert!(values.len() >= 20, "{} of 20 flushed", values.len());
        let right = |(i, (_, value)): (usize, &(_, Vec<u8>))| *value == [i as u8; 3_000];
        assert!(values.iter().enumerate().all(right), "a prefix of the log");
        let next = run.produce(0, b"goes on").base_offset;
        assert_eq!(next.0 as usize, values.len());
        run.stop();
        assert_eq!(machine.start().values(0).len(), values.len() + 1);
    }
}
