//! What a process asks of the system once: file descriptors and signals.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::driver::{Descriptor, Op};
use super::executor::Ring;

/// Raises the soft limit of open files (RLIMIT_NOFILE) as far as the hard one allows, at most to `wanted`;
/// answers what holds now.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let target = wanted.min(hard).max(soft);
    if target > soft {
        setrlimit(Resource::RLIMIT_NOFILE, target, hard)?;
    }
    Ok(target)
}

/// Blocks signals in this thread and in all that it starts later, so that only [`Signals`] sees
/// them. Call it before any thread is started.
pub fn block_signals(signals: &[Signal]) -> io::Result<()> {
    set(signals).thread_block()?;
    Ok(())
}

fn set(signals: &[Signal]) -> SigSet {
    let mut set = SigSet::empty();
    for &signal in signals {
        set.add(signal);
    }
    set
}

/// Signals of the process as a stream, one after the other. Real driver only.
pub struct Signals {
    ring: Ring,
    descriptor: Descriptor,
}

impl Signals {
    /// Listens for signals that [`block_signals`] blocked.
    pub fn new(ring: &Ring, signals: &[Signal]) -> io::Result<Signals> {
        let set = set(signals);
        // SAFETY: a valid set; the descriptor is fresh.
        let fd =
            unsafe { libc::signalfd(-1, set.as_ref(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Signals {
            ring: ring.clone(),
            descriptor: ring.driver().adopt(fd.into_raw_fd()),
        })
    }

    /// Waits for the next signal.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
            // SAFETY: the kernel fills whole records only, into memory of that size.
            let n = unsafe {
                libc::read(
                    self.descriptor.raw(),
                    info.as_mut_ptr().cast(),
                    size_of::<libc::signalfd_siginfo>(),
                )
            };
            if n == size_of::<libc::signalfd_siginfo>() as isize {
                // SAFETY: just filled.
                let number = unsafe { info.assume_init() }.ssi_signo;
                return Ok(Signal::try_from(number as i32)?);
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
            let socket = self.descriptor.clone();
            self.ring.op(Op::Readable { socket }).await.0?;
        }
    }
}
