//! The commit path alone: no sockets, no protocol. Each commit appends one batch to every partition
//! and waits until all are flushed, then begins the next one; draining and checkpoints run beside it
//! and are counted.
//!
//! ```text
//! cargo bench --bench commit -- [--dir PATH] [--seconds S] [--journal BYTES] [--payload BYTES,..]
//!                               [--partitions N,..] [--touch N] [--policy group|interval]
//! ```
//!
//! CPU is the process's own (kernel workers of io_uring count to it); device bytes are what the
//! process caused to be written (`/proc/self/io`); flushes are fdatasync calls of the log.
#![allow(clippy::disallowed_methods)] // a benchmark looks at the real clock

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corelane::base::ids::{PartitionId, PartitionKey, ShardId, Uuid};
use corelane::base::time::Timestamp;
use corelane::log::recovery::open_directories;
use corelane::log::store::{CountsNow, FlushPolicy, JournalSize};
use corelane::log::{AppendError, LogConfig, LogStore, NewPartition, Origin, Ticket};
use corelane::ring::uring::UringDriver;
use corelane::ring::{Executor, ExecutorOptions, Ring, affinity, process};
use corelane::wire::batch::{BatchBuilder, BatchView};
use corelane::wire::compress::Codec;
use hdrhistogram::Histogram;

struct Args {
    dir: PathBuf,
    seconds: u64,
    journal: u64,
    payloads: Vec<usize>,
    partitions: Vec<usize>,
    policy: FlushPolicy,
    /// Partitions that a commit touches, in turn; all of them if fewer are given.
    touch: usize,
}

fn main() {
    let args = parse();
    println!(
        "{:>8} x {:<6} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}",
        "payload",
        "parts",
        "commits/s",
        "MB/s",
        "p50 us",
        "p99 us",
        "max us",
        "CPU-s/GB",
        "dev/byte",
        "flushes/c",
        "entries/c"
    );
    let _ = process::raise_open_files(65_536);
    let cores = affinity::allowed_cores().expect("cores");
    affinity::pin(cores[0]).expect("a core of ours");
    for payload in &args.payloads {
        for partitions in &args.partitions {
            // a commit above this takes seconds and says nothing that smaller ones do not
            if payload * partitions.min(&args.touch) > 128 << 20 {
                continue;
            }
            run(&args, *payload, *partitions);
        }
    }
}

fn parse() -> Args {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| {
        let at = given.iter().position(|arg| arg == name)?;
        given.get(at + 1).cloned()
    };
    let list = |name: &str, default: &[usize]| match text(name) {
        Some(text) => text
            .split(',')
            .map(|n| n.parse().expect("a number"))
            .collect(),
        None => default.to_vec(),
    };
    Args {
        dir: text("--dir").map_or_else(
            || Path::new(env!("CARGO_TARGET_TMPDIR")).join("commit"),
            PathBuf::from,
        ),
        seconds: text("--seconds").map_or(2, |n| n.parse().expect("a number")),
        journal: text("--journal").map_or(256 << 20, |n| n.parse().expect("bytes")),
        payloads: list("--payload", &[1 << 10, 64 << 10]),
        partitions: list("--partitions", &[1, 16, 100, 1_000, 10_000]),
        touch: text("--touch").map_or(usize::MAX, |n| n.parse().expect("a number")),
        policy: match text("--policy").as_deref() {
            Some("interval") => FlushPolicy::Interval,
            _ => FlushPolicy::Group,
        },
    }
}

fn run(args: &Args, payload: usize, partitions: usize) {
    let _ = std::fs::remove_dir_all(&args.dir);
    let driver = Rc::new(UringDriver::new().expect("io_uring"));
    let options = ExecutorOptions {
        arena_bytes: 2 << 30,
        ..ExecutorOptions::default()
    };
    let mut executor = Executor::with_options(driver, ShardId(0), options);
    let ring = executor.ring();
    let config = Arc::new(LogConfig {
        dirs: vec![args.dir.clone()],
        flush_policy: args.policy,
        journal_size: JournalSize::Bytes(args.journal),
        undrained_bytes: 512 << 20,
        open_segments: 16_384,
        ..LogConfig::default()
    });
    let (seconds, touch) = (args.seconds, args.touch.min(partitions));
    let warm_bytes = 2 * args.journal;
    executor.block_on(async move {
        let opened = open_directories(&ring, &config).await.expect("opened");
        let part = opened.split(1, |_| ShardId(0)).pop().expect("one shard");
        let store = LogStore::start(&ring, config, part, |_| None)
            .await
            .expect("a store");
        let load = Load {
            payload,
            partitions,
            touch,
            seconds,
            warm_bytes,
        };
        measure(&ring, &store, &load).await;
    });
    drop(executor);
    let _ = std::fs::remove_dir_all(&args.dir);
}

