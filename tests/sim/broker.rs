//! The whole broker under kills, power cuts, resets and partitions, as its clients see it.

pub mod client;
pub mod machine;
mod model;
mod work;

use std::time::Duration;

use corelane::ring::sim::{Luck, Rng, SimOptions, SimWorld};

use crate::seeds;
use machine::Machine;
use work::Clients;

const LIMIT: Duration = Duration::from_secs(900);

fn life(seed: u64) {
    let mut rng = Rng::new(seed ^ 0x6272_6f6b_6572);
    let world = SimWorld::new(seed, SimOptions::swarm(seed));
    let machine = Machine::new(&world, &mut rng);
    let clients = Clients::start(&world, machine.address(&world), &mut rng);
    for round in 0..rng.between(2, 4) {
        // starts may be cut short
        while round > 0 && rng.chance(0.3) {
            let process = machine.start(&world, &mut rng);
            world.die_at_call(process, rng.below(80), rng.chance(0.5));
            machine.run_until_started(&world, LIMIT);
            if rng.chance(0.5) {
                clients.power_cut();
                world.power_cut(machine.id, Luck::draw(&mut rng));
            }
            // a power cut by call took what was not flushed as well
            clients.power_cut();
            world.kill(process);
        }
        let process = machine.start(&world, &mut rng);
        machine.run_until_started(&world, LIMIT);
        assert!(world.alive(process), "it starts");
        if rng.chance(0.3) {
            let (a, b) = (machine.id, clients.machine);
            let (from, time) = (rng.between(1, 400), rng.between(1, 40_000));
            world.schedule(Duration::from_millis(from), move |w| w.part(a, b, true));
            world.schedule(Duration::from_millis(from + time), move |w| {
                w.part(a, b, false)
            });
        }
        let work = Duration::from_millis([20, 200, 1_000, 3_000][rng.index(4)]);
        let how = rng.below(8);
        tracing::info!(round, ?work, how, now = world.now().0, "run");
        if how >= 6 {
            world.die_at_call(process, rng.below(1_000), how == 7);
        }
        world.run_until(work, || !world.alive(process));
        match how {
            0 | 1 => {}
            2..=4 => {
                clients.power_cut();
                world.power_cut(machine.id, Luck::draw(&mut rng));
            }
            5 => machine.stop(&world, LIMIT),
            _ => {
                if how == 7 {
                    clients.power_cut();
                }
            }
        }
        world.kill(process);
        world.run_for(Duration::from_millis(rng.below(2_000)));
    }
    let process = machine.start(&world, &mut rng);
    machine.run_until_started(&world, LIMIT);
    world.part(machine.id, clients.machine, false);
    world.tune(|o| o.net.reset_chance = 0.0);
    world.run_for(Duration::from_secs(3));
    clients.finish(&world, LIMIT);
    assert!(world.alive(process));
    machine.stop(&world, LIMIT);
}

#[test]
fn clients_lose_nothing_that_was_acked_or_seen() {
    seeds::run("clients_lose_nothing_that_was_acked_or_seen", 16, &[], life);
}

#[test]
fn the_same_seed_gives_the_same_run_of_the_broker() {
    let hash = || {
        let mut rng = Rng::new(5);
        let world = SimWorld::new(5, SimOptions::swarm(5));
        let machine = Machine::new(&world, &mut rng);
        let clients = Clients::start(&world, machine.address(&world), &mut rng);
        machine.start(&world, &mut rng);
        machine.run_until_started(&world, LIMIT);
        world.run_for(Duration::from_millis(300));
        clients.finish(&world, LIMIT);
        (world.trace_hash(), world.now())
    };
    assert_eq!(hash(), hash());
}
