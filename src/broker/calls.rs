//! Questions to other shards that wait for their answer.
//!
//! A shard's receive loop never waits: it hands replies in here and starts a task for each call,
//! so mailboxes always drain and shards cannot deadlock on each other. How many calls are out is
//! bounded by the requests in flight on this shard's connections, and the bytes that they carry by
//! a budget: what a call holds of it goes back when the reply comes, whoever still waits for it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::ring::buf::Grant;

/// Names a call among those of one shard; never used twice while its reply may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// The calls that a shard has out. `R` is what they are answered with.
pub struct Calls<R> {
    inner: RefCell<Inner<R>>,
}

struct Inner<R> {
    slots: Slab<Slot<R>>,
    generation: u32,
}

struct Slot<R> {
    generation: u32,
    reply: Option<R>,
    waker: Option<Waker>,
    /// Nobody waits any more.
    abandoned: bool,
    /// Memory that the other shard works with.
    held: Option<Grant>,
}

/// A call whose reply is awaited. Dropped, the reply is thrown away when it comes.
#[must_use = "the reply is thrown away when this is dropped"]
pub struct Pending<R> {
    calls: Rc<Calls<R>>,
    id: CallId,
}

impl<R> Default for Calls<R> {
    fn default() -> Calls<R> {
        Calls {
            inner: RefCell::new(Inner {
                slots: Slab::new(),
                generation: 0,
            }),
        }
    }
}

impl<R> Calls<R> {
    /// Opens a call; its id goes to the other shard and comes back with the reply.
    pub fn open(self: &Rc<Calls<R>>) -> Pending<R> {
        self.open_with(None)
    }

    /// Opens a call that carries bytes of a budget.
    pub fn open_with(self: &Rc<Calls<R>>, held: Option<Grant>) -> Pending<R> {
        let mut inner = self.inner.borrow_mut();
        inner.generation = inner.generation.wrapping_add(1);
        let generation = inner.generation;
        let slot = inner.slots.insert(Slot {
            generation,
            reply: None,
            waker: None,
            abandoned: false,
            held,
        });
        Pending {
            calls: self.clone(),
            id: CallId(u64::from(generation) << 32 | slot as u64),
        }
    }

    /// Delivers a reply; thrown away if nobody waits for it any more.
    pub fn deliver(&self, id: CallId, reply: R) {
        let mut inner = self.inner.borrow_mut();
        let at = (id.0 & 0xffff_ffff) as usize;
        let Some(slot) = inner.slots.get_mut(at) else {
            return;
        };
        if slot.generation != (id.0 >> 32) as u32 {
            return;
        }
        slot.held = None;
        if slot.abandoned {
            inner.slots.remove(at);
            return;
        }
        slot.reply = Some(reply);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// Calls that are out.
    pub fn len(&self) -> usize {
        self.inner.borrow().slots.len()
    }

    /// None is out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R> Pending<R> {
    /// Its id.
    pub fn id(&self) -> CallId {
        self.id
    }
}

impl<R> Future for Pending<R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let mut inner = self.calls.inner.borrow_mut();
        let slot = &mut inner.slots[(self.id.0 & 0xffff_ffff) as usize];
        match slot.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl<R> Drop for Pending<R> {
    fn drop(&mut self) {
        let at = (self.id.0 & 0xffff_ffff) as usize;
        let mut inner = self.calls.inner.borrow_mut();
        let slot = &mut inner.slots[at];
        if slot.held.is_some() {
            slot.abandoned = true;
        } else {
            inner.slots.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::buf::Budget;
    use std::pin::pin;

    fn poll<R>(pending: &mut Pending<R>) -> Poll<R> {
        pin!(pending).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn replies_find_their_call_in_any_order() {
        let calls = Rc::new(Calls::default());
        let (mut a, mut b) = (calls.open(), calls.open());
        calls.deliver(b.id(), "b");
        assert!(poll(&mut a).is_pending());
        calls.deliver(a.id(), "a");
        assert_eq!(poll(&mut a), Poll::Ready("a"));
        assert_eq!(poll(&mut b), Poll::Ready("b"));
    }

    #[test]
    fn a_late_reply_does_not_reach_the_call_that_took_its_place() {
        let calls = Rc::new(Calls::default());
        let gone = calls.open().id();
        let mut next = calls.open();
        calls.deliver(gone, "late");
        assert!(poll(&mut next).is_pending());
        drop(next);
        assert!(calls.is_empty());
    }

    #[test]
    fn what_a_call_carries_is_held_until_the_reply_though_nobody_waits() {
        let budget = Budget::new(10);
        let calls = Rc::new(Calls::default());
        let waited = calls.open_with(budget.try_grant(4));
        let given_up = calls.open_with(budget.try_grant(5));
        let id = given_up.id();
        drop(given_up);
        assert_eq!(budget.used_bytes(), 9);
        calls.deliver(id, "late");
        assert_eq!((budget.used_bytes(), calls.len()), (4, 1));
        calls.deliver(waited.id(), "reply");
        assert_eq!(budget.used_bytes(), 0, "though nobody has taken it yet");
        drop(waited);
        assert!(calls.is_empty());
    }
}
