//! The command line: which seeds, for how long, and what is said of them.

// what a run takes is real time; the worlds have their own
#![allow(clippy::disallowed_methods)]

use std::cell::RefCell;
use std::io::IsTerminal;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::world::{Tally, simulate};

/// Simulates the whole broker, its disks, its network and its clients, under faults.
///
/// One seed is one world: the same seed and the same commit give the same run, bit for bit. Each
/// world has a random subset of the faults: kills, power cuts, stalls, IO errors, full and slow
/// disks, rot, resets, partings, clock jumps. Clients remember all that was acked and shown, and a
/// run ends when a rule is broken. The rules stand in tests/sim/README.md.
///
/// Exit codes: 0 all rules held, 1 a rule was broken, 2 wrong usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "corelane-sim", version, max_term_width = 100)]
struct Args {
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Simulated minutes of each world
    #[arg(long, value_name = "M", default_value_t = 6.0, value_parser = minutes)]
    minutes: f64,
    /// How many seeds, from the first on
    #[arg(long, value_name = "K", default_value_t = 1)]
    seeds: u64,
    /// How many worlds run side by side, each on a thread
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: u64,
    /// Run each seed twice: both runs must be the same
    #[arg(long)]
    check: bool,
    /// Go on with other seeds after a rule was broken
    #[arg(long)]
    keep_going: bool,
    /// Only the line of totals, and broken rules
    #[arg(long, short)]
    quiet: bool,
    /// Show what the broker says, as in RUST_LOG: info, or corelane::log=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 1e6 => Ok(minutes),
        _ => Err("minutes are a number above 0".to_owned()),
    }
}

/// A world takes no longer than this for one step of its clock: else the broker turns for ever.
const PATIENCE: Duration = Duration::from_secs(180);

thread_local! {
    /// What the thread's world broke, and where.
    static BROKEN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What is told of one seed.
struct Told {
    seed: u64,
    simulated: Duration,
    took: Duration,
    outcome: Result<Held, String>,
}

struct Held {
    hash: u64,
    tally: Tally,
    faults: Vec<&'static str>,
}

/// One thread's world, as the watch sees it: its seed, and how many steps it made.
#[derive(Default)]
struct Watched {
    seed: AtomicU64,
    steps: AtomicU64,
    idle: AtomicBool,
}

pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(filter) = &args.log {
        let told = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .without_time()
            .try_init();
        told.expect("nobody else listens");
    }
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let what = payload.downcast_ref::<String>().map(String::as_str);
        let what = what.or(payload.downcast_ref::<&str>().copied());
        let what = what.unwrap_or("a panic");
        let at = info
            .location()
            .map(|at| format!(" ({}:{})", at.file(), at.line()));
        let first = |broken: &RefCell<Option<String>>| {
            let at = at.as_deref().unwrap_or_default();
            broken.borrow_mut().get_or_insert(format!("{what}{at}"));
        };
        BROKEN.with(first);
        if cfg!(panic = "abort") {
            eprintln!("{what}{}", at.as_deref().unwrap_or_default());
        }
    }));
    all(&args)
}

/// Runs all seeds, and tells of each as it ends.
fn all(args: &Args) -> ExitCode {
    let next = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let watched: Arc<Vec<Watched>> = Arc::new((0..args.jobs).map(|_| Watched::default()).collect());
    let (tell, told) = channel();
    for job in 0..args.jobs as usize {
        let (args, next, stop) = (args.clone(), next.clone(), stop.clone());
        let (watched, tell) = (watched.clone(), tell.clone());
        std::thread::Builder::new()
            .name(format!("world {job}"))
            .stack_size(16 << 20)
            .spawn(move || job_of(&args, &next, &stop, &watched[job], &tell))
            .expect("a thread");
    }
    drop(tell);
    watch(args.clone(), watched);
    report(args, told, &stop)
}

fn job_of(
    args: &Args,
    next: &AtomicU64,
    stop: &AtomicBool,
    watched: &Watched,
    tell: &Sender<Told>,
) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= args.seeds {
            break;
        }
        let seed = args.seed + n;
        watched.seed.store(seed, Ordering::Relaxed);
        // it is the end of all when nobody listens any more
        if tell.send(one(args, seed, watched)).is_err() {
            break;
        }
    }
    watched.idle.store(true, Ordering::Relaxed);
}

