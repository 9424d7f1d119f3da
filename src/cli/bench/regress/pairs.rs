//! Runs one workload: floor and broker in turn, pair after pair.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use nix::unistd::syncfs;

use crate::cli::bench::regress::workload::{Against, Metric, Workload};
use crate::cli::rig::kafka::{self, Fetch, Plain, Produce};
use crate::cli::rig::load::{self, Outcome, Plan, Traffic};
use crate::cli::rig::machine::process_seconds;
use crate::cli::rig::server::{BrokerSetup, Server};

/// Set by an interrupt: the load that runs fails.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Answers while a topic is filled come sooner, and a server rests sooner that has nothing to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a server is looked at that is to come to rest, and how much of a core is rest.
const LOOK: Duration = Duration::from_millis(250);
const REST: f64 = 0.04;

/// What all workloads share.
pub struct Rig {
    /// Emptied and removed by whoever made it.
    pub scratch: PathBuf,
    pub broker: PathBuf,
    pub floor: PathBuf,
    pub broker_core: usize,
    pub load_core: usize,
    /// Measured in a run.
    pub run: Duration,
    pub warmup: Duration,
    pub pairs: usize,
    /// Of the broker's memory and journal, filled in a moment, and of the floor's ring. A quarter of
    /// it is read again and again by loads that fetch: less than the broker keeps in memory.
    pub ring_bytes: u64,
}

/// A row's figures, a pair each: the yardstick's and the broker's.
pub struct Figures {
    pub row: String,
    pub metric: Metric,
    pub pairs: Vec<(f64, f64)>,
}

impl Figures {
    /// Broker over yardstick.
    pub fn ratios(&self) -> Vec<f64> {
        self.pairs
            .iter()
            .map(|(floor, broker)| broker / floor)
            .collect()
    }
}

impl Rig {
    /// All pairs of a workload; `done` is told of each.
    pub fn measure(&self, load: &Workload, done: &mut dyn FnMut()) -> anyhow::Result<Vec<Figures>> {
        let mut figures: Vec<Figures> = load
            .metrics
            .iter()
            .map(|metric| Figures {
                row: load.row(*metric),
                metric: *metric,
                pairs: Vec::new(),
            })
            .collect();
        let batch = kafka::batch(load.records, load.record_bytes);
        for number in 0..self.pairs {
            // which of them is first alternates: what drifts is not one side's
            let (floor, broker) = match number % 2 {
                0 => {
                    let floor = self.floor(load, &batch)?;
                    (floor, self.broker(load, &batch)?)
                }
                _ => {
                    let broker = self.broker(load, &batch)?;
                    (self.floor(load, &batch)?, broker)
                }
            };
            for figures in &mut figures {
                let of = |side: &Outcome| figures.metric.of(side);
                let pair = of(&floor).zip(of(&broker)).with_context(|| {
                    format!("{}: nothing was answered: give --seconds more", figures.row)
                })?;
                figures.pairs.push(pair);
            }
            done();
        }
        Ok(figures)
    }

    fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.scratch.join(name);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }

    /// Runs the load on a new floor program. Its file is that of the pairs before: it is written
    /// once.
    fn floor(&self, load: &Workload, batch: &[u8]) -> anyhow::Result<Outcome> {
        let dir = self.directory("floor")?;
        let core = self.broker_core.to_string();
        let (name, what, mut traffic) = match load.against {
            Against::Ingest => (
                "ring",
                &["ingest"][..],
                Plain::of_batch(batch, load.connections),
            ),
            Against::Echo => (
                "none",
                &["echo"][..],
                Plain::of_batch(batch, load.connections),
            ),
            Against::Read => {
                let (count, bytes) = (self.batches(load, batch), batch.len() as u32);
                let total = count * load.connections as u64 * u64::from(bytes);
                let file = dir.join("read");
                if !file.exists() {
                    fs::write(&file, vec![7u8; total as usize])
                        .with_context(|| file.display().to_string())?;
                }
                let reads = Plain::reads(bytes, total, load.connections);
                ("read", &["read", "--memory"][..], reads)
            }
        };
        let file = dir.join(name).display().to_string();
        let ring_bytes = self.ring_bytes.to_string();
        let common = [
            "--core",
            &core,
            "--file",
            &file,
            "--ring-bytes",
            &ring_bytes,
        ];
        let server = Server::floor(&self.floor, &[what, &common].concat(), &dir)?;
        self.run(load, &server, &mut traffic, false)
    }

    /// Runs the load on a new broker. Its files go with it, so that nothing of them is written back
    /// while the floor is measured.
    fn broker(&self, load: &Workload, batch: &[u8]) -> anyhow::Result<Outcome> {
        let home = self.directory("broker")?;
        let mut setup = BrokerSetup::new(&self.broker, &home.join("data"));
        setup.cores = format!("{0}-{0}", self.broker_core);
        setup.load_core = self.load_core;
        setup.ends_with_parent = true;
        setup.overrides = ["corelane.memory.bytes", "corelane.journal.size"]
            .map(|name| format!("{name}={}", self.ring_bytes))
            .to_vec();
        if load.against == Against::Echo {
            setup
                .overrides
                .push("corelane.flush.policy=interval".into());
        }
        let server = Server::broker(&setup)?;
        kafka::create_topics(server.addr, &[(kafka::TOPIC, load.partitions)])
            .with_context(|| format!("no topic of {} partitions", load.partitions))?;
        let measured = match load.against {
            Against::Ingest | Against::Echo => {
                let mut produce = Produce::spread(batch, load.connections, load.partitions);
                self.run(load, &server, &mut produce, load.fills_memory)?
            }
            Against::Read => {
                let mut fetch = self.filled(load, &server, batch)?;
                self.run(load, &server, &mut fetch, false)?
            }
        };
        drop(server);
        fs::remove_dir_all(&home).with_context(|| home.display().to_string())?;
        Ok(measured)
    }

    /// Batches of each connection that a fetching load reads.
    fn batches(&self, load: &Workload, batch: &[u8]) -> u64 {
        self.ring_bytes / 4 / batch.len() as u64 / load.connections as u64
    }

    /// Gives the broker's partitions what is to be fetched.
    fn filled(&self, load: &Workload, server: &Server, batch: &[u8]) -> anyhow::Result<Fetch> {
        let batches = self.batches(load, batch);
        let mut produce = Produce::spread(batch, load.connections, load.partitions);
        for connection in 0..load.connections {
            let mut socket = TcpStream::connect(server.addr)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            for _ in 0..batches {
                go_on()?;
                let answer = kafka::call(&mut socket, produce.frame(connection))
                    .context("filling the topic")?;
                produce
                    .answer(connection, &answer, answer.len())
                    .map_err(|error| anyhow!("filling the topic: {error}"))?;
            }
        }
        let records = load.records as i64;
        let end = batches as i64 * records;
        let fetch = Fetch::new(load.connections, batch.len() as i32 + 1, records, end);
        Ok(fetch)
    }

    /// Writes out what was left to be written, by this server's start and by whatever ran before, and
    /// waits until it does next to nothing: that is no cost of a load, and comes as it likes.
    fn settle(&self, server: &Server) -> anyhow::Result<()> {
        File::open(&self.scratch)
            .and_then(|dir| Ok(syncfs(dir)?))
            .with_context(|| format!("can't write out {}", self.scratch.display()))?;
        rest(server)
    }

    fn run(
        &self,
        load: &Workload,
        server: &Server,
        traffic: &mut dyn Traffic,
        until_steady: bool,
    ) -> anyhow::Result<Outcome> {
        self.settle(server)?;
        let plan = Plan {
            connections: load.connections,
            pace: load.pace,
            warmup: self.warmup,
            until_steady,
            run: self.run,
            congestion: None,
            interrupted: Some(&INTERRUPTED),
        };
        let outcome = load::run(server, plan, traffic, &mut |_, _| Ok(()));
        outcome.map_err(|error| match server.told().as_str() {
            "" => anyhow!("{}: {error}", load.name),
            told => anyhow!("{}: {error}; the server says: {told}", load.name),
        })
    }
}

/// Fails once there was an interrupt.
fn go_on() -> anyhow::Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Waits until the server does next to nothing.
fn rest(server: &Server) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut before = process_seconds(server.pid());
    loop {
        thread::sleep(LOOK);
        let now = process_seconds(server.pid());
        if now - before <= REST * LOOK.as_secs_f64() {
            return Ok(());
        }
        before = now;
        go_on()?;
        ensure!(
            began.elapsed() < PATIENCE,
            "the server works on {PATIENCE:?} after it was made ready: {}",
            server.told()
        );
    }
}

/// The floor programs, which are built beside this binary.
pub fn floor_beside(broker: &Path) -> anyhow::Result<PathBuf> {
    let floor = broker.with_file_name("corelane-floor");
    ensure!(
        floor.exists(),
        "{} is not there: build it beside this binary (cargo build --release --bins)",
        floor.display()
    );
    Ok(floor)
}
