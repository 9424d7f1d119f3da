//! What is asked of a deployment, and what that takes: formulas, each shown with its numbers.

use crate::base::config::TopicConfig;
use crate::cli::serve::shards::{MEMORY_MAX, MEMORY_MIN, MEMORY_SHARE, SHARD_MEMORY_MIN};
use crate::cli::tune::plan::TunePlan;
use crate::cli::tune::plan::asked::Rate;
use crate::cli::tune::plan::shown::shown;
use crate::log::LogConfig;
use crate::log::store::MAX_AUTO_BYTES;

/// CPU-seconds of the whole machine, the load's process left out, for a GB of batches from so many
/// bytes on. Source: benches/results/2026-11-29-kafka, the dearer row where a size has two.
const PRODUCE_COST: [(u64, f64); 3] = [(1 << 20, 0.47), (64 << 10, 1.62), (0, 5.72)];
/// A request with a single small record. Source: benches/results/2026-11-28-core.
const REQUEST_COST_US: f64 = 10.7;
/// A GB of 1 MiB fetches, the dearer policy. Source: benches/results/2026-11-29-kafka.
const FETCH_COST: f64 = 0.42;
pub const COST_SOURCE: &str = "benches/results/2026-11-29-kafka and 2026-11-28-core, a virtual machine of two \
                               cores: measure yours with `corelane bench`";
/// Above it requests wait for the core more than for the disk.
const BUSY_MAX: f64 = 0.6;
/// A fuller disk is slower, and leaves no time to act.
const FULL_MAX: f64 = 0.8;
/// An entry of 8 bytes in one index and one of 12 in the other for each 4 KiB.
const WITH_INDEXES: f64 = 1.0 + 20.0 / 4096.0;
/// What a journal should hold: one half fills while a checkpoint brings the other to its segments.
const JOURNAL_S: f64 = 4.0;
/// The part of the buffers that keeps records for readers.
const KEPT_SHARE: f64 = 2.0;

const DAY_S: f64 = 86_400.0;
const MIB: f64 = (1 << 20) as f64;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub formula: String,
}

/// All figures; those of a machine are for each of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub lines: Vec<Line>,
    /// MB/s that each machine's log directories take at the peak.
    pub device_mb_per_s: f64,
}

fn produce_cost(batch_bytes: u64) -> f64 {
    let row = PRODUCE_COST.iter().find(|(from, _)| batch_bytes >= *from);
    let by_byte = row.map_or(0.0, |(_, cost)| *cost);
    by_byte.max(REQUEST_COST_US * 1e3 / batch_bytes as f64)
}

