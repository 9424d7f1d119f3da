//! A broker as a child process: the built Corelane, or Apache Kafka in its place, which shows that
//! a test asks for Kafka's behaviour and not for ours.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::kafka;
use super::ports;
use super::process::{Guard, reap};
use super::wait;

/// From the start of the process to its first answer.
const START_LIMIT: Duration = Duration::from_secs(40);
/// From SIGTERM to the end of the process.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Set to keep every broker's data and log after the test.
const KEEP_VARIABLE: &str = "CORELANE_TEST_KEEP";
/// Set to `kafka` to run a suite against Apache Kafka.
const BROKER_VARIABLE: &str = "CORELANE_TEST_BROKER";

/// Whether the suites run against Apache Kafka.
pub fn is_kafka() -> bool {
    std::env::var(BROKER_VARIABLE).is_ok_and(|v| v == "kafka")
}

/// How a broker is started: its configuration and where it keeps its data.
pub struct Setup {
    home: TempDir,
    address: SocketAddr,
    overrides: Vec<(String, String)>,
    open_files: Option<u32>,
    env: Vec<(String, String)>,
    kafka: bool,
}

/// A broker that runs. It is killed when this value goes.
pub struct Broker {
    process: Guard,
    address: SocketAddr,
    log: PathBuf,
}

impl Setup {
    /// A broker on a free port with an empty data directory.
    pub fn new(overrides: &[(&str, &str)]) -> Result<Setup> {
        let overrides = overrides
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let mut home = tempfile::Builder::new()
            .prefix("corelane-test-")
            .tempdir()?;
        home.disable_cleanup(std::env::var_os(KEEP_VARIABLE).is_some());
        Ok(Setup {
            home,
            address: SocketAddr::from(([127, 0, 0, 1], ports::free(1)?)),
            overrides,
            open_files: None,
            env: Vec::new(),
            kafka: is_kafka(),
        })
    }

    /// Changes one property for the starts to come.
    pub fn set(&mut self, key: &str, value: &str) {
        self.overrides.retain(|(k, _)| k != key);
        self.overrides.push((key.to_string(), value.to_string()));
    }

    /// Gives the process an environment variable in the starts to come.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Files that the process may open at once in the starts to come.
    pub fn limit_open_files(&mut self, limit: u32) {
        self.open_files = Some(limit);
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of the partitions.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// What the broker writes, over all its starts.
    pub fn log(&self) -> PathBuf {
        self.home.path().join("broker.log")
    }

    /// Keeps the data and the broker's log for a look after a failure; answers where they are.
    pub fn keep(mut self) -> PathBuf {
        self.home.disable_cleanup(true);
        self.home.path().to_owned()
    }

    /// Starts the process; it may not answer yet.
    pub fn spawn(&self) -> Result<Broker> {
        let mut command = if self.kafka {
            kafka::server(self.home.path(), self.address)?
        } else {
            let binary = env!("CARGO_BIN_EXE_corelane");
            let mut command = match self.open_files {
                None => Command::new(binary),
                Some(limit) => {
                    let mut shell = Command::new("sh");
                    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
                    shell.args(["-c", &script, binary]);
                    shell
                }
            };
            let data = self.data();
            command
                .arg("serve")
                .args([
                    "--override",
                    &format!("listeners=PLAINTEXT://{}", self.address),
                ])
                .args(["--override", &format!("log.dirs={}", data.display())]);
            for (key, value) in &self.overrides {
                command.arg("--override").arg(format!("{key}={value}"));
            }
            command
        };
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Broker::spawn(command, self.address, self.log())
    }

    /// Starts the process and waits until it answers.
    pub fn start(&self) -> Result<Broker> {
        let mut broker = self.spawn()?;
        broker.wait_until_it_answers()?;
        Ok(broker)
    }
}

impl Broker {
    /// Starts the process that will answer at an address; it may not yet. What it writes is added
    /// to the file `log`.
    pub fn spawn(mut command: Command, address: SocketAddr, log: PathBuf) -> Result<Broker> {
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Broker {
            process: Guard(child),
            address,
            log,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whether the process runs still.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(None))
    }

    /// Waits until a request is answered.
    pub fn wait_until_it_answers(&mut self) -> Result<()> {
        self.wait_for_an_answer(START_LIMIT)
    }

    /// The same, with a limit.
    pub fn wait_for_an_answer(&mut self, limit: Duration) -> Result<()> {
        let ready = wait::until(limit, "the broker to answer", || {
            if let Some(status) = self.process.0.try_wait()? {
                bail!("the broker ended with {status}");
            }
            Ok(answers(self.address).then_some(()))
        });
        ready.with_context(|| self.log_tail())
    }

    /// Ends it with SIGKILL, as a crash of the process would.
    pub fn kill(mut self) -> Result<()> {
        let ended = self.process.0.try_wait()?;
        if let Some(status) = ended {
            bail!(
                "the broker had ended by itself with {status}: {}",
                self.log_tail()
            );
        }
        self.process.0.kill()?;
        reap(&mut self.process.0, STOP_LIMIT, "the killed broker")?;
        Ok(())
    }

    /// Stops it with SIGSTOP: it keeps what it has, sockets too, and does nothing.
    pub fn freeze(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    /// Lets it go on after [`Broker::freeze`].
    pub fn thaw(&self) -> Result<()> {
        Ok(kill(self.pid(), Signal::SIGCONT)?)
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.0.id() as i32)
    }

    /// Ends it with SIGTERM; how it ended, and its last lines.
    pub fn terminate(mut self) -> Result<(ExitStatus, String)> {
        let status = self.wait_after(Signal::SIGTERM)?;
        Ok((status, self.log_tail()))
    }

    fn wait_after(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(self.pid(), signal)?;
        let status = reap(&mut self.process.0, STOP_LIMIT, "the broker after a signal");
        status.with_context(|| self.log_tail())
    }

    /// Ends it with SIGTERM and waits for the clean stop.
    pub fn stop(self) -> Result<()> {
        self.stop_by(Signal::SIGTERM)
    }

    /// Ends it with a signal and waits for the clean stop.
    pub fn stop_by(mut self, signal: Signal) -> Result<()> {
        let status = self.wait_after(signal)?;
        let number = signal as i32;
        // a JVM reports the signal that it handled
        let clean = status.success()
            || status.code() == Some(128 + number)
            || status.signal() == Some(number);
        ensure!(clean, "the broker ended with {status}: {}", self.log_tail());
        Ok(())
    }

    /// The last lines that the broker wrote, for the message of a failure.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("the broker's last lines:\n{tail}\n")
    }

    /// All that the broker wrote.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Resident memory in bytes, from the kernel.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/statm", self.process.0.id());
        let text = fs::read_to_string(Path::new(&path))?;
        let pages = text.split(' ').nth(1).context("statm has fields")?;
        Ok(pages.parse::<u64>()? * 4096)
    }
}

/// Whether an ApiVersions request of version 0 is answered.
fn answers(address: SocketAddr) -> bool {
    // size, key 18, version 0, correlation id 7, null client id
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let ask = || -> std::io::Result<[u8; 8]> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(&REQUEST)?;
        let mut head = [0; 8];
        socket.read_exact(&mut head)?;
        Ok(head)
    };
    ask().is_ok_and(|head| head[4..] == REQUEST[8..12])
}
