//! Events in the order of their time, and a hash over all that happened.

use std::collections::BTreeMap;

/// What will happen.
pub(super) enum Event {
    /// An operation on a disk ends.
    Disk { driver: usize, op: u64 },
    /// A part of a direct write reaches the device.
    Land { write: u64, piece: usize },
    /// The next segment that this socket sent arrives.
    Arrive { from: u64 },
    /// A connection request arrives.
    Syn { driver: usize, op: u64, tries: u32 },
    /// Once a second of a machine.
    Second { machine: usize },
}

/// Events by time, and among those of one time in the order in which they were made.
pub(super) struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            events: BTreeMap::new(),
            made: 0,
        }
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), event);
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, Event)> {
        let at = *self.events.keys().next().filter(|(at, _)| *at <= now)?;
        self.events.remove(&at).map(|event| (at.0, event))
    }

    /// Takes the events out for which `which` holds.
    pub(super) fn retain(&mut self, mut which: impl FnMut(&Event) -> bool) {
        self.events.retain(|_, event| which(event));
    }
}

/// A hash over everything that happened, in its order.
#[derive(Clone, Copy)]
pub(super) struct Trace(pub(super) u64);

impl Trace {
    pub(super) fn note(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        // a taste is enough: who sent or wrote them is in the trace already
        let taste = &bytes[..bytes.len().min(256)];
        self.note(u64::from(crate::base::checksum::crc32c(taste)) << 32 | bytes.len() as u64);
    }
}
