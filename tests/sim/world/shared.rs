//! What all clients of a world share: how fast they go, what goes wrong, what happened.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::base::time::Monotonic;
use corelane::ring::Ring;
use corelane::ring::sim::{MachineId, SimWorld};
use corelane::ring::sync::Event;
use corelane::wire::message::Message;

use super::client::{Answer, Client};
use super::rule::{Rule, broken, rule};
use super::tally::Tally;
use super::topic::Topic;

/// An answer that takes longer than this, from a broker with which nothing is wrong, is late.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// For so long after a fault answers may still tell of it.
const AFTERMATH: Duration = Duration::from_secs(10);

/// What clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tempo {
    /// As much as they can.
    Burst,
    /// Send nothing new; consumers wait for data.
    Quiet,
    /// Get what was sent acked, then nothing.
    Drain,
}

pub struct Shared {
    pub ring: Ring,
    pub address: SocketAddr,
    pub world: Weak<SimWorld>,
    /// The broker's.
    pub machine: MachineId,
    pub dirs: Vec<PathBuf>,
    pub tally: Tally,
    pub topics: RefCell<Vec<Rc<Topic>>>,
    /// Acks may be lost in a power cut.
    pub weak: bool,
    /// Longest value of a record, in bytes.
    pub value_bytes: u64,
    /// All values are as long as possible.
    pub equal_sizes: bool,
    pub tempo: Cell<Tempo>,
    pub changed: Event,
    /// Tasks that do not rest.
    pub active: Cell<usize>,
    next_producer: Cell<u32>,
    producer_ids: RefCell<BTreeSet<i64>>,
    /// By log directory: until when its partitions may refuse.
    forgiven: Vec<Cell<Monotonic>>,
    /// Directories that have no space.
    full: Vec<Cell<bool>>,
    /// The broker's process is on its way to serve.
    starting: Cell<bool>,
    /// Since when nothing is wrong with the broker, its disks and the network.
    well_since: Cell<Monotonic>,
}

