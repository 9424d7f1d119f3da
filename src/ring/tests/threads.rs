//! What crosses threads: wakers, doorbells, mailboxes, connections.

use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use super::{chain, on_ring};
use crate::base::ids::ShardId;
use crate::ring::driver::{Doorbell, Driver};
use crate::ring::mailbox::{Mailbox, Post, mesh};
use crate::ring::uring::UringDriver;
use crate::ring::{Executor, Ring, SocketParcel};

#[test]
fn a_waker_that_went_to_another_thread_wakes_a_sleeping_shard() {
    for _ in 0..50 {
        on_ring(|_| async move {
            let given = Arc::new(Mutex::new(None::<Waker>));
            let woken = Arc::new(Mutex::new(false));
            let (given2, woken2) = (given.clone(), woken.clone());
            let thread = thread::spawn(move || {
                loop {
                    if let Some(waker) = given2.lock().unwrap().take() {
                        *woken2.lock().unwrap() = true;
                        waker.wake_by_ref();
                        return waker;
                    }
                    thread::yield_now();
                }
            });
            std::future::poll_fn(|cx| {
                if *woken.lock().unwrap() {
                    return Poll::Ready(());
                }
                *given.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            thread.join().unwrap().wake();
        });
    }
}

/// Runs `body` on a thread and ring for each shard.
fn on_shards<T: Send + 'static, F: Future<Output = ()>>(
    shards: usize,
    capacity: usize,
    body: impl Fn(Ring, Post<T>) -> F + Send + Sync + 'static,
) {
    let body = Arc::new(body);
    let doorbells = Arc::new(Mutex::new(vec![None::<Arc<dyn Doorbell>>; shards]));
    let barrier = Arc::new(Barrier::new(shards));
    let threads: Vec<_> = mesh::<T>(shards, capacity)
        .into_iter()
        .map(|mailbox: Mailbox<T>| {
            let (body, doorbells, barrier) = (body.clone(), doorbells.clone(), barrier.clone());
            thread::spawn(move || {
                let driver = Rc::new(UringDriver::new().unwrap());
                let shard = mailbox.shard();
                doorbells.lock().unwrap()[usize::from(shard.0)] = Some(driver.doorbell());
                barrier.wait();
                let all = doorbells
                    .lock()
                    .unwrap()
                    .iter()
                    .flatten()
                    .cloned()
                    .collect();
                let mut executor = Executor::new(driver, shard);
                let ring = executor.ring();
                let post = mailbox.open(&ring, all);
                executor.block_on(body(ring, post));
                // Doorbells stay valid until everybody is done.
                barrier.wait();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn every_message_arrives_once_and_in_order_between_shards_that_fall_asleep_all_the_time() {
    const MESSAGES: u64 = 20_000;
    on_shards::<u64, _>(3, 8, |ring, post| async move {
        let peers: Vec<ShardId> = (0..3).map(ShardId).filter(|s| *s != post.shard()).collect();
        let senders: Vec<_> = peers
            .iter()
            .map(|&to| {
                let (post, ring2) = (post.clone(), ring.clone());
                ring.spawn(async move {
                    for i in 0..MESSAGES {
                        post.send(to, i).await;
                        if i % 7 == u64::from(to.0) {
                            // Lets this shard sleep, so that its peers have to ring.
                            ring2.yield_now().await;
                        }
                    }
                })
            })
            .collect();
        let mut expected = [0; 3];
        for _ in 0..MESSAGES * peers.len() as u64 {
            let (from, i) = post.recv().await;
            assert_eq!(i, expected[usize::from(from.0)]);
            expected[usize::from(from.0)] += 1;
        }
        for sender in senders {
            sender.await;
        }
    });
}

#[test]
fn a_question_and_its_answer_always_wake_the_sleeping_other() {
    on_shards::<u32, _>(2, 4, |_, post| async move {
        let other = ShardId(1 - post.shard().0);
        for i in 0..5_000 {
            if post.shard() == ShardId(0) {
                post.send(other, i).await;
                assert_eq!(post.recv().await, (other, i + 1));
            } else {
                let (from, i) = post.recv().await;
                post.send(from, i + 1).await;
            }
        }
    });
}

#[test]
fn a_connection_goes_to_another_shard_and_works_on() {
    on_shards::<SocketParcel, _>(2, 4, |ring, post| async move {
        if post.shard() == ShardId(1) {
            let (_, parcel) = post.recv().await;
            let socket = ring.adopt(parcel);
            let buf = ring.arena().alloc(4096).await;
            let (n, buf) = socket.recv(buf, 0, 4096).await;
            let n = n.unwrap();
            socket.send(chain(&[&buf[..n], b"!"])).await.unwrap();
            return;
        }
        let listener = ring.listen("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let addr = listener.local_addr().unwrap();
        let ring2 = ring.clone();
        let client = ring.spawn(async move { ring2.connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        let parcel = server.into_parcel().expect("the only handle");
        post.send(ShardId(1), parcel).await;
        client.send(chain(&[b"hello"])).await.unwrap();
        let buf = ring.arena().alloc(4096).await;
        let mut at = 0;
        let mut buf = buf;
        while at < 6 {
            let (n, back) = client.recv(buf, at, 4096 - at).await;
            buf = back;
            at += n.unwrap();
        }
        assert_eq!(&buf[..6], b"hello!");
    });
}

#[test]
fn a_parcel_that_nobody_takes_closes_its_connection() {
    on_ring(|ring| async move {
        let listener = ring.listen("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let addr = listener.local_addr().unwrap();
        let ring2 = ring.clone();
        let client = ring.spawn(async move { ring2.connect(addr).await.unwrap() });
        let (server, _) = listener.accept().await.unwrap();
        let client = client.await;
        let second = server.clone();
        let server = server.into_parcel().expect_err("another handle is there");
        drop(second);
        drop(server.into_parcel().expect("the only handle"));
        let (n, _) = client.recv(ring.arena().alloc(1).await, 0, 1).await;
        assert_eq!(n.unwrap(), 0);
    });
}

#[test]
fn signals_arrive_as_a_stream() {
    use crate::ring::process::{Signals, block_signals};
    use nix::sys::signal::{Signal, raise};
    on_ring(|ring| async move {
        let wanted = [Signal::SIGUSR1, Signal::SIGUSR2];
        block_signals(&wanted).unwrap();
        let signals = Signals::new(&ring, &wanted).unwrap();
        let ring2 = ring.clone();
        let sender = ring.spawn(async move {
            ring2.yield_now().await;
            raise(Signal::SIGUSR2).unwrap();
        });
        assert_eq!(signals.next().await.unwrap(), Signal::SIGUSR2);
        sender.await;
        raise(Signal::SIGUSR1).unwrap();
        assert_eq!(signals.next().await.unwrap(), Signal::SIGUSR1);
    });
}
