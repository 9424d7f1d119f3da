//! Topics and producer ids of a whole broker under kills, power cuts, resets and other numbers of
//! shards: what was answered stays, and an answer means that the partitions serve.

mod work;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use corelane::base::ids::ShardId;
use corelane::ring::sim::{Luck, Rng, SimOptions, SimWorld};

use crate::seeds;
use crate::world::machine::Machine;
use work::{Known, work};

const LIMIT: Duration = Duration::from_secs(900);

fn life(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x63_6f6e_7472_6f6c);
    let world = SimWorld::new(seed, SimOptions::swarm(seed));
    let dirs = ["/disk0/log", "/disk0/log,/disk1/log"][usize::from(rng.chance(0.3))];
    let machine = Machine::with(
        &world,
        &[
            ("log.dirs", dirs),
            ("corelane.lanes", ["auto", "off"][rng.index(2)]),
            ("corelane.journal.size", "4194304"),
        ],
    );
    let clients = world.machine(&[]);
    let client = world.process(clients);
    let ring = world.shard(client, ShardId(0));
    let known = Rc::new(RefCell::new(Known::default()));
    // counts the broker's processes: what an earlier one had received is gone
    let lives = Rc::new(Cell::new(0));
    let work = work(
        ring.clone(),
        machine.address(&world),
        lives.clone(),
        known.clone(),
        rng.fork(1),
    );
    world.spawn(client, &ring, work);
    for _ in 0..rng.between(4, 8) {
        lives.set(lives.get() + 1);
        let process = machine.start(&world, &mut rng);
        if rng.chance(0.3) {
            // in the start, or soon after it
            world.die_at_call(process, rng.below(120), rng.chance(0.5));
        }
        machine.run_until_started(&world, LIMIT);
        let time = Duration::from_millis([1, 20, 200, 2000][rng.index(4)]);
        world.run_until(time, || !world.alive(process));
        match rng.below(3) {
            0 => world.power_cut(machine.id, Luck::draw(&mut rng)),
            1 if world.alive(process) => machine.stop(&world, LIMIT),
            _ => {}
        }
        if world.alive(process) {
            world.kill(process);
        }
    }
    lives.set(lives.get() + 1);
    let process = machine.start(&world, &mut rng);
    machine.run_until_started(&world, LIMIT);
    assert!(world.alive(process), "it starts");
    let checked = known.borrow().checks;
    let over = world.run_until(LIMIT, || known.borrow().checks > checked);
    assert!(over, "the client gets no answers from the last run");
    let known = known.borrow();
    let (ids, made, deleted) = (known.producer_ids.len(), known.created, known.deleted);
    tracing::info!(made, deleted, ids, checks = known.checks, "done");
}

#[test]
fn answered_changes_of_topics_and_producer_ids_survive() {
    seeds::run(
        "answered_changes_of_topics_and_producer_ids_survive",
        12,
        &[130],
        life,
    );
}
