//! The driver: what is in flight, and one turn of the ring.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};

use super::doorbell::Bell;
use super::flight::{Aux, Flight, Vectors};
use super::probe::{ProbeError, build};
use super::splice::{Pipes, Splice, Step};
use super::{descriptor, disk, entry, net};
use crate::base::time::{Monotonic, Timestamp};
use crate::ring::driver::{
    Completion, Descriptor, DirEntry, Doorbell, Driver, Op, OpId, OpenOptions, Residency, Space,
};

/// User data of the doorbell's poll; operations have the two highest bits 0.
const DOORBELL: u64 = 1 << 63;
/// User data of cancellations that found nothing.
const CANCEL: u64 = 1 << 62;
/// Header lists kept for later.
const SPARE_VECTORS: usize = 64;
/// Reads ahead in flight. The kernel has four workers a core for these, flushes and reads of files, and
/// a commit's flush must not wait for them.
const READ_AHEADS_IN_FLIGHT: usize = 4;
/// How long a driver that goes waits for the kernel to let go of buffers.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// How a ring is set up.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Operations that can be queued before the kernel is entered.
    pub entries: u32,
    /// Completions that the ring holds; more are kept by the kernel and cost a system call.
    pub completions: u32,
    /// Flushes in flight: each one occupies a kernel worker thread.
    pub syncs_in_flight: usize,
}

impl Default for UringOptions {
    fn default() -> UringOptions {
        UringOptions {
            entries: 256,
            completions: 4096,
            syncs_in_flight: 4,
        }
    }
}

/// The world through io_uring and system calls. Made on the thread that uses it.
pub struct UringDriver {
    ring: RefCell<IoUring>,
    flights: RefCell<Flights>,
    /// Ends that did not need the ring.
    ended: RefCell<Vec<Completion>>,
    syncs: RefCell<Turns>,
    read_aheads: RefCell<Turns>,
    pipes: RefCell<Pipes>,
    bell: Arc<Bell>,
    no_cachestat: Cell<bool>,
}

#[derive(Default)]
struct Flights {
    /// By the operation's slot number.
    slots: Vec<Option<Flight>>,
    count: usize,
    #[allow(clippy::vec_box)] // a flight takes the box as it is: the kernel knows its address
    spare: Vec<Box<Vectors>>,
}

/// Operations of a kind that takes a kernel worker each: so many run, the others wait.
struct Turns {
    in_flight: usize,
    max: usize,
    waiting: VecDeque<OpId>,
}

impl Turns {
    fn new(max: usize) -> RefCell<Turns> {
        RefCell::new(Turns {
            in_flight: 0,
            max,
            waiting: VecDeque::new(),
        })
    }
}

impl UringDriver {
    /// A driver with the default options.
    pub fn new() -> Result<UringDriver, ProbeError> {
        UringDriver::with_options(UringOptions::default())
    }

    /// A driver for this thread.
    pub fn with_options(options: UringOptions) -> Result<UringDriver, ProbeError> {
        let driver = UringDriver {
            ring: RefCell::new(build(options.entries, options.completions)?),
            flights: RefCell::default(),
            ended: RefCell::default(),
            syncs: Turns::new(options.syncs_in_flight.max(1)),
            read_aheads: Turns::new(READ_AHEADS_IN_FLIGHT),
            pipes: RefCell::default(),
            bell: Arc::new(Bell::new().map_err(ProbeError::Other)?),
            no_cachestat: Cell::new(false),
        };
        driver.listen_to_bell();
        Ok(driver)
    }

    fn listen_to_bell(&self) {
        self.push(entry::doorbell(self.bell.fd()).user_data(DOORBELL));
    }

    /// Queues an entry; what it points to lives in a flight (or in the driver) until its completion.
    fn push(&self, entry: squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: see above: flights keep buffers, lists, addresses and descriptors.
            if unsafe { ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // Full: hand over what is queued. EBUSY means that completions wait to be reaped, which takes
            // place as soon as the ring is entered with room for them.
            if let Err(error) = ring.submit()
                && !is_passing(&error)
            {
                panic!("io_uring does not take operations any more: {error}");
            }
        }
    }

