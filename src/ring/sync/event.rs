//! Telling everybody who waits that something changed.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A change that tasks wait for: check the condition, wait, check again. A notification between
/// [`Event::wait`] and its first poll counts.
#[derive(Default)]
pub struct Event {
    generation: Cell<u64>,
    waiters: RefCell<Waiters>,
}

#[derive(Default)]
struct Waiters {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Event {
    /// An event that nobody waits for.
    pub fn new() -> Event {
        Event::default()
    }

    /// Waits for the next [`Event::notify_all`] after this call.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            event: self,
            generation: self.generation.get(),
            key: None,
        }
    }

    /// Wakes all that wait now, in the order in which they began where none ended early.
    pub fn notify_all(&self) {
        self.generation.set(self.generation.get() + 1);
        let mut waiters = self.waiters.borrow_mut();
        if waiters.wakers.is_empty() {
            return;
        }
        waiters.free.clear();
        for waker in waiters.wakers.drain(..).flatten() {
            waker.wake();
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let waiters = self.waiters.borrow();
        waiters.wakers.len() - waiters.free.len()
    }
}

/// The wait of [`Event::wait`].
#[must_use = "futures do nothing unless awaited"]
pub struct Wait<'a> {
    event: &'a Event,
    generation: u64,
    key: Option<usize>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.event.generation.get() != self.generation {
            self.key = None;
            return Poll::Ready(());
        }
        let mut waiters = self.event.waiters.borrow_mut();
        let key = match self.key.or_else(|| waiters.free.pop()) {
            Some(key) => {
                waiters.wakers[key] = Some(cx.waker().clone());
                key
            }
            None => {
                waiters.wakers.push(Some(cx.waker().clone()));
                waiters.wakers.len() - 1
            }
        };
        drop(waiters);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key
            && self.event.generation.get() == self.generation
        {
            let mut waiters = self.event.waiters.borrow_mut();
            waiters.wakers[key] = None;
            waiters.free.push(key);
        }
    }
}
