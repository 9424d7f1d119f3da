//! Wakers that cost nothing on their own thread and are sound on any other.
//!
//! A waker is a number: executor, task, and a generation of both. It holds no memory, so cloning
//! and dropping it are free; one that outlives its task wakes nothing, or (after a generation
//! came round) somebody for nothing, which futures allow. On the executor's thread a wake goes straight
//! to the run queue; from elsewhere it goes through a locked list and the doorbell.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::tasks::{TaskId, Tasks};
use crate::ring::driver::Doorbell;

const EXECUTOR_BITS: u32 = 10;
const EXECUTOR_GENERATION_BITS: u32 = 14;
/// Bits of a task's generation in a waker.
pub(super) const GENERATION_BITS: u32 = 18;
/// Bits of a task's slot in a waker.
pub(super) const SLOT_BITS: u32 = 22;

/// Executors of one process at one time.
const EXECUTORS: usize = 1 << EXECUTOR_BITS;

struct Entry {
    /// The thread that may touch `tasks`; 0 for none.
    thread: AtomicU64,
    tasks: AtomicPtr<Tasks>,
    has_remote: AtomicBool,
    remote: Mutex<Remote>,
}

struct Remote {
    taken: bool,
    generation: u64,
    woken: Vec<TaskId>,
    doorbell: Option<Arc<dyn Doorbell>>,
}

static ENTRIES: [Entry; EXECUTORS] = [const {
    Entry {
        thread: AtomicU64::new(0),
        tasks: AtomicPtr::new(std::ptr::null_mut()),
        has_remote: AtomicBool::new(false),
        remote: Mutex::new(Remote {
            taken: false,
            generation: 0,
            woken: Vec::new(),
            doorbell: None,
        }),
    }
}; EXECUTORS];

/// A number of this thread that no other thread ever had.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static TOKEN: Cell<u64> = const { Cell::new(0) });
    TOKEN.with(|token| {
        if token.get() == 0 {
            token.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        token.get()
    })
}

fn lock(remote: &Mutex<Remote>) -> MutexGuard<'_, Remote> {
    remote.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An executor's place in the table of all, by which its wakers find it. Not `Send`.
pub(super) struct Registration {
    index: usize,
    generation: u64,
    _tasks: Rc<Tasks>,
}

impl Registration {
    /// Makes `tasks` known to wakers.
    ///
    /// # Panics
    /// If there are more than a thousand executors.
    pub(super) fn new(tasks: Rc<Tasks>, doorbell: Arc<dyn Doorbell>) -> Registration {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let mut remote = lock(&entry.remote);
            if remote.taken {
                continue;
            }
            remote.taken = true;
            remote.generation += 1;
            remote.doorbell = Some(doorbell);
            entry
                .tasks
                .store(Rc::as_ptr(&tasks).cast_mut(), Ordering::Relaxed);
            entry.thread.store(this_thread(), Ordering::Release);
            return Registration {
                index,
                generation: remote.generation & mask(EXECUTOR_GENERATION_BITS),
                _tasks: tasks,
            };
        }
        panic!("more than {EXECUTORS} executors at one time");
    }

    /// A waker of a task.
    pub(super) fn waker(&self, task: TaskId) -> Waker {
        let mut word = self.index as u64;
        word = word << EXECUTOR_GENERATION_BITS | self.generation;
        word = word << GENERATION_BITS | (u64::from(task.generation) & mask(GENERATION_BITS));
        word = word << SLOT_BITS | u64::from(task.slot);
        // SAFETY: the table's functions take any number, on any thread.
        unsafe { Waker::from_raw(RawWaker::new(to_pointer(word), &TABLE)) }
    }

    /// Moves what other threads woke to the run queue.
    pub(super) fn take_remote(&self, tasks: &Tasks) -> bool {
        let entry = &ENTRIES[self.index];
        if !entry.has_remote.load(Ordering::Relaxed) {
            return false;
        }
        let mut remote = lock(&entry.remote);
        entry.has_remote.store(false, Ordering::Relaxed);
        for task in remote.woken.drain(..) {
            tasks.wake(task);
        }
        true
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let entry = &ENTRIES[self.index];
        entry.thread.store(0, Ordering::Release);
        entry.tasks.store(std::ptr::null_mut(), Ordering::Relaxed);
        let mut remote = lock(&entry.remote);
        remote.taken = false;
        remote.doorbell = None;
        remote.woken.clear();
        entry.has_remote.store(false, Ordering::Relaxed);
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

fn to_pointer(word: u64) -> *const () {
    const { assert!(size_of::<usize>() == 8) };
    std::ptr::without_provenance(word as usize)
}

static TABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &TABLE), wake, wake, |_| {});

fn wake(data: *const ()) {
    let mut word = data.addr() as u64;
    let slot = (word & mask(SLOT_BITS)) as u32;
    word >>= SLOT_BITS;
    let generation = (word & mask(GENERATION_BITS)) as u32;
    word >>= GENERATION_BITS;
    let executor_generation = word & mask(EXECUTOR_GENERATION_BITS);
    let entry = &ENTRIES[(word >> EXECUTOR_GENERATION_BITS) as usize];
    let task = TaskId { slot, generation };
    if entry.thread.load(Ordering::Acquire) == this_thread() {
        // SAFETY: a registration on this thread is alive, for it removes itself on this thread
        // before its tasks go, and it cannot move to another.
        let tasks = unsafe { &*entry.tasks.load(Ordering::Relaxed) };
        tasks.wake(task);
        return;
    }
    let mut remote = lock(&entry.remote);
    if !remote.taken || remote.generation & mask(EXECUTOR_GENERATION_BITS) != executor_generation {
        return;
    }
    remote.woken.push(task);
    entry.has_remote.store(true, Ordering::Relaxed);
    let doorbell = remote.doorbell.clone();
    drop(remote);
    if let Some(doorbell) = doorbell {
        doorbell.ring();
    }
}
