//! Faults that strike while the broker works.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::ids::ShardId;
use corelane::log::format::partition_metadata;
use corelane::ring::sim::{Luck, MachineId, ProcessId, Rng, SimOptions, SimWorld};
use corelane::wire::batch::batches;

use super::faults::Faults;
use super::shared::Shared;

/// Chance of each fault that is on, in one spell of work.
const CHANCE: f64 = 0.2;

/// Lets one fault strike after a time.
type Strike<S> = fn(&mut S, Duration);

/// What faults strike, and how they are drawn.
pub struct Strikes<'a> {
    pub world: &'a SimWorld,
    pub shared: &'a Rc<Shared>,
    pub faults: &'a Faults,
    pub rng: &'a mut Rng,
    pub options: &'a SimOptions,
    pub machine: MachineId,
    pub clients: MachineId,
    pub process: ProcessId,
}

impl Strikes<'_> {
    /// Lets faults strike at random times within `time`.
    pub fn draw(&mut self, time: Duration) {
        let faults = *self.faults;
        let all: [(bool, Strike<Self>); 9] = [
            (faults.stalls, Self::stall),
            (faults.partings, Self::part),
            (faults.resets, Self::reset),
            (faults.slow, Self::slow),
            (faults.full, Self::full),
            (faults.writes || faults.flushes, Self::io_error),
            (faults.reads, Self::reads),
            (faults.rot, Self::rot),
            (faults.jumps, Self::jump),
        ];
        for (on, strike) in all {
            if on && self.rng.chance(CHANCE) {
                let after = Duration::from_micros(self.rng.below(time.as_micros() as u64));
                strike(self, after);
            }
        }
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.rng.between(low, high))
    }

    fn dir(&mut self) -> (usize, PathBuf) {
        let n = self.rng.index(self.shared.dirs.len());
        (n, self.shared.dirs[n].clone())
    }

    fn stall(&mut self, after: Duration) {
        let longest = [5, 200, 6_000][self.rng.index(3)];
        let time = self.ms(1, longest);
        // a shard that is not there: the whole process
        let shard = self.rng.index(6) as u16;
        let shard = (shard < 3).then_some(ShardId(shard));
        let (shared, process) = (self.shared.clone(), self.process);
        self.world.schedule(after, move |w| {
            shared.tally.stalls.one();
            shared.unwell_for(time);
            w.stop_for(process, shard, time);
        });
    }

    fn part(&mut self, after: Duration) {
        let longest = [50, 1_000, 20_000][self.rng.index(3)];
        let time = self.ms(1, longest);
        let (a, b, shared) = (self.machine, self.clients, self.shared.clone());
        self.world.schedule(after, move |w| {
            shared.tally.parted.one();
            shared.unwell_for(time);
            w.part(a, b, true);
        });
        self.world
            .schedule(after + time, move |w| w.part(a, b, false));
    }

    fn reset(&mut self, after: Duration) {
        let (shared, machine) = (self.shared.clone(), self.machine);
        self.world.schedule(after, move |w| {
            shared.tally.resets.one();
            w.reset_connections(machine);
        });
    }

    fn slow(&mut self, after: Duration) {
        let time = self.ms(10, 3_000);
        let times = self.rng.between(10, 100);
        let before = self.options.disk.clone();
        let shared = self.shared.clone();
        self.world.schedule(after, move |w| {
            shared.tally.slow.one();
            shared.unwell_for(time);
            w.tune(|o| {
                o.disk.io_ns.1 = before.io_ns.1 * times;
                o.disk.flush_ns.1 = before.flush_ns.1 * times;
            });
        });
        let before = self.options.disk.clone();
        self.world.schedule(after + time, move |w| {
            w.tune(|o| {
                o.disk.io_ns = before.io_ns;
                o.disk.flush_ns = before.flush_ns;
            });
        });
    }

    fn full(&mut self, after: Duration) {
        let time = self.ms(10, 8_000);
        let left = [0, 4_096, 1 << 20, 8 << 20][self.rng.index(4)];
        let (shared, machine) = (self.shared.clone(), self.machine);
        let (dir, path) = self.dir();
        let (all, again) = (self.options.disk.total_bytes, path.clone());
        let healed = shared.clone();
        self.world.schedule(after, move |w| {
            shared.tally.full.one();
            shared.forgive(dir, Some(time));
            shared.set_full(dir, true);
            let used = w.used_disk_bytes(machine, &path);
            w.set_disk_bytes(machine, &path, used + left);
        });
        self.world.schedule(after + time, move |w| {
            healed.set_full(dir, false);
            w.set_disk_bytes(machine, &again, all)
        });
    }

    fn io_error(&mut self, after: Duration) {
        let write = match (self.faults.writes, self.faults.flushes) {
            (true, true) => self.rng.chance(0.5),
            (writes, _) => writes,
        };
        let times = self.rng.between(1, 2) as u32;
        let (shared, machine, process) = (self.shared.clone(), self.machine, self.process);
        let (dir, path) = self.dir();
        self.world.schedule(after, move |w| {
            if !w.alive(process) {
                return;
            }
            shared.tally.io.one();
            shared.forgive(dir, None);
            match write {
                true => w.fail_writes(machine, &path, times),
                false => w.fail_flushes(machine, &path, times),
            }
        });
        // what a failed flush lost is still in memory: it is gone with the power only
        if !write && self.faults.cuts && self.rng.chance(0.5) {
            let (shared, soon, luck) = (self.shared.clone(), self.ms(1, 500), Luck::draw(self.rng));
            self.world.schedule(after + soon, move |w| {
                if w.alive(process) {
                    shared.unwell();
                    w.power_cut(machine, luck);
                }
            });
        }
    }

    fn reads(&mut self, after: Duration) {
        let time = self.ms(10, 1_000);
        let (shared, process) = (self.shared.clone(), self.process);
        self.world.schedule(after, move |w| {
            if w.alive(process) {
                shared.tally.io.one();
                (0..shared.dirs.len()).for_each(|dir| shared.forgive(dir, None));
                w.tune(|o| o.disk.read_error_chance = 0.05);
            }
        });
        self.world.schedule(after + time, move |w| {
            w.tune(|o| o.disk.read_error_chance = 0.0)
        });
    }

    /// Flips a bit of a batch in a segment.
    fn rot(&mut self, after: Duration) {
        let (shared, machine) = (self.shared.clone(), self.machine);
        let (_, dir) = self.dir();
        let mut rng = self.rng.fork(7);
        self.world.schedule(after, move |w| {
            let files = w.files(machine, &dir);
            let logs: Vec<&PathBuf> = files
                .iter()
                .filter(|(path, len)| path.extension().is_some_and(|e| e == "log") && *len > 0)
                .map(|(path, _)| path)
                .collect();
            if logs.is_empty() {
                return;
            }
            let path = logs[rng.index(logs.len())];
            let name = path
                .parent()
                .and_then(|p| p.file_name())
                .expect("a partition's");
            // a deleted topic's directory may bear the name of one that was made since
            let metadata = path.with_file_name(partition_metadata::FILE_NAME);
            let is_there = files.iter().any(|(path, _)| *path == metadata);
            let told = is_there.then(|| w.read_file(machine, &metadata));
            let owner = told.and_then(|bytes| partition_metadata::decode(&bytes).ok());
            let topics = shared.topics.borrow();
            let owners = topics.iter().filter(|topic| Some(topic.id) == owner);
            let models = owners.flat_map(|topic| &topic.partitions);
            let Some(model) = models.into_iter().find(|m| *m.borrow().name == *name) else {
                return; // deleted, or the metadata's
            };
            let bytes = w.read_file(machine, path);
            let mut starts = Vec::new();
            let mut at = 0;
            for batch in batches(&bytes) {
                let Ok(batch) = batch else { break };
                starts.push((
                    at,
                    batch.total_len(),
                    batch.base_offset().0,
                    batch.last_offset().0,
                ));
                at += batch.total_len();
            }
            if starts.is_empty() {
                return;
            }
            let (at, len, first, last) = starts[rng.index(starts.len())];
            model.borrow_mut().rots(first, last);
            shared.tally.rot.one();
            tracing::info!(path = %path.display(), first, last, "rot");
            w.rot(
                machine,
                path,
                at as u64 + rng.below(len as u64),
                rng.below(8) as u8,
            );
        });
    }

    fn jump(&mut self, after: Duration) {
        let hour = 3_600_000;
        let ms = self.rng.between(0, 2 * hour) as i64 - hour as i64;
        let (machine, back) = (self.machine, self.ms(100, 60_000));
        self.world
            .schedule(after, move |w| w.jump_wall(machine, ms));
        self.world
            .schedule(after + back, move |w| w.jump_wall(machine, -ms));
    }
}
