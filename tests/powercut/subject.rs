//! The broker under test: how it is prepared, started and stopped, whichever it is.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::ground;
use crate::support::broker::Broker;
use crate::support::kafka;
use crate::support::ports;
use crate::support::process::run_ok;
use corelane::ring::sim::Rng;

/// From the start of a broker to its first answer; a slow machine must not look like a refusal.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The longest preparation.
const PREPARE_LIMIT: Duration = Duration::from_secs(90);

/// A broker by its shell commands. In them `{dir}` is its data directory on the disk that is cut,
/// `{home}` a directory that no cut touches, `{port}` where clients come, `{spare}` a second port.
#[derive(Clone)]
pub struct Subject {
    pub name: String,
    /// run once for each new disk
    prepare: Option<String>,
    start: String,
    /// added to `start`: one of each list, drawn for each start
    variants: Vec<Vec<&'static str>>,
    /// asks for a clean stop
    stop: Signal,
    /// a finding is a failure, not a figure
    pub strict: bool,
}

/// Where a broker runs.
pub struct Place {
    dir: PathBuf,
    home: PathBuf,
    port: u16,
    spare: u16,
}

/// A broker that runs.
pub struct Running {
    broker: Broker,
    stop: Signal,
}

impl Subject {
    /// What the environment asks for: a name of `CORELANE_POWERCUT_BROKER`, or the commands of
    /// `CORELANE_POWERCUT_START` and its companions.
    pub fn from_environment() -> Result<Subject> {
        if let Ok(start) = env::var("CORELANE_POWERCUT_START") {
            let stop = env::var("CORELANE_POWERCUT_STOP").unwrap_or("SIGTERM".to_owned());
            return Ok(Subject {
                name: "custom".to_owned(),
                prepare: env::var("CORELANE_POWERCUT_PREPARE").ok(),
                start,
                variants: Vec::new(),
                stop: stop.parse().with_context(|| format!("signal {stop}"))?,
                strict: false,
            });
        }
        match env::var("CORELANE_POWERCUT_BROKER").as_deref() {
            Err(_) | Ok("corelane") => Ok(Subject::corelane("group")),
            Ok("corelane-interval") => Ok(Subject::corelane("interval").counting()),
            Ok("kafka") => Subject::kafka("kafka", ""),
            Ok("kafka-flush") => Subject::kafka("kafka-flush", "log.flush.interval.messages=1\n"),
            Ok(other) => bail!(
                "CORELANE_POWERCUT_BROKER={other}: it takes corelane, corelane-interval, kafka or \
                 kafka-flush"
            ),
        }
    }

    /// The built binary with a flush policy.
    pub fn corelane(policy: &str) -> Subject {
        let binary = env!("CARGO_BIN_EXE_corelane");
        Subject {
            name: format!("corelane, flush.policy={policy}"),
            prepare: None,
            start: format!(
                "exec '{binary}' serve --override listeners=PLAINTEXT://127.0.0.1:{{port}} \
                 --override log.dirs={{dir}} --override corelane.flush.policy={policy} \
                 --override corelane.memory.bytes=128MiB"
            ),
            variants: vec![
                vec!["corelane.cores=1", "corelane.cores=2"],
                // segments that end while the load runs, and such that do not
                vec!["log.segment.bytes=1048576", "log.segment.bytes=1073741824"],
                // a ring that the load laps again and again, and one that it does not
                vec![
                    "corelane.journal.size=1048576",
                    "corelane.journal.size=auto",
                ],
            ],
            stop: Signal::SIGTERM,
            strict: true,
        }
    }

    /// The same, with findings counted.
    pub fn counting(self) -> Subject {
        Subject {
            strict: false,
            ..self
        }
    }

    /// Apache Kafka from its jars with a line of configuration, else as it comes.
    fn kafka(name: &str, more: &str) -> Result<Subject> {
        let jars = kafka::class_path()?;
        let properties = kafka::properties("127.0.0.1:{port}", "127.0.0.1:{spare}", "{dir}");
        let id = kafka::CLUSTER_ID;
        Ok(Subject {
            name: name.to_owned(),
            prepare: Some(format!(
                "cat >{{home}}/server.properties <<'END'\n{properties}{more}END\n\
                 java -cp '{jars}' kafka.tools.StorageTool format -t {id} \
                 -c {{home}}/server.properties"
            )),
            start: format!(
                "exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{jars}' kafka.Kafka {{home}}/server.properties"
            ),
            variants: Vec::new(),
            stop: Signal::SIGTERM,
            strict: false,
        })
    }

    /// Makes what the broker needs on a new disk.
    pub fn prepare(&self, place: &Place) -> Result<()> {
        std::fs::create_dir_all(&place.dir)?;
        if let Some(prepare) = &self.prepare {
            run_ok(&mut shell(&place.fill(prepare)), b"", PREPARE_LIMIT)?;
        }
        Ok(())
    }

    /// Starts it and waits until it answers.
    pub fn start(&self, place: &Place, random: &mut Rng) -> Result<Running> {
        let mut start = place.fill(&self.start);
        for variants in &self.variants {
            let variant = variants[random.below(variants.len() as u64) as usize];
            start = format!("{start} --override {variant}");
        }
        let log = place.home.join("broker.log");
        // one start's words are what a failure is told from
        let _ = std::fs::remove_file(&log);
        ground::check_interrupt()?;
        let broker = Broker::spawn(shell(&start), place.address(), log)?;
        ground::BROKER.store(broker.id() as i32, Ordering::SeqCst);
        let mut running = Running {
            broker,
            stop: self.stop,
        };
        running.broker.wait_for_an_answer(START_LIMIT)?;
        Ok(running)
    }
}

/// A shell that ends with this process, however that ends.
fn shell(script: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", script]);
    command
}

impl Place {
    /// A broker with its data under `volume` and all else under `home`.
    pub fn new(volume: &Path, home: &Path) -> Result<Place> {
        Ok(Place {
            dir: volume.join("data"),
            home: home.to_owned(),
            port: ports::free(1)?,
            spare: ports::free(1)?,
        })
    }

    /// Where clients come.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn fill(&self, command: &str) -> String {
        command
            .replace("{dir}", &self.dir.display().to_string())
            .replace("{home}", &self.home.display().to_string())
            .replace("{port}", &self.port.to_string())
            .replace("{spare}", &self.spare.to_string())
    }
}

impl Running {
    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.broker.runs()
    }

    /// The last lines that it wrote.
    pub fn log_tail(&self) -> String {
        self.broker.log_tail()
    }

    /// Ends it cleanly, or by SIGKILL.
    pub fn end(self, cleanly: bool) -> Result<()> {
        // no other process has this id until it is reaped, and nobody is told of it after
        let ended = if cleanly {
            self.broker.stop_by(self.stop)
        } else {
            self.broker.kill()
        };
        ground::BROKER.store(0, Ordering::SeqCst);
        ended
    }
}
