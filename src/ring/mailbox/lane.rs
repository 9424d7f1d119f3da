//! One direction between two shards: a bounded ring with one producer and one consumer.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// On a line of its own (two, as processors fetch pairs), so that the two ends do not slow each other.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct Padded<T>(pub(super) T);

/// Positions only grow; a slot is a position modulo the capacity.
pub(super) struct Lane<T> {
    /// Next position that the producer fills. Written by the producer.
    tail: Padded<AtomicUsize>,
    /// Next position that the consumer empties. Written by the consumer.
    head: Padded<AtomicUsize>,
    /// The producer wants to hear of room.
    starved: Padded<AtomicBool>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: values move from the producer's thread to the consumer's, ordered by `tail` and `head`;
// that each end is used by one thread is promised by callers of `push` and `pop`.
unsafe impl<T: Send> Sync for Lane<T> {}
// SAFETY: it owns values that are `Send`.
unsafe impl<T: Send> Send for Lane<T> {}

impl<T> Lane<T> {
    pub(super) fn new(capacity: usize) -> Lane<T> {
        let slots = capacity.max(1).next_power_of_two();
        Lane {
            tail: Padded::default(),
            head: Padded::default(),
            starved: Padded::default(),
            slots: (0..slots)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
        }
    }

    /// Adds a value if there is room. `seen_head` is the producer's own memory of the consumer's
    /// position.
    ///
    /// # Safety
    /// Only the producer's thread calls this.
    pub(super) unsafe fn push(&self, value: T, seen_head: &mut usize) -> Result<(), T> {
        let tail = self.tail.0.load(Ordering::Relaxed);
        if tail - *seen_head == self.slots.len() {
            *seen_head = self.head.0.load(Ordering::Acquire);
            if tail - *seen_head == self.slots.len() {
                return Err(value);
            }
        }
        let slot = &self.slots[tail & (self.slots.len() - 1)];
        // SAFETY: the slot lies outside of head..tail, so that the consumer does not touch it.
        unsafe { (*slot.get()).write(value) };
        self.tail.0.store(tail + 1, Ordering::Release);
        Ok(())
    }

    /// Takes the oldest value; also answers whether the producer wants to hear of room. It is asked
    /// once a quarter of the ring, for a fence costs more than the rest: a starved producer has a full ring
    /// before it, so that the consumer passes such a point before it runs dry.
    ///
    /// # Safety
    /// Only the consumer's thread calls this.
    pub(super) unsafe fn pop(&self) -> Option<(T, bool)> {
        let head = self.head.0.load(Ordering::Relaxed);
        if head == self.tail.0.load(Ordering::Acquire) {
            return None;
        }
        let slot = &self.slots[head & (self.slots.len() - 1)];
        // SAFETY: filled by the producer before it moved `tail`, and emptied once.
        let value = unsafe { (*slot.get()).assume_init_read() };
        self.head.0.store(head + 1, Ordering::Release);
        let quarter = (self.slots.len() / 4).max(1);
        let starved = (head + 1) & (quarter - 1) == 0 && self.take_starved();
        Some((value, starved))
    }

    /// The producer asks to be told of room. It has to try once more after this.
    pub(super) fn starve(&self) {
        self.starved.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether the producer asked to be told, after room was made. Pairs with the fence in `starve`: either
    /// the producer's second try finds the room, or we find its flag.
    fn take_starved(&self) -> bool {
        fence(Ordering::SeqCst);
        self.starved.0.load(Ordering::Relaxed) && self.starved.0.swap(false, Ordering::Relaxed)
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has the lane any more.
        while let Some(value) = unsafe { self.pop() } {
            drop(value);
        }
    }
}
