//! A bounded queue between tasks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::event::Event;

struct State<T> {
    queue: RefCell<VecDeque<T>>,
    capacity: usize,
    senders: RefCell<usize>,
    receiver_gone: RefCell<bool>,
    receiver: RefCell<Option<Waker>>,
    space: Event,
}

/// Puts values in.
pub struct Sender<T>(Rc<State<T>>);

/// Takes values out, in order.
pub struct Receiver<T>(Rc<State<T>>);

/// Why a value was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// The queue is full.
    #[error("the queue is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Closed(T),
}

/// A queue of at most `capacity` values.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = Rc::new(State {
        queue: RefCell::new(VecDeque::with_capacity(capacity.min(64))),
        capacity: capacity.max(1),
        senders: RefCell::new(1),
        receiver_gone: RefCell::new(false),
        receiver: RefCell::new(None),
        space: Event::new(),
    });
    (Sender(state.clone()), Receiver(state))
}

impl<T> State<T> {
    fn wake_receiver(&self) {
        if let Some(waker) = self.receiver.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl<T> Sender<T> {
    /// Puts a value in if there is room.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if *self.0.receiver_gone.borrow() {
            return Err(TrySendError::Closed(value));
        }
        let mut queue = self.0.queue.borrow_mut();
        if queue.len() >= self.0.capacity {
            return Err(TrySendError::Full(value));
        }
        queue.push_back(value);
        drop(queue);
        self.0.wake_receiver();
        Ok(())
    }

    /// Waits for room; the value comes back if the receiver is gone.
    pub async fn send(&self, mut value: T) -> Result<(), T> {
        loop {
            match self.try_send(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(value)) => return Err(value),
                Err(TrySendError::Full(back)) => value = back,
            }
            self.0.space.wait().await;
        }
    }

    /// Values that wait.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().len()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        *self.0.senders.borrow_mut() += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut senders = self.0.senders.borrow_mut();
        *senders -= 1;
        if *senders == 0 {
            self.0.wake_receiver();
        }
    }
}

impl<T> Receiver<T> {
    /// The next value, if there is one.
    pub fn try_recv(&self) -> Option<T> {
        let mut queue = self.0.queue.borrow_mut();
        let was_full = queue.len() >= self.0.capacity;
        let value = queue.pop_front()?;
        drop(queue);
        if was_full {
            self.0.space.notify_all();
        }
        Some(value)
    }

    /// Waits for the next value; none when all senders are gone and the queue is empty.
    pub async fn recv(&self) -> Option<T> {
        poll_fn(|cx| {
            if let Some(value) = self.try_recv() {
                return Poll::Ready(Some(value));
            }
            if *self.0.senders.borrow() == 0 {
                return Poll::Ready(None);
            }
            *self.0.receiver.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Values that wait.
    pub fn len(&self) -> usize {
        self.0.queue.borrow().len()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        *self.0.receiver_gone.borrow_mut() = true;
        let left = std::mem::take(&mut *self.0.queue.borrow_mut());
        drop(left);
        self.0.space.notify_all();
    }
}
