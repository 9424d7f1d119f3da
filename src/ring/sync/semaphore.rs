//! Permits handed out first come, first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A counted resource of one shard. Whoever waits longest is served first, also before a
/// [`Semaphore::try_acquire`] that would fit.
#[derive(Clone)]
pub struct Semaphore(Rc<Inner>);

struct Inner {
    total: u64,
    available: Cell<u64>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    permits: u64,
    granted: Cell<bool>,
    waker: RefCell<Waker>,
}

/// Permits held; given back on drop.
#[must_use = "permits go back when this is dropped"]
pub struct Permit {
    semaphore: Semaphore,
    permits: u64,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub fn new(permits: u64) -> Semaphore {
        Semaphore(Rc::new(Inner {
            total: permits,
            available: Cell::new(permits),
            waiting: RefCell::new(VecDeque::new()),
        }))
    }

    /// All permits, held or not.
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Permits that nobody holds.
    pub fn available(&self) -> u64 {
        self.0.available.get()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// Permits at once, or none: also if others wait already.
    pub fn try_acquire(&self, permits: u64) -> Option<Permit> {
        self.try_take(permits).then(|| Permit {
            semaphore: self.clone(),
            permits,
        })
    }

    /// Waits for permits in the order of asking.
    ///
    /// # Panics
    /// If more are asked for than there are in all: they would never come.
    pub async fn acquire(&self, permits: u64) -> Permit {
        self.take(permits).await;
        Permit {
            semaphore: self.clone(),
            permits,
        }
    }

    /// Like [`Semaphore::try_acquire`]; the caller owes a [`Semaphore::give`].
    pub(crate) fn try_take(&self, permits: u64) -> bool {
        let inner = &*self.0;
        if inner.available.get() < permits || !inner.waiting.borrow().is_empty() {
            return false;
        }
        inner.available.set(inner.available.get() - permits);
        true
    }

    /// Like [`Semaphore::acquire`]; the caller owes a [`Semaphore::give`].
    pub(crate) fn take(&self, permits: u64) -> Take<'_> {
        assert!(
            permits <= self.0.total,
            "{permits} permits asked of a semaphore that has {}",
            self.0.total
        );
        Take {
            inner: &self.0,
            permits,
            waiter: None,
            taken: false,
        }
    }

    /// Gives permits back.
    pub(crate) fn give(&self, permits: u64) {
        self.0.give(permits);
    }
}

impl Inner {
    fn give(&self, permits: u64) {
        self.available.set(self.available.get() + permits);
        debug_assert!(self.available.get() <= self.total);
        self.serve();
    }

    fn serve(&self) {
        loop {
            let first = {
                let mut waiting = self.waiting.borrow_mut();
                match waiting.front() {
                    Some(first) if first.permits <= self.available.get() => waiting.pop_front(),
                    _ => None,
                }
            };
            let Some(first) = first else { return };
            self.available.set(self.available.get() - first.permits);
            first.granted.set(true);
            first.waker.borrow().wake_by_ref();
        }
    }
}

/// The wait of [`Semaphore::take`].
pub(crate) struct Take<'a> {
    inner: &'a Inner,
    permits: u64,
    waiter: Option<Rc<Waiter>>,
    taken: bool,
}

impl Future for Take<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        match &this.waiter {
            Some(waiter) if waiter.granted.get() => {
                this.taken = true;
                Poll::Ready(())
            }
            Some(waiter) => {
                waiter.waker.borrow_mut().clone_from(cx.waker());
                Poll::Pending
            }
            None => {
                let inner = this.inner;
                let mut waiting = inner.waiting.borrow_mut();
                if waiting.is_empty() && inner.available.get() >= this.permits {
                    inner.available.set(inner.available.get() - this.permits);
                    this.taken = true;
                    return Poll::Ready(());
                }
                let waiter = Rc::new(Waiter {
                    permits: this.permits,
                    granted: Cell::new(false),
                    waker: RefCell::new(cx.waker().clone()),
                });
                waiting.push_back(waiter.clone());
                this.waiter = Some(waiter);
                Poll::Pending
            }
        }
    }
}

impl Drop for Take<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        if self.taken {
            return;
        }
        if waiter.granted.get() {
            self.inner.give(self.permits);
        } else {
            self.inner
                .waiting
                .borrow_mut()
                .retain(|other| !Rc::ptr_eq(other, &waiter));
            self.inner.serve();
        }
    }
}

impl Permit {
    /// How many.
    pub fn permits(&self) -> u64 {
        self.permits
    }

    /// Gives some back early; at most all.
    pub fn shrink(&mut self, permits: u64) {
        let back = permits.min(self.permits);
        self.permits -= back;
        self.semaphore.give(back);
    }

    /// Joins another permit of the same semaphore into this one.
    ///
    /// # Panics
    /// If they are of different semaphores.
    pub fn merge(&mut self, mut other: Permit) {
        assert!(
            Rc::ptr_eq(&self.semaphore.0, &other.semaphore.0),
            "permits of two semaphores do not add up"
        );
        self.permits += std::mem::take(&mut other.permits);
    }

    /// Takes a part out into a permit of its own; at most all.
    pub fn split(&mut self, permits: u64) -> Permit {
        let part = permits.min(self.permits);
        self.permits -= part;
        Permit {
            semaphore: self.semaphore.clone(),
            permits: part,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.give(self.permits);
        }
    }
}
