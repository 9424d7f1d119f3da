//! Broken input for everything that reads bytes of others: messages, record batches, every file of
//! the log and of the metadata, whole directories, the configuration. No input may make it panic,
//! hang, or allocate more than its budget.
//!
//! Good inputs, made by our own writers and by Kafka's clients, are broken (bits, lengths, blocks,
//! parts of others), and mostly their checksums made right again, so that what stands behind the
//! check is reached. An input with a new outcome is broken further.
//!
//! `CORELANE_FUZZ_SECONDS=600 cargo test --profile sim --test fuzz` hunts ten minutes a target (one
//! second otherwise) on optimized code that keeps its assertions, `-- NAME` on one target;
//! `CORELANE_FUZZ_SEED` goes another way. An input that breaks a target is saved and named; one
//! that did once lies in `tests/fixtures/fuzz/TARGET`.

mod batches;
mod directory;
mod files;
mod hunt;
mod journal;
mod metadata;
mod mutate;
mod properties;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use hunt::{PLANTED, Target, hunt, reproduce, self_test};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(target: Target) -> Result<(), Failed> {
    let outcome = match std::env::var_os("CORELANE_FUZZ_INPUT") {
        Some(path) => reproduce(target, Path::new(&path)),
        None => {
            let seconds = number("CORELANE_FUZZ_SECONDS").unwrap_or(1);
            let seed = number("CORELANE_FUZZ_SEED").unwrap_or(42);
            hunt(target, Duration::from_secs(seconds), seed)
        }
    };
    let tally = outcome.map_err(|error| Failed::from(format!("{error:#}")))?;
    println!(
        "{}: {} executions, {} outcomes, slowest {:.1?}, at most {} KiB",
        target.name,
        tally.executions,
        tally.findings,
        tally.slowest,
        tally.most_bytes >> 10,
    );
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let targets = [
        wire::TARGETS,
        batches::TARGETS,
        journal::TARGETS,
        files::TARGETS,
        directory::TARGETS,
        metadata::TARGETS,
        properties::TARGETS,
    ];
    // a panic that was planted is no news
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(PLANTED) {
            report(panic);
        }
    }));
    let mut trials = vec![Trial::test("planted_faults_are_found", || {
        self_test().map_err(|error| Failed::from(format!("{error:#}")))
    })];
    for target in targets.into_iter().flatten() {
        trials.push(Trial::test(target.name, move || run(*target)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
