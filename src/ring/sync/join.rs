//! Waiting for several, in place: nothing is spawned, and nothing allocated.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Waits for both to end.
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
}
