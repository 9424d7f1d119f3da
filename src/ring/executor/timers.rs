//! A hierarchical timer wheel of 1 ms: arming and disarming cost the same however many there are.

use std::task::Waker;

const LEVELS: usize = 7;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 139 years: what lies beyond is as good as never.
const LAST_MS: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
const NONE: u32 = u32::MAX;

/// Names an armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u32);

struct Timer {
    deadline_ms: u64,
    waker: Option<Waker>,
    place: Place,
    next: u32,
    prev: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Fired,
    Armed { level: u8, slot: u8 },
}

struct Level {
    occupied: u64,
    heads: [u32; SLOTS],
    tails: [u32; SLOTS],
}

/// Timers in whole milliseconds, which fire in the order of their deadlines.
pub(super) struct Timers {
    now_ms: u64,
    levels: Box<[Level; LEVELS]>,
    timers: Vec<Timer>,
    free: Vec<u32>,
    armed: usize,
}

impl Timers {
    pub(super) fn new(now_ms: u64) -> Timers {
        Timers {
            now_ms: now_ms.min(LAST_MS),
            levels: Box::new(std::array::from_fn(|_| Level {
                occupied: 0,
                heads: [NONE; SLOTS],
                tails: [NONE; SLOTS],
            })),
            timers: Vec::new(),
            free: Vec::new(),
            armed: 0,
        }
    }

    /// Arms a timer; one whose time has come fires at the next [`Timers::advance`] beyond now.
    pub(super) fn arm(&mut self, deadline_ms: u64, waker: Waker) -> TimerKey {
        let timer = Timer {
            deadline_ms: deadline_ms.clamp(self.now_ms + 1, LAST_MS.max(self.now_ms + 1)),
            waker: Some(waker),
            place: Place::Free,
            next: NONE,
            prev: NONE,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.timers[index as usize] = timer;
                index
            }
            None => {
                self.timers.push(timer);
                self.timers.len() as u32 - 1
            }
        };
        self.link(index);
        self.armed += 1;
        TimerKey(index)
    }

    /// Whether it fired; else the waker is replaced.
    pub(super) fn poll(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let timer = &mut self.timers[key.0 as usize];
        match &mut timer.waker {
            Some(old) => {
                old.clone_from(waker);
                false
            }
            None => true,
        }
    }

    /// Ends a timer, fired or not. Its key is not used again.
    pub(super) fn disarm(&mut self, key: TimerKey) {
        if matches!(self.timers[key.0 as usize].place, Place::Armed { .. }) {
            self.unlink(key.0);
            self.armed -= 1;
        }
        let timer = &mut self.timers[key.0 as usize];
        timer.place = Place::Free;
        timer.waker = None;
        self.free.push(key.0);
    }

    /// When [`Timers::advance`] has to be called next, at the latest: not after the earliest
    /// deadline.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        self.first_slot().map(|(_, _, start_ms)| start_ms)
    }

    /// Moves on to `now_ms` and wakes what is due; answers how many.
    pub(super) fn advance(&mut self, now_ms: u64) -> usize {
        let now_ms = now_ms.min(LAST_MS);
        let mut fired = 0;
        while self.armed > 0 {
            let Some((level, slot, start_ms)) = self.first_slot() else {
                break;
            };
            if start_ms > now_ms {
                break;
            }
            self.now_ms = self.now_ms.max(start_ms);
            let mut index = self.levels[level].heads[slot];
            self.levels[level].heads[slot] = NONE;
            self.levels[level].tails[slot] = NONE;
            self.levels[level].occupied &= !(1 << slot);
            while index != NONE {
                let timer = &mut self.timers[index as usize];
                let next = timer.next;
                if timer.deadline_ms <= self.now_ms {
                    timer.place = Place::Fired;
                    if let Some(waker) = timer.waker.take() {
                        waker.wake();
                    }
                    self.armed -= 1;
                    fired += 1;
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
        fired
    }

    /// The slot that is due first. Whatever is on a level is due before all that is on a higher
    /// one, because a level holds what first differs from now in its six bits.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|l| l.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = shift + SLOT_BITS;
        let start_ms = ((self.now_ms >> above) << above) + ((slot as u64) << shift);
        Some((level, slot, start_ms))
    }

    fn link(&mut self, index: u32) {
        let deadline_ms = self.timers[index as usize].deadline_ms;
        let differs = (self.now_ms ^ deadline_ms) | (SLOTS as u64 - 1);
        let level = ((63 - differs.leading_zeros()) / SLOT_BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (deadline_ms >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let list = &mut self.levels[level];
        let tail = list.tails[slot];
        list.tails[slot] = index;
        list.occupied |= 1 << slot;
        if tail == NONE {
            list.heads[slot] = index;
        } else {
            self.timers[tail as usize].next = index;
        }
        let timer = &mut self.timers[index as usize];
        timer.prev = tail;
        timer.next = NONE;
        timer.place = Place::Armed {
            level: level as u8,
            slot: slot as u8,
        };
    }

    fn unlink(&mut self, index: u32) {
        let Timer {
            next, prev, place, ..
        } = self.timers[index as usize];
        let Place::Armed { level, slot } = place else {
            return;
        };
        let list = &mut self.levels[usize::from(level)];
        let slot = usize::from(slot);
        if prev == NONE {
            list.heads[slot] = next;
        } else {
            self.timers[prev as usize].next = next;
        }
        if next == NONE {
            list.tails[slot] = prev;
        } else {
            self.timers[next as usize].prev = prev;
        }
        if list.heads[slot] == NONE {
            list.occupied &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn timers_fire_at_their_millisecond_and_never_before_against_a_sorted_list() {
        let mut seed = 99u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            (seed >> 20) % below
        };
        let mut now = 123_456_789;
        let mut timers = Timers::new(now);
        let mut model: Vec<(u64, TimerKey, Arc<Count>)> = Vec::new();
        for step in 0..20_000 {
            match random(4) {
                0 | 1 => {
                    let reach = 1 << random(30);
                    let deadline = now + 1 + random(reach);
                    let count = Arc::new(Count(AtomicUsize::new(0)));
                    let key = timers.arm(deadline, count.clone().into());
                    model.push((deadline, key, count));
                }
                2 if !model.is_empty() => {
                    let (_, key, count) = model.swap_remove(random(model.len() as u64) as usize);
                    timers.disarm(key);
                    assert_eq!(count.0.load(Ordering::Relaxed), 0);
                }
                _ => {
                    let earliest = model.iter().map(|(deadline, ..)| *deadline).min();
                    let next = timers.next_ms();
                    assert_eq!(next.is_some(), earliest.is_some());
                    if let (Some(next), Some(earliest)) = (next, earliest) {
                        assert!(next <= earliest && next > now, "step {step}");
                    }
                    let reach = 1 << random(24);
                    now += random(reach);
                    let due = model.iter().filter(|(d, ..)| *d <= now).count();
                    assert_eq!(timers.advance(now), due);
                    model.retain(|(deadline, key, count)| {
                        let fired = count.0.load(Ordering::Relaxed) == 1;
                        assert_eq!(fired, *deadline <= now);
                        if fired {
                            timers.disarm(*key);
                        }
                        !fired
                    });
                }
            }
        }
    }
}
