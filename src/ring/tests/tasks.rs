//! Tasks, timers, waiting.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::on_ring;
use crate::ring::Elapsed;
use crate::ring::buf::{Arena, Budget};
use crate::ring::sync::{Either, Event, Semaphore, channel, oneshot, race};

#[test]
fn tasks_run_in_the_order_in_which_they_became_ready() {
    on_ring(|ring| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        for task in 0..5 {
            let (order, ring2) = (order.clone(), ring.clone());
            handles.push(ring.spawn(async move {
                for round in 0..3 {
                    order.borrow_mut().push((round, task));
                    ring2.yield_now().await;
                }
            }));
        }
        for handle in handles {
            handle.await;
        }
        let mut sorted = order.borrow().clone();
        sorted.sort();
        assert_eq!(*order.borrow(), sorted);
    });
}

#[test]
fn who_yields_goes_on_in_the_next_turn() {
    on_ring(|ring| async move {
        for _ in 0..3 {
            let before = ring.now();
            while ring.driver().now().since(before) < Duration::from_millis(1) {}
            ring.yield_now().await;
            assert!(ring.now().since(before) >= Duration::from_millis(1));
        }
    });
}

#[test]
fn dropping_a_handle_ends_its_task_and_detaching_does_not() {
    struct Tell(Rc<Cell<u32>>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    on_ring(|ring| async move {
        let (ran, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let task = || {
            let (ran, tell, ring) = (ran.clone(), Tell(dropped.clone()), ring.clone());
            async move {
                let _tell = tell;
                ring.yield_now().await;
                ran.set(ran.get() + 1);
            }
        };
        drop(ring.spawn(task()));
        let late = ring.spawn(task());
        ring.yield_now().await;
        drop(late);
        ring.spawn(task()).detach();
        while dropped.get() < 3 {
            ring.yield_now().await;
        }
        assert_eq!(ran.get(), 1);
        assert_eq!(ring.tasks(), 0);
    });
}

#[test]
fn a_task_may_end_itself() {
    on_ring(|ring| async move {
        let slot = Rc::new(RefCell::new(None));
        let (theirs, ring2) = (slot.clone(), ring.clone());
        let reached = Rc::new(Cell::new(false));
        let reached2 = reached.clone();
        let handle = ring.spawn(async move {
            drop(theirs.borrow_mut().take());
            ring2.yield_now().await;
            reached2.set(true);
        });
        *slot.borrow_mut() = Some(handle);
        while ring.tasks() > 0 {
            ring.yield_now().await;
        }
        assert!(!reached.get());
    });
}

#[test]
fn sleepers_wake_by_deadline_and_never_early() {
    on_ring(|ring| async move {
        let begin = ring.now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        for ms in [9, 3, 70, 1, 3] {
            let (order, ring2) = (order.clone(), ring.clone());
            handles.push(ring.spawn(async move {
                ring2.sleep(Duration::from_millis(ms)).await;
                assert!(ring2.now().since(begin) >= Duration::from_millis(ms));
                order.borrow_mut().push(ms);
            }));
        }
        for handle in handles {
            handle.await;
        }
        assert_eq!(*order.borrow(), [1, 3, 3, 9, 70]);
    });
}

#[test]
fn alarms_ring_between_the_timers_ticks_and_one_that_nobody_awaits_never() {
    on_ring(|ring| async move {
        let begin = ring.now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        for us in [900, 250, 4_000, 250] {
            let (order, ring2) = (order.clone(), ring.clone());
            handles.push(ring.spawn(async move {
                ring2.wake_at(begin + Duration::from_micros(us)).await;
                assert!(ring2.now() >= begin + Duration::from_micros(us));
                order.borrow_mut().push(us);
            }));
        }
        let far = ring.wake_at(begin + Duration::from_secs(3600));
        let timer = ring.sleep(Duration::from_millis(2));
        assert!(matches!(race(far, timer).await, Either::Right(())));
        order.borrow_mut().push(2_000);
        for handle in handles {
            handle.await;
        }
        assert_eq!(*order.borrow(), [250, 250, 900, 2_000, 4_000]);
        ring.wake_at(begin).await; // what is past does not wait
    });
}

#[test]
fn a_deadline_ends_what_takes_longer_and_lets_pass_what_does_not() {
    on_ring(|ring| async move {
        let never = std::future::pending::<()>();
        let late = ring.timeout(Duration::from_millis(2), never).await;
        assert_eq!(late, Err(Elapsed));
        let soon = ring.timeout(Duration::from_secs(3600), async { 7 }).await;
        assert_eq!(soon, Ok(7));
    });
}

#[test]
fn the_background_goes_on_while_requests_keep_the_shard_busy() {
    on_ring(|ring| async move {
        let steps = Rc::new(Cell::new(0));
        let (steps2, ring2) = (steps.clone(), ring.clone());
        let background = ring.spawn_background(async move {
            for _ in 0..1000 {
                steps2.set(steps2.get() + 1);
                ring2.yield_now().await;
            }
        });
        let ring2 = ring.clone();
        let busy = ring.spawn(async move {
            loop {
                ring2.yield_now().await;
            }
        });
        background.await;
        drop(busy);
        assert_eq!(steps.get(), 1000);
    });
}

#[test]
fn permits_go_to_whoever_waited_longest_even_if_a_later_one_would_fit() {
    on_ring(|ring| async move {
        let semaphore = Semaphore::new(4);
        let held = semaphore.acquire(3).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut handles = Vec::new();
        for (name, permits) in [("large", 4), ("small", 1)] {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            handles.push(ring.spawn(async move {
                let _permit = semaphore.acquire(permits).await;
                order.borrow_mut().push(name);
            }));
        }
        ring.yield_now().await;
        assert!(semaphore.try_acquire(1).is_none(), "others wait already");
        drop(held);
        for handle in handles {
            handle.await;
        }
        assert_eq!(*order.borrow(), ["large", "small"]);
        assert_eq!(semaphore.available(), 4);
    });
}

#[test]
fn a_waiter_that_gives_up_does_not_hold_up_the_next() {
    on_ring(|ring| async move {
        let semaphore = Semaphore::new(4);
        let held = semaphore.acquire(3).await;
        let theirs = semaphore.clone();
        let large = ring.spawn(async move { drop(theirs.acquire(4).await) });
        let theirs = semaphore.clone();
        let small = ring.spawn(async move { drop(theirs.acquire(1).await) });
        ring.yield_now().await;
        drop(large);
        small.await;
        drop(held);
        assert_eq!(semaphore.available(), 4);
    });
}

#[test]
fn an_arena_never_exceeds_its_budget_and_serves_who_waits() {
    on_ring(|ring| async move {
        let arena = Arena::new(64 << 10);
        let first = arena.try_alloc(40 << 10).expect("room");
        assert_eq!(first.capacity(), 64 << 10);
        assert!(arena.try_alloc(1).is_none());
        let theirs = arena.clone();
        let waiting = ring.spawn(async move { theirs.alloc(5000).await });
        ring.yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await;
        assert_eq!(second.capacity(), 8192);
        assert_eq!(arena.used_bytes(), 8192);
        let budget = Budget::new(10);
        let grant = budget.try_grant(10).expect("room");
        assert_eq!(budget.used_bytes(), 10);
        drop(grant);
        assert_eq!(budget.used_bytes(), 0);
    });
}

#[test]
fn a_notification_between_making_and_polling_a_wait_is_not_lost() {
    on_ring(|ring| async move {
        let event = Event::new();
        let wait = event.wait();
        event.notify_all();
        wait.await;
        let later = ring.timeout(Duration::from_millis(1), event.wait()).await;
        assert_eq!(
            later,
            Err(Elapsed),
            "only notifications after the call count"
        );
        assert_eq!(event.waiting(), 0);
    });
}

#[test]
fn a_full_channel_makes_the_sender_wait_and_closes_from_both_ends() {
    on_ring(|ring| async move {
        let (sender, receiver) = channel(2);
        let feeder = ring.spawn(async move {
            for i in 0..100 {
                sender.send(i).await.expect("received");
                assert!(sender.len() <= 2);
            }
        });
        let mut got = Vec::new();
        while let Some(i) = receiver.recv().await {
            got.push(i);
        }
        feeder.await;
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        let (sender, receiver) = channel(1);
        drop(receiver);
        assert_eq!(sender.send(5).await, Err(5));
        let (sender, receiver) = oneshot::<u32>();
        drop(sender);
        assert!(receiver.await.is_err());
    });
}

#[test]
fn a_race_drops_the_loser() {
    on_ring(|ring| async move {
        let (sender, receiver) = oneshot::<u32>();
        let won = race(ring.yield_now(), receiver).await;
        assert_eq!(won, Either::Left(()));
        assert!(sender.is_closed());
    });
}
