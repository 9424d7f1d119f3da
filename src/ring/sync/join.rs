//! Waiting for several, in place: nothing is spawned, and nothing allocated.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for both to end. Whatever wakes one has both polled, the first one first: what it leaves for
/// the second is seen without an event.
pub async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut done_a, mut done_b) = (None, None);
    poll_fn(|cx| {
        if done_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            done_a = Some(value);
        }
        if done_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            done_b = Some(value);
        }
        match (done_a.take(), done_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (done_a, done_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::sync::oneshot;
    use std::cell::Cell;
    use std::task::{Context, Waker};

    #[test]
    fn both_are_waited_for_in_any_order() {
        let (say_a, hear_a) = oneshot::<u8>();
        let (say_b, hear_b) = oneshot::<u8>();
        let mut both = pin!(join(hear_a, hear_b));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(both.as_mut().poll(&mut cx).is_pending());
        say_b.send(2).unwrap();
        assert!(both.as_mut().poll(&mut cx).is_pending());
        say_a.send(1).unwrap();
        let Poll::Ready((a, b)) = both.as_mut().poll(&mut cx) else {
            panic!("both have ended");
        };
        assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
    }

    #[test]
    fn the_second_sees_what_the_first_left_when_that_was_woken() {
        let (say, hear) = oneshot::<u8>();
        let left = Cell::new(0);
        let first = async { left.set(hear.await.unwrap()) };
        let second = poll_fn(|_| match left.get() {
            0 => Poll::Pending,
            value => Poll::Ready(value),
        });
        let mut both = pin!(join(first, second));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(both.as_mut().poll(&mut cx).is_pending());
        say.send(7).unwrap();
        assert_eq!(both.as_mut().poll(&mut cx), Poll::Ready(((), 7)));
    }
}
