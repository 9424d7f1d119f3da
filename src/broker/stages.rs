//! How far the shards of a machine are: counted on shard 0, told to the others.

use std::cell::Cell;

use crate::ring::sync::Event;

/// The stages of a machine's run.
#[derive(Default)]
pub struct Stages {
    ready: Cell<u16>,
    drained: Cell<u16>,
    closed: Cell<u16>,
    close: Cell<bool>,
    moved: Event,
}

impl Stages {
    /// Another shard serves.
    pub fn ready(&self) {
        self.ready.set(self.ready.get() + 1);
        self.moved.notify_all();
    }

    /// Another shard has no connection any more.
    pub fn drained(&self) {
        self.drained.set(self.drained.get() + 1);
        self.moved.notify_all();
    }

    /// Another shard's log is closed.
    pub fn closed(&self) {
        self.closed.set(self.closed.get() + 1);
        self.moved.notify_all();
    }

    /// This shard may close its log.
    pub fn close(&self) {
        self.close.set(true);
        self.moved.notify_all();
    }

    /// Waits until so many others serve.
    pub async fn all_ready(&self, others: u16) {
        while self.ready.get() < others {
            self.moved.wait().await;
        }
    }

    /// Waits until so many others have no connection.
    pub async fn all_drained(&self, others: u16) {
        while self.drained.get() < others {
            self.moved.wait().await;
        }
    }

    /// Waits until so many others are closed.
    pub async fn all_closed(&self, others: u16) {
        while self.closed.get() < others {
            self.moved.wait().await;
        }
    }

    /// Waits until this shard may close.
    pub async fn may_close(&self) {
        while !self.close.get() {
            self.moved.wait().await;
        }
    }
}
