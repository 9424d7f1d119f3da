//! Latencies and amounts, over the measured time and by the second.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::base::time::Monotonic;
use crate::cli::bench::world::Reader;

/// Latencies are kept to a thousandth.
const DIGITS: u8 = 3;

/// What came about in a time.
#[derive(Clone)]
pub struct Sum {
    pub records: u64,
    pub bytes: u64,
    pub requests: u64,
    /// From when a record was to be sent until it was acked or read, in ns.
    pub latency: Histogram<u64>,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum {
            records: 0,
            bytes: 0,
            requests: 0,
            latency: Histogram::new(DIGITS).expect("3 digits are allowed"),
        }
    }
}

impl Sum {
    /// Adds what came about elsewhere.
    pub fn add(&mut self, other: &Sum) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.requests += other.requests;
        // both grow as they need
        let _ = self.latency.add(&other.latency);
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.requests == 0 && self.latency.is_empty()
    }

    /// In ms; none where nothing was measured.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        (!self.latency.is_empty()).then(|| self.latency.value_at_quantile(q) as f64 / 1e6)
    }
}

/// One way that records go: to the broker, or from it.
#[derive(Clone, Default)]
pub struct Way {
    pub total: Sum,
    interval: Sum,
}

impl Way {
    /// A record came to its end, or was given up, so long after it was due.
    fn took(&mut self, time: Duration) {
        let latency = &mut self.interval.latency;
        // its range grows with what it gets
        let _ = latency.record(time.as_nanos() as u64);
    }

    /// Bytes of batches so far.
    pub fn bytes(&self) -> u64 {
        self.total.bytes + self.interval.bytes
    }

    fn request(&mut self, bytes: u64) {
        self.interval.requests += 1;
        self.interval.bytes += bytes;
    }

    /// What came about since the last call.
    pub fn take_interval(&mut self) -> Sum {
        let interval = std::mem::take(&mut self.interval);
        self.total.add(&interval);
        interval
    }
}

/// What is measured of a run.
#[derive(Clone, Default)]
pub struct Measure {
    /// What came to its end in this time counts for rates, and what was due in it for latencies,
    /// however late it came.
    window: Option<(Monotonic, Monotonic)>,
    /// Records that were due and never sent.
    pub unsent: u64,
    pub acked: Way,
    pub read: Way,
    /// Read again from the start, of a mixed load.
    pub replayed: Way,
}

impl Measure {
    /// Measures from one moment to another; what was noted before is forgotten.
    pub fn begin(&mut self, from: Monotonic, to: Monotonic) {
        *self = Measure {
            window: Some((from, to)),
            ..Measure::default()
        };
    }

    /// Records were acked that were to be sent at these times.
    pub fn ack(&mut self, due: impl Iterator<Item = Monotonic>, now: Monotonic) {
        let counts = u64::from(within(self.window, now));
        for due in due {
            self.acked.interval.records += counts;
            if within(self.window, due) {
                self.acked.took(now.since(due));
            }
        }
    }

    /// Records were to be sent at these times, and are given up: they took so long at least.
    /// `awaited` by readers too.
    pub fn give_up(&mut self, due: impl Iterator<Item = Monotonic>, now: Monotonic, awaited: bool) {
        let window = self.window;
        for due in due.filter(|due| within(window, *due)) {
            self.unsent += 1;
            self.acked.took(now.since(due));
            if awaited {
                self.read.took(now.since(due));
            }
        }
    }

    /// A record was read that was to be sent at this time, if it was not there before.
    pub fn read(&mut self, reader: Reader, due: Option<Monotonic>, now: Monotonic) {
        let window = self.window;
        let way = self.way(reader);
        way.interval.records += u64::from(within(window, now));
        if let Some(due) = due.filter(|due| within(window, *due)) {
            way.took(now.since(due));
        }
    }

    /// A Produce request was answered, with so many bytes of batches.
    pub fn produced(&mut self, bytes: u64, now: Monotonic) {
        if within(self.window, now) {
            self.acked.request(bytes);
        }
    }

    /// A Fetch request was answered, with so many bytes of batches.
    pub fn fetched(&mut self, reader: Reader, bytes: u64, now: Monotonic) {
        if within(self.window, now) {
            self.way(reader).request(bytes);
        }
    }

    fn way(&mut self, reader: Reader) -> &mut Way {
        match reader {
            Reader::Once => &mut self.read,
            Reader::Again => &mut self.replayed,
        }
    }
}

fn within(window: Option<(Monotonic, Monotonic)>, when: Monotonic) -> bool {
    window.is_some_and(|(from, to)| from <= when && when < to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_what_ended_in_the_window_and_latencies_what_was_due_however_late_it_came() {
        let ms = |n: u64| Monotonic(n * 1_000_000);
        let mut measure = Measure::default();
        measure.ack([ms(1)].into_iter(), ms(2));
        measure.begin(ms(10), ms(20));
        measure.ack([ms(8), ms(9)].into_iter(), ms(11));
        measure.ack([ms(9), ms(10), ms(19), ms(20)].into_iter(), ms(500));
        measure.give_up([ms(18), ms(21)].into_iter(), ms(600), true);
        measure.produced(100, ms(15));
        measure.produced(100, ms(500));
        for way in [&mut measure.acked, &mut measure.read] {
            way.take_interval();
        }
        let sum = &measure.acked.total;
        assert_eq!((sum.records, sum.requests, sum.bytes), (2, 1, 100));
        assert_eq!((sum.latency.len(), measure.unsent), (3, 1));
        assert!((489.0..490.5).contains(&sum.quantile_ms(0.5).unwrap()));
        assert!((581.0..583.0).contains(&sum.quantile_ms(1.0).unwrap()));
        assert_eq!(
            measure.read.total.latency.len(),
            1,
            "a reader waits for it as long"
        );
    }
}
