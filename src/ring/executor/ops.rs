//! Operations in flight: who waits for which, and what becomes of those that nobody waits for.

use std::cell::RefCell;
use std::io;
use std::task::Waker;

use crate::ring::driver::{Completion, Driver, Op, OpId};

enum State {
    Free,
    Pending(Option<Waker>),
    Done(io::Result<u32>, Op),
    /// Its future is gone; the driver still holds its buffers.
    Orphan,
}

struct Slot {
    uses: u32,
    state: State,
}

pub(super) struct Ops {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
}

impl Ops {
    pub(super) fn new() -> Ops {
        Ops {
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
        }
    }

    /// A name for a new operation: slot number below, uses of the slot above.
    pub(super) fn begin(&self) -> OpId {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot {
                uses: 0,
                state: State::Free,
            });
            slots.len() as u32 - 1
        });
        let entry = &mut slots[slot as usize];
        entry.uses = entry.uses.wrapping_add(1) & (u32::MAX >> 2);
        entry.state = State::Pending(None);
        OpId(u64::from(entry.uses) << 32 | u64::from(slot))
    }

    /// The end of an operation, if it has come; else `waker` is woken when it does.
    pub(super) fn poll(&self, id: OpId, waker: &Waker) -> Option<(io::Result<u32>, Op)> {
        let index = id.0 as u32;
        let slot = &mut self.slots.borrow_mut()[index as usize];
        match &mut slot.state {
            State::Pending(Some(old)) => old.clone_from(waker),
            State::Pending(none) => *none = Some(waker.clone()),
            State::Done(..) => {
                if let State::Done(result, op) = std::mem::replace(&mut slot.state, State::Free) {
                    self.free.borrow_mut().push(index);
                    return Some((result, op));
                }
            }
            State::Free | State::Orphan => unreachable!("an operation is polled by its own future"),
        }
        None
    }

    /// The future of an operation is gone. Answers what it left behind, if it had ended.
    pub(super) fn abandon(&self, id: OpId, driver: &dyn Driver) -> Option<(io::Result<u32>, Op)> {
        let index = id.0 as u32;
        let left = {
            let slot = &mut self.slots.borrow_mut()[index as usize];
            match std::mem::replace(&mut slot.state, State::Orphan) {
                State::Done(result, op) => {
                    slot.state = State::Free;
                    self.free.borrow_mut().push(index);
                    Some((result, op))
                }
                _ => None,
            }
        };
        if left.is_none() {
            driver.cancel(id);
        }
        left
    }

    /// Takes a completion in. Answers what an orphan left behind.
    pub(super) fn complete(&self, completion: Completion) -> Option<(io::Result<u32>, Op)> {
        let Completion { id, result, op } = completion;
        let index = id.0 as u32;
        let slot = &mut self.slots.borrow_mut()[index as usize];
        debug_assert_eq!(u64::from(slot.uses), id.0 >> 32);
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Pending(waker) => {
                slot.state = State::Done(result, op);
                if let Some(waker) = waker {
                    waker.wake();
                }
                None
            }
            State::Orphan => {
                self.free.borrow_mut().push(index);
                Some((result, op))
            }
            State::Free | State::Done(..) => unreachable!("a driver completes an operation once"),
        }
    }
}
