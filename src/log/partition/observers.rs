//! Who wants to know when a partition moves.

use std::cell::RefCell;
use std::rc::Rc;

use smallvec::SmallVec;

/// Is told when what can be read or written of a partition changed: its durable end, its start, its
/// settings or epoch, its end of life. Must not call back into the partition at once.
pub trait Observer {
    /// The partition moved. The token is the one given when the observer came.
    fn moved(&self, token: u32);
}

type Entry = (Rc<dyn Observer>, u32);

#[derive(Default)]
pub(super) struct Observers(RefCell<SmallVec<[Entry; 2]>>);

impl Observers {
    pub(super) fn add(&self, observer: &Rc<dyn Observer>, token: u32) {
        self.0.borrow_mut().push((observer.clone(), token));
    }

    pub(super) fn remove(&self, token: u32) {
        self.0.borrow_mut().retain(|(_, known)| *known != token);
    }

    pub(super) fn moved(&self) {
        for (observer, token) in self.0.borrow().iter() {
            observer.moved(*token);
        }
    }
}
