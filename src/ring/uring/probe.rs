//! Whether this machine lets us use io_uring, and what to do if not.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::driver::UringOptions;

/// The oldest kernel that has all we ask of a ring (DEFER_TASKRUN).
pub const OLDEST: (u32, u32) = (6, 1);
/// Since then the kernel counts a ring's pages against RLIMIT_MEMLOCK again, which 5.12 had left to cgroups.
pub const COUNTS_LOCKED: (u32, u32) = (6, 14);

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// DEFER_TASKRUN and what belongs to it is missing.
    #[error("Linux {found} is too old: Corelane needs 6.1 or newer (io_uring with DEFER_TASKRUN)")]
    OldKernel {
        /// What is running.
        found: String,
    },
    /// The sysctl says no.
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled is {value}. \
         Allow it with `sysctl -w kernel.io_uring_disabled=0` (as root; keep it in /etc/sysctl.d/)"
    )]
    Disabled {
        /// 1: only for privileged processes; 2: for nobody.
        value: String,
    },
    /// Something between us and the kernel says no.
    #[error(
        "io_uring is not permitted here although the kernel allows it: most likely the container's seccomp profile, \
         as Docker's default one. Start the container with `--security-opt seccomp=tuning/seccomp.json` (a file of \
         Corelane's sources), or with another profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    NotPermitted,
    /// The kernel was built without it.
    #[error("this kernel has no io_uring (built without CONFIG_IO_URING)")]
    Missing,
    /// RLIMIT_MEMLOCK.
    #[error(
        "not enough memory may be locked for a ring: raise the limit with `ulimit -l unlimited`, \
         LimitMEMLOCK=infinity (systemd) or `--ulimit memlock=-1` (Docker)"
    )]
    Memlock,
    /// RLIMIT_NOFILE.
    #[error(
        "no file descriptor is left for a ring: raise the limit with `ulimit -n 100000`, \
         LimitNOFILE=100000 (systemd) or `--ulimit nofile=100000` (Docker)"
    )]
    NoFile,
    /// An operation that we need is not there.
    #[error("this kernel's io_uring lacks the operation {0}")]
    Operation(&'static str),
    /// Anything else.
    #[error("io_uring could not be set up: {0}")]
    Other(#[source] io::Error),
}

/// Bytes of pages that the kernel allocates for a shard's ring: 64 and an index of 4 for an entry, 16 for
/// a completion. Source: `rings_size()` of io_uring/io_uring.c.
pub fn locked_bytes() -> u64 {
    const PAGE: u64 = 4096;
    const HEAD: u64 = 128;
    let options = UringOptions::default();
    let (entries, completions) = (u64::from(options.entries), u64::from(options.completions));
    let rings = HEAD + completions * 16 + entries * 4;
    rings.next_multiple_of(PAGE) + (entries * 64).next_multiple_of(PAGE)
}

/// Sets up a ring as a shard would, and drops it again.
pub fn probe() -> Result<(), ProbeError> {
    let options = UringOptions::default();
    let ring = build(options.entries, options.completions)?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(ProbeError::Other)?;
    for (code, name) in [
        (opcode::Accept::CODE, "accept"),
        (opcode::Connect::CODE, "connect"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Read::CODE, "read"),
        (opcode::Write::CODE, "write"),
        (opcode::Writev::CODE, "writev"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::Fallocate::CODE, "fallocate"),
        (opcode::Splice::CODE, "splice"),
        (opcode::Fadvise::CODE, "fadvise"),
        (opcode::Madvise::CODE, "madvise"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ] {
        if !probe.is_supported(code) {
            return Err(ProbeError::Operation(name));
        }
    }
    Ok(())
}

/// A ring as every shard uses it.
pub(super) fn build(entries: u32, completions: u32) -> Result<IoUring, ProbeError> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(entries)
        .map_err(explain)
}

fn explain(error: io::Error) -> ProbeError {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    explain_with(error, release.trim(), sysctl.trim())
}

fn explain_with(error: io::Error, release: &str, sysctl: &str) -> ProbeError {
    if version(release).is_some_and(|version| version < OLDEST) {
        return ProbeError::OldKernel {
            found: release.to_owned(),
        };
    }
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if matches!(sysctl, "1" | "2") => ProbeError::Disabled {
            value: sysctl.to_owned(),
        },
        Some(libc::EPERM | libc::EACCES) => ProbeError::NotPermitted,
        // Some seccomp profiles answer ENOSYS; a kernel with the sysctl has io_uring.
        Some(libc::ENOSYS) if !sysctl.is_empty() => ProbeError::NotPermitted,
        Some(libc::ENOSYS) => ProbeError::Missing,
        Some(libc::ENOMEM) => ProbeError::Memlock,
        Some(libc::EMFILE | libc::ENFILE) => ProbeError::NoFile,
        _ => ProbeError::Other(error),
    }
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(errno: i32, release: &str, sysctl: &str) -> String {
        explain_with(io::Error::from_raw_os_error(errno), release, sysctl).to_string()
    }

    #[test]
    fn every_refusal_names_its_cause_and_the_way_out() {
        assert!(explained(libc::EINVAL, "5.15.0-91-generic", "").contains("6.1 or newer"));
        assert!(explained(libc::EPERM, "6.8.0", "2").contains("sysctl -w"));
        assert!(explained(libc::EPERM, "6.8.0", "0").contains("seccomp"));
        assert!(explained(libc::ENOSYS, "6.8.0", "0").contains("seccomp"));
        assert!(explained(libc::ENOSYS, "6.1.0", "").contains("CONFIG_IO_URING"));
        assert!(explained(libc::ENOMEM, "6.1.0", "0").contains("ulimit -l"));
        assert!(explained(libc::EMFILE, "6.1.0", "0").contains("ulimit -n"));
    }
}
