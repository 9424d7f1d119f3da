//! Sockets.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(super) struct Address {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl Address {
    pub(super) fn new(addr: SocketAddr) -> Address {
        // SAFETY: all zeros is a valid storage.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let len = match addr {
            SocketAddr::V4(v4) => {
                let inner = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: a storage is large and aligned enough for every address.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let inner = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: a storage is large and aligned enough for every address.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inner) };
                size_of::<libc::sockaddr_in6>()
            }
        };
        Address {
            storage,
            len: len as libc::socklen_t,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        self.len
    }

    fn to_std(&self) -> io::Result<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that it is one.
                let v4 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that it is one.
                let v6 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                Ok(SocketAddrV6::new(
                    Ipv6Addr::from(v6.sin6_addr.s6_addr),
                    u16::from_be(v6.sin6_port),
                    v6.sin6_flowinfo,
                    v6.sin6_scope_id,
                )
                .into())
            }
            family => Err(io::Error::other(format!("address family {family}"))),
        }
    }
}

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A stream socket. Not blocking: system calls beside the ring answer WouldBlock, and the ring
/// waits by itself.
pub(super) fn socket(addr: SocketAddr, blocking: bool) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let mut kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    if !blocking {
        kind |= libc::SOCK_NONBLOCK;
    }
    // SAFETY: plain system call; the descriptor is fresh.
    unsafe {
        let fd = check(libc::socket(family, kind, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

pub(super) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value lives through the call and has the length that is named.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

pub(super) fn listen(addr: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    // Blocking: the ring's accept waits either way.
    let socket = socket(addr, true)?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if addr.is_ipv6() {
        // As Java does: the unspecified IPv6 address takes IPv4 connections too.
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let address = Address::new(addr);
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: the address lives through the call.
    unsafe {
        check(libc::bind(fd, address.as_ptr(), address.len()))?;
        check(libc::listen(fd, backlog))?;
    }
    Ok(socket)
}

type NameCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: RawFd, call: NameCall) -> io::Result<SocketAddr> {
    let mut address = Address {
        // SAFETY: all zeros is a valid storage.
        storage: unsafe { mem::zeroed() },
        len: size_of::<libc::sockaddr_storage>() as libc::socklen_t,
    };
    // SAFETY: storage and its length live through the call.
    check(unsafe { call(fd, (&raw mut address.storage).cast(), &raw mut address.len) })?;
    address.to_std()
}

pub(super) fn local_addr(fd: RawFd) -> io::Result<SocketAddr> {
    name(fd, libc::getsockname)
}

pub(super) fn peer_addr(fd: RawFd) -> io::Result<SocketAddr> {
    name(fd, libc::getpeername)
}

/// Where `tcpi_bytes_acked` stands in `struct tcp_info` (linux/tcp.h, Linux 4.1; libc's own
/// struct ends before it).
const BYTES_ACKED: usize = 120;

pub(super) fn acknowledged(fd: RawFd) -> io::Result<u64> {
    let mut info = [0u8; BYTES_ACKED + size_of::<u64>()];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: memory and length live through the call, and the kernel writes at most so much.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    check(result)?;
    let mut acked = [0; size_of::<u64>()];
    acked.copy_from_slice(&info[BYTES_ACKED..]);
    Ok(u64::from_ne_bytes(acked))
}

pub(super) fn tune(fd: RawFd, send: Option<usize>, recv: Option<usize>) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    // as Kafka does: a peer that vanished without a word is noticed where no idle time bounds it
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    for (name, bytes) in [(libc::SO_SNDBUF, send), (libc::SO_RCVBUF, recv)] {
        if let Some(bytes) = bytes {
            let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
            set_option(fd, libc::SOL_SOCKET, name, bytes)?;
        }
    }
    Ok(())
}

pub(super) fn shutdown(fd: RawFd, both: bool) -> io::Result<()> {
    let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
    // SAFETY: plain system call.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

pub(super) fn hold(fd: RawFd, on: bool) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_CORK, i32::from(on))
}

pub(super) fn set_congestion(fd: RawFd, name: &str) -> io::Result<()> {
    // SAFETY: the option's value is a name of the given length, which lives through the call.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    };
    check(set).map(drop)
}

pub(super) fn send_file(socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the offset lives through the call.
    let sent = unsafe { libc::sendfile(socket, file, &raw mut offset, len) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
