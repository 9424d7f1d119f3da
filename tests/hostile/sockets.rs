//! What std's sockets cannot do: end with a reset, vanish without a word, be very many.

#![allow(unsafe_code)]

use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn set<T>(socket: &TcpStream, level: i32, name: i32, value: &T) -> std::io::Result<()> {
    // SAFETY: the option's value is one of its type, and lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Ends it with a reset at once.
pub fn reset(socket: TcpStream) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // one that was reset by the other end has ended too
    let _ = set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
}

/// Takes it away without a word to the other end, as a machine does that loses its power. Needs
/// CAP_NET_ADMIN (TCP_REPAIR, Linux 3.5).
pub fn vanish(socket: TcpStream) -> Result<()> {
    set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, &1i32)
        .context("TCP_REPAIR needs CAP_NET_ADMIN")
}

/// Whether [`vanish`] may be called here.
pub fn can_vanish() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    vanish(TcpStream::connect(listener.local_addr()?)?)
}

/// Lets this process open up to `most` files at once, or as many as it may, and at least `least`.
/// Answers how many.
pub fn allow_files(least: u64, most: u64) -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() {
        return Ok(most);
    }
    let files = most.min(hard).max(soft);
    setrlimit(Resource::RLIMIT_NOFILE, files, hard)?;
    ensure!(
        files >= least,
        "{least} open files are needed, {files} may be (ulimit -Hn)"
    );
    Ok(files)
}
