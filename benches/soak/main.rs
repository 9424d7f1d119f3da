//! An hour at half of the maximum: `cargo bench --bench soak -- --dir DIR`.
//!
//! Finds the rate of acks that a loop of one-record produces reaches, then sends at half of it, at
//! intended times whatever the answers do, in windows of ten seconds; between windows the broker is
//! restarted every few minutes, cleanly and by SIGKILL in turn, but not in the last third of the
//! time, in which memory that grows would show. A consumer reads everything and checks it against
//! what was sent and acked. Topics are replaced before they fill the disk.
//!
//! `--minutes 60`, `--restart-minutes 5`, `--window 10` (seconds), `--record 1024` (bytes),
//! `--topic-gib 4`, `--out DIR` (raw data, a picture and a text; `benches/results/<date>-soak`),
//! `--set KEY=VALUE` for the broker, which has 256 MiB of memory if not told otherwise. Latencies of
//! a window leave its first half second out, in which its connections are made.
//!
//! Memory that still grows long after the last restart ends a run as failed, if it is long enough to
//! tell: ten minutes without a restart. Timing is printed and never judged.
#![allow(clippy::disallowed_methods, missing_docs, dead_code)]

mod book;
mod records;
mod report;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corelane::cli::rig::kafka;
use corelane::cli::rig::load::{self, Outcome, Pace, Plan};
use corelane::cli::rig::machine::{self, LOAD_CORE};
use corelane::cli::rig::server::{BrokerSetup, Server};
use corelane::ring::affinity;
use corelane::wire::messages::{DeleteTopicState, DeleteTopicsRequest};

use records::{Consumer, Produce, Topic};
use report::{Sample, thirds};

/// Connections, each with a partition of its own.
const PARTITIONS: usize = 16;
/// Of the search for the maximum.
const DEPTH: usize = 4;
const CATCH_UP: Duration = Duration::from_secs(120);
/// Small enough that the memory for recent records is full early, and what grows after that is not
/// meant to.
const MEMORY: &str = "corelane.memory.bytes=268435456";
/// Growth of resident memory after the last restart, from the first third to the last, that is none.
const GROWTH: f64 = 1.25;
const GROWTH_MIB: f64 = 16.0;
/// Caches fill after a start: that is left out.
const FILLING_SECONDS: f64 = 240.0;
/// What is left must be so long.
const JUDGED_SECONDS: f64 = 600.0;

struct Options {
    dir: PathBuf,
    out: Option<PathBuf>,
    minutes: f64,
    restart_minutes: f64,
    window: f64,
    record_bytes: usize,
    topic_bytes: u64,
    settings: Vec<String>,
}

fn options() -> Options {
    let mut options = Options {
        dir: std::env::temp_dir(),
        out: None,
        minutes: 60.0,
        restart_minutes: 5.0,
        window: 10.0,
        record_bytes: 1024,
        topic_bytes: 4 << 30,
        settings: Vec::new(),
    };
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} takes a value"));
        let number = |text: String| -> f64 { text.parse().expect("a number") };
        match arg.as_str() {
            "--dir" => options.dir = value().into(),
            "--out" => options.out = Some(value().into()),
            "--minutes" => options.minutes = number(value()),
            "--restart-minutes" => options.restart_minutes = number(value()),
            "--window" => options.window = number(value()),
            "--record" => options.record_bytes = number(value()) as usize,
            "--topic-gib" => options.topic_bytes = (number(value()) * (1u64 << 30) as f64) as u64,
            "--set" => options.settings.push(value()),
            other => panic!("unknown: {other}"),
        }
    }
    options
}

/// A topic with those who write and read it.
struct Work {
    topic: Arc<Topic>,
    produce: Produce,
    consumer: Consumer,
}

struct Soak {
    options: Options,
    setup: BrokerSetup,
    server: Option<Server>,
    started: Instant,
    work: Option<Work>,
    topics: u32,
    acked: u64,
    read: u64,
}

impl Soak {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    /// Reads the topic to its end, deletes it, and begins a new one.
    fn next_topic(&mut self) -> Result<(), String> {
        self.finish_topic()?;
        let addr = self.server().addr;
        let name = format!("soak-{}", self.topics);
        self.topics += 1;
        kafka::create_topics(addr, &[(&name, PARTITIONS as i32)]).map_err(|e| e.to_string())?;
        let topic = Arc::new(Topic::new(name, PARTITIONS));
        let bytes = self.options.record_bytes;
        self.work = Some(Work {
            produce: Produce::new(Arc::clone(&topic), bytes),
            consumer: Consumer::start(addr, Arc::clone(&topic), bytes),
            topic,
        });
        Ok(())
    }

