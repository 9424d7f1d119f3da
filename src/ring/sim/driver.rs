//! The driver of one shard: the seam's methods on the shared state.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::disk::fs::errno;
use super::machine::{Description, Place, What};
use super::net::ip_of;
use super::state::State;
use super::stream::Socket;
use crate::base::time::{Monotonic, Timestamp};
use crate::ring::driver::{
    Close, Completion, Descriptor, DirEntry, Doorbell, Driver, Op, OpId, OpenOptions, Residency,
    Space,
};

thread_local! {
    /// Sockets that were given up and not taken over: a number is all that their closer has.
    static ORPHANS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}

/// The state, and what waits for it to be free.
pub(super) struct Shared {
    state: RefCell<State>,
    closing: RefCell<Vec<i32>>,
}

impl Shared {
    pub(super) fn new(state: State) -> Rc<Shared> {
        ORPHANS.with_borrow_mut(Vec::clear);
        Rc::new(Shared {
            state: RefCell::new(state),
            closing: RefCell::new(Vec::new()),
        })
    }

    /// Lends the state. Nothing that holds descriptors or buffers is dropped meanwhile.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let (result, garbage) = {
            let mut state = self.state.borrow_mut();
            self.closing
                .borrow_mut()
                .append(&mut ORPHANS.with_borrow_mut(std::mem::take));
            for fd in self.closing.take() {
                state.close(fd);
            }
            let result = f(&mut state);
            (result, std::mem::take(&mut state.garbage))
        };
        drop(garbage);
        result
    }
}

/// The driver of one shard of one process.
pub(super) struct SimDriver {
    pub(super) shared: Rc<Shared>,
    pub(super) process: usize,
    pub(super) index: usize,
}

struct SimHandle {
    shared: Weak<Shared>,
    fd: i32,
    direct: bool,
    released: std::cell::Cell<bool>,
}

impl Close for SimHandle {
    fn raw(&self) -> i32 {
        self.fd
    }

    fn release(&self) -> i32 {
        self.released.set(true);
        self.fd
    }

    fn closer(&self) -> fn(i32) {
        |fd| ORPHANS.with_borrow_mut(|orphans| orphans.push(fd))
    }

    fn is_direct(&self) -> bool {
        self.direct
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade()
            && !self.released.get()
        {
            shared.closing.borrow_mut().push(self.fd);
        }
    }
}

impl SimDriver {
    fn descriptor(&self, fd: i32, direct: bool) -> Descriptor {
        Descriptor::new(Rc::new(SimHandle {
            shared: Rc::downgrade(&self.shared),
            fd,
            direct,
            released: std::cell::Cell::new(false),
        }))
    }

    /// Something that leaves no mark outside the process.
    fn look<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.shared.with(|s| match s.processes[self.process].alive {
            true => f(s),
            false => Err(errno(libc::EIO)),
        })
    }

    /// Something that does: the process may die of it.
    fn change<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.shared.with(|s| {
            s.may_change(self.process)?;
            f(s)
        })
    }

    fn on_disk<T>(
        &self,
        path: &Path,
        changes: bool,
        f: impl FnOnce(&mut super::disk::fs::Fs, &[String]) -> io::Result<T>,
    ) -> io::Result<T> {
        let run = |s: &mut State| {
            s.trace.note_bytes(path.as_os_str().as_encoded_bytes());
            let machine = &mut s.machines[s.processes[self.process].machine];
            let (disk, below) = machine.disk_of(path);
            f(&mut machine.disks[disk], &below)
        };
        match changes {
            true => self.change(run),
            false => self.look(run),
        }
    }
}

impl Driver for SimDriver {
    fn now(&self) -> Monotonic {
        self.shared.with(|s| Monotonic(s.now))
    }

    fn wall(&self) -> Timestamp {
        self.shared.with(|s| {
            let machine = &s.machines[s.processes[self.process].machine];
            let ms = 1_700_000_000_000 + (s.now / 1_000_000) as i64;
            Timestamp(ms + machine.wall_offset_ms)
        })
    }

    fn random(&self) -> u64 {
        self.shared.with(|s| s.shards[self.index].rng.next())
    }

