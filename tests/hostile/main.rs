//! The built broker among clients that mean no good: very many that are idle, that send a byte a
//! second, that never read, that vanish, that reset, that speak something else. A good client goes
//! on, memory stays within its bound, and the log says once what came.
//!
//! `CORELANE_HOSTILE_SECONDS` (3) is how long each of four measurements lasts.

#[path = "../broker/client.rs"]
#[allow(dead_code, clippy::disallowed_methods)] // a part of it is used here; tests read the clock
mod client;
mod crowd;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use client::{Client, Fetching, fetched, put};
use crowd::{FOREIGN, Harm, idle, reset_in_a_frame, speak};
use support::broker::{Broker, Setup};
use support::wait::{self, Deadline, now};

const IDLE: usize = 10_000;
const TRICKLING: usize = 1_000;
const NEVER_READING: usize = 1_000;
/// Files that broker and test each should be able to open: of the broker's, half are the log's.
const FILES: u64 = 32_000;
/// With fewer nothing here makes sense. In between, fewer connections are idle.
const FILES_LEAST: u64 = 10_000;
const MEMORY: u64 = 256 << 20;
/// Code, stacks, tables, heap blocks between two uses; and about 2 KiB for what is known of each
/// connection.
const BESIDE: u64 = (32 << 20) + (IDLE + TRICKLING + NEVER_READING) as u64 * 2048;
/// How much slower a good client may be. It is 2 on a quiet machine: timing decides nothing else.
const SLOWER: f64 = 20.0;
/// From the end of many connections until the broker has closed them all.
const CLOSE_LIMIT: Duration = Duration::from_secs(60);

fn files() -> Result<u64> {
    sockets::allow_files(FILES_LEAST, FILES)
}

fn seconds() -> Duration {
    let set = std::env::var("CORELANE_HOSTILE_SECONDS").ok();
    Duration::from_secs(set.and_then(|s| s.parse().ok()).unwrap_or(3))
}

fn started(more: &[(&str, &str)]) -> Result<(Setup, Broker)> {
    let mut all = vec![
        ("corelane.cores", "2"),
        ("socket.listen.backlog.size", "4096"),
    ];
    all.extend_from_slice(more);
    let mut setup = Setup::new(&all)?;
    setup.limit_open_files(files()? as u32);
    let broker = setup.start()?;
    Ok((setup, broker))
}

/// Produces and reads back one record after the other, for as long as `time`; how long each took.
fn pace(client: &mut Client, offset: &mut i64, time: Duration) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let deadline = Deadline::after(time);
    while !deadline.passed() {
        let begun = now();
        ensure!(put(client, "good", 0, &["a record"]) == (0, *offset));
        let answer = Fetching::new("good", &[(0, *offset)]).with(|fetch| client.ask(11, fetch));
        let (error, _, partitions) = fetched(&answer, 11);
        ensure!(error == 0 && partitions[0].values == ["a record"]);
        *offset += 1;
        latencies.saturating_record(begun.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

fn a_good_client_keeps_its_pace() -> Result<()> {
    let memory = MEMORY.to_string();
    let (setup, broker) = started(&[("corelane.memory.bytes", &memory)])?;
    let address = setup.address();
    let mut good = Client::connect(&broker.address());
    for topic in ["good", "read", "trickle"] {
        good.create(topic, 1, &[]);
    }
    let value = "x".repeat(900_000);
    for _ in 0..4 {
        ensure!(put(&mut good, "read", 0, &[&value]).0 == 0);
    }
    // half of the files at most are connections
    let room = files()? as usize / 2 - TRICKLING - NEVER_READING - 200;
    let silent_count = IDLE.min(room);
    if silent_count < IDLE {
        println!("  only {silent_count} idle connections: no more files may be open (ulimit -Hn)");
    }
    let mut offset = 0;
    pace(&mut good, &mut offset, Duration::from_millis(500))?; // warms up
    let mut p99s: BTreeMap<bool, Vec<u64>> = BTreeMap::new();
    for _ in 0..2 {
        for hostile in [false, true] {
            let mut harm = Harm::none();
            let mut silent = Vec::new();
            if hostile {
                silent = idle(address, silent_count)?;
                harm.trickle(address, TRICKLING)?;
                harm.never_read(address, "read", NEVER_READING)?;
                harm.come_and_go(address);
            }
            let latencies = pace(&mut good, &mut offset, seconds())?;
            let resident = broker.resident_bytes()?;
            let quantile = |q| latencies.value_at_quantile(q);
            println!(
                "  {}: {} turns, p50 {} us, p99 {} us, {} MiB resident, {} files open, {} bad \
                 connections ended",
                if hostile {
                    "among hostile clients"
                } else {
                    "alone"
                },
                latencies.len(),
                quantile(0.5),
                quantile(0.99),
                resident >> 20,
                open_files(&broker)?,
                harm.ended.load(std::sync::atomic::Ordering::Relaxed),
            );
            p99s.entry(hostile).or_default().push(quantile(0.99));
            ensure!(
                resident <= MEMORY + BESIDE,
                "{resident} bytes are resident, {} may be",
                MEMORY + BESIDE
            );
            if hostile {
                ensure!(
                    open_files(&broker)? > silent_count,
                    "the idle ones are still there"
                );
            }
            drop(harm);
            drop(silent);
            let few = || Ok((open_files(&broker)? < 100).then_some(()));
            wait::until(CLOSE_LIMIT, "the broker to close what has ended", few)?;
        }
    }
    let best = |hostile| p99s[&hostile].iter().min().copied().unwrap_or(0) as f64;
    let ratio = best(true) / best(false).max(1.0);
    println!("  p99 among hostile clients is {ratio:.2} times the p99 alone");
    // a quiet client's p99 may be below what the scheduler of a busy machine makes of any
    let most = (SLOWER * best(false)).max(50_000.0);
    ensure!(best(true) <= most, "{p99s:?} us");
    broker.stop()
}

/// Open files of the broker's process, sockets among them.
fn open_files(broker: &Broker) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", broker.id()))?.count())
}

fn other_protocols_are_named_and_a_flood_of_them_writes_few_lines() -> Result<()> {
    const FLOOD: usize = 10_000;
    let (setup, broker) = started(&[])?;
    let address = setup.address();
    let mut good = Client::connect(&broker.address());
    good.create("good", 1, &[]);
    let begun = now();
    flood(address, FLOOD)?;
    let took = begun.elapsed();
    pace(&mut good, &mut 0, Duration::from_millis(100))?;
    let log = broker.log_text();
    let closed: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("connection closed"))
        .collect();
    for (what, _) in FOREIGN {
        let said = closed.iter().any(|line| line.contains(what));
        ensure!(said, "nothing says {what:?} of what came: {closed:#?}");
    }
    for what in ["HTTP", "TLS", "the PROXY protocol"] {
        let text = format!("this looks like {what}: the listener speaks PLAINTEXT");
        ensure!(log.contains(&text), "{text:?} is not said: {closed:#?}");
    }
    // each kind once in ten seconds on each of two shards
    let most = FOREIGN.len() * 2 * (1 + took.as_secs() as usize / 10);
    println!(
        "  {FLOOD} bad connections in {took:.1?} wrote {} lines",
        closed.len()
    );
    ensure!(
        closed.len() <= most,
        "{} lines, {most} may be",
        closed.len()
    );
    broker.stop()
}