/// Works everything out for `machines`, at least one for each copy.
pub fn plan(asked: &TunePlan, machines: u32) -> Plan {
    let (copies, machines) = (f64::from(asked.copies), f64::from(machines));
    let (peak, readers) = (asked.peak, f64::from(asked.readers));
    let raw = match asked.rate {
        Rate::BytesPerS(bytes) => bytes,
        Rate::RecordsPerS(records) => records * asked.size as f64,
    };
    let stored = raw / asked.compression / 1e6;
    let rate = |mb_per_s: f64| shown(mb_per_s, "MB/s");
    let mut lines = Vec::new();
    let mut add = |name, value, unit, formula| {
        lines.push(Line {
            name,
            value,
            unit,
            formula,
        })
    };
    let from = match asked.rate {
        Rate::BytesPerS(bytes) => rate(bytes / 1e6),
        Rate::RecordsPerS(records) => format!("{records} records/s x {} B", asked.size),
    };
    let ratio = asked.compression;
    add(
        "produced",
        stored,
        "MB/s",
        format!("{from} / {ratio} compression"),
    );
    let top = stored * peak;
    add(
        "produced at the peak",
        top,
        "MB/s",
        format!("{} x {peak}", rate(stored)),
    );

    let written = top * copies / machines;
    let share = format!("x {copies} (copies) / {machines} (machines)");
    add(
        "network in",
        written,
        "MB/s",
        format!("{} {share}", rate(top)),
    );
    let sent = top * (readers + copies - 1.0) / machines;
    let others = copies - 1.0;
    add(
        "network out",
        sent,
        "MB/s",
        format!(
            "{} x ({readers} readers + {others} other copies) / {machines} (machines)",
            rate(top)
        ),
    );

    let bypass = LogConfig::default().bypass_bytes as u64;
    // a batch holds one record at least, whatever was asked for
    let record = (asked.size as f64 / ratio).ceil() as u64;
    let batch = match asked.rate {
        Rate::RecordsPerS(_) => asked.batch.max(record),
        Rate::BytesPerS(_) => asked.batch,
    };
    let (times, journaled, why) = match batch >= bypass {
        true => (
            1.0,
            0.0,
            "segment alone: batches of 256 KiB and more pass the journal by",
        ),
        false => (2.0, written, "journal and segment"),
    };
    let device = written * times;
    add(
        "disk writes",
        device,
        "MB/s",
        format!("{} x {times} ({why})", rate(written)),
    );

    let produce = produce_cost(batch);
    let busy = (written * produce + sent * FETCH_COST) / 1e3;
    let cores = (busy / BUSY_MAX).ceil().max(1.0);
    add(
        "cores",
        cores,
        "",
        format!(
            "({} x {produce:.2} CPU-s/GB + {} x {FETCH_COST}) / 1000 / {BUSY_MAX} busy, batches of {batch} B",
            rate(written),
            rate(sent)
        ),
    );

    let least = LogConfig::default().journal_first_bytes as f64;
    let journal = (journaled * 1e6 * JOURNAL_S / cores).clamp(least, MAX_AUTO_BYTES as f64);
    let journal = (journal as u64).next_power_of_two() as f64;
    add(
        "journal of a shard",
        journal / MIB,
        "MiB",
        format!(
            "{} x {JOURNAL_S} s / {cores} shards, a power of two from 16 MiB to 1 GiB",
            rate(journaled)
        ),
    );

    let wanted = top / machines * 1e6 * asked.lag * KEPT_SHARE;
    let floor = (MEMORY_MIN as f64).max(cores * SHARD_MEMORY_MIN as f64);
    let buffers = wanted.max(floor);
    let own = match buffers > MEMORY_MAX as f64 {
        true => "; more than auto takes: set corelane.memory.bytes",
        false => "",
    };
    add(
        "buffers",
        buffers / MIB,
        "MiB",
        format!(
            "{} / {machines} (machines) x {} s behind x {KEPT_SHARE} (half is for readers), \
             {} at least{own}",
            rate(top),
            asked.lag,
            shown(floor / MIB, "MiB"),
        ),
    );
    add(
        "memory",
        buffers * MEMORY_SHARE as f64 / f64::from(1 << 30),
        "GiB",
        format!("buffers x {MEMORY_SHARE}: the page cache has the rest, for older records"),
    );

    // the segment that is written goes only as a whole, once its last record is old enough
    let topic = TopicConfig::default();
    let partitions = f64::from(asked.partitions);
    let full = partitions * topic.segment_bytes as f64 / 1e6;
    let rolled = stored * topic.segment_ms as f64 / 1e3;
    let open = full.min(rolled);
    let kept = (stored * DAY_S * asked.retention + open) * copies / machines * WITH_INDEXES;
    let journals = journal * cores / 1e6;
    let disk = (kept + journals) / FULL_MAX;
    add(
        "disk",
        disk / 1e6,
        "TB",
        format!(
            "(({} x {DAY_S} s x {} days + {} in segments of {partitions} partitions that are not full) \
             {share} x {WITH_INDEXES:.3} indexes + journals) / {FULL_MAX} full",
            rate(stored),
            asked.retention,
            shown(open / 1e6, "TB"),
        ),
    );
    Plan {
        lines,
        device_mb_per_s: device,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Arguments, Command};
    use crate::cli::tune::TuneAction;

    fn asked(arguments: &[&str]) -> TunePlan {
        let all = ["corelane", "tune", "plan"].iter().chain(arguments);
        match Arguments::parse_from(all).command {
            Command::Tune {
                action: TuneAction::Plan(options),
            } => options,
            _ => unreachable!("a plan was asked for"),
        }
    }

    fn line<'a>(plan: &'a Plan, name: &str) -> &'a Line {
        plan.lines.iter().find(|line| line.name == name).unwrap()
    }

    fn value(plan: &Plan, name: &str) -> f64 {
        line(plan, name).value
    }

    fn near(found: f64, wanted: f64) -> bool {
        (found / wanted - 1.0).abs() < 0.001
    }

    #[test]
    fn figures_follow_from_what_is_asked() {
        let asked = asked(&[
            "--rate",
            "100000/s",
            "--size",
            "1000",
            "--retention",
            "10",
            "--copies",
            "3",
            "--compression",
            "4",
            "--peak",
            "2",
            "--readers",
            "2",
        ]);
        let plan = plan(&asked, 3);
        let value = |name| value(&plan, name);
        assert_eq!(value("produced"), 25.0);
        assert_eq!(value("network in"), 50.0);
        // two readers and two copies of 50 MB/s from three machines
        assert!(near(value("network out"), 66.667));
        assert_eq!(value("disk writes"), 100.0);
        // (50 x 5.72 + 66.7 x 0.42) / 600 = 0.52
        assert_eq!(value("cores"), 1.0);
        // 50 MB/s x 4 s
        assert_eq!(value("journal of a shard"), 256.0);
        // 50 MB/s / 3 x 10 s x 2 in MiB, and four times as much
        assert!(near(value("buffers"), 317.89));
        assert!(near(value("memory"), 1.2418));
        // (25 MB/s x 864000 s + 100 GiB) x 1.00488 and 268 MB, in 80 %
        assert!(near(value("disk"), 27.267));
    }

    #[test]
    fn more_machines_share_and_large_batches_are_written_once() {
        let asked = asked(&["--rate", "1GB/s", "--copies", "2", "--batch", "1048576"]);
        let (two, four) = (plan(&asked, 2), plan(&asked, 4));
        assert_eq!(value(&two, "network in"), 2.0 * value(&four, "network in"));
        assert_eq!(two.device_mb_per_s, value(&two, "network in"));
        // 2 GB/s in each at 0.47 and 2 GB/s out at 0.42, of which 0.6 is to be busy
        assert_eq!(value(&two, "cores"), 3.0);
    }

    #[test]
    fn small_batches_cost_a_request_each() {
        assert_eq!(produce_cost(1 << 20), 0.47);
        assert_eq!(produce_cost(100 << 10), 1.62);
        assert_eq!(produce_cost(16 << 10), 5.72);
        assert!(near(produce_cost(100), 107.0));
    }

    #[test]
    fn a_batch_holds_a_whole_record() {
        let device = |more: &[&str]| {
            let rate = [
                "--rate", "1000/s", "--copies", "1", "--peak", "1", "--size", "1000000",
            ];
            plan(&asked(&[&rate[..], more].concat()), 1).device_mb_per_s
        };
        // a record of 1 MB passes the journal by, and one of 100 kB does not
        assert_eq!(device(&[]), 1000.0);
        assert_eq!(device(&["--compression", "10"]), 200.0);
    }

    #[test]
    fn what_passes_the_journal_by_needs_none() {
        let journal = |batch: &str| {
            let asked = asked(&["--rate", "100MB/s", "--copies", "1", "--batch", batch]);
            value(&plan(&asked, 1), "journal of a shard")
        };
        assert_eq!(journal("1048576"), 16.0);
        assert!(journal("16384") > 16.0);
    }

    #[test]
    fn buffers_have_the_brokers_own_bounds() {
        let buffers = |rate: &str, lag: &str| {
            let asked = asked(&["--rate", rate, "--copies", "1", "--lag", lag]);
            plan(&asked, 1)
        };
        assert_eq!(value(&buffers("1MB/s", "1"), "buffers"), 128.0);
        let large = buffers("2GB/s", "60");
        let formula = &line(&large, "buffers").formula;
        assert!(formula.contains("set corelane.memory.bytes"), "{formula}");
        // 4 GB/s x 5.72 and 4 x 0.42, of which 0.6 is to be busy: 41 shards of 32 MiB
        assert_eq!(value(&buffers("2GB/s", "0.1"), "cores"), 41.0);
        assert_eq!(value(&buffers("2GB/s", "0.1"), "buffers"), 1312.0);
    }

    #[test]
    fn segments_that_are_not_full_take_room_too() {
        let disk = |partitions: &str| {
            let fixed = ["--rate", "1MB/s", "--copies", "1", "--retention", "1"];
            let asked = asked(&[&fixed[..], &["--partitions", partitions]].concat());
            value(&plan(&asked, 1), "disk")
        };
        let more = (disk("101") - disk("1")) * FULL_MAX / WITH_INDEXES;
        assert!(near(more, 100.0 * 1024.0 * MIB / 1e12), "{more}");
        // they are closed after a week
        assert_eq!(disk("1000"), disk("10000"));
    }
}
