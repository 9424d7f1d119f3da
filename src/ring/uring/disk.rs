//! Files and directories, as far as they are not the ring's.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::net::check;
use crate::base::limits::PAGE_BYTES;
use crate::ring::driver::{DirEntry, OpenOptions, Residency, Space};

/// cachestat(2), Linux 6.5. The number is the same on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

/// Opens; answers also whether the page cache is passed by.
pub(super) fn open(path: &Path, options: OpenOptions) -> io::Result<(OwnedFd, bool)> {
    let mut flags = 0;
    if options.directory {
        flags |= libc::O_DIRECTORY;
    }
    let fd: OwnedFd = fs::OpenOptions::new()
        .read(true)
        .write(options.write)
        .create(options.create)
        .create_new(options.create_new)
        .truncate(options.truncate)
        .mode(0o644)
        .custom_flags(flags)
        .open(path)?
        .into();
    if options.own_read_ahead {
        // SAFETY: a plain system call. Where the advice is not known the system reads ahead too.
        unsafe { libc::posix_fadvise(fd.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    }
    // Set afterwards: an open that refuses O_DIRECT may have made the file already.
    let direct = options.direct && set_direct(fd.as_raw_fd())?;
    Ok((fd, direct))
}

fn set_direct(fd: RawFd) -> io::Result<bool> {
    if !aligns_with_pages(fd) {
        return Ok(false);
    }
    // SAFETY: plain system calls.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        match check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_DIRECT)) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether direct IO by whole pages suits the file; true where the kernel does not say.
fn aligns_with_pages(fd: RawFd) -> bool {
    /// struct statx up to and with the fields of STATX_DIOALIGN (Linux 6.1), padded to its 256 bytes.
    #[repr(C)]
    struct Statx {
        mask: u32,
        before: [u8; 148],
        memory_align: u32,
        offset_align: u32,
        after: [u8; 96],
    }
    const { assert!(size_of::<Statx>() == 256) };
    const STATX_DIOALIGN: u32 = 0x2000;
    let mut answer = MaybeUninit::<Statx>::zeroed();
    // SAFETY: the answer has the size that the call fills; the path is an empty C string.
    let answer = unsafe {
        let failed = libc::syscall(
            libc::SYS_statx,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            STATX_DIOALIGN,
            answer.as_mut_ptr(),
        );
        if failed != 0 {
            return true;
        }
        answer.assume_init()
    };
    if answer.mask & STATX_DIOALIGN == 0 {
        return true;
    }
    let fits = |align: u32| align != 0 && (PAGE_BYTES as u32).is_multiple_of(align);
    fits(answer.memory_align) && fits(answer.offset_align)
}

pub(super) fn try_lock(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

pub(super) fn len(fd: RawFd) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the call fills what it is given; all zeros is valid besides.
    let stat = unsafe {
        check(libc::fstat(fd, stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(stat.st_size as u64)
}

pub(super) fn set_len(fd: RawFd, len: u64) -> io::Result<()> {
    let len = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain system call.
    check(unsafe { libc::ftruncate(fd, len) }).map(drop)
}

pub(super) fn read_now(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buf.len() {
        let rest = &mut buf[read..];
        let at = (offset + read as u64) as i64;
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::pread(fd, rest.as_mut_ptr().cast(), rest.len(), at) };
        match usize::try_from(n) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(_) => retry_interrupted()?,
        }
    }
    Ok(read)
}

/// What the page cache has at once; `None` if that is not all, and not because the file ends.
pub(super) fn read_cached(fd: RawFd, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let part = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: the one part is the slice, which is valid for its length.
    let n = unsafe { libc::preadv2(fd, &raw const part, 1, offset as i64, libc::RWF_NOWAIT) };
    match usize::try_from(n) {
        Ok(n) => Ok((n == buf.len()).then_some(n)),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // a file system that cannot tell
            error if error.kind() == io::ErrorKind::Unsupported => Ok(None),
            error => Err(error),
        },
    }
}

pub(super) fn write_now(fd: RawFd, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let at = (offset + written as u64) as i64;
        // SAFETY: the slice is valid for its length.
        let n = unsafe { libc::pwrite(fd, rest.as_ptr().cast(), rest.len(), at) };
        match usize::try_from(n) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(_) => retry_interrupted()?,
        }
    }
    Ok(())
}

fn retry_interrupted() -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

#[repr(C)]
struct CacheRange {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `missing` remembers that the kernel has no cachestat.
pub(super) fn residency(fd: RawFd, offset: u64, len: u64, missing: &Cell<bool>) -> Residency {
    if missing.get() || len == 0 {
        return Residency::Cold;
    }
    let range = CacheRange { offset, len };
    let mut stat = CacheStat::default();
    // SAFETY: both structs have the kernel's layout and live through the call.
    let failed = unsafe { libc::syscall(SYS_CACHESTAT, fd, &raw const range, &raw mut stat, 0) };
    if failed != 0 {
        if io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            missing.set(true);
        }
        return Residency::Cold;
    }
    let page = PAGE_BYTES as u64;
    let pages = (offset + len).div_ceil(page) - offset / page;
    if stat.cached >= pages {
        Residency::Resident
    } else {
        Residency::Cold
    }
}

pub(super) fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // It went away while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: metadata.is_dir(),
            len: metadata.len(),
        });
    }
    entries.sort();
    Ok(entries)
}

pub(super) fn sync_fs(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain system call.
    check(unsafe { libc::syncfs(fd) }).map(drop)
}

pub(super) fn space(path: &Path) -> io::Result<Space> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the call fills what it is given; all zeros is valid besides.
    let answer = unsafe {
        check(libc::statvfs(path.as_ptr(), answer.as_mut_ptr()))?;
        answer.assume_init()
    };
    Ok(Space {
        total_bytes: answer.f_blocks * answer.f_frsize,
        available_bytes: answer.f_bavail * answer.f_frsize,
    })
}

pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// A pipe's two ends, reader first, neither of them blocking.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the call fills two fresh descriptors.
    unsafe {
        check(libc::pipe2(
            ends.as_mut_ptr(),
            libc::O_CLOEXEC | libc::O_NONBLOCK,
        ))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}