    fn submit(&self, id: OpId, op: Op) {
        self.shared.with(|s| {
            let changes = matches!(
                op,
                Op::Write { .. } | Op::Sync { .. } | Op::Allocate { .. } | Op::Send { .. }
            );
            let dead = match changes {
                true => s.may_change(self.process).is_err(),
                false => !s.processes[self.process].alive,
            };
            if dead {
                return s.garbage.push(op);
            }
            match op {
                Op::Read { .. }
                | Op::Write { .. }
                | Op::Sync { .. }
                | Op::Allocate { .. }
                | Op::Splice { .. }
                | Op::ReadAhead { .. }
                | Op::Warm { .. } => s.submit_disk(self.index, id.0, op),
                _ => s.submit_net(self.index, id.0, op),
            }
        });
    }

    fn cancel(&self, id: OpId) {
        self.shared.with(|s| {
            let key = (self.index, id.0);
            let on_network = matches!(
                s.ops.get(&key),
                Some(
                    Op::Accept { .. }
                        | Op::Connect { .. }
                        | Op::Recv { .. }
                        | Op::Send { .. }
                        | Op::Writable { .. }
                        | Op::Readable { .. }
                        | Op::HungUp { .. }
                )
            );
            if on_network {
                for socket in s.sockets.values_mut() {
                    match socket {
                        Socket::Stream(stream) => {
                            stream.receivers.retain(|w| *w != key);
                            stream.watchers.retain(|w| *w != key);
                            stream.senders.retain(|w| *w != key);
                        }
                        Socket::Listening(l) => l.acceptors.retain(|w| *w != key),
                        Socket::Fresh { .. } => {}
                    }
                }
                s.complete_by_id(key, Err(errno(libc::ECANCELED)));
            }
        });
    }

    fn turn(&self, _wait_until: Option<Monotonic>, done: &mut Vec<Completion>) {
        self.shared.with(|s| {
            s.shards[self.index].bell.take();
            done.extend(s.shards[self.index].ready.drain(..));
        });
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.shared.with(|s| s.shards[self.index].bell.clone())
    }

    fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Descriptor> {
        let fd = self.look(|s| s.listen(self.process, addr, backlog))?;
        Ok(self.descriptor(fd, false))
    }

    fn socket(&self, _to: SocketAddr) -> io::Result<Descriptor> {
        let fd = self.look(|s| Ok(s.new_socket(self.process)))?;
        Ok(self.descriptor(fd, false))
    }

    fn adopt(&self, raw: i32) -> Descriptor {
        self.descriptor(raw, false)
    }

