//! Starts what is measured: the built broker, or a floor program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::rig::{machine, ports};

/// A start takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a floor program's first line: its sources and how it was built, which must be those
/// of whoever starts it.
const FLOOR_BUILD: &str = concat!(env!("FLOOR_SUM"), " ", env!("BUILT_AS"));
/// Of what a server said an error tells so much.
const TOLD_LINES: usize = 3;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it says goes to this file.
    said: PathBuf,
    /// From the start of the process to the first answered request.
    pub ready_after: Duration,
}

/// How a broker is started.
#[derive(Clone)]
pub struct BrokerSetup {
    /// The binary.
    pub program: PathBuf,
    /// Its log directory.
    pub data: PathBuf,
    /// As `--cores` of `corelane serve`.
    pub cores: String,
    /// Properties, as in `key=value`.
    pub overrides: Vec<String>,
    /// By whoever runs the benchmark: they win over those of a row.
    pub asked: Vec<String>,
    /// Of the load, which starts it.
    pub load_core: usize,
    /// It is killed when the thread that starts it ends, however it does.
    pub ends_with_parent: bool,
}

impl BrokerSetup {
    /// One core, default settings.
    pub fn new(program: &Path, data: &Path) -> BrokerSetup {
        BrokerSetup {
            program: program.to_path_buf(),
            data: data.to_path_buf(),
            cores: "0-0".into(),
            overrides: Vec::new(),
            asked: Vec::new(),
            load_core: machine::LOAD_CORE,
            ends_with_parent: false,
        }
    }

    /// With a property, as in `key=value`.
    pub fn set(mut self, setting: &str) -> BrokerSetup {
        self.overrides.push(setting.into());
        self
    }

    /// On these cores.
    pub fn cores(mut self, cores: &str) -> BrokerSetup {
        self.cores = cores.into();
        self
    }
}

/// A port that is free now.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], ports::free(1)?)))
}

impl Server {
    /// Starts the broker and waits until it answers ApiVersions.
    pub fn broker(setup: &BrokerSetup) -> anyhow::Result<Server> {
        Server::broker_at(setup, free_port()?)
    }

    /// The same, where one has been that clients come back to.
    pub fn broker_at(setup: &BrokerSetup, addr: SocketAddr) -> anyhow::Result<Server> {
        let mut command = Command::new(&setup.program);
        command.args([
            "serve",
            "--listen",
            &addr.to_string(),
            "--cores",
            &setup.cores,
        ]);
        command.arg("--data").arg(&setup.data);
        if setup.ends_with_parent {
            command.args(["--ends-with", &std::process::id().to_string()]);
        }
        for o in setup.overrides.iter().chain(&setup.asked) {
            command.args(["--override", o]);
        }
        let began = Instant::now();
        let (said, log) = log(beside(&setup.data), addr)?;
        command.stdout(Stdio::null()).stderr(log);
        let child = machine::unpinned(setup.load_core, || command.spawn());
        let mut server = Server {
            child: child.with_context(|| format!("can't start {}", setup.program.display()))?,
            addr,
            said,
            ready_after: Duration::ZERO,
        };
        server.wait_ready(began)?;
        Ok(server)
    }

    /// Starts the program of `benches/floor` with these arguments and waits until it listens. Its
    /// log is in `scratch`. It ends with the thread that starts it.
    pub fn floor(program: &Path, args: &[&str], scratch: &Path) -> anyhow::Result<Server> {
        let addr = free_port()?;
        let (said, log) = log(scratch, addr)?;
        let mut child = Command::new(program)
            .args(args)
            .args(["--listen", &addr.to_string()])
            .args(["--ends-with", &std::process::id().to_string()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        let out = child.stdout.take();
        let server = Server {
            child,
            addr,
            said,
            ready_after: Duration::ZERO,
        };
        let line = match out {
            Some(out) => first_line(out)?,
            None => String::new(),
        };
        ensure!(
            line.starts_with("ready"),
            "the floor program does not start: {}",
            server.told()
        );
        ensure!(
            line.trim_end().ends_with(FLOOR_BUILD),
            "{} is not of this build: build both (cargo build --release --bins)",
            program.display()
        );
        Ok(server)
    }

    fn wait_ready(&mut self, began: Instant) -> anyhow::Result<()> {
        // ApiVersions 0, no client id
        let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        loop {
            let attempt = TcpStream::connect(self.addr).and_then(|mut s| {
                s.set_read_timeout(Some(PATIENCE))?;
                s.write_all(&request)?;
                let mut answer = [0u8; 4];
                s.read_exact(&mut answer)
            });
            if attempt.is_ok() {
                self.ready_after = began.elapsed();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the broker ended with {status}: {}", self.told());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "the broker does not answer within {PATIENCE:?}: {}",
                self.told()
            );
            std::thread::yield_now();
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for the end; how long that took.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        self.terminate()
    }

    fn terminate(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "a clean stop ends with 0, not {status}: {}",
            self.told()
        );
        Ok(began.elapsed())
    }

    /// SIGTERM; the sum over the shards of a counter that they name as they stop.
    pub fn stop_and_count(mut self, counter: &str) -> anyhow::Result<u64> {
        self.terminate()?;
        let text = fs::read_to_string(&self.said)?;
        let named = format!("{counter}=");
        let mut sum = 0;
        for word in text.split_whitespace() {
            if let Some(count) = word.strip_prefix(&named) {
                sum += count.parse::<u64>().with_context(|| word.to_owned())?;
            }
        }
        Ok(sum)
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }

    /// The last of what it said.
    pub fn told(&self) -> String {
        let text = fs::read_to_string(&self.said).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TOLD_LINES)..].join("; ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.said);
    }
}

/// What a server says goes to a new file, whose end errors tell.
fn log(dir: &Path, addr: SocketAddr) -> anyhow::Result<(PathBuf, File)> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(format!("corelane-said-{}.log", addr.port()));
    // of a server before, whose port this is now
    let _ = fs::remove_file(&path);
    let file = File::create_new(&path).with_context(|| path.display().to_string())?;
    Ok((path, file))
}

/// The directory that a path is in.
fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A line from a program that is given [`PATIENCE`] to say it.
fn first_line(out: ChildStdout) -> anyhow::Result<String> {
    let mut waits = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    ensure!(
        poll(&mut waits, patience)? > 0,
        "the floor program says nothing within {PATIENCE:?}"
    );
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok(line)
}
