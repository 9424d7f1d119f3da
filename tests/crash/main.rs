//! The built broker under load, killed with SIGKILL at random moments and started again, often
//! also killed while it recovers, or stopped with SIGSTOP before. After each start every record
//! that was acknowledged is there, once and in order, and nothing that a consumer saw is changed
//! or gone. librdkafka and, where it is installed, Kafka's own producer send.
//!
//! `CORELANE_CRASH_ROUNDS` (50 kills of a broker at work) and `CORELANE_CRASH_SEED` set length and
//! plan. Every fifty rounds the topics are judged as a whole, deleted and made anew, so that a long
//! run needs no more memory and disk than a short one.
//! `CORELANE_TEST_BROKER=kafka` puts Apache Kafka in the broker's place.

mod java;
mod stretch;
mod strike;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use corelane::ring::sim::Rng;
use stretch::{Stretch, no_partition_is_left};
use strike::Tally;
use support::broker::Setup;
use support::wait;

/// Rounds on one set of topics: what is kept of their records, here and on the disk, is bounded.
const ROUNDS_OF_A_STRETCH: u64 = 50;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn killed_under_load(policy: &str, rounds: u64, seed: u64) -> Result<()> {
    println!("\n{policy}: seed {seed}, {rounds} kills");
    support::history::self_test()?;
    let mut random = Rng::new(seed);
    let mut setup = Setup::new(&[("corelane.flush.policy", policy)])?;
    let outcome = rounds_on(&mut setup, rounds, &mut random);
    outcome.with_context(|| {
        format!(
            "seed {seed}, policy {policy}, data kept in {}",
            setup.keep().display()
        )
    })
}

fn rounds_on(setup: &mut Setup, rounds: u64, random: &mut Rng) -> Result<()> {
    setup.set("corelane.cores", "2");
    let mut broker = setup.start()?;
    let mut tally = Tally::default();
    let (mut done, mut records) = (0, 0);
    while done < rounds {
        let mut stretch = Stretch::begin(setup, &mut broker, done, random)?;
        let upto = rounds.min(done + ROUNDS_OF_A_STRETCH);
        for round in done + 1..=upto {
            stretch.progress(&mut broker, round)?;
            strike::strike(broker, random, &mut tally)?;
            broker = strike::start(setup, random, &mut tally)?;
            let judged = stretch.judge(&mut broker, round)?;
            if round % 10 == 0 || round == rounds {
                println!(
                    "  kill {round}/{rounds}: {} records in order",
                    records + judged
                );
            }
        }
        done = upto;
        stretch.progress(&mut broker, done)?;
        stretch.stop_clients();
        records += stretch.judge_all(&mut broker, done)?;
        if done == rounds {
            broker.stop()?;
            broker = setup.start()?;
            let again = stretch.judge_all(&mut broker, done)?;
            println!("  {again} records read again after a clean stop");
        }
        stretch.delete_topics()?;
        no_partition_is_left(setup)?;
    }
    println!("  {records} records judged; {tally:?}");
    broker.stop()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let rounds = number("CORELANE_CRASH_ROUNDS").unwrap_or(50).max(4);
    let seed = number("CORELANE_CRASH_SEED").unwrap_or_else(|| wait::wall_ms() as u64);
    // an ack of policy `interval` survives a killed process too
    let of_interval = rounds / 4;
    let trials = [("group", rounds - of_interval), ("interval", of_interval)];
    let mut trials: Vec<Trial> = trials
        .into_iter()
        .map(|(policy, rounds)| {
            let name = format!("acked_records_survive_sigkill::{policy}");
            Trial::test(name, move || {
                killed_under_load(policy, rounds, seed).map_err(|e| Failed::from(format!("{e:#}")))
            })
        })
        .collect();
    if let Some(reason) = java::missing() {
        let name = "acked_records_survive_sigkill::of_the_java_producer";
        trials.push(Trial::ignorable_test(name, move || {
            Ok(Completion::ignored_with(reason))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
