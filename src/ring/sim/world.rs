//! The world as a test holds it: machines, processes, faults, and the loop that runs them all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::disk::content::Luck;
use super::driver::{Shared, SimDriver};
use super::machine::{Bell, MachineId, Process, ProcessId, Shard, components};
use super::net::ip_of;
use super::options::SimOptions;
use super::rng::Rng;
use super::state::State;
use crate::base::ids::ShardId;
use crate::base::time::Monotonic;
use crate::ring::driver::Driver;
use crate::ring::{Executor, ExecutorOptions, Ring};

type Scheduled = Box<dyn FnOnce(&SimWorld)>;

pub(super) struct Running {
    pub(super) process: usize,
    index: usize,
    pub(super) executor: Executor,
    /// Its thread does not run before this time.
    pub(super) stopped_until: u64,
    /// Turns so far.
    pub(super) turns: u64,
    /// Its last turn did something, so that another may.
    hot: bool,
    next_timer: Option<u64>,
}

/// Machines, disks and a network that exist in memory only, on this thread, out of one seed.
pub struct SimWorld {
    pub(super) shared: Rc<Shared>,
    pub(super) running: RefCell<Vec<Running>>,
    /// Main tasks that have not ended, by process.
    mains: RefCell<BTreeMap<usize, Rc<Cell<usize>>>>,
    scheduled: RefCell<BTreeMap<(u64, u64), Scheduled>>,
    made: Cell<u64>,
    rng: RefCell<Rng>,
    arena_bytes: Cell<usize>,
}

impl SimWorld {
    /// A world without machines.
    pub fn new(seed: u64, options: SimOptions) -> SimWorld {
        SimWorld {
            shared: Shared::new(State::new(seed, options)),
            running: RefCell::new(Vec::new()),
            mains: RefCell::new(BTreeMap::new()),
            scheduled: RefCell::new(BTreeMap::new()),
            made: Cell::new(0),
            rng: RefCell::new(Rng::new(seed ^ 0x0077_6f72_6c64)),
            arena_bytes: Cell::new(64 << 20),
        }
    }

    /// Bound of the arenas of shards that start from now on.
    pub fn set_arena_bytes(&self, bytes: usize) {
        self.arena_bytes.set(bytes);
    }

    /// A machine with power, a disk at the root and one at each of these mount points.
    pub fn machine(&self, mounts: &[&Path]) -> MachineId {
        let mounts: Vec<_> = mounts.iter().map(|m| components(m)).collect();
        MachineId(self.shared.with(|s| s.add_machine(&mounts)))
    }

    /// The address of a machine.
    pub fn ip(&self, machine: MachineId) -> IpAddr {
        ip_of(machine.0)
    }

    /// A new process; switches its machine on if it was off.
    pub fn process(&self, machine: MachineId) -> ProcessId {
        self.shared.with(|s| {
            s.machines[machine.0].up = true;
            s.processes.push(Process {
                machine: machine.0,
                alive: true,
                calls_left: None,
            });
            ProcessId(s.processes.len() - 1)
        })
    }

    /// A driver for one shard of a process; [`SimWorld::shard`] makes its executor too.
    pub fn driver(&self, process: ProcessId) -> Rc<dyn Driver> {
        self.new_driver(process)
    }

    fn new_driver(&self, process: ProcessId) -> Rc<SimDriver> {
        let index = self.shared.with(|s| {
            let rng = s.rng.fork(s.shards.len() as u64);
            s.shards.push(Shard {
                process: process.0,
                ready: Default::default(),
                bell: Arc::new(Bell::new()),
                rng,
            });
            s.shards.len() - 1
        });
        Rc::new(SimDriver {
            shared: self.shared.clone(),
            process: process.0,
            index,
        })
    }

    /// A shard of a process, run by this world.
    pub fn shard(&self, process: ProcessId, shard: ShardId) -> Ring {
        let driver = self.new_driver(process);
        let index = driver.index;
        let options = ExecutorOptions {
            arena_bytes: self.arena_bytes.get(),
            ..ExecutorOptions::default()
        };
        let executor = Executor::with_options(driver, shard, options);
        let ring = executor.ring();
        self.running.borrow_mut().push(Running {
            process: process.0,
            index,
            executor,
            stopped_until: 0,
            turns: 0,
            hot: true,
            next_timer: None,
        });
        ring
    }

    /// Starts a main task of a process on one of its shards.
    pub fn spawn(&self, process: ProcessId, ring: &Ring, main: impl Future<Output = ()> + 'static) {
        let mut mains = self.mains.borrow_mut();
        let left = mains.entry(process.0).or_default().clone();
        left.set(left.get() + 1);
        ring.spawn(async move {
            main.await;
            left.set(left.get() - 1);
        })
        .detach();
    }

    /// Whether all main tasks of a process have ended. It is still there, with what it has open,
    /// until [`SimWorld::kill`].
    pub fn finished(&self, process: ProcessId) -> bool {
        self.mains
            .borrow()
            .get(&process.0)
            .is_none_or(|left| left.get() == 0)
    }

    /// Whether a process has not been killed.
    pub fn alive(&self, process: ProcessId) -> bool {
        self.shared.with(|s| s.processes[process.0].alive)
    }

    /// Nanoseconds of the world's monotonic clock.
    pub fn now(&self) -> Monotonic {
        self.shared.with(|s| Monotonic(s.now))
    }

