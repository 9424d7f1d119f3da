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
use corelane::broker::start::{ShardContext, StopFlag, run_shard};
use corelane::ring::mailbox::mesh;
use corelane::ring::sim::{MachineId, ProcessId, Rng, SimWorld};

pub struct Machine {
    pub id: MachineId,
    config: Arc<BrokerConfig>,
    running: RefCell<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    process: ProcessId,
    started: Rc<Cell<bool>>,
    stop: StopFlag,
}

impl Machine {
    pub fn new(world: &SimWorld, rng: &mut Rng) -> Machine {
        let dirs = if rng.chance(0.3) {
            "/disk0/log,/disk1/log"
        } else {
            "/disk0/log"
        };
        let lanes = ["auto", "off"][rng.index(2)];
        Machine::with(
            world,
            &[
                ("log.dirs", dirs),
                ("corelane.lanes", lanes),
                ("corelane.journal.size", "4194304"),
            ],
        )
    }

    /// A machine with these properties.
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
        }
    }

    pub fn address(&self, world: &SimWorld) -> SocketAddr {
        SocketAddr::new(world.ip(self.id), 9092)
    }

    /// A process with any number of shards.
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
            world.spawn(process, ring, async move {
                if let Err(error) = run_shard(context).await {
                    panic!("the broker: {error}");
                }
            });
        }
        *self.running.borrow_mut() = Some(Running {
            process,
            started,
            stop,
        });
        process
    }

    fn running(&self) -> Running {
        self.running.borrow().clone().expect("started")
    }

    /// Waits until it serves, or is dead.
    pub fn run_until_started(&self, world: &SimWorld, limit: Duration) {
        let running = self.running();
        let over = world.run_until(limit, || {
            running.started.get() || !world.alive(running.process)
        });
        assert!(over, "the start takes for ever");
    }

    /// Stops cleanly.
    pub fn stop(&self, world: &SimWorld, limit: Duration) {
        let running = self.running();
        running.stop.stop();
        let over = world.run_until(limit, || {
            world.finished(running.process) || !world.alive(running.process)
        });
        assert!(over, "the stop takes for ever");
    }
}
