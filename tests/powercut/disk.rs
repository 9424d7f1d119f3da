//! The disk under test: an image that notes everything it is asked to do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::image::Image;
use crate::recording::{Kind, Operation, Recording};
use crate::support::sequence;
use crate::support::wait::pause;
use corelane::ring::sim::Rng;

/// A disk that is served as a file and notes writes and flushes with their data.
pub struct Disk {
    state: Mutex<State>,
}

struct State {
    image: Image,
    base: Image,
    operations: Vec<Operation>,
    random: Rng,
}

impl Disk {
    /// A disk that holds `image`.
    pub fn new(image: Image, random: Rng) -> Disk {
        Disk {
            state: Mutex::new(State {
                base: image.clone(),
                image,
                operations: Vec::new(),
                random,
            }),
        }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.state().image.size()
    }

    /// The bytes at an offset, or nothing if they do not lie on the disk.
    pub fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let state = self.state();
        let holds = state.image.holds(offset, length as u64);
        holds.then(|| state.image.read(offset, length))
    }

    /// Writes to the cache of the disk; false if that is not on the disk.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if !state.image.holds(offset, bytes.len() as u64) {
            return false;
        }
        state.image.write(offset, bytes);
        let bytes = bytes.into();
        // one write in eight takes its time, so that others and flushes overtake it
        let slow = state.random.below(8) == 0;
        let latency = if slow { state.random.below(300) } else { 0 };
        self.complete(state, Kind::Write { offset, bytes }, latency);
        true
    }

    /// Flushes the cache of the disk.
    pub fn flush(&self) {
        let mut state = self.state();
        // as long as a disk may take: what waits for it goes into the next commit
        let latency = state.random.below(2_000);
        self.complete(state, Kind::Flush, latency);
    }

    /// Notes an operation and its end, between which others may come.
    fn complete<'a>(&'a self, mut state: MutexGuard<'a, State>, kind: Kind, latency_us: u64) {
        let number = state.operations.len();
        let begun = sequence::next();
        let ended = None;
        state.operations.push(Operation { kind, begun, ended });
        if latency_us > 0 {
            drop(state);
            pause(Duration::from_micros(latency_us));
            state = self.state();
        }
        state.operations[number].ended = Some(sequence::next());
    }

    /// What the disk holds now, cache and all.
    pub fn image(&self) -> Image {
        self.state().image.clone()
    }

    /// Everything that was asked up to now.
    pub fn recording(&self) -> Recording {
        let state = self.state();
        Recording {
            base: state.base.clone(),
            operations: state.operations.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a panic elsewhere must not leave the kernel without answers
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
