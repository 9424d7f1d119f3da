//! `LogStore` under kills and power cuts: what was acked or seen stays, offsets have no gap.

mod model;
mod node;
mod work;

use std::time::Duration;

use corelane::ring::sim::{Luck, Rng, SimOptions, SimWorld};

use crate::seeds;
use node::{Node, Setup};

const LIMIT: Duration = Duration::from_secs(600);

/// How a run of the process ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    PowerCut,
    CleanStop,
    /// In the middle of a call; of the machine, if true.
    AtCall(u64, bool),
}

fn draw_end(rng: &mut Rng) -> End {
    match rng.below(8) {
        0 | 1 => End::Kill,
        2..=4 => End::PowerCut,
        5 => End::CleanStop,
        _ => End::AtCall(rng.below(400), rng.chance(0.6)),
    }
}

fn no_more_faults(world: &SimWorld, node: &Node) {
    for dir in &node.setup.dirs {
        world.fail_flushes(node.machine, dir, 0);
        world.fail_writes(node.machine, dir, 0);
    }
}

/// What a life is like, besides kills and power cuts.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Calm,
    /// Writes and flushes fail now and then.
    Errors,
    /// An ack means that the kernel has the bytes.
    Interval,
}

fn life(seed: u64, kind: Kind) {
    let errors = kind == Kind::Errors;
    let mut rng = Rng::new(seed ^ 0x6c6f67);
    let options = SimOptions::swarm(seed);
    let world = SimWorld::new(seed, options);
    let setup = Setup::draw(&mut rng, kind == Kind::Interval);
    let node = Node::new(&world, setup, errors);
    let rounds = rng.between(3, 6);
    for round in 0..=rounds {
        // a start may be cut short as often as fate likes
        let mut process = node.start(&world, &mut rng);
        for _ in 0..rng.below(4) {
            if round == 0 {
                break;
            }
            let cuts = world.power_cuts(node.machine);
            world.die_at_call(process, rng.below(60), rng.chance(0.5));
            node.run_until_ready(&world, process, LIMIT);
            if world.alive(process) {
                world.kill(process);
            }
            node.died(world.power_cuts(node.machine) > cuts);
            process = node.start(&world, &mut rng);
        }
        node.run_until_ready(&world, process, LIMIT);
        if round == rounds {
            break;
        }
        if errors && rng.chance(0.4) {
            let dir = node.setup.dirs[rng.index(node.setup.dirs.len())].clone();
            let (machine, flush) = (node.machine, rng.chance(0.5));
            let after = Duration::from_millis(rng.between(1, 300));
            world.schedule(after, move |w| match flush {
                _ if !w.alive(process) => {}
                true => w.fail_flushes(machine, &dir, 1),
                false => w.fail_writes(machine, &dir, 1),
            });
        }
        let work = Duration::from_micros([3_000, 100_000, 1_000_000, 14_000_000][rng.index(4)]);
        let end = draw_end(&mut rng);
        let cuts = world.power_cuts(node.machine);
        tracing::info!(round, ?work, ?end, now = world.now().0, "run");
        if let End::AtCall(calls, power) = end {
            world.die_at_call(process, calls, power);
        }
        world.run_until(work, || !world.alive(process));
        no_more_faults(&world, &node);
        match end {
            End::Kill => {
                world.kill(process);
                node.died(false);
            }
            End::PowerCut => {
                world.power_cut(node.machine, Luck::draw(&mut rng));
                node.died(true);
            }
            End::CleanStop => {
                node.stop(&world, process, LIMIT);
                world.kill(process);
                no_more_faults(&world, &node); // one may have come due meanwhile
                node.died(
                    rng.chance(0.5) && {
                        world.power_cut(node.machine, Luck::draw(&mut rng));
                        true
                    },
                );
            }
            End::AtCall(..) => {
                world.kill(process);
                node.died(world.power_cuts(node.machine) > cuts);
            }
        }
    }
    assert!(node.records() > 0, "nothing was written at all");
}

/// 20: a pointer was durable before the names of its file and its directory were.
/// 55: a clean stop waited for ever for a batch on its way past the journal.
const FOUND: &[u64] = &[20, 55];
/// 16, 20: a stray's facts were settled onto the files of a newer topic of its name.
const FOUND_WITH_ERRORS: &[u64] = &[16, 20];
/// 4: a partition that a power cut made unknown was made anew over its old segments.
/// 6: the deleted partition's files were taken for those of the new one of its name.
const FOUND_UNDER_INTERVAL: &[u64] = &[4, 6];

#[test]
fn acked_and_seen_records_survive_kills_and_power_cuts() {
    let name = "acked_and_seen_records_survive_kills_and_power_cuts";
    seeds::run(name, 14, FOUND, |seed| life(seed, Kind::Calm));
}

#[test]
fn acked_and_seen_records_survive_failed_writes_and_flushes() {
    let name = "acked_and_seen_records_survive_failed_writes_and_flushes";
    seeds::run(name, 6, FOUND_WITH_ERRORS, |seed| life(seed, Kind::Errors));
}

#[test]
fn under_the_interval_policy_acked_records_survive_kills() {
    let name = "under_the_interval_policy_acked_records_survive_kills";
    seeds::run(name, 4, FOUND_UNDER_INTERVAL, |seed| {
        life(seed, Kind::Interval)
    });
}
