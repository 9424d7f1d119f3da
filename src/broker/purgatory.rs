//! Where fetches wait for data.
//!
//! A waiting fetch takes a place here and has the partitions that it watches call the place when
//! they move. Nothing is allocated for a wait once the list of places has grown to what is usual.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;

use crate::log::partition::Observer;

/// The waiting places of a shard.
#[derive(Default)]
pub struct Purgatory {
    places: RefCell<Slab<Place>>,
}

#[derive(Default)]
struct Place {
    moved: bool,
    hurried: bool,
    waker: Option<Waker>,
}

/// A place taken; given up on drop.
pub struct Parked {
    purgatory: Rc<Purgatory>,
    token: u32,
}

impl Purgatory {
    /// Takes a place.
    pub fn enter(self: &Rc<Purgatory>) -> Parked {
        let token = self.places.borrow_mut().insert(Place::default());
        Parked {
            purgatory: self.clone(),
            token: u32::try_from(token).expect("fewer waiting fetches than connections"),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.borrow().len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes everyone: the broker stops.
    pub fn wake_all(&self) {
        for (_, place) in self.places.borrow_mut().iter_mut() {
            place.call();
        }
    }

    /// Wakes one place, if it is still taken.
    pub fn wake(&self, token: u32) {
        if let Some(place) = self.places.borrow_mut().get_mut(token as usize) {
            place.call();
        }
    }
}

impl Purgatory {
    /// Ends the wait of one place, whether anything moved or not.
    pub fn hurry(&self, token: u32) {
        if let Some(place) = self.places.borrow_mut().get_mut(token as usize) {
            place.hurried = true;
            place.call();
        }
    }
}

impl Observer for Purgatory {
    fn moved(&self, token: u32) {
        self.wake(token);
    }
}

impl Place {
    fn call(&mut self) {
        self.moved = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Parked {
    /// The number that a partition calls.
    pub fn token(&self) -> u32 {
        self.token
    }

    /// Whether whoever asked wants an answer now.
    pub fn is_hurried(&self) -> bool {
        self.purgatory.places.borrow()[self.token as usize].hurried
    }

    /// Waits until something moved since the last time this was awaited (or since it was entered).
    pub async fn moved(&self) {
        poll_fn(|cx| {
            let mut places = self.purgatory.places.borrow_mut();
            let place = &mut places[self.token as usize];
            if std::mem::take(&mut place.moved) {
                return Poll::Ready(());
            }
            match &mut place.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.purgatory
            .places
            .borrow_mut()
            .remove(self.token as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    fn ready(parked: &Parked) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(parked.moved()).poll(&mut cx).is_ready()
    }

    #[test]
    fn a_move_between_looking_and_waiting_is_not_lost() {
        let purgatory = Rc::new(Purgatory::default());
        let parked = purgatory.enter();
        purgatory.moved(parked.token());
        assert!(ready(&parked));
        assert!(!ready(&parked), "once");
    }

    #[test]
    fn only_the_place_that_was_called_wakes() {
        let purgatory = Rc::new(Purgatory::default());
        let (a, b) = (purgatory.enter(), purgatory.enter());
        purgatory.moved(b.token());
        assert!(!ready(&a));
        assert!(ready(&b));
        purgatory.wake_all();
        assert!(ready(&a) && ready(&b));
    }

    #[test]
    fn a_call_to_a_place_given_up_does_nothing() {
        let purgatory = Rc::new(Purgatory::default());
        let token = purgatory.enter().token();
        purgatory.moved(token);
        assert!(purgatory.is_empty());
    }
}
