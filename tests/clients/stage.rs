//! A broker with the clients that the cases of one configuration share.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Seen};
use crate::kcat::Kcat;
use crate::librdkafka::Librdkafka;
use crate::support::broker::{Broker, Setup};
use crate::support::kafka;
use crate::worker::Worker;

/// The clients of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// the `rdkafka` crate: a current librdkafka
    Librdkafka,
    /// Debian's kcat: an old librdkafka
    Kcat,
    /// Apache Kafka's own client
    Java,
    /// confluent-kafka for Python: the newest librdkafka
    Confluent,
    /// kafka-python: a client written in Python alone
    Python,
}

/// All of them.
pub const KINDS: [Kind; 5] = [
    Kind::Librdkafka,
    Kind::Kcat,
    Kind::Java,
    Kind::Confluent,
    Kind::Python,
];

impl Kind {
    /// The name in the names of cases and topics.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Librdkafka => "librdkafka",
            Kind::Kcat => "kcat",
            Kind::Java => "java",
            Kind::Confluent => "confluent-python",
            Kind::Python => "kafka-python",
        }
    }

    /// Why this client can't run here, if so.
    pub fn missing(self) -> Option<String> {
        match self {
            Kind::Librdkafka => None,
            Kind::Kcat => {
                let found = Command::new("kcat").arg("-V").output();
                let works = found.is_ok_and(|o| o.status.success());
                (!works).then(|| "kcat is not installed (tests/run does it)".to_owned())
            }
            Kind::Java => kafka::class_path().err().map(|e| e.to_string()),
            Kind::Confluent | Kind::Python => {
                let module = if self == Kind::Confluent {
                    "confluent_kafka"
                } else {
                    "kafka"
                };
                let check = format!("import {module}");
                let found = python().args(["-c", &check]).output();
                let works = found.is_ok_and(|o| o.status.success());
                (!works).then(|| format!("{module} is not installed (tests/run does it)"))
            }
        }
    }

    fn start(self, bootstrap: &str) -> Result<Box<dyn Client>> {
        Ok(match self {
            Kind::Librdkafka => Box::new(Librdkafka::new(bootstrap)),
            Kind::Kcat => Box::new(Kcat::new(bootstrap)),
            Kind::Java => Box::new(java_worker(bootstrap)?),
            Kind::Confluent => {
                let mut command = python();
                command.args([&format!("{SOURCES}/python/confluent.py"), bootstrap]);
                Box::new(Worker::start(self.name(), &mut command)?)
            }
            Kind::Python => {
                let mut command = python();
                command.args([&format!("{SOURCES}/python/pure.py"), bootstrap]);
                let worker = Worker::start(self.name(), &mut command)?;
                Box::new(worker.without_some_nulls())
            }
        })
    }
}

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The Java client in a process of its own.
pub fn java_worker(bootstrap: &str) -> Result<Worker> {
    let mut command = kafka::java()?;
    command.args([&format!("{SOURCES}/java/Worker.java"), bootstrap]);
    Worker::start(Kind::Java.name(), &mut command)
}

fn python() -> Command {
    let mut command = Command::new(kafka::cache().join("python/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// One configuration of the broker, started when the first case needs it.
pub struct Stage {
    setup: Setup,
    broker: Option<Broker>,
    clients: BTreeMap<Kind, Box<dyn Client>>,
    /// What the cases left in partition 0 of their topics, for the reading after a restart.
    pub kept: BTreeMap<String, Vec<Seen>>,
    topics: usize,
}

impl Stage {
    /// A stage that is not started yet.
    pub fn new(overrides: &[(&str, &str)]) -> Result<Stage> {
        Ok(Stage {
            setup: Setup::new(overrides)?,
            broker: None,
            clients: BTreeMap::new(),
            kept: BTreeMap::new(),
            topics: 0,
        })
    }

    /// How the broker was set up.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Starts the broker unless it runs.
    pub fn start(&mut self) -> Result<()> {
        if self.broker.is_none() {
            self.broker = Some(self.setup.start()?);
        }
        Ok(())
    }

    /// Stops the broker cleanly, the clients before it.
    pub fn stop(&mut self) -> Result<()> {
        self.clients.clear();
        self.broker
            .take()
            .context("the broker does not run")?
            .stop()
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        self.setup.address().to_string()
    }

    /// The crate's client, for what a case needs beside the client under test.
    pub fn librdkafka(&self) -> Librdkafka {
        Librdkafka::new(&self.bootstrap())
    }

    /// One client, started at its first use.
    pub fn client(&mut self, kind: Kind) -> Result<&mut dyn Client> {
        let bootstrap = self.bootstrap();
        Ok(match self.clients.entry(kind) {
            Entry::Occupied(there) => there.into_mut().as_mut(),
            Entry::Vacant(free) => free.insert(kind.start(&bootstrap)?).as_mut(),
        })
    }

    /// Creates a topic of a name that no other case uses.
    pub fn topic(
        &mut self,
        hint: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<String> {
        self.topics += 1;
        let name = format!("{hint}-{}", self.topics);
        self.librdkafka().create(&name, partitions, config)?;
        Ok(name)
    }

    /// After a failed case: what the broker wrote last; a broker that died is started again, so
    /// that one failure does not look like many.
    pub fn after_failure(&mut self) -> String {
        let Some(broker) = &mut self.broker else {
            return "the broker does not run".to_owned();
        };
        let tail = broker.log_tail();
        if !broker.runs() {
            self.broker = None;
        }
        self.clients.clear();
        tail
    }
}

/// Compares what a client showed with what it had to show, naming the first difference.
pub fn compare(reader: Kind, topic: &str, seen: &[Seen], expected: &[Seen]) -> Result<()> {
    for (seen, expected) in seen.iter().zip(expected) {
        ensure!(
            seen == expected,
            "{} reads {topic} wrong:\n  expected {expected:?}\n  seen     {seen:?}",
            reader.name()
        );
    }
    ensure!(
        seen.len() == expected.len(),
        "{} read {} records of {topic}, not {}",
        reader.name(),
        seen.len(),
        expected.len()
    );
    Ok(())
}
