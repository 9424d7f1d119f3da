//! All that a world is made of, and how processes and machines die.

use std::collections::BTreeMap;
use std::io;

use super::clock::{Event, Queue, Trace};
use super::disk::content::Luck;
use super::disk::fs::{Fs, errno};
use super::machine::{DiskWrite, Handle, Machine, Process, Shard, What};
use super::options::SimOptions;
use super::rng::Rng;
use super::stream::Socket;
use crate::ring::driver::{Completion, Op, OpId};

pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) queue: Queue,
    pub(super) machines: Vec<Machine>,
    pub(super) processes: Vec<Process>,
    pub(super) shards: Vec<Shard>,
    pub(super) handles: BTreeMap<i32, Handle>,
    pub(super) next_fd: i32,
    /// Operations that have not ended, by driver and id.
    pub(super) ops: BTreeMap<(usize, u64), Op>,
    /// The last change that a flush in flight covers.
    pub(super) syncs: BTreeMap<(usize, u64), u64>,
    pub(super) writes: BTreeMap<u64, DiskWrite>,
    /// What a write in flight will come to: which, whether it fails, bytes.
    pub(super) results: BTreeMap<(usize, u64), (u64, Option<i32>, u32)>,
    pub(super) sockets: BTreeMap<u64, Socket>,
    pub(super) next_id: u64,
    /// Pairs of machines that do not reach each other, smaller first.
    pub(super) parted: std::collections::BTreeSet<(usize, usize)>,
    /// Flushes of this disk that shall fail: machine, disk, how many.
    pub(super) failing_flushes: BTreeMap<(usize, usize), u32>,
    /// Direct writes: how many, and with which error.
    pub(super) failing_writes: BTreeMap<(usize, usize), (u32, i32)>,
    /// Dropped when the world is not borrowed: they hold descriptors and buffers.
    pub(super) garbage: Vec<Op>,
    /// Processes that died in the middle of a turn.
    pub(super) died: Vec<usize>,
    /// Operations that ended.
    pub(super) operations: u64,
}

