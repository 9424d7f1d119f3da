//! A life: starts, work and ends of the broker, and between them looks at everything.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::ids::ShardId;
use corelane::base::time::Monotonic;
use corelane::ring::sim::{Luck, MachineId, ProcessId, Rng, SimOptions, SimWorld};

use super::client::Client;
use super::consumer;
use super::entry::Entry;
use super::faults::Faults;
use super::machine::Machine;
use super::rule::{Rule, broken, rule};
use super::shared::{DEADLINE, Shared, Tempo};
use super::strikes::Strikes;
use super::tally::Tally;
use super::topic::{administer, compare};

/// A start, a stop, or clients that come to rest take no longer than this.
const LIMIT: Duration = Duration::from_secs(600);
/// From one look at everything to the next, at least.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Turns of each shard in a second without work: timers, and what is looked at from time to time.
const IDLE_TURNS: u64 = 400;
/// Operations of each shard in a second without work.
const IDLE_OPERATIONS: u64 = 20;

/// What a run came to.
pub struct Summary {
    /// Time that went by in the world.
    pub time: Duration,
    /// Over all that happened: equal for equal runs.
    pub hash: u64,
    pub tally: Tally,
    /// The faults that were on.
    pub faults: Vec<&'static str>,
}

/// Runs the world of a seed for so long; `told` hears how far it is. Panics when a rule is broken.
pub fn simulate(seed: u64, time: Duration, told: &dyn Fn(Duration)) -> Summary {
    // when a rule is broken, a world in the middle of its work is not taken apart
    let mut life = ManuallyDrop::new(Life::new(seed));
    life.run(time, told);
    let life = ManuallyDrop::into_inner(life);
    let shared = &life.shared;
    shared.tally.operations.add(life.world.operations());
    let tally = Tally::default();
    tally.add(&shared.tally);
    Summary {
        time: life.world.now() - life.began,
        hash: life.world.trace_hash(),
        tally,
        faults: life.faults.names(),
    }
}

