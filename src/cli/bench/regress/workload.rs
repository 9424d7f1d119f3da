//! The fixed set of workloads, and what is read from a run of one.

use crate::cli::rig::load::{Outcome, Pace};

/// What the broker is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The floor program that receives, sums, writes and flushes.
    Ingest,
    /// The one that answers from memory.
    Read,
    /// The one that answers at once: the broker acks before it flushes.
    Echo,
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub connections: usize,
    pub pace: Pace,
    /// Of a batch.
    pub records: usize,
    pub record_bytes: usize,
    pub partitions: i32,
    pub against: Against,
    /// The broker first gets all the memory that it will have.
    pub fills_memory: bool,
    pub metrics: &'static [Metric],
}

/// A figure of a run, of which more is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// CPU of the whole machine without the load, for a gigabyte.
    CpuPerGb,
    /// Time for a gigabyte.
    SecondsPerGb,
    /// The same CPU for one request.
    CpuEach,
    /// Time for one request, over all connections: in a closed loop the mean latency over their number.
    TimeEach,
    /// Time from when a request was to be sent until its answer was there.
    Latency(f64),
}

impl Metric {
    /// Whether it is of CPU, and not of time, which the disk decides.
    pub fn is_cpu(self) -> bool {
        matches!(self, Metric::CpuPerGb | Metric::CpuEach)
    }

    pub fn unit(self) -> String {
        match self {
            Metric::CpuPerGb => "CPU-s/GB".into(),
            Metric::SecondsPerGb => "s/GB".into(),
            Metric::CpuEach => "CPU us/request".into(),
            Metric::TimeEach => "us/request".into(),
            // 0.999 is p99.9
            Metric::Latency(q) => format!("p{} us", (q * 1e4).round() / 1e2),
        }
    }

    /// None where nothing came about.
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        let figure = match self {
            Metric::CpuPerGb => outcome.cpu_per_gb(),
            Metric::SecondsPerGb => outcome.elapsed.as_secs_f64() / outcome.gigabytes(),
            Metric::CpuEach => outcome.cpu_us_each(),
            Metric::TimeEach => outcome.elapsed.as_secs_f64() * 1e6 / outcome.answers as f64,
            Metric::Latency(q) => outcome.quantile_us(q),
        };
        (figure.is_finite() && figure > 0.0).then_some(figure)
    }
}

impl Workload {
    /// The name of a row.
    pub fn row(&self, metric: Metric) -> String {
        format!("{}: {}", self.name, metric.unit())
    }
}

const KIB: usize = 1024;
const CPU_AND_TIME: &[Metric] = &[Metric::CpuPerGb, Metric::SecondsPerGb];
const EACH: &[Metric] = &[Metric::CpuEach, Metric::Latency(0.5), Metric::Latency(0.99)];
// groups of many connections swing between two sizes, and with them the middle of their latencies:
// their mean moves less
const EACH_OF_MANY: &[Metric] = &[Metric::CpuEach, Metric::TimeEach];

const PARTITIONS: Workload = Workload {
    name: "1000 partitions",
    connections: 16,
    pace: Pace::Depth(1),
    records: 1,
    record_bytes: KIB,
    partitions: 1000,
    against: Against::Ingest,
    fills_memory: false,
    metrics: EACH_OF_MANY,
};

/// All of them.
pub const ALL: &[Workload] = &[
    Workload {
        name: "produce 64 KiB",
        connections: 4,
        pace: Pace::Depth(2),
        records: 63,
        record_bytes: KIB,
        partitions: 4,
        against: Against::Ingest,
        fills_memory: true,
        metrics: CPU_AND_TIME,
    },
    // 64 producers that do not batch
    Workload {
        name: "produce 100 B",
        connections: 64,
        pace: Pace::Depth(1),
        records: 1,
        record_bytes: 100,
        partitions: 16,
        against: Against::Ingest,
        fills_memory: false,
        metrics: &[Metric::CpuEach, Metric::TimeEach, Metric::Latency(0.99)],
    },
    // no disk in the way
    Workload {
        name: "acked at once",
        connections: 8,
        pace: Pace::Depth(1),
        records: 1,
        record_bytes: 100,
        partitions: 8,
        against: Against::Echo,
        fills_memory: false,
        metrics: EACH_OF_MANY,
    },
    Workload {
        name: "open loop, 4000/s",
        connections: 16,
        pace: Pace::Rate(4000.0),
        records: 1,
        record_bytes: KIB,
        partitions: 16,
        against: Against::Ingest,
        fills_memory: false,
        // of 3200 answers p99.9 is decided by three: by one hiccup of the disk
        metrics: &[Metric::Latency(0.5), Metric::Latency(0.99)],
    },
    // each commit carries one batch, and nobody else waits
    Workload {
        name: "commit alone",
        connections: 1,
        pace: Pace::Depth(1),
        records: 1,
        record_bytes: KIB,
        partitions: 1,
        against: Against::Ingest,
        fills_memory: false,
        metrics: EACH,
    },
    Workload {
        name: "fetch 64 KiB",
        connections: 4,
        pace: Pace::Depth(1),
        records: 63,
        record_bytes: KIB,
        partitions: 4,
        against: Against::Read,
        fills_memory: false,
        metrics: CPU_AND_TIME,
    },
    // two that differ in nothing but their partitions: how cost grows with them
    Workload {
        partitions: 16,
        name: "16 partitions",
        ..PARTITIONS
    },
    PARTITIONS,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;
    use crate::cli::rig::machine::Cpu;

    #[test]
    fn figures_are_costs_of_what_came_about() {
        let mut latency = Histogram::new(3).unwrap();
        for us in 1..=1000u64 {
            latency.record(us * 1000).unwrap();
        }
        let outcome = Outcome {
            answers: 1000,
            sent_bytes: 500_000_000,
            received_bytes: 1000,
            elapsed: Duration::from_secs(2),
            cpu: Cpu {
                system: 1.5,
                load: 0.5,
                server: 0.2,
            },
            latency,
        };
        let figure = |metric: Metric| metric.of(&outcome).unwrap();
        assert_eq!(figure(Metric::CpuPerGb), 2.0);
        assert_eq!(figure(Metric::SecondsPerGb), 4.0);
        assert_eq!(figure(Metric::CpuEach), 1000.0);
        assert_eq!(figure(Metric::TimeEach), 2000.0);
        assert!((989.0..992.0).contains(&figure(Metric::Latency(0.99))));
        let nothing = Outcome {
            answers: 0,
            sent_bytes: 0,
            received_bytes: 0,
            ..outcome
        };
        assert_eq!(Metric::CpuEach.of(&nothing), None);
        assert_eq!(Metric::Latency(0.999).unit(), "p99.9 us");
        assert_eq!(Metric::Latency(0.5).unit(), "p50 us");
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let mut rows: Vec<String> = ALL
            .iter()
            .flat_map(|load| load.metrics.iter().map(|metric| load.row(*metric)))
            .collect();
        let all = rows.len();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), all);
    }
}
