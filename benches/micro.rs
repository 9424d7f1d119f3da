//! The time that the counted paths of codec and log take: `cargo bench --bench micro`.
//!
//! For a developer's machine: what a change does to time where `corelane-instructions` counts what
//! it does to instructions. The code is the same.
#![allow(clippy::disallowed_methods)] // a benchmark looks at the real clock

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "instructions/codec.rs"]
mod codec;
#[path = "instructions/log.rs"]
mod log;

mod counted {
    //! Takes the time of what callgrind counts elsewhere.

    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static TOOK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub fn counted(what: &mut dyn FnMut()) {
        let began = Instant::now();
        what();
        TOOK.set(TOOK.get() + began.elapsed());
    }

    /// Since the last call.
    pub fn took() -> Duration {
        TOOK.take()
    }
}

/// A path: its name, and what runs it and gives the number of its operations.
type Path = (&'static str, fn() -> u64);

fn paths(c: &mut Criterion) {
    for (name, run) in codec::PATHS.iter().chain(log::PATHS) {
        c.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                counted::took();
                let mut sum = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let operations = run();
                    let part = left.min(operations);
                    sum += counted::took().mul_f64(part as f64 / operations as f64);
                    left -= part;
                }
                sum
            });
        });
    }
}

criterion_group!(benches, paths);
criterion_main!(benches);