impl Shared {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        world: &Rc<SimWorld>,
        ring: &Ring,
        address: SocketAddr,
        machine: MachineId,
        dirs: Vec<PathBuf>,
        weak: bool,
        value_bytes: u64,
        equal_sizes: bool,
    ) -> Rc<Shared> {
        Rc::new(Shared {
            ring: ring.clone(),
            address,
            world: Rc::downgrade(world),
            machine,
            tally: Tally::default(),
            topics: RefCell::default(),
            weak,
            value_bytes,
            equal_sizes,
            tempo: Cell::new(Tempo::Burst),
            changed: Event::new(),
            active: Cell::new(0),
            next_producer: Cell::new(1),
            producer_ids: RefCell::default(),
            forgiven: dirs.iter().map(|_| Cell::new(Monotonic(0))).collect(),
            full: dirs.iter().map(|_| Cell::new(false)).collect(),
            starting: Cell::new(false),
            dirs,
            well_since: Cell::new(Monotonic::MAX),
        })
    }

    pub fn set_tempo(&self, tempo: Tempo) {
        self.tempo.set(tempo);
        self.changed.notify_all();
    }

    fn world(&self) -> Rc<SimWorld> {
        self.world.upgrade().expect("it runs this")
    }

    /// The world's time; the ring's stands still while its shard sleeps.
    fn now(&self) -> Monotonic {
        self.world().now()
    }

    /// Power cuts of the broker's machine so far.
    pub fn power_cuts(&self) -> u64 {
        self.world().power_cuts(self.machine)
    }

    /// A producer's name that nobody has.
    pub fn new_producer(&self) -> u32 {
        let name = self.next_producer.get();
        self.next_producer.set(name + 1);
        name
    }

    /// A producer id was given away.
    pub fn given(&self, id: i64) {
        let new = self.producer_ids.borrow_mut().insert(id);
        rule!(Rule::Once, new, "producer id {id} was given away before");
    }

    /// Partitions in this directory may refuse for so long, or until [`Shared::starts`].
    pub fn forgive(&self, dir: usize, time: Option<Duration>) {
        // a start that fails there leaves the directory offline
        let time = time.filter(|_| !self.starting.get());
        let until = match time {
            Some(time) => self.now() + time + AFTERMATH,
            None => Monotonic::MAX,
        };
        let forgiven = &self.forgiven[dir];
        forgiven.set(forgiven.get().max(until));
        match time {
            Some(time) => self.unwell_for(time),
            None => self.unwell(),
        }
    }

    /// A directory has no space, or has some again.
    pub fn set_full(&self, dir: usize, full: bool) {
        self.full[dir].set(full);
    }

    /// A new process without faults is there. A directory that it finds without space may stay
    /// offline.
    pub fn starts(&self) {
        self.starting.set(true);
        let until = self.now() + AFTERMATH;
        for (forgiven, full) in self.forgiven.iter().zip(&self.full) {
            match full.get() {
                true => forgiven.set(Monotonic::MAX),
                false => forgiven.set(forgiven.get().min(until)),
            }
        }
    }

    /// The process serves, or died.
    pub fn started(&self) {
        self.starting.set(false);
    }

    pub fn forgives(&self, dir: usize) -> bool {
        self.forgiven[dir].get() > self.now()
    }

    pub fn forgives_any(&self) -> bool {
        (0..self.dirs.len()).any(|dir| self.forgives(dir))
    }

    /// The broker is down, or will not be itself again.
    pub fn unwell(&self) {
        self.well_since.set(Monotonic::MAX);
    }

    /// Something is wrong for so long.
    pub fn unwell_for(&self, time: Duration) {
        let until = self.now() + time;
        self.well_since.set(self.well_since.get().max(until));
    }

    /// Nothing was wrong from then until now.
    pub fn was_well_since(&self, then: Monotonic) -> bool {
        self.well_since.get() <= then
    }

    /// The broker serves, from now on or from when a fault ends.
    pub fn well(&self) {
        self.well_since.set(self.now());
    }

    /// The log directories with files of a partition's name: of an older topic too, or of one that
    /// could not be made there.
    fn dirs_of(&self, topic: &str, index: usize) -> impl Iterator<Item = usize> {
        let world = self.world();
        let name = format!("{topic}-{index}");
        let holds = move |dir: &usize| {
            let path = self.dirs[*dir].join(&name);
            !world.files(self.machine, &path).is_empty()
        };
        (0..self.dirs.len()).filter(holds)
    }

    /// The partitions of a directory, and those that nobody knows the place of, may refuse for ever.
    pub fn may_refuse(&self, dir: usize) {
        for topic in self.topics.borrow().iter() {
            for (index, model) in topic.partitions.iter().enumerate() {
                let mut dirs = self.dirs_of(&topic.name, index).peekable();
                if dirs.peek().is_none() || dirs.any(|its| its == dir) {
                    model.borrow_mut().may_refuse();
                }
            }
        }
    }

    /// A partition refused. Ends the run if there is no fault that explains it.
    pub fn refused(&self, topic: &Topic, index: usize, code: ErrorCode, doing: &str) {
        let dirs: Vec<usize> = self.dirs_of(&topic.name, index).collect();
        // of one that is nowhere yet nobody knows where it was to be
        let forgiven = match dirs.is_empty() || code == ErrorCode::NotLeaderOrFollower {
            true => self.forgives_any(),
            false => dirs.into_iter().any(|dir| self.forgives(dir)),
        };
        let storage = matches!(
            code,
            ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower
        );
        let rotten = topic.partitions[index].borrow().has_rot();
        rule!(
            Rule::Served,
            (storage && forgiven) || rotten || topic.gone.get(),
            "{}-{index}: {doing}: {}, at {}",
            topic.name,
            code.name(),
            self.now().0
        );
        self.tally.forgiven.one();
    }

    /// An answer to a request; none if the connection failed. Late answers end the run.
    pub async fn call<'a, M: Message<'a>>(
        &self,
        client: &mut Client,
        version: i16,
        request: &M,
    ) -> Option<Answer> {
        let asked = self.now();
        match client.call(version, request).await {
            Ok(answer) => {
                self.tally.calls.one();
                Some(answer)
            }
            Err(error) => {
                self.lost(&error, asked, M::API.name());
                None
            }
        }
    }

    /// A request that was sent then has no answer.
    pub fn lost(&self, error: &std::io::Error, asked: Monotonic, api: &str) {
        self.tally.retries.one();
        let now = self.now();
        if error.kind() == std::io::ErrorKind::TimedOut
            && now.since(asked) >= DEADLINE
            && asked >= self.well_since.get()
        {
            broken(
                Rule::Bounds,
                format_args!("{api} has no answer after {:?}", now.since(asked)),
            );
        }
    }

    /// Rests until there is something to do. False when the topic is gone.
    pub async fn work(&self, topic: &Topic, may: impl Fn(Tempo) -> bool) -> bool {
        if topic.gone.get() {
            return false;
        }
        if !may(self.tempo.get()) {
            self.active.set(self.active.get() - 1);
            while !may(self.tempo.get()) && !topic.gone.get() {
                self.changed.wait().await;
            }
            self.active.set(self.active.get() + 1);
        }
        !topic.gone.get()
    }

    /// Sets a task to work, which counts as active until it rests or ends.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let its = self.clone();
        self.active.set(self.active.get() + 1);
        let counted = async move {
            task.await;
            its.active.set(its.active.get() - 1);
        };
        self.ring.spawn(counted).detach();
    }
}

pub fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or_else(|| {
        broken(
            Rule::Served,
            format_args!("error code {code} is not Kafka's"),
        )
    })
}
