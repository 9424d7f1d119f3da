//! The tasks of a shard and the queues of those that can run.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use super::waker::{GENERATION_BITS, SLOT_BITS};

/// A task of this executor: a place, and how often it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// The place of the future that `block_on` polls.
pub(super) const MAIN: TaskId = TaskId {
    slot: 0,
    generation: 0,
};

/// Which queue a task runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Requests and what they wait for.
    Foreground,
    /// Compaction, retention, recovery: a bounded time a turn.
    Background,
}

pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    generation: u32,
    class: Class,
    queued: bool,
    cancelled: bool,
    alive: bool,
    /// None while it is polled.
    future: Option<TaskFuture>,
}

pub(super) struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    foreground: RefCell<VecDeque<u32>>,
    background: RefCell<VecDeque<u32>>,
    alive: Cell<usize>,
}

/// What a queue gave.
pub(super) enum Next {
    /// The future of `block_on`.
    Main,
    /// A task to poll, then to give back with [`Tasks::park`] or [`Tasks::finish`].
    Task(TaskId, TaskFuture),
    /// A task that was cancelled: to be dropped.
    Cancelled(TaskFuture),
}

impl Tasks {
    pub(super) fn new() -> Tasks {
        let main = Slot {
            generation: 0,
            class: Class::Foreground,
            queued: false,
            cancelled: false,
            alive: true,
            future: None,
        };
        Tasks {
            slots: RefCell::new(vec![main]),
            free: RefCell::new(Vec::new()),
            foreground: RefCell::new(VecDeque::with_capacity(256)),
            background: RefCell::new(VecDeque::new()),
            alive: Cell::new(0),
        }
    }

    /// Tasks that have not ended.
    pub(super) fn alive(&self) -> usize {
        self.alive.get()
    }

    /// Takes a task in, ready to run.
    ///
    /// # Panics
    /// If there are more than four million tasks.
    pub(super) fn spawn(&self, class: Class, future: TaskFuture) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            assert!(
                slots.len() < 1 << SLOT_BITS,
                "more tasks than a waker can name"
            );
            slots.push(Slot {
                generation: 0,
                class,
                queued: false,
                cancelled: false,
                alive: false,
                future: None,
            });
            slots.len() as u32 - 1
        });
        let entry = &mut slots[slot as usize];
        entry.class = class;
        entry.alive = true;
        entry.cancelled = false;
        entry.queued = true;
        entry.future = Some(future);
        self.alive.set(self.alive.get() + 1);
        self.queue(class).borrow_mut().push_back(slot);
        TaskId {
            slot,
            generation: entry.generation,
        }
    }

    fn queue(&self, class: Class) -> &RefCell<VecDeque<u32>> {
        match class {
            Class::Foreground => &self.foreground,
            Class::Background => &self.background,
        }
    }

    /// Puts a task into its queue, once.
    pub(super) fn wake(&self, task: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(task.slot as usize) else {
            return;
        };
        if slot.generation != task.generation || !slot.alive || slot.queued {
            return;
        }
        slot.queued = true;
        self.queue(slot.class).borrow_mut().push_back(task.slot);
    }

    /// Marks a task, which is dropped when its turn comes instead of being polled again.
    pub(super) fn cancel(&self, task: TaskId) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(task.slot as usize)
            && slot.generation == task.generation
            && slot.alive
        {
            slot.cancelled = true;
        }
        self.wake(task);
    }

    pub(super) fn is_ready(&self, class: Class) -> bool {
        !self.queue(class).borrow().is_empty()
    }

    /// The next task of a class that can run.
    pub(super) fn next(&self, class: Class) -> Option<Next> {
        let slot = self.queue(class).borrow_mut().pop_front()?;
        let mut slots = self.slots.borrow_mut();
        let entry = &mut slots[slot as usize];
        entry.queued = false;
        if slot == MAIN.slot {
            return Some(Next::Main);
        }
        let future = entry
            .future
            .take()
            .expect("a queued task is never being polled: only one is polled at a time");
        if entry.cancelled {
            self.retire(slot, entry);
            return Some(Next::Cancelled(future));
        }
        let generation = entry.generation;
        Some(Next::Task(TaskId { slot, generation }, future))
    }

    /// Puts a task that was polled and is not done back to its place.
    pub(super) fn park(&self, task: TaskId, future: TaskFuture) {
        self.slots.borrow_mut()[task.slot as usize].future = Some(future);
    }

    /// Frees the place of a task that is done.
    pub(super) fn finish(&self, task: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let entry = &mut slots[task.slot as usize];
        if entry.queued {
            // It woke itself and then ended.
            self.queue(entry.class)
                .borrow_mut()
                .retain(|&slot| slot != task.slot);
            entry.queued = false;
        }
        self.retire(task.slot, entry);
    }

    fn retire(&self, slot: u32, entry: &mut Slot) {
        entry.alive = false;
        entry.cancelled = false;
        entry.generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.free.borrow_mut().push(slot);
        self.alive.set(self.alive.get() - 1);
    }

    /// Drops every task, also those that others spawn while they are dropped.
    pub(super) fn clear(&self) {
        loop {
            let futures: Vec<TaskFuture> = {
                let mut slots = self.slots.borrow_mut();
                let parked = slots.iter_mut().filter_map(|slot| slot.future.take());
                parked.collect()
            };
            if futures.is_empty() {
                break;
            }
            drop(futures);
        }
        self.foreground.borrow_mut().clear();
        self.background.borrow_mut().clear();
    }
}
