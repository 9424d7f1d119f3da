//! Options and sockets.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

/// What to serve, and where.
pub struct Options {
    pub what: String,
    pub listen: SocketAddr,
    pub file: PathBuf,
    pub core: Option<usize>,
    pub flush: bool,
    pub memory: bool,
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
                // Cargo's own.
                "--bench" | "--test" => {}
                other => return Err(format!("{other} is not known")),
            }
        }
        Ok((!options.what.is_empty()).then_some(options))
    }
}

/// A listener whose connections use cubic.
pub fn listen(options: &Options) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(options.listen)?;
    cubic(listener.as_raw_fd())?;
    Ok(listener)
}

/// Cubic congestion control; connections inherit it from their listener.
pub fn cubic(fd: RawFd) -> io::Result<()> {
    let name = b"cubic";
    // SAFETY: the name lives through the call and has the length that is named.
    let failed = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