impl State {
    pub(super) fn new(seed: u64, options: SimOptions) -> State {
        State {
            options,
            now: 1_000_000_000,
            rng: Rng::new(seed),
            trace: Trace(seed),
            queue: Queue::new(),
            machines: Vec::new(),
            processes: Vec::new(),
            shards: Vec::new(),
            handles: BTreeMap::new(),
            next_fd: 3,
            ops: BTreeMap::new(),
            syncs: BTreeMap::new(),
            writes: BTreeMap::new(),
            results: BTreeMap::new(),
            sockets: BTreeMap::new(),
            next_id: 1,
            parted: std::collections::BTreeSet::new(),
            failing_flushes: BTreeMap::new(),
            failing_writes: BTreeMap::new(),
            garbage: Vec::new(),
            died: Vec::new(),
            operations: 0,
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn handle(&mut self, process: usize, what: What) -> i32 {
        let fd = self.next_fd;
        self.next_fd += 1;
        self.handles.insert(fd, Handle { process, what });
        fd
    }

    pub(super) fn add_machine(&mut self, mounts: &[Vec<String>]) -> usize {
        let disk = &self.options.disk;
        let disks = std::iter::once(Vec::new())
            .chain(mounts.iter().cloned())
            .map(|mount| Fs::new(mount, disk.total_bytes, disk.ordered_names))
            .collect();
        self.machines.push(Machine {
            up: true,
            boot: self.rng.next(),
            power_cuts: 0,
            wall_offset_ms: 0,
            disks,
            next_port: 32_768,
        });
        let machine = self.machines.len() - 1;
        if self.options.wall_jump_chance > 0.0 {
            self.queue
                .push(self.now + 1_000_000_000, Event::Second { machine });
        }
        machine
    }

    /// Ends an operation.
    pub(super) fn complete(&mut self, driver: usize, id: u64, result: io::Result<u32>, op: Op) {
        self.operations += 1;
        self.trace.note(self.now);
        self.trace.note(id ^ (driver as u64) << 48);
        self.trace.note(match &result {
            Ok(n) => u64::from(*n),
            Err(e) => 1 << 40 | e.raw_os_error().unwrap_or(0) as u64,
        });
        self.shards[driver].ready.push_back(Completion {
            id: OpId(id),
            result,
            op,
        });
    }

    /// Ends an operation that is in the table, if it still is.
    pub(super) fn complete_by_id(&mut self, (driver, id): (usize, u64), result: io::Result<u32>) {
        if let Some(op) = self.ops.remove(&(driver, id)) {
            self.complete(driver, id, result, op);
        }
    }

    /// Lets everything happen that is due.
    pub(super) fn run_due(&mut self) -> bool {
        let mut any = false;
        while let Some((at, event)) = self.queue.pop_due(self.now) {
            any = true;
            self.trace.note(at);
            match event {
                Event::Disk { driver, op } => self.disk_due(driver, op),
                Event::Land { write, piece } => self.land(write, piece),
                Event::Arrive { from } => self.arrive(from),
                Event::Syn { driver, op, tries } => self.syn(driver, op, tries),
                Event::Second { machine } => self.second(machine),
            }
        }
        any
    }

    fn second(&mut self, machine: usize) {
        if self.rng.chance(self.options.wall_jump_chance) {
            let jump = self.rng.between(0, 20_000) as i64 - 10_000;
            self.machines[machine].wall_offset_ms += jump;
        }
        self.queue
            .push(self.now + 1_000_000_000, Event::Second { machine });
    }

    /// A call that changes something outside the process: here it may die.
    pub(super) fn may_change(&mut self, process: usize) -> io::Result<()> {
        let p = &mut self.processes[process];
        if !p.alive {
            return Err(errno(libc::EIO));
        }
        if let Some((left, power)) = &mut p.calls_left {
            if *left > 0 {
                *left -= 1;
                return Ok(());
            }
            let (power, machine) = (*power, p.machine);
            p.calls_left = None;
            if power {
                let luck = Luck::draw(&mut self.rng);
                self.power_cut(machine, luck);
            } else {
                self.kill(process);
            }
            return Err(errno(libc::EIO));
        }
        Ok(())
    }

    /// The process ends at once. Its direct writes may go on; the page cache stays.
    pub(super) fn kill(&mut self, process: usize) {
        if !self.processes[process].alive {
            return;
        }
        self.end_process(process);
        self.orphan_writes(process);
        let fds: Vec<i32> = self.fds_of(process);
        for fd in fds {
            self.close(fd);
        }
    }

    fn fds_of(&self, process: usize) -> Vec<i32> {
        self.handles
            .iter()
            .filter(|(_, h)| h.process == process)
            .map(|(fd, _)| *fd)
            .collect()
    }

    fn end_process(&mut self, process: usize) {
        self.trace.note(process as u64);
        self.processes[process].alive = false;
        self.died.push(process);
        for driver in 0..self.shards.len() {
            if self.shards[driver].process != process {
                continue;
            }
            let ready = std::mem::take(&mut self.shards[driver].ready);
            self.garbage.extend(ready.into_iter().map(|c| c.op));
            let ids: Vec<_> = self
                .ops
                .range((driver, 0)..(driver + 1, 0))
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                self.garbage.extend(self.ops.remove(&id));
                self.syncs.remove(&id);
                self.results.remove(&id);
            }
        }
    }

    fn orphan_writes(&mut self, process: usize) {
        let handles = &self.handles;
        let of_process = |fd: i32| handles.get(&fd).is_some_and(|h| h.process == process);
        let mut waiting: BTreeMap<u64, Vec<usize>> = self
            .writes
            .iter()
            .filter(|(_, w)| of_process(w.fd))
            .map(|(id, _)| (*id, Vec::new()))
            .collect();
        self.queue.retain(|event| match event {
            Event::Land { write, piece } => match waiting.get_mut(write) {
                Some(pieces) => {
                    pieces.push(*piece);
                    false
                }
                None => true,
            },
            _ => true,
        });
        for (id, pieces) in waiting {
            if pieces.is_empty() {
                self.end_write(id);
                continue;
            }
            // what the device has not seen yet comes late, in any order
            let longest = [1_000_000, 100_000_000, 2_000_000_000][self.rng.index(3)];
            for piece in pieces {
                let at = self.now + self.rng.between(1, longest);
                self.queue.push(at, Event::Land { write: id, piece });
            }
            let Some(write) = self.writes.get_mut(&id) else {
                continue;
            };
            write.orphan = true;
            let handle = self.handles.get_mut(&write.fd);
            if let Some(What::File(d)) = handle.map(|h| &mut h.what) {
                d.orphan = true;
            }
        }
    }

    /// The machine stops: what was not flushed is kept or lost as chance has it.
    pub(super) fn power_cut(&mut self, machine: usize, luck: Luck) {
        let processes: Vec<usize> = (0..self.processes.len())
            .filter(|p| self.processes[*p].machine == machine)
            .collect();
        for process in &processes {
            if self.processes[*process].alive {
                self.end_process(*process);
            }
        }
        self.handles.retain(|_, h| !processes.contains(&h.process));
        self.sockets_lost(machine);
        let writes: Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, w)| w.place.machine == machine)
            .map(|(id, _)| *id)
            .collect();
        for id in writes {
            let Some(write) = self.writes.remove(&id) else {
                continue;
            };
            for piece in &write.pieces {
                if self.rng.chance(0.5) {
                    let fs = &mut self.machines[machine].disks[write.place.disk];
                    let at = write.offset + piece.start as u64;
                    let _ = fs.write(write.place.ino, at, &write.bytes[piece.clone()]);
                }
            }
            self.queue
                .retain(|e| !matches!(e, Event::Land { write, .. } if *write == id));
        }
        let m = &mut self.machines[machine];
        m.up = false;
        m.power_cuts += 1;
        m.boot = self.rng.next();
        for fs in &mut m.disks {
            fs.power_cut(&mut self.rng, luck);
        }
    }
}
