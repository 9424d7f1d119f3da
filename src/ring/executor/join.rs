//! Waiting for a task, and ending it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::tasks::{Class, TaskId, Tasks};

struct State<T> {
    result: Cell<Option<T>>,
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A running task. Dropping it ends the task: it is not polled again, and its future is dropped in
/// the next turn.
#[must_use = "the task ends when this is dropped; detach it to let it run"]
pub struct JoinHandle<T> {
    state: Rc<State<T>>,
    tasks: Rc<Tasks>,
    task: TaskId,
    detached: bool,
}

pub(super) fn spawn<T: 'static>(
    tasks: &Rc<Tasks>,
    class: Class,
    future: impl Future<Output = T> + 'static,
) -> JoinHandle<T> {
    let state = Rc::new(State {
        result: Cell::new(None),
        ended: Cell::new(false),
        waker: RefCell::new(None),
    });
    let theirs = state.clone();
    let task = tasks.spawn(
        class,
        Box::pin(async move {
            let result = future.await;
            theirs.result.set(Some(result));
            theirs.ended.set(true);
            if let Some(waker) = theirs.waker.borrow_mut().take() {
                waker.wake();
            }
        }),
    );
    JoinHandle {
        state,
        tasks: tasks.clone(),
        task,
        detached: false,
    }
}

impl<T> JoinHandle<T> {
    /// Lets the task run to its end without anybody waiting for it.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Whether the task has come to its end.
    pub fn is_finished(&self) -> bool {
        self.state.ended.get()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(result) = self.state.result.take() {
            return Poll::Ready(result);
        }
        *self.state.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if !self.detached && !self.state.ended.get() {
            self.tasks.cancel(self.task);
        }
    }
}
