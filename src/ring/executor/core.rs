//! What a shard's tasks share, and the handle by which they reach it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::alarms::Alarms;
use super::join::{self, JoinHandle};
use super::ops::Ops;
use super::tasks::{Class, Tasks};
use super::timers::Timers;
use crate::base::ids::ShardId;
use crate::base::time::{Monotonic, Timestamp};
use crate::ring::buf::{Arena, BufMut};
use crate::ring::driver::{Driver, Op, OpId};

/// How an executor is set up.
#[derive(Clone, Copy, Debug)]
pub struct ExecutorOptions {
    /// Bound of the arena.
    pub arena_bytes: usize,
    /// How long a turn looks for work before it sleeps (`poll.us`).
    pub poll: Duration,
}

impl Default for ExecutorOptions {
    fn default() -> ExecutorOptions {
        ExecutorOptions {
            arena_bytes: 256 << 20,
            poll: Duration::ZERO,
        }
    }
}

/// Something that other shards fill without a completion of the driver: looked at once a turn.
pub(crate) trait Poller {
    /// Wakes whoever waits for what has come; answers whether anything had.
    fn poll(&self) -> bool;
}

/// Something that keeps files open which it could do without.
pub(crate) trait Hoarder {
    /// Closes some of them; answers whether there were any.
    fn close_some(&self) -> bool;
}

pub(super) struct Inner {
    pub(super) shard: ShardId,
    pub(super) driver: Rc<dyn Driver>,
    pub(super) arena: Arena,
    pub(super) tasks: Rc<Tasks>,
    pub(super) ops: Ops,
    pub(super) timers: RefCell<Timers>,
    pub(super) alarms: RefCell<Alarms>,
    pub(super) pollers: RefCell<Vec<Weak<dyn Poller>>>,
    /// Tasks that go on in the next turn.
    pub(super) yielded: RefCell<Vec<Waker>>,
    pub(super) hoarder: RefCell<Option<Weak<dyn Hoarder>>>,
    pub(super) now: Cell<Monotonic>,
    pub(super) wall: Cell<Option<Timestamp>>,
}

/// A shard's runtime as its tasks see it: time, tasks, memory, files and sockets. Cloning is
/// cheap; it is passed everywhere and never found through a thread.
#[derive(Clone)]
pub struct Ring(pub(super) Rc<Inner>);

impl Ring {
    pub(super) fn new(driver: Rc<dyn Driver>, shard: ShardId, options: &ExecutorOptions) -> Ring {
        let now = driver.now();
        Ring(Rc::new(Inner {
            shard,
            arena: Arena::new(options.arena_bytes),
            tasks: Rc::new(Tasks::new()),
            ops: Ops::new(),
            timers: RefCell::new(Timers::new(now.0 / NANOS_PER_MS)),
            alarms: RefCell::default(),
            pollers: RefCell::new(Vec::new()),
            yielded: RefCell::new(Vec::new()),
            hoarder: RefCell::new(None),
            now: Cell::new(now),
            wall: Cell::new(None),
            driver,
        }))
    }

    /// Which shard of this machine.
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// The monotonic clock as it stood when this turn began.
    pub fn now(&self) -> Monotonic {
        self.0.now.get()
    }

    /// The wall clock, read at most once a turn.
    pub fn wall(&self) -> Timestamp {
        self.0.wall.get().unwrap_or_else(|| {
            let wall = self.0.driver.wall();
            self.0.wall.set(Some(wall));
            wall
        })
    }

    /// 64 random bits; in the simulator from the seed.
    pub fn random(&self) -> u64 {
        self.0.driver.random()
    }

    /// The shard's buffers.
    pub fn arena(&self) -> &Arena {
        &self.0.arena
    }

    /// Has the system put memory behind all of a buffer, beside this thread, and gives it back.
    ///
    /// # Errors
    /// The system's; the buffer is as it was, but its memory comes when it is first touched.
    pub async fn warm(&self, buf: BufMut) -> (io::Result<()>, BufMut) {
        match self.op(Op::Warm { buf }).await {
            (result, Op::Warm { buf }) => (result.map(|_| ()), buf),
            _ => unreachable!("an operation comes back as it was submitted"),
        }
    }

