//! Starts what is measured: the built broker, or a floor program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine;

#[path = "../../tests/support/ports.rs"]
mod ports;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// What it says goes to this file.
    said: PathBuf,
    /// From the start of the process to the first answered request.
    pub ready_after: Duration,
}

/// How a broker is started.
#[derive(Clone)]
pub struct BrokerSetup {
    pub data: PathBuf,
    pub cores: String,
    pub overrides: Vec<String>,
    /// By whoever runs the benchmark: they win over those of a row.
    pub asked: Vec<String>,
}

impl BrokerSetup {
    /// One core, default settings.
    pub fn new(data: &Path) -> BrokerSetup {
        BrokerSetup {
            data: data.to_path_buf(),
            cores: "0-0".into(),
            overrides: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub fn set(mut self, setting: &str) -> BrokerSetup {
        self.overrides.push(setting.into());
        self
    }

    pub fn cores(mut self, cores: &str) -> BrokerSetup {
        self.cores = cores.into();
        self
    }
}

/// A port that is free now.
pub fn free_port() -> SocketAddr {
    let port = ports::free(1).expect("loopback has a free port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Server {
    /// Starts the broker and waits until it answers ApiVersions.
    pub fn broker(setup: &BrokerSetup) -> Server {
        Server::broker_at(setup, free_port())
    }

    /// The same, where one has been that clients come back to.
    pub fn broker_at(setup: &BrokerSetup, addr: SocketAddr) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args([
            "serve",
            "--listen",
            &addr.to_string(),
            "--cores",
            &setup.cores,
        ]);
        command.arg("--data").arg(&setup.data);
        for o in setup.overrides.iter().chain(&setup.asked) {
            command.args(["--override", o]);
        }
        let began = Instant::now();
        let (said, log) = log(addr);
        command.stdout(Stdio::null()).stderr(log);
        let child = machine::unpinned(|| command.spawn()).expect("the binary is built");
        let mut server = Server {
            child,
            addr,
            said,
            ready_after: Duration::ZERO,
        };
        server.wait_ready(began);
        server
    }

    /// Starts a floor program of `benches/floor` with these arguments on a core.
    pub fn floor(args: &[&str]) -> Server {
        let addr = free_port();
        let (said, log) = log(addr);
        let mut child = Command::new(floor_binary())
            .args(args)
            .args(["--listen", &addr.to_string()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the floor is built: cargo bench --no-run");
        let out = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(out)
            .read_line(&mut line)
            .expect("the floor says that it is ready");
        assert!(line.contains("ready"), "the floor program said: {line}");
        Server {
            child,
            addr,
            said,
            ready_after: Duration::ZERO,
        }
    }

    fn wait_ready(&mut self, began: Instant) {
        // ApiVersions 0, no client id
        let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        loop {
            let attempt = TcpStream::connect(self.addr).and_then(|mut s| {
                s.set_read_timeout(Some(Duration::from_secs(60)))?;
                s.write_all(&request)?;
                let mut answer = [0u8; 4];
                s.read_exact(&mut answer)
            });
            if attempt.is_ok() {
                self.ready_after = began.elapsed();
                return;
            }
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!(
                    "the broker ended with {status}; see {}",
                    self.said.display()
                );
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no answer within a minute"
            );
            std::thread::yield_now();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> Duration {
        self.terminate()
    }

    fn terminate(&mut self) -> Duration {
        let began = Instant::now();
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("our own child");
        let status = self.child.wait().expect("our own child");
        assert!(status.success(), "a clean stop ends with 0, not {status}");
        began.elapsed()
    }

    /// SIGTERM; the sum over the shards of a counter that they name as they stop.
    pub fn stop_and_count(mut self, counter: &str) -> u64 {
        self.terminate();
        let text = std::fs::read_to_string(&self.said).unwrap_or_default();
        let named = format!("{counter}=");
        let counts = text.split_whitespace().filter_map(|word| {
            let count = word.strip_prefix(&named)?;
            Some(count.parse::<u64>().expect("a counter is a number"))
        });
        counts.sum()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.said);
        }
    }
}

fn log(addr: SocketAddr) -> (PathBuf, Stdio) {
    let name = format!("corelane-bench-{}.log", addr.port());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::create(&path);
    (path, file.map_or(Stdio::null(), Stdio::from))
}

/// Cargo puts benches beside each other; the newest build of the floor wins.
fn floor_binary() -> PathBuf {
    let me = std::env::current_exe().expect("we run");
    let dir = me.parent().expect("in a directory");
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .expect("our own directory")
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.starts_with("floor-") && !name.contains('.')
        })
        .collect();
    found.sort_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
    found
        .pop()
        .expect("build the floor first: cargo bench --no-run")
}
