//! The seam between the executor and the world: everything that a shard does outside its own
//! memory goes through a [`Driver`].
//!
//! [`Op`]s are asynchronous: the driver owns an operation with its buffers from
//! [`Driver::submit`] until its [`Completion`] is handed out, whatever became of the task that
//! asked. The other methods answer at once; those that touch the disk (opening, renaming,
//! listing) are cheap or rare, and never flush.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::time::{Monotonic, Timestamp};
use crate::ring::buf::{Buf, BufMut};

/// Names an operation in flight. The executor hands them out and never reuses one in flight. The low
/// 32 bits are a slot number: small, and used by one operation at a time. The two highest bits are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Buffers that are written or sent one after the other.
pub type Chain = SmallVec<[Buf; 6]>;

/// An open file or socket. Closed by the driver when the last clone goes: operations in flight
/// hold one.
#[derive(Clone)]
pub struct Descriptor(Rc<dyn Close>);

/// What a driver puts behind a [`Descriptor`].
pub trait Close {
    /// The number by which the driver knows it.
    fn raw(&self) -> i32;
    /// Gives the number up without closing it: it goes to another shard.
    fn release(&self) -> i32;
    /// How a number that was given up is closed if nobody takes it over.
    fn closer(&self) -> fn(i32) {
        |_| {}
    }
    /// Whether a file that was opened with [`OpenOptions::direct`] passes the page cache by; false
    /// where the file system refused.
    fn is_direct(&self) -> bool {
        true
    }
    /// Room for what a driver remembers about a socket between operations.
    fn memory(&self) -> Option<&Cell<u32>> {
        None
    }
    /// The number by which its page cache is reached, if that is another one.
    fn cached(&self) -> io::Result<i32> {
        Ok(self.raw())
    }
}

impl Descriptor {
    /// Wraps a driver's own handle; dropping it closes.
    pub fn new(inner: Rc<dyn Close>) -> Descriptor {
        Descriptor(inner)
    }

    /// The number by which the driver knows it.
    pub fn raw(&self) -> i32 {
        self.0.raw()
    }

    /// Whether no operation and no other clone holds it.
    pub fn is_unique(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// How a number that was given up is closed if nobody takes it over.
    pub fn closer(&self) -> fn(i32) {
        self.0.closer()
    }

    /// See [`Close::is_direct`].
    pub fn is_direct(&self) -> bool {
        self.0.is_direct()
    }

    /// See [`Close::memory`].
    pub fn memory(&self) -> Option<&Cell<u32>> {
        self.0.memory()
    }

    /// See [`Close::cached`].
    pub fn cached(&self) -> io::Result<i32> {
        self.0.cached()
    }

    /// Gives the number up without closing it. Only when nothing is in flight on it.
    pub fn release(self) -> i32 {
        self.0.release()
    }
}

/// An asynchronous operation, with all that it needs to outlive its task.
#[allow(missing_docs)] // the fields say it themselves
pub enum Op {
    /// Waits for a connection on a listening socket. Answers with the new descriptor's number.
    Accept { listener: Descriptor },
    /// Connects a socket made by [`Driver::socket`].
    Connect { socket: Descriptor, to: SocketAddr },
    /// Receives into `buf[at..at + len]`; 0 bytes mean that the peer sends no more.
    Recv {
        socket: Descriptor,
        buf: BufMut,
        at: usize,
        len: usize,
    },
    /// Sends from the chain, whose first `skip` bytes are already gone; may end short.
    Send {
        socket: Descriptor,
        chain: Chain,
        skip: usize,
    },
    /// Waits until the socket takes bytes again (or is broken).
    Writable { socket: Descriptor },
    /// Waits until the socket has bytes, an end or an error.
    Readable { socket: Descriptor },
    /// Waits until the other end sends no more, or the socket is broken, whatever there still is to
    /// receive.
    HungUp { socket: Descriptor },
    /// Reads into `buf[at..at + len]` from `offset`; may end short.
    Read {
        file: Descriptor,
        buf: BufMut,
        at: usize,
        len: usize,
        offset: u64,
    },
    /// Writes the chain at `offset`, whose first `skip` bytes are already written; may end short.
    Write {
        file: Descriptor,
        chain: Chain,
        skip: usize,
        offset: u64,
    },
    /// fdatasync, or fsync with `metadata`. Also of directories.
    Sync { file: Descriptor, metadata: bool },
    /// fallocate; with `keep_size` the file's length stays.
    Allocate {
        file: Descriptor,
        offset: u64,
        len: u64,
        keep_size: bool,
    },
    /// Moves `len` bytes of a file at `offset` to a socket through a pipe of the driver's, without
    /// passing through user memory; may end short. For ranges that are not resident.
    Splice {
        file: Descriptor,
        offset: u64,
        len: usize,
        socket: Descriptor,
    },
    /// Has the system begin to read a range into the page cache. Answers when it has begun.
    ReadAhead {
        file: Descriptor,
        offset: u64,
        len: u64,
    },
    /// Has the system put memory behind all of a buffer, which is the dearest thing about new memory,
    /// beside the thread that asks. What the buffer holds stays.
    Warm { buf: BufMut },
}

/// The end of an operation: its result as the kernel gives it, and its buffers back.
pub struct Completion {
    /// Which operation.
    pub id: OpId,
    /// Bytes moved (or the new descriptor), or the error.
    pub result: io::Result<u32>,
    /// The operation as it was submitted.
    pub op: Op,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Open for writing too.
    pub write: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Make it, fail if it is there.
    pub create_new: bool,
    /// Cut it to nothing.
    pub truncate: bool,
    /// O_DIRECT: memory, offset and length are page-aligned. Refused by some file systems.
    pub direct: bool,
    /// It is a directory, opened to be flushed.
    pub directory: bool,
    /// What is read ahead is said with [`Op::ReadAhead`]: a read brings in what it wants, and no more.
    pub own_read_ahead: bool,
}

/// How much of a range the page cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// All of it: a non-blocking send will not wait for the disk.
    Resident,
    /// Something is missing, or the kernel cannot tell (cachestat needs Linux 6.5).
    Cold,
}