    /// A hash over all that happened so far: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.shared.with(|s| s.trace.0)
    }

    /// Randomness for the test itself.
    pub fn fork_rng(&self) -> Rng {
        self.rng.borrow_mut().fork(1)
    }

    /// Calls `action` after this time, between the turns of all shards.
    pub fn schedule(&self, after: Duration, action: impl FnOnce(&SimWorld) + 'static) {
        let at = (self.now() + after).0;
        self.made.set(self.made.get() + 1);
        self.scheduled
            .borrow_mut()
            .insert((at, self.made.get()), Box::new(action));
    }

    /// Ends a process at once, as SIGKILL does. Not from within a task: see
    /// [`SimWorld::schedule`].
    pub fn kill(&self, process: ProcessId) {
        self.shared.with(|s| s.kill(process.0));
        self.bury();
    }

    /// Cuts the power of a machine; a new process on it switches it on again.
    pub fn power_cut(&self, machine: MachineId, luck: Luck) {
        self.shared.with(|s| s.power_cut(machine.0, luck));
        self.bury();
    }

    /// Kills a process at its `calls`-th call from now that changes something on a disk or sends,
    /// before that call does anything; with `power` its machine goes too.
    pub fn die_at_call(&self, process: ProcessId, calls: u64, power: bool) {
        self.shared
            .with(|s| s.processes[process.0].calls_left = Some((calls, power)));
    }

    /// Drops the executors of processes that died.
    fn bury(&self) {
        let died = self.shared.with(|s| std::mem::take(&mut s.died));
        if died.is_empty() {
            return;
        }
        let mut running = self.running.borrow_mut();
        let (dead, alive) = std::mem::take(&mut *running)
            .into_iter()
            .partition(|r| died.contains(&r.process));
        *running = alive;
        drop(running);
        let dead: Vec<Running> = dead;
        drop(dead);
        // what they held open was closed with them
        self.shared.with(|_| ());
    }

    /// Runs for a time.
    pub fn run_for(&self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Runs until the condition holds, at most for a time; answers whether it held.
    pub fn run_until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let until = (self.now() + limit).0;
        self.running
            .borrow_mut()
            .iter_mut()
            .for_each(|r| r.hot = true);
        loop {
            self.run_scheduled();
            self.shared.with(|s| s.run_due());
            if condition() {
                return true;
            }
            let now = self.now().0;
            if now >= until {
                return false;
            }
            let mut runnable = self.runnable(now);
            if runnable.is_empty() {
                self.advance(until);
                continue;
            }
            let stalls = self.shared.with(|s| {
                s.rng.shuffle(&mut runnable);
                let chance = s.options.stall_chance;
                let stalls: Vec<bool> = runnable.iter().map(|_| s.rng.chance(chance)).collect();
                let (low, high) = s.options.turn_ns;
                s.now += s.rng.between(low, high);
                stalls
            });
            for (index, stalled) in runnable.into_iter().zip(stalls) {
                if !stalled {
                    self.turn(index);
                }
            }
        }
    }

    /// Drivers whose shards have something to do. While any shard is busy all are asked: tasks of
    /// a test may wake each other across shards without a doorbell.
    fn runnable(&self, now: u64) -> Vec<usize> {
        let running = self.running.borrow();
        let busy = self.shared.with(|s| {
            running.iter().filter(|r| r.stopped_until <= now).any(|r| {
                let shard = &s.shards[r.index];
                r.hot
                    || !shard.ready.is_empty()
                    || shard.bell.is_rung()
                    || r.next_timer.is_some_and(|at| at <= now)
            })
        });
        match busy {
            true => running
                .iter()
                .filter(|r| r.stopped_until <= now)
                .map(|r| r.index)
                .collect(),
            false => Vec::new(),
        }
    }

    fn turn(&self, index: usize) {
        let mut running = self.running.borrow_mut();
        let Some(r) = running.iter_mut().find(|r| r.index == index) else {
            return; // died in this round
        };
        r.turns += 1;
        let result = catch_unwind(AssertUnwindSafe(|| r.executor.turn(false)));
        match result {
            Ok(turn) => {
                r.hot = turn.progressed;
                r.next_timer = turn.next_timer.map(|at| at.0);
            }
            // a process that is dead already may fall over its own feet
            Err(_) if !self.shared.with(|s| s.processes[r.process].alive) => {}
            Err(panic) => resume_unwind(panic),
        }
        drop(running);
        self.bury();
    }

    fn run_scheduled(&self) {
        loop {
            let now = self.now().0;
            let mut scheduled = self.scheduled.borrow_mut();
            let Some(key) = scheduled.keys().next().copied().filter(|k| k.0 <= now) else {
                return;
            };
            let action = scheduled.remove(&key);
            drop(scheduled);
            if let Some(action) = action {
                action(self);
            }
        }
    }

    /// Nobody has anything to do: on to the next event.
    fn advance(&self, until: u64) {
        let now = self.now().0;
        let timers = self
            .running
            .borrow()
            .iter()
            .filter_map(|r| match r.stopped_until > now {
                true => Some(r.stopped_until),
                false => r.next_timer,
            })
            .min();
        let scheduled = self.scheduled.borrow().keys().next().map(|(at, _)| *at);
        self.shared.with(|s| {
            let next = [timers, scheduled, s.queue.next_at()];
            let next = next.into_iter().flatten().min().unwrap_or(until);
            s.now = next.min(until).max(s.now + 1);
        });
    }
}