    fn local_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        self.look(|s| {
            let sock = s.sock(socket.raw())?;
            match s.sockets.get(&sock) {
                Some(Socket::Listening(l)) if l.addr.ip().is_unspecified() => {
                    Ok(SocketAddr::new(ip_of(l.machine), l.addr.port()))
                }
                Some(Socket::Listening(l)) => Ok(l.addr),
                Some(Socket::Stream(stream)) => Ok(stream.local),
                _ => Err(errno(libc::ENOTCONN)),
            }
        })
    }

    fn peer_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        self.look(|s| {
            let sock = s.sock(socket.raw())?;
            match s.stream(sock) {
                Some(stream) => Ok(stream.remote),
                None => Err(errno(libc::ENOTCONN)),
            }
        })
    }

    fn acknowledged(&self, socket: &Descriptor) -> io::Result<u64> {
        self.look(|s| {
            let sock = s.sock(socket.raw())?;
            match s.stream(sock) {
                Some(stream) => Ok(stream.arrived),
                None => Err(errno(libc::ENOTCONN)),
            }
        })
    }

    fn tune_socket(
        &self,
        socket: &Descriptor,
        send_buffer: Option<usize>,
        recv_buffer: Option<usize>,
    ) -> io::Result<()> {
        self.look(|s| {
            let sock = s.sock(socket.raw())?;
            if let Some(stream) = s.stream(sock) {
                stream.send_buffer = send_buffer.unwrap_or(stream.send_buffer).max(1);
                stream.recv_buffer = recv_buffer.unwrap_or(stream.recv_buffer).max(1);
            }
            Ok(())
        })
    }

    fn shutdown(&self, socket: &Descriptor, both: bool) -> io::Result<()> {
        self.look(|s| s.shutdown(socket.raw(), both))
    }

    fn send_file(
        &self,
        socket: &Descriptor,
        file: &Descriptor,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        self.change(|s| s.send_file(socket.raw(), file.raw(), offset, len))
    }

    fn hold(&self, _socket: &Descriptor, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_congestion(&self, _socket: &Descriptor, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn residency(&self, _file: &Descriptor, _offset: u64, _len: u64) -> Residency {
        self.shared.with(|s| {
            let cold = s.options.disk.cold_chance;
            match s.rng.chance(cold) {
                true => Residency::Cold,
                false => Residency::Resident,
            }
        })
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Descriptor> {
        let makes = options.create || options.create_new || options.truncate;
        let machine = self.shared.with(|s| s.processes[self.process].machine);
        let (disk, _) = self.shared.with(|s| s.machines[machine].disk_of(path));
        let ino = self.on_disk(path, makes, |fs, below| fs.open(below, options))?;
        self.look(|s| {
            let place = Place { machine, disk, ino };
            let direct = options.direct && s.options.disk.direct;
            let failed_seen = s.fs(place).file(ino)?.failed_flushes;
            let failed_seen_of_all = s.fs(place).failed_flushes;
            let description = Description {
                place,
                direct,
                write: options.write,
                failed_seen,
                failed_seen_of_all,
                orphan: false,
            };
            let fd = s.handle(self.process, What::File(description));
            Ok(self.descriptor(fd, direct))
        })
    }

    fn try_lock(&self, file: &Descriptor) -> io::Result<()> {
        self.look(|s| {
            let place = s.file(file.raw())?.place;
            let own = file.raw() as u64;
            let inode = s.fs(place).file(place.ino)?;
            match inode.lock {
                Some(other) if other != own => Err(errno(libc::EAGAIN)),
                _ => {
                    inode.lock = Some(own);
                    Ok(())
                }
            }
        })
    }

    fn len(&self, file: &Descriptor) -> io::Result<u64> {
        self.look(|s| {
            let place = s.file(file.raw())?.place;
            Ok(s.fs(place).file(place.ino)?.content.size())
        })
    }

    fn set_len(&self, file: &Descriptor, len: u64) -> io::Result<()> {
        self.change(|s| {
            let place = s.file(file.raw())?.place;
            s.trace.note(len);
            s.fs(place).set_len(place.ino, len)
        })
    }

    fn read_now(&self, file: &Descriptor, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(|s| {
            let place = s.file(file.raw())?.place;
            if s.rng.chance(s.options.disk.read_error_chance) {
                return Err(errno(libc::EIO));
            }
            Ok(s.fs(place).file(place.ino)?.content.read(offset, buf))
        })
    }

    fn read_cached(
        &self,
        file: &Descriptor,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>> {
        match self.residency(file, offset, buf.len() as u64) {
            Residency::Resident => self.read_now(file, buf, offset).map(Some),
            _ => Ok(None),
        }
    }

    fn write_now(&self, file: &Descriptor, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|s| s.write_now(file.raw(), bytes, offset))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.on_disk(path, true, |fs, below| fs.create_dir_all(below))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.on_disk(path, false, |fs, below| fs.read_dir(below))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let target = self.on_disk(to, false, |fs, below| {
            Ok((fs.mount.clone(), below.to_vec()))
        });
        let (mount, to) = target?;
        self.on_disk(from, true, |fs, below| match fs.mount == mount {
            true => fs.rename(below, &to),
            false => Err(errno(libc::EXDEV)),
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.on_disk(path, true, |fs, below| fs.remove_file(below))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.on_disk(path, true, |fs, below| fs.remove_dir_all(below))
    }

    fn exists(&self, path: &Path) -> bool {
        self.on_disk(path, false, |fs, below| fs.lookup(below))
            .is_ok()
    }

    fn sync_fs(&self, file: &Descriptor) -> io::Result<()> {
        self.change(|s| s.sync_fs(file.raw()))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.on_disk(path, false, |fs, _| Ok(fs.space()))
    }

    fn boot_id(&self) -> String {
        self.shared.with(|s| {
            let boot = s.machines[s.processes[self.process].machine].boot;
            format!("{boot:016x}")
        })
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.on_disk(path, false, |fs, below| fs.lookup(below))?;
        let mut whole = PathBuf::from("/");
        whole.extend(super::machine::components(path));
        Ok(whole)
    }
}
