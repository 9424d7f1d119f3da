//! Waiting for time, and for one of several things.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use super::alarms::AlarmKey;
use super::core::{Inner, NANOS_PER_MS, Ring};
use super::timers::TimerKey;
use crate::base::time::Monotonic;

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

impl Ring {
    /// Waits at least this long, and at most about a millisecond longer.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until a point in time.
    pub async fn sleep_until(&self, deadline: Monotonic) {
        Sleep::new(&self.0, deadline).await;
    }

    /// Waits until a point in time, as exactly as the system wakes a thread (some ten microseconds),
    /// at more cost than [`Ring::sleep_until`]: for few who wait.
    pub async fn wake_at(&self, deadline: Monotonic) {
        let alarm = Alarm {
            inner: &self.0,
            deadline,
            key: None,
        };
        alarm.await;
    }

    /// Lets the other ready tasks run and completions be reaped: goes on in the next turn, behind
    /// those that woke meanwhile.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            self.0.yielded.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for `future`, but no longer than `duration`.
    pub async fn timeout<T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        self.deadline(self.now() + duration, future).await
    }

    /// Waits for `future`, but not beyond `deadline`.
    pub async fn deadline<T>(
        &self,
        deadline: Monotonic,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = Sleep::new(&self.0, deadline);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

struct Sleep<'a> {
    inner: &'a Inner,
    deadline: Monotonic,
    key: Option<TimerKey>,
}

impl Sleep<'_> {
    fn new(inner: &Inner, deadline: Monotonic) -> Sleep<'_> {
        Sleep {
            inner,
            deadline,
            key: None,
        }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut timers = self.inner.timers.borrow_mut();
        match self.key {
            Some(key) if timers.poll(key, cx.waker()) => Poll::Ready(()),
            Some(_) => Poll::Pending,
            None if self.deadline <= self.inner.now.get() => Poll::Ready(()),
            None => {
                let key = timers.arm(self.deadline.0.div_ceil(NANOS_PER_MS), cx.waker().clone());
                drop(timers);
                self.key = Some(key);
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inner.timers.borrow_mut().disarm(key);
        }
    }
}

struct Alarm<'a> {
    inner: &'a Inner,
    deadline: Monotonic,
    key: Option<AlarmKey>,
}

impl Future for Alarm<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarms = self.inner.alarms.borrow_mut();
        match self.key {
            Some(key) if alarms.poll(key, cx.waker()) => Poll::Ready(()),
            Some(_) => Poll::Pending,
            None if self.deadline <= self.inner.now.get() => Poll::Ready(()),
            None => {
                let key = alarms.arm(self.deadline, cx.waker().clone());
                drop(alarms);
                self.key = Some(key);
                Poll::Pending
            }
        }
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.inner.alarms.borrow_mut().disarm(key);
        }
    }
}
