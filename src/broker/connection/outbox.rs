//! Answers of pipelined Produce requests, in the order of the requests.
//!
//! A Produce is appended when it arrives, and its answer is written down at once, because all that
//! it says is known then; it waits here until it is true. Should it not become true, the numbers
//! in it are overwritten.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::base::error_code::ErrorCode;
use crate::base::time::Monotonic;
use crate::broker::calls::Pending;
use crate::broker::message::{ProduceOutcome, Reply};
use crate::log::Ticket;
use crate::ring::sync::Event;

/// What must have happened before an answer is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: acks=0.
    #[default]
    None,
    /// The kernel has the bytes: acks=1.
    Written,
    /// They are on stable storage: acks=all.
    Flushed,
}

impl Durability {
    /// What `acks` asks for; `None` for values that Kafka does not know.
    pub fn of_acks(acks: i16) -> Option<Durability> {
        match acks {
            0 => Some(Durability::None),
            1 => Some(Durability::Written),
            -1 => Some(Durability::Flushed),
            _ => None,
        }
    }
}

/// Where a partition stands in an answer.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Place of its error code in the bytes.
    pub at: u32,
    /// How many partitions stand before it.
    pub number: u32,
}

/// An answer that waits.
#[derive(Default)]
pub struct Answer {
    /// The whole frame; empty where nothing is sent.
    pub bytes: Vec<u8>,
    /// What it waits for.
    pub durability: Durability,
    /// Groups of this shard that it waits for.
    pub tickets: Vec<Ticket>,
    /// Place in `tickets`, and place in `bytes` of the error code, of each partition appended here.
    pub promised: Vec<(u32, u32)>,
    /// Other shards that it waits for, with the places of what they were given.
    pub remote: Vec<(Pending<Reply>, Vec<Place>)>,
    /// Version of the request.
    pub version: i16,
    /// When the client's patience ends.
    pub deadline: Monotonic,
    /// When the request had arrived.
    pub received: Monotonic,
    /// When its records lay in the journal's group.
    pub appended: Monotonic,
    /// When all that it waited for had happened.
    pub settled: Monotonic,
    /// Bytes of the request's frame.
    pub request_bytes: usize,
}

/// A list that takes more keeps none of it: there are thousands of answers to use again.
const KEPT_BYTES: usize = 64 * 1024;

fn empty<T>(list: &mut Vec<T>) {
    if list.capacity() * size_of::<T>() > KEPT_BYTES {
        *list = Vec::new();
    } else {
        list.clear();
    }
}

impl Answer {
    /// Makes it ready for another request; memory stays, but for what only a giant one has a use for.
    pub fn clear(&mut self) {
        empty(&mut self.bytes);
        self.durability = Durability::None;
        empty(&mut self.tickets);
        empty(&mut self.promised);
        empty(&mut self.remote);
        self.request_bytes = 0;
    }

    /// Notes that the partition whose error code stands at `place` waits for a group.
    pub fn promise(&mut self, ticket: Ticket, place: u32) {
        let known = self.tickets.iter().position(|t| *t == ticket);
        let group = known.unwrap_or_else(|| {
            self.tickets.push(ticket);
            self.tickets.len() - 1
        });
        self.promised.push((group as u32, place));
    }

    /// Writes an error over what was promised for the partitions of a group.
    pub fn fail_group(&mut self, group: usize, error: ErrorCode) {
        for n in 0..self.promised.len() {
            let (of, place) = self.promised[n];
            if of as usize == group {
                self.put(place, &ProduceOutcome::failed(error));
            }
        }
    }

    /// Writes what became of a partition over the place where its error code stands.
    pub fn put(&mut self, place: u32, outcome: &ProduceOutcome) {
        let at = place as usize;
        let mut write = |at: usize, bytes: &[u8]| {
            if let Some(to) = self.bytes.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        };
        write(at, &outcome.error.code().to_be_bytes());
        write(at + 2, &outcome.base_offset.to_be_bytes());
        write(at + 10, &outcome.log_append_time_ms.to_be_bytes());
        if self.version >= 5 {
            write(at + 18, &outcome.log_start_offset.to_be_bytes());
        }
    }
}