/// What a directory holds, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Name in its directory.
    pub name: String,
    /// A directory itself.
    pub is_dir: bool,
    /// Length in bytes.
    pub len: u64,
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that this process may still write.
    pub available_bytes: u64,
}

/// Wakes a shard that may be asleep, from any thread.
pub trait Doorbell: Send + Sync {
    /// Ends the peer's wait, or keeps its next one from beginning.
    fn ring(&self);
}

/// The world as one shard sees it.
pub trait Driver {
    /// The monotonic clock.
    fn now(&self) -> Monotonic;
    /// The wall clock.
    fn wall(&self) -> Timestamp;
    /// 64 random bits; in the simulator from the seed.
    fn random(&self) -> u64;

    /// Takes an operation over.
    fn submit(&self, id: OpId, op: Op);
    /// Asks for an early end. The completion comes all the same.
    fn cancel(&self, id: OpId);
    /// Hands over what was submitted, then reaps completions into `done`. With `wait_until`, and
    /// if there is nothing to reap, sleeps until something is, the doorbell rings, or that time.
    fn turn(&self, wait_until: Option<Monotonic>, done: &mut Vec<Completion>);
    /// This shard's doorbell, for its peers.
    fn doorbell(&self) -> Arc<dyn Doorbell>;

    /// A listening socket; port 0 picks a free one.
    fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Descriptor>;
    /// A socket for [`Op::Connect`].
    fn socket(&self, to: SocketAddr) -> io::Result<Descriptor>;
    /// A descriptor by the number that [`Op::Accept`] or [`Descriptor::release`] gave.
    fn adopt(&self, raw: i32) -> Descriptor;
    /// The address that a socket is bound to.
    fn local_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr>;
    /// The address of the other end.
    fn peer_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr>;
    /// Bytes sent that the other end has acknowledged so far, from any origin: only differences
    /// say something.
    fn acknowledged(&self, socket: &Descriptor) -> io::Result<u64>;
    /// Sets TCP_NODELAY, and buffer sizes where given.
    fn tune_socket(
        &self,
        socket: &Descriptor,
        send_buffer: Option<usize>,
        recv_buffer: Option<usize>,
    ) -> io::Result<()>;
    /// Ends sending (`write`) or both ways.
    fn shutdown(&self, socket: &Descriptor, both: bool) -> io::Result<()>;
    /// Sends without waiting from a file's page cache; WouldBlock when the socket is full.
    fn send_file(
        &self,
        socket: &Descriptor,
        file: &Descriptor,
        offset: u64,
        len: usize,
    ) -> io::Result<usize>;
    /// Holds back what is sent until it fills whole segments, or lets go of what was held back
    /// (TCP_CORK).
    fn hold(&self, socket: &Descriptor, on: bool) -> io::Result<()>;
    /// Sets TCP_CONGESTION.
    fn set_congestion(&self, socket: &Descriptor, name: &str) -> io::Result<()>;
    /// Whether a range is in the page cache.
    fn residency(&self, file: &Descriptor, offset: u64, len: u64) -> Residency;

    /// Opens a file or a directory.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Descriptor>;
    /// An exclusive lock on this open file description; WouldBlock where another holds it.
    fn try_lock(&self, file: &Descriptor) -> io::Result<()>;
    /// A file's length.
    fn len(&self, file: &Descriptor) -> io::Result<u64>;
    /// Cuts or extends a file.
    fn set_len(&self, file: &Descriptor, len: u64) -> io::Result<()>;
    /// Reads through the page cache, at once; ends short only at the end of the file.
    fn read_now(&self, file: &Descriptor, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`Driver::read_now`] if that needs no disk; `None` where it would wait for one.
    fn read_cached(
        &self,
        file: &Descriptor,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>>;
    /// Writes all through the page cache, at once. Not durable.
    fn write_now(&self, file: &Descriptor, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a directory and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames over what is there. Durable after the directory's flush.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Whether something has this name.
    fn exists(&self, path: &Path) -> bool;
    /// Flushes the whole file system that holds `file`; blocks. At start and stop only. Fails as
    /// well if something could not be written since `file` was opened, whichever file it was of.
    fn sync_fs(&self, file: &Descriptor) -> io::Result<()>;
    /// Space on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// The id of this boot of the machine: what was only in the page cache is gone when it differs.
    fn boot_id(&self) -> String;
    /// Resolves links and dots.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
}
