//! Who holds the ring's space: entries in order, each with the number of partitions whose bytes
//! are in no segment yet. Only the oldest entries can go, and only once a durable table says what
//! they did.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::base::limits::PAGE_BYTES;
use crate::log::segment::Place;

/// Names a partition within one journal of one shard.
pub type SlotId = u32;

/// An entry that the ring still holds.
#[derive(Debug, Default)]
struct Live {
    position: u64,
    len: u64,
    crc: u32,
    previous_crc: u32,
    /// Partitions with bytes here that are not durable in their segments.
    pins: u32,
    /// It did something that only a table can replace.
    control: bool,
    slots: SmallVec<[SlotId; 4]>,
}

/// Where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Fill the ring's end from this position on first; the SKIP takes a sequence of its own.
    pub skip: Option<(u64, u64)>,
    /// Where the entry begins.
    pub position: u64,
}

/// The first entry that a superblock must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Its place.
    pub position: u64,
    /// Its sequence.
    pub sequence: u64,
    /// CRC of the header before it.
    pub previous_crc: u32,
    /// CRC of its own header; `None` if it is not written yet.
    pub crc: Option<u32>,
}

/// One ring's space.
#[derive(Debug)]
pub struct RingSpace {
    start: u64,
    end: u64,
    head: u64,
    used: u64,
    next_sequence: u64,
    last_crc: u32,
    live: VecDeque<Live>,
    /// Lists that did not fit inline, for the next ones.
    spare_lists: Vec<SmallVec<[SlotId; 4]>>,
    /// Bytes placed since the start; two entries are a lap apart when it differs by the capacity.
    placed: u64,
}

impl RingSpace {
    /// An empty ring over the bytes `start..end` of its file, whose next entry has this place,
    /// sequence and predecessor.
    pub fn new(start: u64, end: u64, head: u64, next_sequence: u64, last_crc: u32) -> RingSpace {
        RingSpace {
            start,
            end,
            head: if head >= end { start } else { head },
            used: 0,
            next_sequence,
            last_crc,
            live: VecDeque::new(),
            spare_lists: Vec::new(),
            placed: 0,
        }
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes that entries hold.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Bytes placed since this value was made, skips included.
    pub fn placed(&self) -> u64 {
        self.placed
    }

    /// One past the ring's last byte in its file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The sequence that the next entry gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// CRC of the newest header.
    pub fn last_crc(&self) -> u32 {
        self.last_crc
    }

    /// The largest entry that this ring takes.
    pub fn max_entry(&self) -> u64 {
        self.capacity() / 8
    }

    /// The last page is kept for a SKIP, so that every wrap has one: a reader needs no other hint,
    /// however the ring grew.
    fn skip(&self, len: u64) -> u64 {
        match self.head + len + PAGE_BYTES as u64 > self.end {
            true => self.end - self.head,
            false => 0,
        }
    }

    /// Whether an entry fits now and leaves `reserve` bytes.
    pub fn fits(&self, len: u64, reserve: u64) -> bool {
        self.used + self.skip(len) + len + reserve <= self.capacity()
    }

    /// Where an entry of `len` bytes goes.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn placement(&self, len: u64) -> Placement {
        assert!(
            self.fits(len, 0),
            "room is asked for before a group is made"
        );
        match self.skip(len) {
            0 => Placement {
                skip: None,
                position: self.head,
            },
            rest => Placement {
                skip: Some((self.head, rest)),
                position: self.start,
            },
        }
    }

    /// Takes the next entry in, at the place that [`RingSpace::placement`] named, and gives its
    /// sequence.
    pub fn push(&mut self, len: u64, crc: u32, control: bool) -> u64 {
        assert!(self.head + len <= self.end);
        let sequence = self.next_sequence;
        self.live.push_back(Live {
            position: self.head,
            len,
            crc,
            previous_crc: self.last_crc,
            pins: 0,
            control,
            slots: self.spare_lists.pop().unwrap_or_default(),
        });
        self.last_crc = crc;
        self.next_sequence += 1;
        self.used += len;
        self.placed += len;
        self.head += len;
        if self.head == self.end {
            self.head = self.start; // it was a SKIP
        }
        sequence
    }

    fn first_sequence(&self) -> u64 {
        self.next_sequence - self.live.len() as u64
    }

    fn entry(&mut self, sequence: u64) -> &mut Live {
        let index = sequence - self.first_sequence();
        &mut self.live[index as usize]
    }

    /// A partition has bytes in that entry.
    pub fn pin(&mut self, sequence: u64, slot: SlotId) {
        let entry = self.entry(sequence);
        entry.pins += 1;
        entry.slots.push(slot);
    }