struct Life {
    world: Rc<SimWorld>,
    options: SimOptions,
    faults: Faults,
    rng: Rng,
    machine: Machine,
    clients: MachineId,
    shared: Rc<Shared>,
    began: Monotonic,
    /// Shards where every start has the same number.
    shards: u16,
    process: ProcessId,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut rng = Rng::new(seed ^ 0x006c_6966_6500);
        let (faults, options) = (Faults::draw(seed), Faults::options(seed));
        let world = Rc::new(SimWorld::new(seed, options.clone()));
        if faults.little_memory {
            world.set_arena_bytes(28 << 20);
        }
        let dirs: Vec<PathBuf> = (0..1 + usize::from(faults.two_dirs))
            .map(|n| PathBuf::from(format!("/disk{n}/log")))
            .collect();
        let names: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
        let interval_ms = [500, 2_000, 10_000][rng.index(3)].to_string();
        let mut properties = vec![
            ("log.dirs", names.join(",")),
            // clocks jump further than an hour
            ("log.message.timestamp.after.max.ms", i64::MAX.to_string()),
            (
                "corelane.lanes",
                if faults.lanes { "auto" } else { "off" }.to_owned(),
            ),
            (
                "corelane.journal.size",
                (1u64 << rng.between(20, 22)).to_string(),
            ),
        ];
        if faults.interval {
            properties.push(("corelane.flush.policy", "interval".to_owned()));
            properties.push(("log.flush.interval.ms", interval_ms));
        }
        let properties: Vec<_> = properties.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let machine = Machine::with(&world, &properties).that_may_fail();
        let clients = world.machine(&[]);
        let ring = world.shard(world.process(clients), ShardId(0));
        let thin = options.net.buffer_bytes < 8_192 || options.net.segment_bytes < 128;
        let shared = Shared::new(
            &world,
            &ring,
            machine.address(&world),
            machine.id,
            dirs,
            faults.interval,
            match (thin, faults.large) {
                (true, _) => 4_000,
                (false, false) => 100_000,
                (false, true) => 900_000,
            },
            faults.equal_sizes,
        );
        let deletes = if faults.deletes { 0.3 } else { 0.0 };
        let topics = rng.between(1, 3);
        shared.spawn(administer(shared.clone(), rng.fork(1), topics, deletes));
        let began = world.now();
        let shards = rng.between(1, 4) as u16;
        Life {
            process: ProcessId(0),
            world,
            options,
            faults,
            rng,
            machine,
            clients,
            shared,
            began,
            shards,
        }
    }

    fn run(&mut self, time: Duration, told: &dyn Fn(Duration)) {
        let end = self.began + time;
        let mut check = self.began + CHECK_EVERY;
        loop {
            self.start(true);
            let mut spells = self.rng.between(1, 4);
            while spells > 0 && self.world.alive(self.process) && self.world.now() < end {
                spells -= 1;
                self.spell();
                told(self.world.now() - self.began);
            }
            if self.world.now() >= check || self.world.now() >= end {
                self.check();
                check = self.world.now() + CHECK_EVERY;
                told(self.world.now() - self.began);
            }
            if self.world.now() >= end {
                return self.stop();
            }
            self.end();
        }
    }

    /// Starts the broker. It may be killed on its way, as often as fate likes.
    fn start(&mut self, may_die: bool) {
        loop {
            let shards = match self.faults.cores {
                true => self.rng.between(1, 4) as u16,
                false => self.shards,
            };
            self.process = self.machine.start_shards(&self.world, shards);
            self.shared.tally.starts.one();
            self.shared.starts();
            if may_die && self.faults.short && self.rng.chance(0.4) {
                let power = self.power_or_kill();
                self.world
                    .die_at_call(self.process, self.rng.below(300), power);
            }
            tracing::info!(shards, now = self.world.now().0, "start");
            let cuts = self.shared.power_cuts();
            let over = self.machine.runs_until_started(&self.world, LIMIT);
            self.shared.started();
            rule!(Rule::Bounds, over, "a start takes longer than {LIMIT:?}");
            if let Some(failure) = self.machine.failure()
                && self.world.alive(self.process)
            {
                rule!(
                    Rule::Served,
                    self.shared.forgives_any(),
                    "the broker does not start: {failure}"
                );
                self.shared.tally.failed.one();
                self.world.kill(self.process);
            }
            if self.world.alive(self.process) {
                self.shared.well();
                self.shared.changed.notify_all();
                return;
            }
            self.shared.tally.short.one();
            self.died(cuts);
            self.rest();
        }
    }

    /// Whether a process that dies in the middle of a call takes the machine with it.
    fn power_or_kill(&mut self) -> bool {
        match (self.faults.cuts, self.faults.kills) {
            (true, true) => self.rng.chance(0.5),
            (cuts, _) => cuts,
        }
    }

    /// Some work under faults, then quiet.
    fn spell(&mut self) {
        let burst = [10, 50, 200, 600][self.rng.index(4)];
        let quiet = match self.rng.below(3) {
            0 => self.rng.between(0, 500),
            1 => self.rng.between(500, 5_000),
            _ => self.rng.between(5_000, 20_000),
        };
        let mut strikes = Strikes {
            world: &self.world,
            shared: &self.shared,
            faults: &self.faults,
            rng: &mut self.rng,
            options: &self.options,
            machine: self.machine.id,
            clients: self.clients,
            process: self.process,
        };
        strikes.draw(Duration::from_millis(burst + quiet / 10));
        let cuts = self.shared.power_cuts();
        self.shared.set_tempo(Tempo::Burst);
        self.run_for(burst);
        self.shared.set_tempo(Tempo::Quiet);
        self.run_for(quiet);
        if !self.world.alive(self.process) {
            self.died(cuts);
        }
    }

    fn run_for(&self, ms: u64) {
        let alive = || !self.world.alive(self.process);
        self.world.run_until(Duration::from_millis(ms), alive);
        for arena in self.world.arenas(self.process) {
            rule!(
                Rule::Bounds,
                arena.used_bytes <= arena.budget_bytes,
                "{arena:?} of a shard"
            );
        }
    }

    /// The process is gone; there had been so many power cuts before.
    fn died(&self, cuts: u64) {
        match self.shared.power_cuts() > cuts {
            true => self.shared.tally.cuts.one(),
            false => self.shared.tally.kills.one(),
        }
        self.shared.unwell();
    }

    /// Ends the process, in one of the ways that are on.
    fn end(&mut self) {
        let cuts = self.shared.power_cuts();
        let ways: Vec<u8> = [self.faults.kills, self.faults.cuts, self.faults.stops]
            .into_iter()
            .zip(0..)
            .filter_map(|(on, way)| on.then_some(way))
            .collect();
        let way = ways[self.rng.index(ways.len())];
        if self.faults.rot && !self.faults.interval && way < 2 && self.rng.chance(0.5) {
            self.ends_idle(way == 1);
        }
        if self.world.alive(self.process) {
            self.shared.set_tempo(Tempo::Burst);
            match way {
                0 | 1 if self.rng.chance(0.5) => {
                    let calls = self.rng.below(500);
                    self.world.die_at_call(self.process, calls, way == 1);
                    self.run_for(1_000);
                }
                0 | 1 => {
                    let ms = self.rng.below(100);
                    self.run_for(ms);
                }
                _ => self.stop(),
            }
            if way == 1 && self.shared.power_cuts() == cuts {
                self.world
                    .power_cut(self.machine.id, Luck::draw(&mut self.rng));
            }
            self.world.kill(self.process);
            if way < 2 {
                self.died(cuts);
            }
            tracing::info!(way, now = self.world.now().0, "end");
        }
        self.rest();
    }

    /// Ends the process when it has had nothing to do for a while, and flips a bit of what a journal
    /// got last. Something was written behind it since, so it is rotten and not torn: partitions
    /// may refuse now, but none may serve without it.
    fn ends_idle(&mut self, power: bool) {
        self.shared.set_tempo(Tempo::Quiet);
        self.run_for(500);
        let since = self.world.now();
        let before = Entry::newest(&self.world, self.machine.id, &self.shared.dirs);
        let ms = self.rng.between(2_500, 9_000);
        self.run_for(ms);
        let after = Entry::newest(&self.world, self.machine.id, &self.shared.dirs);
        let idle = before == after && self.shared.was_well_since(since);
        if !self.world.alive(self.process) || self.shared.forgives_any() || !idle {
            return;
        }
        let cuts = self.shared.power_cuts();
        if power {
            self.world
                .power_cut(self.machine.id, Luck::draw(&mut self.rng));
        }
        self.world.kill(self.process);
        self.died(cuts);
        if after.is_empty() {
            return;
        }
        let entry = &after[self.rng.index(after.len())];
        tracing::info!(?entry, now = self.world.now().0, "rot");
        entry.rot(&self.world, self.machine.id, &mut self.rng);
        self.shared.may_refuse(entry.dir);
        self.shared.tally.rot.one();
    }

    /// The time until the next start. What was to fail has had its time.
    fn rest(&mut self) {
        for dir in &self.shared.dirs {
            self.world.fail_writes(self.machine.id, dir, 0);
            self.world.fail_flushes(self.machine.id, dir, 0);
        }
        self.world.tune(|o| o.disk.read_error_chance = 0.0);
        self.shared.set_tempo(Tempo::Quiet);
        let ms = [0, 10, 200, 2_000][self.rng.index(4)];
        self.world.run_for(Duration::from_millis(ms));
    }

    /// Stops cleanly.
    fn stop(&mut self) {
        tracing::info!(now = self.world.now().0, "stop");
        self.shared.unwell();
        let cuts = self.shared.power_cuts();
        let over = self.machine.stops(&self.world, LIMIT);
        rule!(
            Rule::Bounds,
            over,
            "a clean stop takes longer than {LIMIT:?}"
        );
        if !self.world.alive(self.process) {
            return self.died(cuts);
        }
        let failure = self.machine.failure();
        rule!(
            Rule::Served,
            failure.is_none() || self.shared.forgives_any(),
            "the broker does not stop cleanly: {failure:?}"
        );
        self.shared.tally.stops.one();
        if self.faults.cuts && failure.is_none() && self.rng.chance(0.3) {
            // nothing was left to be lost
            self.world
                .power_cut(self.machine.id, Luck::draw(&mut self.rng));
            for topic in self.shared.topics.borrow().iter() {
                for model in &topic.partitions {
                    model.borrow_mut().outlives(self.shared.power_cuts());
                }
            }
            self.shared.tally.cuts.one();
        }
        self.world.kill(self.process);
    }

    /// Mends everything, lets clients get what they wait for, and looks at all that there is.
    fn check(&mut self) {
        tracing::info!(now = self.world.now().0, "check");
        self.world.part(self.machine.id, self.clients, false);
        let options = self.options.disk.clone();
        self.world.tune(|o| {
            o.net.reset_chance = 0.0;
            o.disk = options;
        });
        for dir in &self.shared.dirs {
            let all = self.options.disk.total_bytes;
            self.world.set_disk_bytes(self.machine.id, dir, all);
        }
        let broken_disk = self.shared.forgives_any();
        if broken_disk || !self.world.alive(self.process) {
            self.world.kill(self.process);
            self.rest();
            self.start(false);
        }
        self.world.die_at_call(self.process, u64::MAX, false);
        self.shared.well();
        self.shared.set_tempo(Tempo::Drain);
        self.all_rest("get what they sent acked");
        self.shared.spawn(look(self.shared.clone()));
        self.all_rest("read everything");
        self.is_idle();
        let chance = self.options.net.reset_chance;
        self.world.tune(|o| o.net.reset_chance = chance);
        self.shared.tally.checks.one();
    }

    fn all_rest(&self, to: &str) {
        let over = self
            .world
            .run_until(LIMIT, || self.shared.active.get() == 0);
        let active = self.shared.active.get();
        rule!(
            Rule::Bounds,
            over,
            "{active} clients do not {to} within {LIMIT:?}, with nothing wrong"
        );
    }

    /// A broker without work does next to nothing.
    fn is_idle(&self) {
        self.world.run_for(Duration::from_secs(5));
        let (turns, operations) = (self.world.turns(self.process), self.world.operations());
        let seconds = 10;
        self.world.run_for(Duration::from_secs(seconds));
        let shards = self.world.arenas(self.process).len() as u64;
        let turns = self.world.turns(self.process) - turns;
        let operations = self.world.operations() - operations;
        tracing::info!(turns, operations, shards, arenas = ?self.world.arenas(self.process), "idle");
        rule!(
            Rule::Bounds,
            turns <= IDLE_TURNS * seconds * shards
                && operations <= IDLE_OPERATIONS * seconds * shards,
            "{turns} turns and {operations} operations in {seconds} s without work, on {shards} shards"
        );
    }
}

/// Reads everything and compares it with what clients know.
async fn look(shared: Rc<Shared>) {
    let mut client = Client::new(&shared.ring, shared.address);
    client.patience = DEADLINE;
    compare(&shared, &mut client).await;
    let topics = shared.topics.borrow().clone();
    for topic in topics.iter() {
        for index in 0..topic.partitions.len() {
            let found = consumer::read_all(&shared, &mut client, topic, index).await;
            let model = topic.model(&shared, index);
            match found {
                Some(found) => model.holds(&found),
                None if model.has_rot() => {}
                None => broken(Rule::Topics, format_args!("{} is gone", model.name)),
            }
            shared.tally.checked.add(model.known() as u64);
        }
    }
}