struct Load {
    payload: usize,
    partitions: usize,
    touch: usize,
    seconds: u64,
    /// The clock starts after two laps of the ring, or a time.
    warm_bytes: u64,
}

async fn measure(ring: &Ring, store: &Rc<LogStore>, load: &Load) {
    let Load {
        payload,
        partitions,
        touch,
        seconds,
        warm_bytes,
    } = *load;
    let many = (0..partitions)
        .map(|n| NewPartition {
            key: PartitionKey {
                topic: Uuid([7; 16]),
                partition: PartitionId(n as i32),
            },
            topic: "bench".into(),
            config: Default::default(),
        })
        .collect();
    let made = store.create_partitions(many).await.expect("partitions");
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(
        Timestamp(1_700_000_000_000),
        None,
        Some(&vec![b'x'; payload]),
        &[],
    );
    let batch = builder.build().expect("uncompressed");
    let view = BatchView::parse(&batch).expect("a batch");
    let mut latency = Histogram::<u64>::new(3).expect("a histogram");
    let mut tickets: Vec<Ticket> = Vec::with_capacity(partitions);
    let mut commits = 0u64;
    let warm = Duration::from_secs(3 * seconds);
    let mut next = 0;
    let begun = Instant::now();
    let mut from: Option<(Instant, Usage, CountsNow)> = None;
    loop {
        let now = Instant::now();
        let warmed = store.counts().journal_bytes >= warm_bytes || now - begun >= warm;
        if from.is_none() && warmed {
            from = Some((now, Usage::now(), store.counts()));
            commits = 0;
            latency.reset();
        }
        if let Some((at, _, _)) = &from
            && now - *at >= Duration::from_secs(seconds)
        {
            break;
        }
        tickets.clear();
        for _ in 0..touch {
            let partition = &made[next % partitions];
            next += 1;
            loop {
                store.admit(batch.len()).await;
                match store.append(partition, &view, Origin::Client) {
                    Ok(appended) => {
                        if tickets.last() != Some(&appended.ticket) {
                            tickets.push(appended.ticket);
                        }
                        break;
                    }
                    Err(AppendError::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for ticket in &tickets {
            store.flushed(*ticket).await.expect("flushed");
        }
        commits += 1;
        latency
            .record(now.elapsed().as_micros() as u64)
            .expect("in range");
        ring.yield_now().await;
    }
    let (at, usage, counts) = from.expect("it was set before the end");
    let took = at.elapsed().as_secs_f64();
    let (usage, counts) = (Usage::now().since(&usage), since(store.counts(), counts));
    let bytes = (commits * touch as u64 * batch.len() as u64) as f64;
    println!(
        "{:>8} x {:<6} {:>10.0} {:>8.1} {:>9} {:>9} {:>9} {:>9.3} {:>9.2} {:>10.2} {:>9.2}",
        payload,
        partitions,
        commits as f64 / took,
        bytes / took / 1e6,
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
        latency.max(),
        usage.cpu_seconds / (bytes / 1e9),
        usage.device_bytes as f64 / bytes,
        counts.flushes as f64 / commits as f64,
        counts.commits as f64 / commits as f64,
    );
    if std::env::var_os("COMMIT_COUNTS").is_some() {
        println!(
            "  {counts:?} of {bytes} bytes, {:.3} CPU-s user",
            usage.user_seconds
        );
    }
}

fn since(now: CountsNow, then: CountsNow) -> CountsNow {
    CountsNow {
        commits: now.commits - then.commits,
        journal_bytes: now.journal_bytes - then.journal_bytes,
        flushes: now.flushes - then.flushes,
        segment_bytes: now.segment_bytes - then.segment_bytes,
        carried_bytes: now.carried_bytes - then.carried_bytes,
        checkpoints: now.checkpoints - then.checkpoints,
        table_bytes: now.table_bytes - then.table_bytes,
        bypasses: now.bypasses - then.bypasses,
    }
}

struct Usage {
    cpu_seconds: f64,
    user_seconds: f64,
    device_bytes: u64,
}

impl Usage {
    fn now() -> Usage {
        let times = std::fs::read_to_string("/proc/self/stat").expect("proc");
        let fields: Vec<&str> = times
            .rsplit(')')
            .next()
            .expect("a name in parentheses")
            .split_whitespace()
            .collect();
        // utime and stime, fields 14 and 15 of proc(5), in ticks of 10 ms
        let ticks = |n: usize| fields[n - 3].parse::<f64>().expect("ticks") / 100.0;
        let io = std::fs::read_to_string("/proc/self/io").expect("proc");
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "))
            .map_or(0, |n| n.parse().expect("bytes"));
        Usage {
            cpu_seconds: ticks(14) + ticks(15),
            user_seconds: ticks(14),
            device_bytes: written,
        }
    }

    fn since(&self, then: &Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - then.cpu_seconds,
            user_seconds: self.user_seconds - then.user_seconds,
            device_bytes: self.device_bytes - then.device_bytes,
        }
    }
}