    /// A partition's bytes of that entry are durable elsewhere.
    pub fn unpin(&mut self, sequence: u64) {
        let entry = self.entry(sequence);
        entry.pins -= 1;
    }

    /// The first entry that must stay once a table holds the state up to `captured`: everything
    /// before it may go when the superblock names it. An entry above `durable` is named without
    /// its CRC: it may never have been written.
    pub fn first_needed(&self, captured: u64, durable: u64) -> First {
        let first = self.first_sequence();
        for (i, entry) in self.live.iter().enumerate() {
            let sequence = first + i as u64;
            if entry.pins == 0 && sequence <= captured {
                continue;
            }
            return First {
                position: entry.position,
                sequence,
                previous_crc: entry.previous_crc,
                crc: (sequence <= durable).then_some(entry.crc),
            };
        }
        First {
            position: self.head,
            sequence: self.next_sequence,
            previous_crc: self.last_crc,
            crc: None,
        }
    }

    /// Gives the space of all entries before `sequence` back.
    pub fn free_before(&mut self, sequence: u64) {
        while self.first_sequence() < sequence {
            let Some(mut entry) = self.live.pop_front() else {
                break;
            };
            debug_assert_eq!(entry.pins, 0);
            self.used -= entry.len;
            if entry.slots.spilled() {
                entry.slots.clear();
                self.spare_lists.push(std::mem::take(&mut entry.slots));
            }
        }
    }

    /// Partitions that hold the oldest entries, oldest first, until `bytes` of the ring are walked.
    /// One that was unpinned meanwhile may be named too, and one may be named often.
    pub fn oldest(&self, bytes: u64) -> impl Iterator<Item = SlotId> + '_ {
        let mut walked = 0;
        self.live
            .iter()
            .take_while(move |entry| {
                let more = walked < bytes;
                walked += entry.len;
                more
            })
            .filter(|entry| entry.pins > 0)
            .flat_map(|entry| entry.slots.iter().copied())
    }

    /// The last sequence among the oldest entries that together have `bytes`.
    pub fn sequence_at(&self, bytes: u64) -> u64 {
        let mut walked = 0;
        let mut sequence = self.first_sequence();
        for entry in &self.live {
            if walked >= bytes {
                break;
            }
            walked += entry.len;
            sequence += 1;
        }
        sequence.saturating_sub(1)
    }

    /// Whether anything in the ring is still needed, or not yet in a table.
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether an entry did something that only a table can replace.
    pub fn has_control(&self) -> bool {
        self.live.iter().any(|entry| entry.control)
    }

    /// Whether the ring may grow now: entries lie in one piece, so that its end is free.
    pub fn can_grow(&self) -> bool {
        self.live
            .front()
            .is_none_or(|oldest| oldest.position < self.head)
    }

    /// The ring's file got longer.
    ///
    /// # Panics
    /// If [`RingSpace::can_grow`] says no.
    pub fn grow(&mut self, end: u64) {
        assert!(end >= self.end && self.can_grow());
        self.end = end;
    }
}

/// What keeps a partition's bytes in the ring: up to which place, in which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The entry.
    pub sequence: u64,
    /// End of the partition's bytes in it.
    pub end: Place,
}

/// A partition's pins, oldest first.
#[derive(Debug, Default)]
pub struct Pins(VecDeque<Pin>);

impl Pins {
    /// Bytes up to `end` are in this entry.
    pub fn add(&mut self, space: &mut RingSpace, slot: SlotId, pin: Pin) {
        space.pin(pin.sequence, slot);
        self.0.push_back(pin);
    }

    /// Bytes up to `durable` are durable in their segments.
    pub fn release(&mut self, space: &mut RingSpace, durable: Place) {
        while let Some(pin) = self.0.front().filter(|pin| pin.end <= durable) {
            space.unpin(pin.sequence);
            self.0.pop_front();
        }
    }

    /// A durable entry carries all bytes that older ones pinned.
    pub fn carried(&mut self, space: &mut RingSpace, sequence: u64) {
        while let Some(pin) = self.0.front().filter(|pin| pin.sequence < sequence) {
            space.unpin(pin.sequence);
            self.0.pop_front();
        }
    }

    /// The log ends at `end` now: bytes beyond are not wanted any more.
    pub fn cut(&mut self, end: Place) {
        for pin in &mut self.0 {
            pin.end = pin.end.min(end);
        }
    }

    /// Lets go of everything: the partition is gone.
    pub fn clear(&mut self, space: &mut RingSpace) {
        for pin in self.0.drain(..) {
            space.unpin(pin.sequence);
        }
    }

    /// The oldest entry that is pinned.
    pub fn oldest(&self) -> Option<u64> {
        self.0.front().map(|pin| pin.sequence)
    }
}