fn one(args: &Args, seed: u64, watched: &Watched) -> Told {
    let began = Instant::now();
    let simulated = Mutex::new(Duration::ZERO);
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let run = || {
        BROKEN.with(|broken| broken.take());
        let step = |far| {
            watched.steps.fetch_add(1, Ordering::Relaxed);
            *simulated.lock().expect("not poisoned") = far;
        };
        step(Duration::ZERO);
        panic::catch_unwind(panic::AssertUnwindSafe(|| simulate(seed, time, &step)))
            .map_err(|_| BROKEN.with(|broken| broken.take()).unwrap_or_default())
    };
    let mut outcome = run();
    if args.check
        && let Ok(first) = &outcome
    {
        let hash = first.hash;
        outcome = run().and_then(|again| match again.hash == hash {
            true => Ok(again),
            false => Err(format!(
                "two runs of one seed differ: their traces are {hash:016x} and {:016x}",
                again.hash
            )),
        });
    }
    let mut simulated = simulated.into_inner().expect("not poisoned");
    if let Ok(summary) = &outcome {
        simulated = summary.time;
    }
    Told {
        seed,
        simulated,
        took: began.elapsed(),
        outcome: outcome.map(|summary| Held {
            hash: summary.hash,
            tally: summary.tally,
            faults: summary.faults,
        }),
    }
}

/// The command that runs a seed again.
fn again(args: &Args, seed: u64) -> String {
    format!("corelane-sim --seed {seed} --minutes {}", args.minutes)
}

/// Ends everything when a world does not get on: a task that never waits stops its clock.
fn watch(args: Args, watched: Arc<Vec<Watched>>) {
    std::thread::spawn(move || {
        let mut seen: Vec<(u64, Instant)> = watched.iter().map(|_| (0, Instant::now())).collect();
        loop {
            std::thread::park_timeout(Duration::from_secs(1));
            for (world, (steps, since)) in watched.iter().zip(&mut seen) {
                let now = world.steps.load(Ordering::Relaxed);
                if now != *steps || world.idle.load(Ordering::Relaxed) {
                    (*steps, *since) = (now, Instant::now());
                }
                if since.elapsed() > PATIENCE {
                    let seed = world.seed.load(Ordering::Relaxed);
                    println!(
                        "seed {seed}: BROKEN: the world stands still: {PATIENCE:?} went by in one step of it"
                    );
                    println!("  again: {}", again(&args, seed));
                    std::process::exit(1);
                }
            }
        }
    });
}

fn report(args: &Args, told: Receiver<Told>, stop: &AtomicBool) -> ExitCode {
    let began = Instant::now();
    let bar = ProgressBar::with_draw_target(Some(args.seeds), ProgressDrawTarget::stderr());
    let style = "{bar:30} {pos}/{len} seeds, {elapsed} gone, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    let total = Tally::default();
    let (mut worlds, mut broken) = (0u64, 0u64);
    let mut simulated = Duration::ZERO;
    for told in told {
        worlds += 1;
        simulated += told.simulated;
        let runs = format!(
            "{} in {:.1} s",
            length(told.simulated),
            told.took.as_secs_f64()
        );
        let (seed, outcome) = (told.seed, told.outcome);
        bar.suspend(|| match outcome {
            Ok(held) => {
                total.add(&held.tally);
                if !args.quiet {
                    println!(
                        "seed {seed}: {runs}, trace {:016x}: {}",
                        held.hash, held.tally
                    );
                    println!("  faults: {}", held.faults.join(", "));
                }
            }
            Err(what) => {
                broken += 1;
                println!("seed {seed}: BROKEN after {runs}: {what}");
                println!("  again: {}", again(args, seed));
                stop.store(!args.keep_going, Ordering::Relaxed);
            }
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let took = began.elapsed().as_secs_f64();
    println!("all: {total}");
    println!(
        "{worlds} worlds, {} simulated in {took:.1} s (x{:.0}): {}",
        length(simulated),
        simulated.as_secs_f64() / took.max(0.001),
        match broken {
            0 => "all rules held".to_owned(),
            n => format!("{n} BROKEN"),
        }
    );
    ExitCode::from(u8::from(broken > 0))
}

fn length(time: Duration) -> String {
    match time.as_secs_f64() / 60.0 {
        minutes if minutes < 90.0 => format!("{minutes:.1} min"),
        minutes => format!("{:.1} h", minutes / 60.0),
    }
}