    fn start(&self, id: OpId, op: Op) {
        let mut flights = self.flights.borrow_mut();
        let (queued, aux) = match &op {
            Op::Splice {
                file,
                offset,
                len,
                socket,
            } => {
                let made = file
                    .cached()
                    .and_then(|file| Ok((file, self.pipes.borrow_mut().take()?)));
                let (file, pipe) = match made {
                    Ok(made) => made,
                    Err(error) => {
                        drop(flights);
                        self.end(id, op, Err(error));
                        return;
                    }
                };
                let splice = Splice::new(pipe, file, socket.raw(), *offset, *len);
                let first = entry::step(&splice.begin());
                (first, Aux::Splice(Box::new(splice)))
            }
            op => {
                let spare = &mut flights.spare;
                let (queued, aux) = entry::entry(op, || spare.pop().unwrap_or_else(Vectors::new));
                (Some(queued), aux)
            }
        };
        flights.insert(Flight {
            id,
            op,
            aux,
            cancelled: false,
        });
        drop(flights);
        if let Some(queued) = queued {
            self.push(queued.user_data(id.0));
        }
    }

    fn end(&self, id: OpId, op: Op, result: io::Result<u32>) {
        self.ended.borrow_mut().push(Completion { id, result, op });
    }

    /// Enters the kernel if there is a reason to.
    fn enter(&self, wait_until: Option<Monotonic>) {
        let ring = self.ring.borrow();
        let submitter = ring.submitter();
        let entered = match wait_until {
            None => submitter.submit(),
            Some(Monotonic::MAX) => submitter.submit_and_wait(1),
            Some(until) => {
                let wait = until.since(now());
                let wait = types::Timespec::new()
                    .sec(wait.as_secs())
                    .nsec(wait.subsec_nanos());
                let args = types::SubmitArgs::new().timespec(&wait);
                submitter.submit_with_args(1, &args)
            }
        };
        if let Err(error) = entered
            && !is_passing(&error)
        {
            panic!("io_uring does not turn any more: {error}");
        }
    }

    /// Whether there is something to hand over or to work off.
    fn has_kernel_work(&self) -> bool {
        let mut ring = self.ring.borrow_mut();
        let submission = ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    fn reap(&self, done: &mut Vec<Completion>) {
        loop {
            // One at a time: what follows may queue entries.
            let next = self.ring.borrow_mut().completion().next();
            let Some(next) = next else { return };
            let result = match next.result() {
                n if n >= 0 => Ok(n as u32),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            };
            match next.user_data() {
                DOORBELL if cqueue::more(next.flags()) => {}
                DOORBELL => self.listen_to_bell(),
                CANCEL => {}
                id => {
                    let more = cqueue::sock_nonempty(next.flags());
                    self.reap_one(OpId(id), result, more, done);
                }
            }
        }
    }

    /// Takes a completion in; `more` if a socket has more to receive.
    fn reap_one(&self, id: OpId, result: io::Result<u32>, more: bool, done: &mut Vec<Completion>) {
        let mut flights = self.flights.borrow_mut();
        let Some(flight) = flights.get(id) else {
            debug_assert!(false, "a completion of nothing: {id:?}");
            return;
        };
        let result = match &mut flight.aux {
            Aux::Splice(splice) => {
                let mut pipes = self.pipes.borrow_mut();
                let step = splice.go_on(result, flight.cancelled, &mut pipes);
                if let Some(queued) = entry::step(&step) {
                    drop(flights);
                    self.push(queued.user_data(id.0));
                    return;
                }
                match step {
                    Step::Done(result) => result,
                    _ => unreachable!("every other step has an entry"),
                }
            }
            _ => result,
        };
        let Some(flight) = flights.remove(id) else {
            return;
        };
        drop(flights);
        if let Some(turns) = self.turns(&flight.op) {
            self.next_of(turns);
        }
        if let Op::Recv { socket, len, .. } = &flight.op
            && let Some(memory) = socket.memory()
        {
            let full = result.as_ref().is_ok_and(|&n| n as usize == *len);
            memory.set(if more || full { 0 } else { entry::DRAINED });
        }
        let op = flight.op;
        done.push(Completion { id, result, op });
    }

    /// What an operation waits for, if its kind is one of which only so many are in flight.
    fn turns(&self, op: &Op) -> Option<&RefCell<Turns>> {
        match op {
            Op::Sync { .. } => Some(&self.syncs),
            Op::ReadAhead { .. } => Some(&self.read_aheads),
            _ => None,
        }
    }

    fn next_of(&self, turns: &RefCell<Turns>) {
        let next = {
            let mut turns = turns.borrow_mut();
            let next = turns.waiting.pop_front();
            if next.is_none() {
                turns.in_flight -= 1;
            }
            next
        };
        let Some(id) = next else { return };
        let queued = {
            let mut flights = self.flights.borrow_mut();
            let flight = flights.get(id);
            flight.map(|flight| entry::entry(&flight.op, Vectors::new).0)
        };
        if let Some(queued) = queued {
            self.push(queued.user_data(id.0));
        }
    }
}

/// Errors of entering that go away by themselves: a signal, the end of the wait, completions to be reaped first.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN)
    )
}

