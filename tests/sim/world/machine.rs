//! The broker's machine: its configuration, its processes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::base::config::{BrokerConfig, Inputs, load};
use corelane::base::ids::ShardId;
use corelane::broker::counters::Counters;
use corelane::broker::message::Message;
use corelane::broker::start::{ShardContext, StartError, StopFlag, run_shard};
use corelane::ring::mailbox::mesh;
use corelane::ring::sim::{MachineId, ProcessId, Rng, SimWorld};

pub struct Machine {
    pub id: MachineId,
    config: Arc<BrokerConfig>,
    running: RefCell<Option<Running>>,
    /// A broker that cannot start or stop is told of by [`Machine::failure`].
    may_fail: bool,
}

#[derive(Clone)]
struct Running {
    process: ProcessId,
    started: Rc<Cell<bool>>,
    stop: StopFlag,
    failure: Rc<RefCell<Option<String>>>,
}

impl Machine {
    /// A machine with these properties and two disks.
    pub fn with(world: &SimWorld, properties: &[(&str, &str)]) -> Machine {
        let common = [
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://0.0.0.0:9092"),
            ("advertised.listeners", "PLAINTEXT://10.0.0.0:9092"),
        ];
        let inputs = Inputs {
            overrides: common
                .iter()
                .chain(properties)
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            host_name: "broker".to_owned(),
            ..Inputs::default()
        };
        let loaded = load(&inputs).unwrap_or_else(|errors| panic!("{errors}"));
        Machine {
            id: world.machine(&[Path::new("/disk0"), Path::new("/disk1")]),
            config: Arc::new(loaded.config),
            running: RefCell::new(None),
            may_fail: false,
        }
    }

    /// The same, whose broker may fail to start and stop.
    pub fn that_may_fail(self) -> Machine {
        Machine {
            may_fail: true,
            ..self
        }
    }

    pub fn address(&self, world: &SimWorld) -> SocketAddr {
        SocketAddr::new(world.ip(self.id), 9092)
    }

    /// A process with any number of shards.
    #[allow(dead_code)] // not by every program that shares this
    pub fn start(&self, world: &SimWorld, rng: &mut Rng) -> ProcessId {
        self.start_shards(world, rng.between(1, 4) as u16)
    }

    /// A process with so many shards.
    pub fn start_shards(&self, world: &SimWorld, shards: u16) -> ProcessId {
        let process = world.process(self.id);
        let rings: Vec<_> = (0..shards)
            .map(|n| world.shard(process, ShardId(n)))
            .collect();
        let bells: Vec<_> = rings.iter().map(|ring| ring.driver().doorbell()).collect();
        let started = Rc::new(Cell::new(false));
        let stop = StopFlag::default();
        let failure = Rc::new(RefCell::new(None));
        for (mailbox, ring) in mesh::<Message>(rings.len(), 64).into_iter().zip(&rings) {
            let told = started.clone();
            let first = ring.shard() == ShardId(0);
            let context = ShardContext {
                ring: ring.clone(),
                shards,
                config: self.config.clone(),
                post: mailbox.open(ring, bells.clone()),
                counters: Arc::new(Counters::default()),
                stop: stop.clone(),
                on_started: first
                    .then(|| -> Box<dyn FnOnce(&_)> { Box::new(move |_| told.set(true)) }),
            };
            let (failure, may_fail) = (failure.clone(), self.may_fail);
            world.spawn(process, ring, async move {
                match run_shard(context).await {
                    Ok(()) => {}
                    Err(error) if !may_fail => panic!("the broker: {error}"),
                    // the first shard tells why
                    Err(StartError::Aborted) => {}
                    Err(error) => drop(failure.borrow_mut().get_or_insert(error.to_string())),
                }
            });
        }
        *self.running.borrow_mut() = Some(Running {
            process,
            started,
            stop,
            failure,
        });
        process
    }

    fn running(&self) -> Running {
        self.running.borrow().clone().expect("started")
    }

    /// Why the last process could not start, or not stop cleanly.
    pub fn failure(&self) -> Option<String> {
        self.running().failure.borrow().clone()
    }

    /// Waits until it serves, is dead, or has failed to start; false if it does none of these.
    pub fn runs_until_started(&self, world: &SimWorld, limit: Duration) -> bool {
        let running = self.running();
        world.run_until(limit, || {
            running.started.get()
                || !world.alive(running.process)
                || running.failure.borrow().is_some()
        })
    }

    /// Waits until it serves, or is dead.
    #[allow(dead_code)] // not by every program that shares this
    pub fn run_until_started(&self, world: &SimWorld, limit: Duration) {
        assert!(
            self.runs_until_started(world, limit),
            "the start takes for ever"
        );
    }

    /// Stops cleanly; false if that takes longer than the limit.
    pub fn stops(&self, world: &SimWorld, limit: Duration) -> bool {
        let running = self.running();
        running.stop.stop();
        world.run_until(limit, || {
            world.finished(running.process) || !world.alive(running.process)
        })
    }

    /// Stops cleanly.
    #[allow(dead_code)] // not by every program that shares this
    pub fn stop(&self, world: &SimWorld, limit: Duration) {
        assert!(self.stops(world, limit), "the stop takes for ever");
    }
}