    /// The world below.
    pub fn driver(&self) -> &Rc<dyn Driver> {
        &self.0.driver
    }

    /// Asks this one when the system has no file descriptor left, before an open fails.
    pub(crate) fn set_hoarder(&self, hoarder: &Rc<impl Hoarder + 'static>) {
        let hoarder: Weak<dyn Hoarder> = Rc::downgrade(hoarder) as Weak<dyn Hoarder>;
        *self.0.hoarder.borrow_mut() = Some(hoarder);
    }

    /// Whether files were closed that nothing needs at the moment.
    pub(crate) fn close_some(&self) -> bool {
        let hoarder = self.0.hoarder.borrow().as_ref().and_then(Weak::upgrade);
        hoarder.is_some_and(|hoarder| hoarder.close_some())
    }

    /// Starts a task. It ends early when the handle is dropped, unless that was detached.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        join::spawn(&self.0.tasks, Class::Foreground, future)
    }

    /// Starts a task that yields to requests: all such tasks together get a bounded time a turn, and
    /// each goes on once a turn. It should call [`Ring::yield_now`] about every 100 microseconds of work.
    pub fn spawn_background<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        join::spawn(&self.0.tasks, Class::Background, future)
    }

    /// Tasks that have not ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks.alive()
    }

    /// Hands an operation to the driver. Dropping the future asks for an early end; the driver
    /// keeps the operation's buffers until that has come.
    pub(crate) fn op(&self, op: Op) -> OpFuture<'_> {
        OpFuture {
            inner: &self.0,
            id: self.begin(op),
            taken: false,
        }
    }

    /// Hands an operation to the driver that outlives the future that waits for it. Its owner owes
    /// a [`Ring::poll_op`] that ends, or a [`Ring::abandon`].
    pub(crate) fn begin(&self, op: Op) -> OpId {
        let id = self.0.ops.begin();
        self.0.driver.submit(id, op);
        id
    }

    /// The end of an operation of [`Ring::begin`].
    pub(crate) fn poll_op(&self, id: OpId, cx: &mut Context<'_>) -> Poll<(io::Result<u32>, Op)> {
        match self.0.ops.poll(id, cx.waker()) {
            Some(end) => Poll::Ready(end),
            None => Poll::Pending,
        }
    }

    /// Asks for an early end of an operation of [`Ring::begin`] that nobody waits for any more.
    pub(crate) fn abandon(&self, id: OpId) {
        self.0.abandon(id);
    }

    /// Has `poller` looked at once a turn, for as long as it lives.
    pub(crate) fn add_poller(&self, poller: &Rc<impl Poller + 'static>) {
        let poller: Weak<dyn Poller> = Rc::downgrade(poller) as Weak<dyn Poller>;
        self.0.pollers.borrow_mut().push(poller);
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring(shard {})", self.0.shard)
    }
}

pub(super) const NANOS_PER_MS: u64 = 1_000_000;

impl Inner {
    /// Ends what an operation left behind that nobody waits for any more.
    pub(super) fn discard(&self, (result, op): (io::Result<u32>, Op)) {
        if let (Ok(raw), Op::Accept { .. }) = (result, &op) {
            // A connection that nobody will serve: closed.
            drop(self.driver.adopt(raw as i32));
        }
    }

    fn abandon(&self, id: OpId) {
        if let Some(left) = self.ops.abandon(id, &*self.driver) {
            self.discard(left);
        }
    }
}

/// An operation in flight.
pub(crate) struct OpFuture<'a> {
    inner: &'a Inner,
    id: OpId,
    taken: bool,
}

impl Future for OpFuture<'_> {
    type Output = (io::Result<u32>, Op);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.inner.ops.poll(self.id, cx.waker()) {
            Some(end) => {
                self.taken = true;
                Poll::Ready(end)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for OpFuture<'_> {
    fn drop(&mut self) {
        if !self.taken {
            self.inner.abandon(self.id);
        }
    }
}