impl Flights {
    fn insert(&mut self, flight: Flight) {
        let slot = flight.id.0 as u32 as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        debug_assert!(self.slots[slot].is_none());
        self.slots[slot] = Some(flight);
        self.count += 1;
    }

    fn get(&mut self, id: OpId) -> Option<&mut Flight> {
        let slot = self.slots.get_mut(id.0 as u32 as usize)?.as_mut()?;
        (slot.id == id).then_some(slot)
    }

    fn remove(&mut self, id: OpId) -> Option<Flight> {
        self.get(id)?;
        let mut flight = self.slots[id.0 as u32 as usize].take()?;
        self.count -= 1;
        if let Aux::Vectors(vectors) = std::mem::replace(&mut flight.aux, Aux::None)
            && self.spare.len() < SPARE_VECTORS
        {
            self.spare.push(vectors);
        }
        Some(flight)
    }
}

fn now() -> Monotonic {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time lives through the call, which does not fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Monotonic(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

impl Driver for UringDriver {
    fn now(&self) -> Monotonic {
        now()
    }

    fn wall(&self) -> Timestamp {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the time lives through the call, which does not fail for this clock.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
        Timestamp(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000)
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: eight bytes that live through the call, which is never short for so few.
        let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        assert_eq!(n, 8, "the kernel gives random bytes once it is up");
        u64::from_ne_bytes(bytes)
    }

    fn submit(&self, id: OpId, op: Op) {
        if let Some(turns) = self.turns(&op) {
            let mut turns = turns.borrow_mut();
            if turns.in_flight == turns.max {
                turns.waiting.push_back(id);
                self.flights.borrow_mut().insert(Flight {
                    id,
                    op,
                    aux: Aux::None,
                    cancelled: false,
                });
                return;
            }
            turns.in_flight += 1;
        }
        self.start(id, op);
    }

    fn cancel(&self, id: OpId) {
        let mut flights = self.flights.borrow_mut();
        let Some(flight) = flights.get(id) else {
            return;
        };
        flight.cancelled = true;
        if let Some(turns) = self.turns(&flight.op) {
            let mut turns = turns.borrow_mut();
            if let Some(at) = turns.waiting.iter().position(|&waiting| waiting == id) {
                turns.waiting.remove(at);
                if let Some(flight) = flights.remove(id) {
                    let cancelled = io::Error::from_raw_os_error(libc::ECANCELED);
                    self.end(id, flight.op, Err(cancelled));
                }
                return;
            }
        }
        drop(flights);
        self.push(entry::cancel(id.0).user_data(CANCEL));
    }

    fn turn(&self, wait_until: Option<Monotonic>, done: &mut Vec<Completion>) {
        done.append(&mut self.ended.borrow_mut());
        let nothing_to_reap = self.ring.borrow_mut().completion().is_empty();
        let may_wait = nothing_to_reap && done.is_empty();
        match wait_until.filter(|_| may_wait) {
            Some(until) if self.bell.fall_asleep() => self.enter(Some(until)),
            _ if self.has_kernel_work() => self.enter(None),
            _ => {}
        }
        self.bell.wake_up();
        self.reap(done);
    }

    fn doorbell(&self) -> Arc<dyn Doorbell> {
        self.bell.clone()
    }

    fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Descriptor> {
        net::listen(addr, backlog).map(descriptor::plain)
    }

    fn socket(&self, to: SocketAddr) -> io::Result<Descriptor> {
        net::socket(to, false).map(descriptor::plain)
    }

    fn adopt(&self, raw: i32) -> Descriptor {
        descriptor::adopt(raw)
    }

    fn local_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        net::local_addr(socket.raw())
    }

    fn peer_addr(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        net::peer_addr(socket.raw())
    }

    fn acknowledged(&self, socket: &Descriptor) -> io::Result<u64> {
        net::acknowledged(socket.raw())
    }

    fn tune_socket(
        &self,
        socket: &Descriptor,
        send_buffer: Option<usize>,
        recv_buffer: Option<usize>,
    ) -> io::Result<()> {
        net::tune(socket.raw(), send_buffer, recv_buffer)
    }

    fn shutdown(&self, socket: &Descriptor, both: bool) -> io::Result<()> {
        net::shutdown(socket.raw(), both)
    }

    fn send_file(
        &self,
        socket: &Descriptor,
        file: &Descriptor,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        net::send_file(socket.raw(), file.cached()?, offset, len)
    }

    fn hold(&self, socket: &Descriptor, on: bool) -> io::Result<()> {
        net::hold(socket.raw(), on)
    }

    fn set_congestion(&self, socket: &Descriptor, name: &str) -> io::Result<()> {
        net::set_congestion(socket.raw(), name)
    }

    fn residency(&self, file: &Descriptor, offset: u64, len: u64) -> Residency {
        disk::residency(file.raw(), offset, len, &self.no_cachestat)
    }

    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Descriptor> {
        let (fd, direct) = disk::open(path, options)?;
        Ok(descriptor::file(fd, options.write, direct))
    }

    fn try_lock(&self, file: &Descriptor) -> io::Result<()> {
        disk::try_lock(file.raw())
    }

    fn len(&self, file: &Descriptor) -> io::Result<u64> {
        disk::len(file.raw())
    }

    fn set_len(&self, file: &Descriptor, len: u64) -> io::Result<()> {
        disk::set_len(file.raw(), len)
    }

    fn read_now(&self, file: &Descriptor, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        disk::read_now(file.cached()?, buf, offset)
    }

    fn read_cached(
        &self,
        file: &Descriptor,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>> {
        disk::read_cached(file.cached()?, buf, offset)
    }

    fn write_now(&self, file: &Descriptor, bytes: &[u8], offset: u64) -> io::Result<()> {
        disk::write_now(file.cached()?, bytes, offset)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        disk::read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn sync_fs(&self, file: &Descriptor) -> io::Result<()> {
        disk::sync_fs(file.raw())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        disk::space(path)
    }

    fn boot_id(&self) -> String {
        disk::boot_id()
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }
}

impl AsRawFd for UringDriver {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.borrow().as_raw_fd()
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // The kernel may still write to buffers: wait until it has let go of all.
        let in_flight: Vec<OpId> = {
            let flights = self.flights.borrow();
            flights.slots.iter().flatten().map(|f| f.id).collect()
        };
        for id in in_flight {
            self.cancel(id);
        }
        let deadline = now() + LAST_WAIT;
        let mut done = Vec::new();
        while self.flights.borrow().count > 0 && now() < deadline {
            self.turn(Some(deadline), &mut done);
            for completion in done.drain(..) {
                if let (Ok(raw), Op::Accept { .. }) = (&completion.result, &completion.op) {
                    drop(descriptor::adopt(*raw as RawFd));
                }
            }
        }
        let left = std::mem::take(&mut *self.flights.borrow_mut());
        if left.count > 0 {
            // A device that hangs. Lost memory is better than memory that is written after it was freed.
            std::mem::forget(left);
        }
    }
}
