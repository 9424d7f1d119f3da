//! A shard's end of the mesh.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::task::Poll;

use super::lane::{Lane, Padded};
use crate::base::ids::ShardId;
use crate::ring::driver::Doorbell;
use crate::ring::executor::{Poller, Ring};
use crate::ring::sync::Event;

struct Mesh<T> {
    shards: usize,
    /// From shard `i` to shard `j` at `i * shards + j`.
    lanes: Vec<Lane<T>>,
    /// For each shard a bit for each peer that sent something or made room since it last looked,
    /// 64 peers a word.
    news: Vec<Padded<Vec<AtomicU64>>>,
}

/// A shard's mailbox before its thread has a ring.
pub struct Mailbox<T> {
    mesh: Arc<Mesh<T>>,
    shard: ShardId,
}

/// Sends to the other shards and receives from them. Stays on its shard.
pub struct Post<T>(Rc<Inner<T>>);

struct Inner<T> {
    mesh: Arc<Mesh<T>>,
    me: usize,
    doorbells: Vec<Arc<dyn Doorbell>>,
    /// Where each peer stood when we last looked.
    seen_heads: RefCell<Vec<usize>>,
    /// Peers that may have sent something: our own copy of the news, 64 a word.
    inbox: RefCell<Vec<u64>>,
    /// Which peer is served next.
    next: Cell<usize>,
    arrived: Event,
    room: Event,
}

/// Mailboxes for all shards of a machine, `capacity` messages for each pair of them.
///
/// # Panics
/// If there are no shards, or more than a shard id can name.
pub fn mesh<T: Send>(shards: usize, capacity: usize) -> Vec<Mailbox<T>> {
    assert!((1..=usize::from(u16::MAX)).contains(&shards));
    let words = shards.div_ceil(64);
    let mesh = Arc::new(Mesh {
        shards,
        lanes: (0..shards * shards).map(|_| Lane::new(capacity)).collect(),
        news: (0..shards)
            .map(|_| Padded((0..words).map(|_| AtomicU64::new(0)).collect()))
            .collect(),
    });
    (0..shards)
        .map(|shard| Mailbox {
            mesh: mesh.clone(),
            shard: ShardId(shard as u16),
        })
        .collect()
}

impl<T: Send + 'static> Mailbox<T> {
    /// Whose it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Opens it on its shard. `doorbells` are those of all shards, in order.
    ///
    /// # Panics
    /// If they are not as many as there are shards.
    pub fn open(self, ring: &Ring, doorbells: Vec<Arc<dyn Doorbell>>) -> Post<T> {
        let shards = self.mesh.shards;
        assert_eq!(doorbells.len(), shards, "a doorbell for each shard");
        let inner = Rc::new(Inner {
            me: usize::from(self.shard.0),
            doorbells,
            seen_heads: RefCell::new(vec![0; shards]),
            inbox: RefCell::new(vec![0; shards.div_ceil(64)]),
            next: Cell::new(0),
            arrived: Event::new(),
            room: Event::new(),
            mesh: self.mesh,
        });
        ring.add_poller(&inner);
        Post(inner)
    }
}

impl<T: Send + 'static> Post<T> {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.mesh.shards
    }

    /// This shard.
    pub fn shard(&self) -> ShardId {
        ShardId(self.0.me as u16)
    }

    /// Sends if there is room; else the message comes back.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn try_send(&self, to: ShardId, message: T) -> Result<(), T> {
        let inner = &*self.0;
        let peer = usize::from(to.0);
        assert!(peer < inner.mesh.shards, "no shard {to}");
        let lane = &inner.mesh.lanes[inner.me * inner.mesh.shards + peer];
        let seen_head = &mut inner.seen_heads.borrow_mut()[peer];
        // SAFETY: only this shard's end, which stays on its thread, produces on this lane.
        unsafe { lane.push(message, seen_head) }?;
        inner.tell(peer);
        Ok(())
    }

    /// Sends, waiting for room.
    pub async fn send(&self, to: ShardId, mut message: T) {
        loop {
            message = match self.try_send(to, message) {
                Ok(()) => return,
                Err(message) => message,
            };
            let room = self.0.room.wait();
            let lane = &self.0.mesh.lanes[self.0.me * self.0.mesh.shards + usize::from(to.0)];
            lane.starve();
            // The peer may have made room before it could see that we starve.
            message = match self.try_send(to, message) {
                Ok(()) => return,
                Err(message) => message,
            };
            room.await;
        }
    }

    /// The next message, if there is one. Peers take turns.
    pub fn try_recv(&self) -> Option<(ShardId, T)> {
        let inner = &*self.0;
        let mut inbox = inner.inbox.borrow_mut();
        loop {
            let peer = next_bit(&inbox, inner.next.get())?;
            let lane = &inner.mesh.lanes[peer * inner.mesh.shards + inner.me];
            inner.next.set(peer + 1);
            // SAFETY: only this shard's end, which stays on its thread, consumes from this lane.
            match unsafe { lane.pop() } {
                Some((message, starved)) => {
                    if starved {
                        inner.tell(peer);
                    }
                    return Some((ShardId(peer as u16), message));
                }
                None => inbox[peer / 64] &= !(1 << (peer % 64)),
            }
        }
    }

    /// Waits for the next message. Peers take turns.
    pub async fn recv(&self) -> (ShardId, T) {
        loop {
            if let Some(received) = self.try_recv() {
                return received;
            }
            // What came since the last turn need not wait for the next.
            if !self.0.look() {
                self.0.arrived.wait().await;
            }
        }
    }

    /// Waits until `recv` would not, without taking anything.
    pub async fn readable(&self) {
        let mut wait = self.0.arrived.wait();
        poll_fn(|cx| {
            if self.0.look() || next_bit(&self.0.inbox.borrow(), 0).is_some() {
                return Poll::Ready(());
            }
            std::pin::Pin::new(&mut wait).poll(cx)
        })
        .await;
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Post<T> {
        Post(self.0.clone())
    }
}

impl<T> Inner<T> {
    /// Tells a peer that there is something new from us: a message, or room.
    fn tell(&self, peer: usize) {
        let news = &self.mesh.news[peer].0[self.me / 64];
        let bit = 1 << (self.me % 64);
        // Pairs with the fence in `look`: either we see that the peer has taken the bit, or it
        // sees what we have just put into the lane.
        fence(Ordering::SeqCst);
        if news.load(Ordering::Relaxed) & bit == 0 {
            news.fetch_or(bit, Ordering::Release);
            self.doorbells[peer].ring();
        }
    }

    /// Takes the news over; answers whether there was any.
    fn look(&self) -> bool {
        let mut any = false;
        for (word, news) in self.mesh.news[self.me].0.iter().enumerate() {
            if news.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let bits = news.swap(0, Ordering::Acquire);
            fence(Ordering::SeqCst);
            self.inbox.borrow_mut()[word] |= bits;
            any |= bits != 0;
        }
        if any {
            self.room.notify_all();
            self.arrived.notify_all();
        }
        any
    }
}

impl<T> Poller for Inner<T> {
    fn poll(&self) -> bool {
        self.look()
    }
}

/// The first set bit at or after `from`, else the first at all.
fn next_bit(words: &[u64], from: usize) -> Option<usize> {
    let scan = |from: usize| {
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in words.iter().enumerate().skip(from / 64) {
            let masked = word & std::mem::replace(&mut mask, u64::MAX);
            if masked != 0 {
                return Some(at * 64 + masked.trailing_zeros() as usize);
            }
        }
        None
    };
    scan(from).or_else(|| if from > 0 { scan(0) } else { None })
}
