//! How fast appends are let in while a ring, or the memory for undrained bytes, stands over half
//! full: never a sudden stop of all acks, but a rate that falls as the room does.
//!
//! At half full the rate is twice that at which checkpoints free the ring, at three quarters it is
//! that rate, and it nears zero where the reserve begins: so the ring comes to rest between.

use std::time::Duration;

use crate::base::time::Monotonic;

/// Waits below this are not worth a timer: they add up instead.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// Nobody waits longer at once: the rate may be better by then.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// The pace of one journal's appends.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes a second that checkpoints free; 0 until one has.
    freed_per_second: f64,
    /// When what was let in so far is paid for.
    due: Monotonic,
}

impl Pace {
    /// A checkpoint freed so much in this time.
    pub fn freed(&mut self, bytes: u64, took: Duration) {
        if bytes == 0 {
            return;
        }
        let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
        self.freed_per_second = match self.freed_per_second {
            0.0 => rate,
            before => before * 0.7 + rate * 0.3,
        };
    }

    /// Lets `bytes` in at `now`, of a room that is `full` (0 empty, 1 no room). `Some`: not before
    /// that time.
    pub fn admit(&mut self, now: Monotonic, bytes: usize, full: f64) -> Option<Monotonic> {
        if full <= 0.5 || self.freed_per_second == 0.0 {
            self.due = now;
            return None;
        }
        let rate = self.freed_per_second * 4.0 * (1.0 - full).max(0.01);
        let from = self.due.max(now);
        self.due = from + Duration::from_secs_f64(bytes as f64 / rate);
        let wait = from.since(now);
        (wait >= SHORTEST_WAIT).then(|| now + wait.min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are let in within a second at this fullness, in pieces of 10 kB.
    fn second(full: f64) -> u64 {
        let mut pace = Pace::default();
        pace.freed(10_000_000, Duration::from_millis(100)); // 100 MB/s
        let (mut now, mut bytes) = (Monotonic(0), 0);
        while now < Monotonic(1_000_000_000) {
            match pace.admit(now, 10_000, full) {
                Some(later) => now = later,
                None => now = now + Duration::from_micros(1),
            }
            bytes += 10_000;
        }
        bytes
    }

    #[test]
    fn the_rate_falls_as_the_room_does() {
        assert!(second(0.5) > 1_000_000_000, "not held back at all");
        let near = |bytes: u64, wanted: f64| (bytes as f64 / wanted - 1.0).abs() < 0.1;
        assert!(near(second(0.51), 196e6), "{}", second(0.51));
        assert!(near(second(0.75), 100e6), "{}", second(0.75));
        assert!(near(second(0.95), 20e6), "{}", second(0.95));
        assert!(second(1.0) > 0, "never nothing");
    }

    #[test]
    fn nobody_is_held_back_before_the_first_checkpoint() {
        assert_eq!(Pace::default().admit(Monotonic(5), 1 << 20, 0.9), None);
    }
}
