//! Rings that become longer under a load.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::harness::*;
use super::space::{fill, filled};
use crate::log::journal::superblock::RING_START;
use crate::log::store::growth::Growth;
use crate::log::store::journal::Journal;
use crate::log::store::{FlushPolicy, JournalSize};

const FIRST: u64 = 4 << 20;

fn journal(run: &Run) -> Rc<Journal> {
    run.store.journals().pop().expect("a journal")
}

fn growth(run: &Run) -> Growth {
    journal(run).state.borrow().growth
}

fn capacity(run: &Run) -> u64 {
    journal(run).state.borrow().space.capacity()
}

fn file_len(run: &Run) -> u64 {
    let names = run.ring.read_dir(Path::new("/data")).expect("a directory");
    let found = names.iter().find(|entry| entry.name.ends_with(".journal"));
    found.expect("a journal").len
}

/// A load on 40 partitions beside the test.
struct Loaded {
    run: Run,
    goes_on: Rc<Cell<bool>>,
    ended: Rc<Cell<bool>>,
}

impl Loaded {
    /// Begins it, and answers once the ring begins to become longer.
    fn start(machine: &Machine) -> Loaded {
        let run = filled(machine, 40, 1, 100);
        let partitions: Vec<_> = (0..40).map(|n| run.partition(n)).collect();
        let (goes_on, ended) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(false)));
        let (store, going, done) = (run.store.clone(), goes_on.clone(), ended.clone());
        run.world.spawn(run.process, &run.ring, async move {
            let mut round = 0;
            'load: while going.get() {
                let value = vec![round; 30_000];
                for partition in &partitions {
                    let Ok(appended) = append(&store, partition, &batch(&value)).await else {
                        break 'load;
                    };
                    store.flushed(appended.ticket).await.expect("flushed");
                }
                round += 1;
            }
            done.set(true);
        });
        let loaded = Loaded {
            run,
            goes_on,
            ended,
        };
        loaded.until(|growth| growth == Growth::Writing);
        loaded
    }

    fn until(&self, reached: impl Fn(Growth) -> bool) {
        let reached = || reached(growth(&self.run));
        assert!(self.run.world.run_until(Duration::from_secs(60), reached));
    }

    fn end(&self) {
        self.goes_on.set(false);
        let ended = || self.ended.get();
        assert!(self.run.world.run_until(Duration::from_secs(60), ended));
    }
}

/// What was acked is there, in its order, once each.
fn assert_whole(run: &Run) {
    for n in 0..40 {
        let values = run.values(n);
        assert!(!values.is_empty(), "partition {n}");
        for (round, (_, value)) in values.iter().skip(1).enumerate() {
            assert_eq!(value, &vec![round as u8; 30_000], "partition {n}");
        }
    }
}

#[test]
fn a_ring_grows_under_a_load_and_recovers_at_its_new_size() {
    let machine = Machine::new(52);
    let run = filled(&machine, 40, 40, 30_000);
    let grown = capacity(&run);
    assert!(grown >= 2 * FIRST, "{grown} bytes");
    machine.world.kill(run.process);
    let run = machine.start();
    for n in 0..40 {
        assert_eq!(run.values(n).len(), 40);
    }
    assert_eq!(capacity(&run), grown);
    assert!(file_len(&run) >= RING_START + grown);
}

#[test]
fn a_broker_may_be_killed_at_every_step_of_it() {
    let steps: [fn(Growth) -> bool; 4] = [
        |growth| growth == Growth::Writing,
        |growth| matches!(growth, Growth::Written(_)),
        |growth| matches!(growth, Growth::Said(_)),
        |growth| growth == Growth::None,
    ];
    for (n, step) in steps.into_iter().enumerate() {
        for seed in 0..4 {
            let machine = Machine::new(500 + 10 * n as u64 + seed);
            let loaded = Loaded::start(&machine);
            loaded.until(step);
            machine.world.kill(loaded.run.process);
            let run = machine.start();
            assert_whole(&run);
            let known = RING_START + capacity(&run);
            assert_eq!(file_len(&run), known, "no more than it uses");
            run.stop();
        }
    }
}

#[test]
fn a_stop_gives_it_up() {
    let machine = Machine::new(54);
    let loaded = Loaded::start(&machine);
    loaded.end();
    assert_eq!(growth(&loaded.run), Growth::Writing);
    loaded.run.stop();
    let run = machine.start();
    assert!(run.clean);
    assert_whole(&run);
    assert_eq!(file_len(&run), RING_START + FIRST);
}

#[test]
fn a_disk_that_fills_meanwhile_ends_it_and_nothing_else() {
    let mut machine = Machine::new(55);
    machine.config.reserved_disk_bytes = 1 << 20;
    let loaded = Loaded::start(&machine);
    let run = &loaded.run;
    let path = Path::new("/data");
    let used = machine.world.used_disk_bytes(machine.id, path);
    // as much as is used, the reserve, and less than the ring was to become longer by
    let space = used + (3 << 20);
    machine.world.set_disk_bytes(machine.id, path, space);
    loaded.until(|growth| matches!(growth, Growth::NotBefore(_)));
    assert_eq!(file_len(run), RING_START + FIRST);
    assert!(!run.store.is_offline(&key(0)));
    // and with space again it goes on
    machine.world.set_disk_bytes(machine.id, path, 1 << 30);
    machine.world.run_for(Duration::from_secs(12));
    let all = (0..40).map(|n| run.partition(n)).collect();
    run.run(fill(run.store.clone(), all, 40, 30_000));
    assert!(capacity(run) > FIRST);
}

#[test]
fn checkpoints_that_the_ring_did_not_ask_for_are_no_reason() {
    let mut machine = Machine::new(56);
    machine.config.flush_policy = FlushPolicy::Interval;
    machine.config.flush_interval = Duration::from_millis(100);
    let run = filled(&machine, 1, 1, 100);
    for n in 0..100u8 {
        run.produce(0, &[n]);
        run.world.run_for(Duration::from_millis(50));
    }
    assert!(run.store.counts().checkpoints > 20);
    assert_eq!(growth(&run), Growth::None);
    assert_eq!(capacity(&run), FIRST);
}

#[test]
fn a_ring_of_a_fixed_size_stays() {
    let mut machine = Machine::new(57);
    machine.config.journal_size = JournalSize::Bytes(FIRST);
    let run = filled(&machine, 40, 40, 30_000);
    assert_eq!((growth(&run), capacity(&run)), (Growth::None, FIRST));
}
