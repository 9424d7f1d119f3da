//! Options and sockets.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;
use nix::unistd::{Pid, getppid};

/// What to serve, and where.
pub struct Options {
    pub what: String,
    pub listen: SocketAddr,
    pub file: PathBuf,
    pub core: Option<usize>,
    pub flush: bool,
    pub memory: bool,
    /// Of the file that is written around and around.
    pub ring_bytes: usize,
    /// The process that starts this one: it ends with it.
    pub ends_with: Option<i32>,
    /// Congestion control of accepted connections; none: the system's.
    pub congestion: Option<String>,
}

impl Options {
    /// None without a subcommand.
    pub fn from_args() -> Result<Option<Options>, String> {
        let mut options = Options {
            what: String::new(),
            listen: "127.0.0.1:0".parse().map_err(|_| "no loopback")?,
            file: std::env::temp_dir().join("corelane-floor"),
            core: None,
            flush: true,
            memory: false,
            ring_bytes: 256 << 20,
            ends_with: None,
            congestion: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "ingest" | "kafka" | "read" | "echo" => options.what = arg,
                "--listen" => options.listen = value()?.parse().map_err(|e| format!("{e}"))?,
                "--file" => options.file = value()?.into(),
                "--core" => options.core = Some(value()?.parse().map_err(|e| format!("{e}"))?),
                "--no-flush" => options.flush = false,
                "--memory" => options.memory = true,
                "--congestion" => options.congestion = Some(value()?),
                "--ring-bytes" => {
                    options.ring_bytes = value()?.parse().map_err(|e| format!("{e}"))?;
                }
                "--ends-with" => {
                    options.ends_with = Some(value()?.parse().map_err(|e| format!("{e}"))?);
                }
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok((!options.what.is_empty()).then_some(options))
    }

    pub fn is_kafka(&self) -> bool {
        self.what == "kafka"
    }
}

/// A listener whose connections use the congestion control that was asked for.
pub fn listen(options: &Options) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(options.listen)?;
    if let Some(name) = &options.congestion {
        // connections inherit it from their listener
        setsockopt(&listener, TcpCongestion, &OsString::from(name))?;
    }
    Ok(listener)
}

/// Keeps this thread, and those that it starts, on a core.
pub fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Lets the kernel kill this process when the thread that started it ends.
pub fn end_with(parent: i32) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // it may have ended before
    match getppid().as_raw() == parent {
        true => Ok(()),
        false => Err(io::Error::other("it is no more")),
    }
}

/// Tells whoever started us, with what this was built from: they refuse one of another build.
pub fn ready(addr: SocketAddr) -> io::Result<()> {
    let (sources, build) = (env!("FLOOR_SUM"), env!("BUILT_AS"));
    println!("ready {addr} {sources} {build}");
    io::stdout().flush()
}

/// The last error as a result, or the number.
pub fn check(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