    fn finish_topic(&mut self) -> Result<(), String> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        work.consumer.catch_up(&work.topic, CATCH_UP)?;
        self.acked += work.topic.acks();
        self.read += work.topic.reads();
        drop(work.consumer);
        let topics = [DeleteTopicState {
            name: Some(&work.topic.name),
            ..Default::default()
        }];
        let delete = DeleteTopicsRequest {
            topics: topics[..].into(),
            timeout_ms: 30_000,
            ..Default::default()
        };
        let ask = |mut socket| kafka::call(&mut socket, &kafka::request(6, &delete));
        let done = TcpStream::connect(self.server().addr).and_then(ask);
        done.map(drop).map_err(|e| e.to_string())
    }

    fn window(&mut self, pace: Pace, seconds: f64) -> Result<Outcome, String> {
        let server = self.server.as_ref().expect("it runs");
        let work = self.work.as_mut().expect("a topic is there");
        let plan = Plan {
            connections: PARTITIONS,
            pace,
            warmup: Duration::from_secs_f64(0.5),
            until_steady: false,
            run: Duration::from_secs_f64(seconds - 0.5),
            congestion: Some("cubic"),
            interrupted: None,
        };
        let produce = &mut work.produce;
        let outcome = load::run(server, plan, produce, &mut |_, _| Ok(()));
        produce.disconnected();
        let outcome = outcome?;
        work.consumer.check()?;
        if work.topic.reads() * work.produce.frame_bytes() as u64 > self.options.topic_bytes {
            self.next_topic()?;
        }
        Ok(outcome)
    }

    /// Ends the broker and starts it on the same address; how long nothing was answered.
    fn restart(&mut self, kill: bool) -> Duration {
        let server = self.server.take().expect("it runs");
        let addr = server.addr;
        let begun = Instant::now();
        match kill {
            true => server.kill(),
            false => drop(server.stop().unwrap_or_else(|e| panic!("{e:#}"))),
        }
        let server = Server::broker_at(&self.setup, addr);
        self.server = Some(server.unwrap_or_else(|e| panic!("{e:#}")));
        self.started = Instant::now();
        begun.elapsed()
    }

    fn run(&mut self) -> Result<(f64, Vec<Sample>, Vec<f64>), String> {
        self.next_topic()?;
        // the first memory, files and pages are no part of the maximum
        self.window(Pace::Depth(DEPTH), 3.0_f64.min(self.options.window))?;
        let fastest = self.window(Pace::Depth(DEPTH), self.options.window.min(5.0))?;
        let rate = fastest.per_second(fastest.answers) / 2.0;
        println!(
            "# {:.0} acks/s at most: {rate:.0} acks/s from now on",
            rate * 2.0
        );
        println!(
            "{:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "seconds", "acks/s", "p50 us", "p99 us", "p99.9 us", "max us", "MiB"
        );
        let begun = Instant::now();
        let end = self.options.minutes * 60.0;
        let every = self.options.restart_minutes * 60.0;
        let (mut samples, mut outages) = (Vec::new(), Vec::new());
        let mut next_restart = every;
        while begun.elapsed().as_secs_f64() < end {
            let now = begun.elapsed().as_secs_f64();
            let mut event = "";
            if now >= next_restart && now < end * 2.0 / 3.0 {
                let kill = outages.len() % 2 == 1;
                event = if kill { "kill" } else { "stop" };
                let outage = self.restart(kill).as_secs_f64();
                println!("# {event}: answers again after {outage:.3} s");
                outages.push(outage);
                next_restart += every;
            }
            let outcome = self.window(Pace::Rate(rate), self.options.window)?;
            let sample = Sample {
                at: begun.elapsed().as_secs_f64(),
                age: self.started.elapsed().as_secs_f64(),
                per_second: outcome.per_second(outcome.answers),
                p50_us: outcome.quantile_us(0.5),
                p99_us: outcome.quantile_us(0.99),
                p999_us: outcome.quantile_us(0.999),
                max_us: outcome.quantile_us(1.0),
                resident_mib: machine::resident_mib(self.server().pid()),
                event,
            };
            println!(
                "{:>8.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>7.0}",
                sample.at,
                sample.per_second,
                sample.p50_us,
                sample.p99_us,
                sample.p999_us,
                sample.max_us,
                sample.resident_mib
            );
            samples.push(sample);
        }
        self.finish_topic()?;
        if let Some(server) = self.server.take() {
            server.stop().map_err(|e| format!("{e:#}"))?;
        }
        Ok((rate, samples, outages))
    }
}

