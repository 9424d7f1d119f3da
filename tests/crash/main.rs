//! The built broker under load, killed with SIGKILL at random moments and started again, often
//! also killed while it recovers. After each start every record that was acknowledged is there,
//! once and in order, and nothing that a consumer saw is changed or gone.
//!
//! `CORELANE_CRASH_ROUNDS` (50 kills) and `CORELANE_CRASH_SEED` set length and plan.
//! `CORELANE_TEST_BROKER=kafka` puts Apache Kafka in the broker's place.

mod history;
mod load;
mod random;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use history::{History, Promise};
use random::Random;
use support::broker::{Broker, Setup};
use support::wait::{self, pause};

/// From a start until every producer and the watcher get on.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log each round reads again, besides what is new. The last round reads all.
const AGAIN: usize = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Starts the broker on one core or two: a restart may find another number than the run before.
fn start(setup: &mut Setup, random: &mut Random) -> Result<Broker> {
    let cores = if random.below(2) == 0 { "1" } else { "2" };
    setup.set("corelane.cores", cores);
    // one start in three is killed while it recovers
    if random.below(3) == 0 {
        let broker = setup.spawn()?;
        pause(Duration::from_millis(random.below(120)));
        broker.kill()?;
    }
    setup.start()
}

fn create_topics(bootstrap: &str, histories: &[Arc<History>]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?;
    let mut topics: Vec<(&str, i32)> = Vec::new();
    for history in histories {
        match topics.last_mut() {
            Some((name, partitions)) if *name == history.topic => *partitions += 1,
            _ => topics.push((&history.topic, 1)),
        }
    }
    for (name, partitions) in topics {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let outcome = pollster::block_on(admin.create_topics([&new], &AdminOptions::new()))?;
        for result in outcome {
            result.map_err(|(name, code)| anyhow::anyhow!("{name} was not created: {code}"))?;
        }
    }
    Ok(())
}

/// Waits until every partition has acknowledged something new and the watcher has seen it.
fn progress(histories: &[Arc<History>], broker: &mut Broker) -> Result<()> {
    let before: Vec<usize> = histories.iter().map(|h| h.acked_count()).collect();
    let seen: Vec<i64> = histories.iter().map(|h| h.seen_end()).collect();
    wait::until(
        PROGRESS_LIMIT,
        "every client to get on after a start",
        || {
            anyhow::ensure!(broker.runs(), "the broker ended by itself");
            let acked = histories
                .iter()
                .zip(&before)
                .all(|(h, b)| h.acked_count() > *b);
            let watched = histories.iter().zip(&seen).all(|(h, s)| h.seen_end() > *s);
            if acked && watched {
                return Ok(Some(()));
            }
            for history in histories {
                history.snapshot()?; // a broken promise ends the wait
            }
            Ok(None)
        },
    )
}

fn killed_under_load(policy: &str, rounds: u64, seed: u64) -> Result<()> {
    println!("\n{policy}: seed {seed}, {rounds} kills");
    history::self_test()?;
    let mut random = Random::new(seed);
    let mut setup = Setup::new(&[("corelane.flush.policy", policy)])?;
    let outcome = rounds_on(&mut setup, rounds, &mut random);
    outcome.with_context(|| {
        format!(
            "seed {seed}, policy {policy}, data kept in {}",
            setup.keep().display()
        )
    })
}

fn rounds_on(setup: &mut Setup, rounds: u64, random: &mut Random) -> Result<()> {
    let bootstrap = setup.address().to_string();
    let topic = |name: &str, partitions: i32, promise: Promise| -> Vec<Arc<History>> {
        (0..partitions)
            .map(|partition| Arc::new(History::new(name, partition, promise)))
            .collect()
    };
    let idempotent = topic("idempotent", 4, Promise::EachOnce);
    let plain = topic("plain", 2, Promise::AtMostOnce);
    let written = topic("acks-one", 2, Promise::AtMostOnce);
    let all = [&idempotent[..], &plain, &written].concat();
    let mut logs = vec![Vec::new(); all.len()];

    setup.set("corelane.cores", "2");
    let mut broker = setup.start()?;
    create_topics(&bootstrap, &all)?;
    let mut running = vec![
        load::producer(&bootstrap, idempotent, "all", random.split())?,
        load::producer(&bootstrap, plain, "all", random.split())?,
        load::producer(&bootstrap, written, "1", random.split())?,
        load::watcher(&bootstrap, all.clone())?,
    ];
    let mut judge = |broker: &mut Broker, round: u64, again: usize| -> Result<usize> {
        let context = || format!("round {round}; {}", broker.log_tail());
        let before = all.iter().map(|h| h.snapshot()).collect::<Result<Vec<_>>>();
        let before = before.with_context(context)?;
        load::read(&bootstrap, &all, &mut logs, again).with_context(context)?;
        for ((history, log), before) in all.iter().zip(&logs).zip(&before) {
            history.judge(log, before).with_context(context)?;
        }
        Ok(logs.iter().map(Vec::len).sum())
    };
    for round in 1..=rounds {
        progress(&all, &mut broker)
            .with_context(|| format!("round {round}; {}", broker.log_tail()))?;
        pause(Duration::from_millis(random.below(500)));
        broker.kill()?;
        broker = start(setup, random)?;
        let records = judge(&mut broker, round, AGAIN)?;
        if round % 5 == 0 {
            println!("  kill {round}/{rounds}: {records} records in order");
        }
    }
    progress(&all, &mut broker)?;
    running.clear();
    judge(&mut broker, rounds, usize::MAX >> 1)?;
    broker.stop()?;
    let mut broker = setup.start()?;
    let records = judge(&mut broker, rounds, usize::MAX >> 1)?;
    println!("  {records} records read again after a clean stop");
    broker.stop()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let rounds = number("CORELANE_CRASH_ROUNDS").unwrap_or(50).max(2);
    let seed = number("CORELANE_CRASH_SEED").unwrap_or_else(|| wait::wall_ms() as u64);
    // an ack of policy `interval` survives a killed process too
    let of_interval = rounds / 4;
    let trials = [("group", rounds - of_interval), ("interval", of_interval)];
    let trials = trials.into_iter().map(|(policy, rounds)| {
        Trial::test(
            format!("acked_records_survive_sigkill::{policy}"),
            move || {
                killed_under_load(policy, rounds, seed).map_err(|e| Failed::from(format!("{e:#}")))
            },
        )
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
