//! The loop: run what is ready, hand over and reap, look at the clock, again.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::core::{ExecutorOptions, NANOS_PER_MS, Ring};
use super::tasks::{Class, MAIN, Next};
use super::waker::Registration;
use crate::base::ids::ShardId;
use crate::base::time::Monotonic;
use crate::ring::driver::{Completion, Driver};

/// Tasks polled in a turn before completions are looked at again.
const FOREGROUND_POLLS: usize = 256;
/// Background tasks polled in a turn at most.
const BACKGROUND_POLLS: usize = 64;
/// Time that the background gets in a turn when requests wait.
const BACKGROUND_SLICE: Duration = Duration::from_micros(200);

/// One shard's executor. It stays on its thread.
pub struct Executor {
    ring: Ring,
    registration: Registration,
    done: Vec<Completion>,
    poll: Duration,
    last_work: Monotonic,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// A task ran, an operation ended or a timer fired; or more is ready to run.
    pub progressed: bool,
    /// When a timer wants the next turn, if nothing else happens. It may be earlier than the first
    /// deadline, never later.
    pub next_timer: Option<Monotonic>,
}

struct Ran {
    progressed: bool,
    main_ended: bool,
}

type Main<'a> = Pin<&'a mut dyn Future<Output = ()>>;

impl Executor {
    /// An executor with the default options.
    pub fn new(driver: Rc<dyn Driver>, shard: ShardId) -> Executor {
        Executor::with_options(driver, shard, ExecutorOptions::default())
    }

    /// An executor over a driver.
    pub fn with_options(
        driver: Rc<dyn Driver>,
        shard: ShardId,
        options: ExecutorOptions,
    ) -> Executor {
        let doorbell = driver.doorbell();
        let ring = Ring::new(driver, shard, &options);
        let registration = Registration::new(ring.0.tasks.clone(), doorbell);
        let last_work = ring.now();
        Executor {
            ring,
            registration,
            done: Vec::with_capacity(256),
            poll: options.poll,
            last_work,
        }
    }

    /// The handle that tasks use.
    pub fn ring(&self) -> Ring {
        self.ring.clone()
    }

    /// Runs until `future` ends, and all tasks beside it; sleeps when there is nothing to do.
    pub fn block_on<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut result = None;
        {
            let mut main = std::pin::pin!(async {
                result = Some(future.await);
            });
            let mut ended = false;
            self.ring.0.tasks.wake(MAIN);
            while !ended {
                self.step(true, Some((main.as_mut(), &mut ended)));
            }
        }
        result.expect("the future set it before it ended")
    }

    /// One turn. With `may_wait` it sleeps when nothing is ready, until something happens. For
    /// whoever steps several executors on one thread.
    pub fn turn(&mut self, may_wait: bool) -> Turn {
        self.step(may_wait, None)
    }

    fn step(&mut self, may_wait: bool, main: Option<(Main<'_>, &mut bool)>) -> Turn {
        let Ran {
            mut progressed,
            main_ended,
        } = self.run_ready(main);
        if main_ended {
            return Turn {
                progressed,
                next_timer: None,
            };
        }
        let inner = &self.ring.0;
        let ready = inner.tasks.is_ready(Class::Foreground)
            || inner.tasks.is_ready(Class::Background)
            || !inner.yielded.borrow().is_empty();
        let wait_until = if ready || !may_wait || self.keeps_polling(progressed) {
            None
        } else {
            Some(self.next_timer().unwrap_or(Monotonic::MAX))
        };
        let inner = &self.ring.0;
        inner.driver.turn(wait_until, &mut self.done);
        let now = inner.driver.now();
        inner.now.set(now);
        inner.wall.set(None);
        progressed |= ready || !self.done.is_empty();
        for completion in self.done.drain(..) {
            if let Some(left) = inner.ops.complete(completion) {
                inner.discard(left);
            }
        }
        progressed |= self.registration.take_remote(&inner.tasks);
        progressed |= poll_all(&self.ring);
        progressed |= inner.timers.borrow_mut().advance(now.0 / NANOS_PER_MS) > 0;
        progressed |= inner.alarms.borrow_mut().advance(now) > 0;
        for waker in inner.yielded.borrow_mut().drain(..) {
            waker.wake();
        }
        Turn {
            progressed,
            next_timer: self.next_timer(),
        }
    }

    /// Whether this turn should look again rather than sleep (`poll.us`).
    fn keeps_polling(&mut self, progressed: bool) -> bool {
        if self.poll.is_zero() {
            return false;
        }
        let now = self.ring.now();
        if progressed {
            self.last_work = now;
        }
        now.since(self.last_work) < self.poll
    }

    fn next_timer(&self) -> Option<Monotonic> {
        let next_ms = self.ring.0.timers.borrow().next_ms();
        let timer = next_ms.map(|ms| Monotonic(ms.saturating_mul(NANOS_PER_MS)));
        let alarm = self.ring.0.alarms.borrow().next();
        timer.into_iter().chain(alarm).min()
    }

    fn run_ready(&mut self, mut main: Option<(Main<'_>, &mut bool)>) -> Ran {
        let mut progressed = false;
        for _ in 0..FOREGROUND_POLLS {
            let Some(next) = self.ring.0.tasks.next(Class::Foreground) else {
                break;
            };
            progressed = true;
            if let (Next::Main, Some((future, ended))) = (&next, &mut main) {
                let waker = self.registration.waker(MAIN);
                if future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_ready()
                {
                    **ended = true;
                    return Ran {
                        progressed,
                        main_ended: true,
                    };
                }
            }
            self.run(next);
        }
        let mut began = None;
        for _ in 0..BACKGROUND_POLLS {
            let Some(next) = self.ring.0.tasks.next(Class::Background) else {
                break;
            };
            progressed = true;
            let driver = &self.ring.0.driver;
            let began = *began.get_or_insert_with(|| driver.now());
            self.run(next);
            if self.ring.0.driver.now().since(began) >= BACKGROUND_SLICE {
                break;
            }
        }
        Ran {
            progressed,
            main_ended: false,
        }
    }

    fn run(&self, next: Next) {
        match next {
            Next::Main => {}
            Next::Cancelled(future) => drop(future),
            Next::Task(task, mut future) => {
                let waker: Waker = self.registration.waker(task);
                let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
                match poll {
                    Poll::Pending => self.ring.0.tasks.park(task, future),
                    Poll::Ready(()) => {
                        self.ring.0.tasks.finish(task);
                        drop(future);
                    }
                }
            }
        }
    }
}

fn poll_all(ring: &Ring) -> bool {
    let mut progressed = false;
    let mut gone = false;
    for poller in ring.0.pollers.borrow().iter() {
        match poller.upgrade() {
            Some(poller) => progressed |= poller.poll(),
            None => gone = true,
        }
    }
    if gone {
        ring.0
            .pollers
            .borrow_mut()
            .retain(|poller| poller.strong_count() > 0);
    }
    progressed
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold the ring, which holds the tasks: the circle is cut here.
        self.ring.0.tasks.clear();
    }
}