fn today() -> String {
    let date = Command::new("date").args(["-u", "+%F"]).output();
    let date = date.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    date.unwrap_or_default()
}

fn main() -> ExitCode {
    book::self_test();
    let options = options();
    let cubic = machine::Cubic::set();
    let data = options.dir.join("corelane-bench-soak");
    let _ = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data).expect("the data directory can be made");
    let out = options.out.clone().unwrap_or_else(|| {
        let results = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results");
        PathBuf::from(results).join(format!("{}-soak", today()))
    });
    let machine = machine::describe();
    let _ = affinity::pin(LOAD_CORE);
    let about = format!(
        "{machine}; data in {}, {} min, records of {} bytes to {PARTITIONS} partitions",
        options.dir.display(),
        options.minutes,
        options.record_bytes
    );
    println!("# {about}");
    let setup = BrokerSetup {
        asked: options.settings.clone(),
        ..BrokerSetup::new(Path::new(env!("CARGO_BIN_EXE_corelane")), &data).set(MEMORY)
    };
    let mut soak = Soak {
        server: Some(Server::broker(&setup).unwrap_or_else(|e| panic!("{e:#}"))),
        started: Instant::now(),
        setup,
        options,
        work: None,
        topics: 0,
        acked: 0,
        read: 0,
    };
    let outcome = soak.run();
    drop(soak.work.take());
    let _ = std::fs::remove_dir_all(&data);
    drop(cubic);
    let (rate, samples, outages) = match outcome {
        Ok(done) => done,
        Err(what) => {
            println!("FAILED: {what}");
            return ExitCode::FAILURE;
        }
    };
    let (memory, memory_later) = thirds(&samples, |s| s.resident_mib);
    let (tail, tail_later) = thirds(&samples, |s| s.p999_us);
    let longest = outages.iter().copied().fold(0.0, f64::max);
    let text = format!(
        "# Half of the maximum for {} minutes, {}\n\n{about}.\n\n\
         | what | |\n|---|---|\n\
         | rate, half of what a closed loop reached | {rate:.0} acks/s |\n\
         | records acked, each read back and compared | {} |\n\
         | records read | {} |\n\
         | restarts, clean and SIGKILL in turn; longest without an answer | {}; {longest:.2} s |\n\
         | resident memory, median of the first third and of the last | {memory:.0}; {memory_later:.0} MiB |\n\
         | p99.9 from the intended send, median of the first third and of the last | {tail:.0}; {tail_later:.0} us |\n\n\
         ![latency and memory](soak.svg)\n\n\
         `samples.csv` has every window. Made by `cargo bench --bench soak`; latencies leave out the\n\
         half second in which a window's connections are made, and the restarts, which fall between\n\
         windows. The last third of the time has no restarts, so that memory that grows would show.\n",
        soak.options.minutes,
        today(),
        soak.acked,
        soak.read,
        outages.len(),
    );
    println!("{text}");
    let title = format!(
        "{rate:.0} acks/s, half of the maximum; {} min",
        soak.options.minutes
    );
    if let Err(error) = report::write(&out, &samples, &title, &text) {
        println!("FAILED: {}: {error}", out.display());
        return ExitCode::FAILURE;
    }
    println!("# written to {}", out.display());
    let last = samples.iter().rposition(|s| !s.event.is_empty());
    let quiet: Vec<Sample> = samples[last.unwrap_or(0)..]
        .iter()
        .filter(|s| s.age > FILLING_SECONDS)
        .cloned()
        .collect();
    let judged = quiet.len() as f64 * soak.options.window;
    if judged < JUDGED_SECONDS {
        println!("# too short to tell whether memory grows");
        return ExitCode::SUCCESS;
    }
    let (memory, later) = thirds(&quiet, |s| s.resident_mib);
    println!("# without a restart, memory went from {memory:.0} to {later:.0} MiB");
    if later > memory * GROWTH + GROWTH_MIB {
        println!("FAILED: memory grows");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
