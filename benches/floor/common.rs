//! Options and sockets.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;
use nix::unistd::Pid;

/// What to serve, and where.
pub struct Options {
    pub what: String,
    pub listen: SocketAddr,
    pub file: PathBuf,
    pub core: Option<usize>,
    pub flush: bool,
    pub memory: bool,
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
            congestion: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "ingest" | "read" | "echo" => options.what = arg,
                "--listen" => options.listen = value()?.parse().map_err(|e| format!("{e}"))?,
                "--file" => options.file = value()?.into(),
                "--core" => options.core = Some(value()?.parse().map_err(|e| format!("{e}"))?),
                "--no-flush" => options.flush = false,
                "--memory" => options.memory = true,
                "--congestion" => options.congestion = Some(value()?),
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok((!options.what.is_empty()).then_some(options))
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

/// Tells whoever started us.
pub fn ready(addr: SocketAddr) -> io::Result<()> {
    println!("ready {addr}");
    io::stdout().flush()
}

/// The last error as a result, or the number.
pub fn check(n: isize) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
