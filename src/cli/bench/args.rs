//! The arguments of `corelane bench`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::args::{Acks, Broker};
use crate::cli::bench::ping::Ping;
use crate::cli::bench::regress::Regress;
use crate::wire::compress::Codec;

#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Produce, and measure from when a record was to be sent until it is acked
    Produce(Load),
    /// Fill a topic, then measure how fast it is read
    Consume(Load),
    /// Produce and consume the same records, and measure from when a record was to be sent until a
    /// consumer has it
    E2e(Load),
    /// Fill a topic, then read it from its start while writing goes on
    Backlog(Load),
    /// Produce and consume the same records while others read what was there before, again and again
    Mixed(Load),
    /// Ask which requests the broker knows, again and again: what a request costs in which no record
    /// moves
    Ping(Ping),
    /// Tell whether this build of Corelane became slower: run a fixed set of workloads on it and on
    /// programs that do only the unavoidable work, and compare the ratios with kept ones
    ///
    /// Takes five to six minutes. Broker and program run in turn, pair after pair. A row is lost where the
    /// median ratio of its pairs is above the baseline's by more than its noise, as told below. What
    /// looks lost is measured again, and all its pairs decide. Ends with code 1 on a loss.
    Regress(Regress),
}

#[derive(Clone, Debug, Args)]
pub struct Load {
    #[command(flatten)]
    pub broker: Broker,
    /// Work with this topic and leave it there [default: one that is made and removed]
    #[arg(long, conflicts_with_all = ["partitions", "replication_factor", "configs"])]
    pub topic: Option<String>,
    /// Partitions of the topic
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub partitions: i32,
    /// Machines that hold each partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: i16,
    /// A setting of the topic, as in flush.messages=1
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = crate::cli::args::pair)]
    pub configs: Vec<(String, String)>,
    /// Connections that produce
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub producers: u32,
    /// Connections that consume
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub consumers: u32,

    /// Records a second over all producers, at fixed times whatever the answers do (open loop)
    #[arg(long, value_name = "RECORDS/S", conflicts_with_all = ["max", "depth"], value_parser = rate)]
    pub rate: Option<f64>,
    /// Keep so many requests of each producer in flight (closed loop) [default: 5, without --rate]
    #[arg(long, value_name = "REQUESTS", conflicts_with = "max", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub depth: Option<u32>,
    /// Find the highest rate at which p99 stays below --p99-ms
    #[arg(long)]
    pub max: bool,
    /// The bound of --max
    #[arg(long, value_name = "MS", default_value_t = 10.0, value_parser = milliseconds)]
    pub p99_ms: f64,
    /// Requests in flight on a connection at most, with --rate and --max
    #[arg(long, value_name = "REQUESTS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: u32,

    /// Bytes of a record's value, 24 at least: one number, or two with a - between
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = sizes)]
    pub record_bytes: RangeInclusive<usize>,
    /// Give records one of so many keys
    #[arg(long, value_name = "KEYS")]
    pub keys: Option<u64>,
    /// How much a codec can make of a value: 4 makes a quarter
    #[arg(long, value_name = "RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub compressible: f64,
    /// How batches are compressed: none, gzip, snappy, lz4, zstd
    #[arg(short = 'z', long, default_value = "none")]
    pub codec: Codec,
    /// Bytes of a batch at most, before it is compressed; 1 makes a batch of each record
    #[arg(long, value_name = "BYTES", default_value_t = 65_536, value_parser = bytes)]
    pub batch_bytes: usize,
    /// Wait so long for a batch to fill
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub linger_ms: f64,
    /// Bytes of a request at most, if it is more than a batch; with --depth each has one batch
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = bytes)]
    pub request_bytes: usize,
    /// What to wait for: the flush and all replicas, the leader's write, nothing
    #[arg(short, long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// Produce with ids and sequences, as clients do by default
    #[arg(long)]
    pub idempotent: bool,
    /// Bytes that a fetch asks for of a partition
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576, value_parser = clap::value_parser!(i32).range(1..))]
    pub fetch_bytes: i32,
    /// Connections that read what was there before again and again, for mixed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replayers: u32,
    /// What each of them reads at most; without it, all that the broker gives
    #[arg(long, value_name = "MB/S", value_parser = rate)]
    pub replay_mb_s: Option<f64>,
    /// Records to fill the topic with, for consume, backlog and mixed [default: 1 GiB of them]
    #[arg(long, value_name = "RECORDS")]
    pub fill: Option<u64>,
    /// Drop the page cache of this machine after that, for consume, backlog and mixed (needs root;
    /// what a broker keeps in memory of its own stays there)
    #[arg(long)]
    pub cold: bool,

    #[command(flatten)]
    pub run: Run,
    /// Only measure what the load itself can do: against a server of its own that answers at once
    #[arg(long, conflicts_with_all = ["no_ceiling", "max", "out", "broker_pid"])]
    pub ceiling: bool,
    /// Do not measure that before the run
    #[arg(long)]
    pub no_ceiling: bool,
    /// Write histograms, a JSON and plots into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub out: Option<PathBuf>,
}

/// How long a load runs, and where.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// How long is measured; what only reads takes as long as it takes
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = crate::cli::args::seconds)]
    pub duration: Duration,
    /// Time before that, in which the same is done and not measured
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = crate::cli::args::seconds)]
    pub warmup: Duration,
    /// Run on this core
    #[arg(long)]
    pub core: Option<usize>,
    /// Congestion control of the load's sockets [default: the system's]
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
    /// The broker's process on this machine, to tell what it cost
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=1e9).contains(&rate) => Ok(rate),
        _ => Err("a number a second, 0.01 to 1e9".into()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(bytes) if (1..=SIZE_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("a number of bytes, 1 to {SIZE_MAX}")),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=3_600_000.0).contains(&ms) => Ok(ms),
        _ => Err("a number of milliseconds, 0 to 3600000".into()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (1.0..=1000.0).contains(&ratio) => Ok(ratio),
        _ => Err("a ratio, 1 to 1000".into()),
    }
}

/// A value has room for what names its record.
const SIZE_MIN: usize = crate::cli::bench::value::BYTES;
const SIZE_MAX: usize = 64 << 20;

fn sizes(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low), number(high)),
        None => (number(text), number(text)),
    };
    match (low, high) {
        (Some(low), Some(high)) if low >= SIZE_MIN && low <= high && high <= SIZE_MAX => {
            Ok(low..=high)
        }
        _ => Err(format!(
            "{SIZE_MIN} to {SIZE_MAX}, or two such as in 100-2000"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_number_or_two() {
        assert_eq!(sizes("100"), Ok(100..=100));
        assert_eq!(sizes("100-2000"), Ok(100..=2000));
        for bad in ["", "23", "200-100", "a-b", "100-", "99999999999"] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
    }
}