/// `count` connections that are closed by the broker, from four threads.
fn flood(address: SocketAddr, count: usize) -> Result<()> {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    (first..count)
                        .step_by(THREADS)
                        .try_for_each(|n| speak(address, FOREIGN[n % FOREIGN.len()].1))
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics")?;
        }
        Ok(())
    })
}

fn connections_reset_in_a_frame_leave_nothing_behind() -> Result<()> {
    let (setup, broker) = started(&[])?;
    let before = open_files(&broker)?;
    for n in 0..3000 {
        reset_in_a_frame(setup.address(), n)?;
    }
    let gone = || Ok((open_files(&broker)? <= before + 1).then_some(()));
    wait::until(CLOSE_LIMIT, "all sockets to be closed", gone)?;
    broker.stop()
}

/// Peers that lost their power: nothing ever comes from them again, not even an end.
fn clients_that_vanish_are_closed_when_they_have_been_idle() -> Result<()> {
    let (setup, broker) = started(&[
        ("connections.max.idle.ms", "8000"),
        ("corelane.send.stall.ms", "3000"),
    ])?;
    let mut good = Client::connect(&broker.address());
    good.create("good", 1, &[]);
    let before = open_files(&broker)?;
    let silent = idle(setup.address(), 600)?;
    for (n, socket) in silent.into_iter().enumerate() {
        if n % 3 == 0 {
            // half a request, or a fetch that waits for what never comes
            let mut client = Client::of(socket);
            let mut fetch = Fetching::new("good", &[(0, 0)]);
            fetch.max_wait_ms = 1000;
            let (_, bytes) = fetch.with(|fetch| client.encode(11, fetch));
            let len = if n % 2 == 0 {
                bytes.len()
            } else {
                bytes.len() / 2
            };
            std::io::Write::write_all(&mut client.socket, &bytes[..len])?;
            sockets::vanish(client.socket)?;
        } else {
            sockets::vanish(socket)?;
        }
    }
    ensure!(
        open_files(&broker)? > before + 300,
        "they are there, as far as the broker can know"
    );
    let mut offset = 0;
    wait::until(CLOSE_LIMIT, "the broker to close them", || {
        // a client that works is not closed with them
        pace(&mut good, &mut offset, Duration::from_millis(100))?;
        Ok((open_files(&broker)? <= before + 1).then_some(()))
    })?;
    broker.stop()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // each of them fills the machine
    arguments.test_threads = Some(1);
    let files = || files().err();
    let trial = |name: &str, missing: Option<anyhow::Error>, run: fn() -> Result<()>| {
        Trial::ignorable_test(name, move || match missing {
            Some(reason) => Ok(Completion::ignored_with(format!("{reason:#}"))),
            None => match run().context("among hostile clients") {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            },
        })
    };
    let trials = vec![
        trial(
            "a_good_client_keeps_its_pace",
            files(),
            a_good_client_keeps_its_pace,
        ),
        trial(
            "other_protocols_are_named_and_a_flood_of_them_writes_few_lines",
            files(),
            other_protocols_are_named_and_a_flood_of_them_writes_few_lines,
        ),
        trial(
            "connections_reset_in_a_frame_leave_nothing_behind",
            files(),
            connections_reset_in_a_frame_leave_nothing_behind,
        ),
        trial(
            "clients_that_vanish_are_closed_when_they_have_been_idle",
            files().or_else(|| sockets::can_vanish().err()),
            clients_that_vanish_are_closed_when_they_have_been_idle,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
