//! Runs one workload: floor and broker in turn, pair after pair.

use std::cell::Cell;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};

use crate::cli::bench::regress::workload::{Against, Metric, Workload};
use crate::cli::rig::kafka::{self, Fetch, Plain, Produce};
use crate::cli::rig::load::{self, Outcome, Plan, Traffic};
use crate::cli::rig::machine::Cpu;
use crate::cli::rig::server::{BrokerSetup, Server};

/// Set by an interrupt: the load that runs fails.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The broker's memory and journal are filled in a moment, and the floor's ring is as large.
const SETTINGS: [&str; 2] = [
    "corelane.memory.bytes=268435456",
    "corelane.journal.size=268435456",
];
/// What is read again and again: less than the broker keeps in memory.
const READ_BYTES: u64 = 64 << 20;

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

struct Measured {
    outcome: Outcome,
    cpu: Cpu,
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
        let mut yardstick = self.yardstick(load, &batch)?;
        let mut reader = match load.against {
            Against::Read => Some(self.filled(load, &batch)?),
            _ => None,
        };
        for _ in 0..self.pairs {
            let (floor, broker) = match (&mut yardstick, &mut reader) {
                (Some((server, plain)), Some((broker, fetch))) => (
                    self.run(load, server, plain, false)?,
                    self.run(load, broker, fetch, false)?,
                ),
                (Some((server, plain)), None) => {
                    let floor = self.run(load, server, plain, false)?;
                    // its log grows: each pair has a broker and a directory of its own
                    let broker = self.broker(load)?;
                    let mut produce = Produce::spread(&batch, load.connections, load.partitions);
                    (
                        floor,
                        self.run(load, &broker, &mut produce, load.fills_memory)?,
                    )
                }
                (None, _) => {
                    let broker = self.broker(load)?;
                    let few = match load.against {
                        Against::Partitions(few) => few,
                        _ => load.partitions,
                    };
                    let mut few = Produce::spread(&batch, load.connections, few);
                    let mut all = Produce::spread(&batch, load.connections, load.partitions);
                    (
                        self.run(load, &broker, &mut few, false)?,
                        self.run(load, &broker, &mut all, false)?,
                    )
                }
            };
            for figures in &mut figures {
                let of = |side: &Measured| figures.metric.of(&side.outcome, &side.cpu);
                let pair = of(&floor).zip(of(&broker)).with_context(|| {
                    format!("{}: nothing was answered: give --seconds more", figures.row)
                })?;
                figures.pairs.push(pair);
            }
            done();
        }
        Ok(figures)
    }

    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.scratch.join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }

    /// The floor program of a workload and what is sent to it.
    fn yardstick(&self, load: &Workload, batch: &[u8]) -> anyhow::Result<Option<(Server, Plain)>> {
        let file = self.fresh("floor")?.join("ring");
        let (what, traffic) = match load.against {
            Against::Ingest => (&["ingest"][..], Plain::of_batch(batch, load.connections)),
            Against::Read => {
                let (count, bytes) = (self.batches(load, batch), batch.len() as u32);
                let total = count * load.connections as u64 * u64::from(bytes);
                fs::write(&file, vec![7u8; total as usize])
                    .with_context(|| file.display().to_string())?;
                let reads = Plain::reads(bytes, total, load.connections);
                (&["read", "--memory"][..], reads)
            }
            Against::Partitions(_) => return Ok(None),
        };
        let core = self.broker_core.to_string();
        let file = file.display().to_string();
        let args = [what, &["--core", &core, "--file", &file]].concat();
        Ok(Some((Server::floor(&self.floor, &args)?, traffic)))
    }

    /// A new broker that has the topic.
    fn broker(&self, load: &Workload) -> anyhow::Result<Server> {
        let mut setup = BrokerSetup::new(&self.broker, &self.fresh("broker")?);
        setup.cores = format!("{0}-{0}", self.broker_core);
        setup.load_core = self.load_core;
        setup.overrides = SETTINGS.map(str::to_owned).to_vec();
        let server = Server::broker(&setup)?;
        kafka::create_topics(server.addr, &[(kafka::TOPIC, load.partitions)])
            .with_context(|| format!("no topic of {} partitions", load.partitions))?;
        Ok(server)
    }

    /// Batches of each connection that a fetching load reads.
    fn batches(&self, load: &Workload, batch: &[u8]) -> u64 {
        READ_BYTES / batch.len() as u64 / load.connections as u64
    }

    /// A broker whose partitions hold what is to be fetched.
    fn filled(&self, load: &Workload, batch: &[u8]) -> anyhow::Result<(Server, Fetch)> {
        let server = self.broker(load)?;
        let batches = self.batches(load, batch);
        let mut produce = Produce::spread(batch, load.connections, load.partitions);
        for connection in 0..load.connections {
            let mut socket = TcpStream::connect(server.addr)?;
            for _ in 0..batches {
                let answer = kafka::call(&mut socket, produce.frame(connection))?;
                produce
                    .answer(connection, &answer, answer.len())
                    .map_err(|error| anyhow!("filling the topic: {error}"))?;
            }
        }
        let records = load.records as i64;
        let end = batches as i64 * records;
        let fetch = Fetch::new(load.connections, batch.len() as i32 + 1, records, end);
        Ok((server, fetch))
    }

    fn run(
        &self,
        load: &Workload,
        server: &Server,
        traffic: &mut dyn Traffic,
        until_steady: bool,
    ) -> anyhow::Result<Measured> {
        let plan = Plan {
            connections: load.connections,
            pace: load.pace,
            warmup: self.warmup,
            until_steady: until_steady.then_some(server.pid()),
            run: self.run,
            congestion: None,
            interrupted: Some(&INTERRUPTED),
        };
        let (begin, end) = (Cell::new(Cpu::default()), Cell::new(Cpu::default()));
        let outcome = load::run(
            server.addr,
            plan,
            traffic,
            &mut |_, _| Ok(()),
            &mut || begin.set(Cpu::now(server.pid())),
            &mut || end.set(Cpu::now(server.pid())),
        );
        let outcome = outcome.map_err(|error| match server.told().as_str() {
            "" => anyhow!("{}: {error}", load.name),
            told => anyhow!("{}: {error}; the server says: {told}", load.name),
        })?;
        let cpu = end.get().since(begin.get());
        Ok(Measured { outcome, cpu })
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