/// The answers of one connection that are still to be sent.
#[derive(Default)]
pub struct Outbox {
    waiting: RefCell<VecDeque<Box<Answer>>>,
    /// Answers not fully sent, those that the writer holds included.
    open: Cell<usize>,
    /// Bytes of their requests.
    open_bytes: Cell<usize>,
    came: Event,
    went: Event,
    closed: Cell<bool>,
}

impl Outbox {
    /// Puts an answer at the end.
    pub fn push(&self, answer: Box<Answer>) {
        self.open.set(self.open.get() + 1);
        self.open_bytes
            .set(self.open_bytes.get() + answer.request_bytes);
        self.waiting.borrow_mut().push_back(answer);
        self.came.notify_all();
    }

    /// Answers not fully sent.
    pub fn len(&self) -> usize {
        self.open.get()
    }

    /// Everything is sent.
    pub fn is_empty(&self) -> bool {
        self.open.get() == 0
    }

    /// Bytes of the requests whose answers are not fully sent.
    pub fn request_bytes(&self) -> usize {
        self.open_bytes.get()
    }

    /// The next answer, for the writer; `None` once closed.
    pub async fn next(&self) -> Option<Box<Answer>> {
        loop {
            if self.closed.get() {
                return None;
            }
            if let Some(answer) = self.waiting.borrow_mut().pop_front() {
                return Some(answer);
            }
            self.came.wait().await;
        }
    }

    /// The next answer if there is one and `ready` likes it.
    pub fn next_if(&self, ready: impl FnOnce(&Answer) -> bool) -> Option<Box<Answer>> {
        let mut waiting = self.waiting.borrow_mut();
        if ready(waiting.front()?) {
            waiting.pop_front()
        } else {
            None
        }
    }

    /// An answer that [`Outbox::next`] gave is sent.
    pub fn done(&self, answer: &Answer) {
        self.open.set(self.open.get() - 1);
        self.open_bytes
            .set(self.open_bytes.get() - answer.request_bytes);
        self.went.notify_all();
    }

    /// Waits until at most `answers` are open and at most `bytes` of requests, or it is closed.
    pub async fn below(&self, answers: usize, bytes: usize) {
        while (self.open.get() > answers || self.open_bytes.get() > bytes) && !self.closed.get() {
            self.went.wait().await;
        }
    }

    /// Nothing more is sent: the connection is broken.
    pub fn close(&self) {
        self.closed.set(true);
        self.came.notify_all();
        self.went.notify_all();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_overwrites_just_its_own_numbers() {
        let mut answer = Answer {
            bytes: vec![0xaa; 40],
            version: 7,
            ..Answer::default()
        };
        answer.put(4, &ProduceOutcome::failed(ErrorCode::KafkaStorageError));
        assert_eq!(answer.bytes[..4], [0xaa; 4]);
        assert_eq!(answer.bytes[4..6], 56i16.to_be_bytes());
        assert_eq!(
            answer.bytes[6..30],
            [0xff; 24],
            "no offset, no time, no start"
        );
        assert_eq!(answer.bytes[30..], [0xaa; 10]);
    }

    #[test]
    fn an_answer_that_is_used_again_keeps_little_memory() {
        let mut answer = Answer {
            bytes: vec![0; KEPT_BYTES],
            promised: vec![(0, 0); KEPT_BYTES],
            ..Answer::default()
        };
        answer.clear();
        assert!(answer.bytes.is_empty() && answer.promised.is_empty());
        assert_eq!(answer.bytes.capacity(), KEPT_BYTES);
        assert_eq!(answer.promised.capacity(), 0);
        answer.bytes = vec![0; KEPT_BYTES + 1];
        answer.clear();
        assert_eq!(answer.bytes.capacity(), 0);
    }

    #[test]
    fn before_version_five_there_is_no_start_to_overwrite() {
        let mut answer = Answer {
            bytes: vec![0; 20],
            version: 4,
            ..Answer::default()
        };
        answer.put(0, &ProduceOutcome::failed(ErrorCode::RequestTimedOut));
        assert_eq!(answer.bytes[18..], [0, 0]);
    }
}
