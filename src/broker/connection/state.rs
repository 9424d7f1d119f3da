//! What is known of one connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use crate::base::time::Monotonic;
use crate::broker::auth::Principal;
use crate::broker::clients;
use crate::broker::connection::outbox::Outbox;
use crate::broker::lanes::LaneView;
use crate::broker::listener::BoundListener;
use crate::broker::transport::Transport;
use crate::ring::JoinHandle;

/// A connection on its shard.
pub struct Connection {
    /// Place of its listener among the shard's.
    pub listener: usize,
    /// The other end.
    pub peer: SocketAddr,
    /// Who it is.
    pub principal: Principal,
    /// Name and version of the client's library, from ApiVersions.
    software: RefCell<Option<(String, String)>>,
    may_see_lanes: Cell<bool>,
    /// It stays on this shard.
    pub(crate) bound: Cell<bool>,
    /// The socket; taken when the connection moves.
    pub(crate) transport: RefCell<Option<Transport>>,
    /// Answers of pipelined requests.
    pub(crate) outbox: Outbox,
    /// The writer of `outbox`, once it runs.
    pub(crate) writer: RefCell<Option<JoinHandle<()>>>,
    /// Waits for the client's end, once a fetch might wait longer than the client.
    pub(crate) watch: RefCell<Option<JoinHandle<()>>>,
    /// The client sends no more.
    pub(crate) gone: Cell<bool>,
    /// Place in the purgatory of the fetch that is being worked on.
    pub(crate) parked: Cell<Option<u32>>,
    /// Bytes of a large request are waited for, in memory that others may wait for.
    pub(crate) receiving: Cell<bool>,
    /// A request other than Produce is being worked on.
    pub(crate) working: Cell<bool>,
    /// When bytes last came or went.
    pub(crate) last_active: Cell<Monotonic>,
    /// When the answer that is being sent last moved on.
    pub(crate) sending_since: Cell<Option<Monotonic>>,
    /// Bytes that the client had taken when last looked at.
    taken: Cell<u64>,
    /// Not read before then.
    pub(crate) muted_until: Cell<Option<Monotonic>>,
    /// The fetch session made over it, 0 for none.
    pub(crate) session: Cell<i32>,
    /// Why it is being closed, if it was not the client's wish.
    pub(crate) closing: Cell<Option<&'static str>>,
}

impl Connection {
    /// A connection that begins.
    pub fn new(
        transport: Transport,
        peer: SocketAddr,
        listener: usize,
        now: Monotonic,
    ) -> Connection {
        Connection {
            listener,
            peer,
            principal: Principal::anonymous(),
            software: RefCell::new(None),
            may_see_lanes: Cell::new(false),
            bound: Cell::new(false),
            transport: RefCell::new(Some(transport)),
            outbox: Outbox::default(),
            writer: RefCell::new(None),
            watch: RefCell::new(None),
            gone: Cell::new(false),
            parked: Cell::new(None),
            receiving: Cell::new(false),
            working: Cell::new(false),
            last_active: Cell::new(now),
            sending_since: Cell::new(None),
            taken: Cell::new(0),
            muted_until: Cell::new(None),
            session: Cell::new(0),
            closing: Cell::new(None),
        }
    }

    /// Notes which library the client uses: decides whether it is shown lanes.
    pub fn set_software(&self, name: &str, version: &str) {
        self.may_see_lanes.set(clients::shows_lanes(name, version));
        *self.software.borrow_mut() = Some((name.to_owned(), version.to_owned()));
    }

    /// Name and version of the client's library, if it said so.
    pub fn software(&self) -> Option<(String, String)> {
        self.software.borrow().clone()
    }

    /// What this client is shown of the shards on its listener.
    pub fn view(&self, listener: &BoundListener) -> LaneView {
        listener.view(self.may_see_lanes.get())
    }

    /// A request of it is not answered yet.
    pub fn in_flight(&self) -> bool {
        self.working.get() || !self.outbox.is_empty()
    }

    /// The client took something of what is being sent since this was last asked.
    pub(crate) fn takes(&self) -> bool {
        let taken = match &*self.transport.borrow() {
            Some(transport) => transport.acknowledged().unwrap_or(0),
            None => 0,
        };
        self.taken.replace(taken) != taken
    }

    /// Ends it: whoever reads or writes its socket wakes.
    pub fn cut(&self, why: &'static str) {
        if self.closing.get().is_none() {
            self.closing.set(Some(why));
        }
        self.outbox.close();
        if let Some(transport) = &*self.transport.borrow() {
            // a socket that is gone already needs no end
            let _ = transport.shutdown();
        }
    }
}
