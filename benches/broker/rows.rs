//! The rows of the table, each a claim with its yardstick.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corelane::cli::rig::kafka::{self, Fetch, Plain, Produce};
use corelane::cli::rig::load::{self, Outcome, Pace, Plan, Traffic};
use corelane::cli::rig::machine;
use corelane::cli::rig::server::{BrokerSetup, Server};

pub struct Bench {
    pub dir: PathBuf,
    pub seconds: f64,
    pub pairs: usize,
    /// Properties of every broker that is started.
    pub settings: Vec<String>,
}

type Row = fn(&Bench);

pub const ALL: &[(&str, Row)] = &[
    ("produce-64k", |b| produce(b, "64 KiB", 63, 2.0)),
    ("produce-1m", |b| produce(b, "1 MiB", 1000, 1.5)),
    ("fetch-64k", |b| fetch(b, "64 KiB", 63)),
    ("fetch-1m", |b| fetch(b, "1 MiB", 1000)),
    ("small", small),
    ("partitions", partitions),
    ("lanes", lanes),
    ("shards", shards),
    ("memory", memory),
    ("idle", idle),
    ("start", start),
    ("create", create),
];

const KIB: usize = 1024;
/// Names of directories begin with it.
const PREFIX: &str = "corelane-bench-";
const JOURNAL: &str = "corelane.journal.size=1073741824";

fn mb_per_s(outcome: &Outcome) -> f64 {
    outcome.gigabytes() * 1e3 / outcome.elapsed.as_secs_f64()
}

impl Bench {
    /// A broker on one core over this directory.
    fn setup(&self, dir: &Path) -> BrokerSetup {
        BrokerSetup {
            asked: self.settings.clone(),
            ..BrokerSetup::new(Path::new(env!("CARGO_BIN_EXE_corelane")), dir)
        }
    }

    /// Removes what the rows left: they write more than a small disk holds together.
    pub fn clean(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A fresh directory for one server.
    fn fresh(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(format!("{PREFIX}{name}"));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the data directory can be made");
        dir
    }

    fn plan(&self, connections: usize, pace: Pace) -> Plan {
        Plan {
            connections,
            pace,
            warmup: Duration::from_secs_f64((self.seconds / 3.0).max(0.5)),
            until_steady: false,
            run: Duration::from_secs_f64(self.seconds),
            congestion: Some("cubic"),
            interrupted: None,
        }
    }

    fn measure(&self, server: &Server, plan: Plan, traffic: &mut dyn Traffic) -> Outcome {
        self.measure_as(server, plan, traffic, &mut |_, _| Ok(()))
    }

    fn measure_as(
        &self,
        server: &Server,
        plan: Plan,
        traffic: &mut dyn Traffic,
        prepare: &mut dyn FnMut(usize, &mut TcpStream) -> std::io::Result<()>,
    ) -> Outcome {
        load::run(server, plan, traffic, prepare).unwrap_or_else(|e| panic!("the load failed: {e}"))
    }

    /// A B A B ..; the medians of both.
    fn pairs(&self, mut a: impl FnMut() -> f64, mut b: impl FnMut() -> f64) -> (f64, f64) {
        let (mut all_a, mut all_b) = (Vec::new(), Vec::new());
        for _ in 0..self.pairs {
            all_a.push(a());
            all_b.push(b());
        }
        (median(all_a), median(all_b))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn line(what: &str, ours: f64, yardstick: f64, at_most: f64, unit: &str) {
    let ratio = ours / yardstick;
    let verdict = if ratio <= at_most { "" } else { "  MISS" };
    println!(
        "{:<44} {ours:>12.3} {yardstick:>12.3} {ratio:>8.2} {at_most:>8.2} {unit}{verdict}",
        what
    );
}

fn bound(what: &str, ours: f64, at_most: f64, unit: &str) {
    let verdict = if ours <= at_most { "" } else { "  MISS" };
    println!(
        "{what:<44} {ours:>12.3} {:>12} {:>8} {at_most:>8.2} {unit}{verdict}",
        "-", "-"
    );
}

fn note(text: &str) {
    println!("    {text}");
}

fn broker(setup: &BrokerSetup) -> Server {
    Server::broker(setup).unwrap_or_else(|e| panic!("{e:#}"))
}

/// A floor program on core 0, with the congestion control of the load.
fn floor_server(b: &Bench, args: &[&str]) -> Server {
    let program = Path::new(env!("CARGO_BIN_EXE_corelane-floor"));
    let args = [args, &["--core", "0", "--congestion", "cubic"]].concat();
    Server::floor(program, &args, &b.dir).unwrap_or_else(|e| panic!("{e:#}"))
}

fn floor_file(dir: &Path) -> String {
    dir.join("floor").display().to_string()
}

fn produce(b: &Bench, name: &str, records: usize, at_most: f64) {
    let batch = kafka::batch(records, KIB);
    let (connections, depth) = (4, 2);
    let plan = b.plan(connections, Pace::Depth(depth));
    let rate = std::cell::Cell::new((0.0, 0.0));
    let process = std::cell::Cell::new((0.0, 0.0));
    let (ours, floor) = b.pairs(
        || {
            let dir = b.fresh("produce");
            let server = broker(&b.setup(&dir).set(JOURNAL));
            kafka::create_topics(server.addr, &[(kafka::TOPIC, 4)]).expect("topic");
            let plan = plan.until_steady();
            let m = b.measure(&server, plan, &mut Produce::spread(&batch, connections, 4));
            rate.set((mb_per_s(&m), rate.get().1));
            process.set((m.cpu.server / m.gigabytes(), process.get().1));
            m.cpu_per_gb()
        },
        || {
            let dir = b.fresh("floor");
            let server = floor_server(b, &["ingest", "--file", &floor_file(&dir)]);
            let m = b.measure(&server, plan, &mut Plain::of_batch(&batch, connections));
            rate.set((rate.get().0, mb_per_s(&m)));
            process.set((process.get().0, m.cpu.server / m.gigabytes()));
            m.cpu_per_gb()
        },
    );
    line(
        &format!("produce, group, {name}"),
        ours,
        floor,
        at_most,
        "CPU-s/GB",
    );
    note(&format!(
        "MB/s: {:.0} against {:.0}; of the processes alone: {:.3} against {:.3} CPU-s/GB",
        rate.get().0,
        rate.get().1,
        process.get().0,
        process.get().1,
    ));
}

/// Fills the topic: `connections` partitions of `batches` batches each.
fn fill(server: &Server, connections: usize, batch: &[u8], batches: u64) {
    kafka::create_topics(server.addr, &[(kafka::TOPIC, connections as i32)]).expect("topic");
    let mut produce = Produce::spread(batch, connections, connections as i32);
    let mut sockets: Vec<TcpStream> = (0..connections)
        .map(|_| TcpStream::connect(server.addr).expect("the broker listens"))
        .collect();
    for _ in 0..batches {
        for (c, socket) in sockets.iter_mut().enumerate() {
            let frame = produce.frame(c).to_vec();
            let answer = kafka::call(socket, &frame).expect("produce");
            produce.answer(c, &answer, answer.len()).expect("produce");
        }
    }
}

fn fetch(b: &Bench, name: &str, records: usize) {
    let batch = kafka::batch(records, KIB);
    let connections = 4;
    let plan = b.plan(connections, Pace::Depth(1));
    let batches = (96 * KIB * KIB / batch.len()) as u64 / connections as u64;
    let end = batches as i64 * records as i64;
    let traffic = || Fetch::new(connections, batch.len() as i32 + 1, records as i64, end);

    let dir = b.fresh("fetch");
    let setup = b.setup(&dir).set(JOURNAL);
    let server = broker(&setup);
    fill(&server, connections, &batch, batches);
    let file = floor_file(&b.fresh("floor"));
    let total = batches * connections as u64 * batch.len() as u64;
    std::fs::write(&file, vec![7u8; total as usize]).expect("the floor's file");
    let plain = || Plain::reads(batch.len() as u32, total, connections);
    let (ours, floor) = b.pairs(
        || b.measure(&server, plan, &mut traffic()).cpu_per_gb(),
        || {
            let floor = floor_server(b, &["read", "--memory", "--file", &file]);
            b.measure(&floor, plan, &mut plain()).cpu_per_gb()
        },
    );
    line(
        &format!("fetch from memory, {name}"),
        ours,
        floor,
        1.3,
        "CPU-s/GB",
    );
    server.stop().expect("a clean stop");

    let (ours, floor) = b.pairs(
        || {
            drop_page_cache();
            let server = broker(&setup);
            b.measure(&server, plan, &mut traffic()).cpu_per_gb()
        },
        || {
            drop_page_cache();
            let floor = floor_server(b, &["read", "--file", &file]);
            b.measure(&floor, plan, &mut plain()).cpu_per_gb()
        },
    );
    line(
        &format!("fetch cold at first, {name}"),
        ours,
        floor,
        1.3,
        "CPU-s/GB",
    );
}

fn drop_page_cache() {
    if let Err(error) = machine::drop_page_cache() {
        note(&format!(
            "not cold, the page cache can't be dropped: {error}"
        ));
    }
}

fn small(b: &Bench) {
    let batch = kafka::batch(1, 100);
    let connections = 64;
    let plan = b.plan(connections, Pace::Depth(1));
    let ours = |policy: &str| {
        let dir = b.fresh("small");
        let setup = b
            .setup(&dir)
            .set(JOURNAL)
            .set(&format!("corelane.flush.policy={policy}"));
        let server = broker(&setup);
        kafka::create_topics(server.addr, &[(kafka::TOPIC, 16)]).expect("topic");
        let m = b.measure(&server, plan, &mut Produce::spread(&batch, connections, 16));
        note(&format!(
            "{policy}: {:.0} requests/s, p50 {:.0} us, p99 {:.0} us",
            m.per_second(m.answers),
            m.quantile_us(0.5),
            m.quantile_us(0.99)
        ));
        m.cpu_us_each()
    };
    let floor = |args: &[&str]| {
        let dir = b.fresh("floor");
        let file = floor_file(&dir);
        let mut args = args.to_vec();
        args.extend(["--file", &file]);
        let server = floor_server(b, &args);
        b.measure(&server, plan, &mut Plain::of_batch(&batch, connections))
            .cpu_us_each()
    };
    let (interval, echo) = b.pairs(|| ours("interval"), || floor(&["echo"]));
    line(
        "small produce, interval, 64 connections",
        interval,
        echo,
        2.5,
        "CPU us/request",
    );
    let (group, ingest) = b.pairs(|| ours("group"), || floor(&["ingest"]));
    line(
        "small produce, group, 64 connections",
        group,
        ingest,
        1.5,
        "CPU us/request",
    );
}

fn partitions(b: &Bench) {
    let batch = kafka::batch(1, KIB);
    let connections = 16;
    let server_for = |partitions: i32| {
        let dir = b.fresh(&format!("partitions-{partitions}"));
        let server = broker(&b.setup(&dir).set(JOURNAL));
        kafka::create_topics(server.addr, &[(kafka::TOPIC, partitions)]).expect("topic");
        // what so many new directories left to be written is not what is measured
        nix::unistd::sync();
        server
    };
    let one = server_for(1);
    let saturated = b.measure(
        &one,
        b.plan(connections, Pace::Depth(4)),
        &mut Produce::spread(&batch, connections, 1),
    );
    let rate = saturated.per_second(saturated.answers) / 2.0;
    note(&format!(
        "saturation with one partition: {:.0} requests/s; half of it is offered",
        rate * 2.0
    ));
    let at_half = |server: &Server, partitions: i32| {
        b.measure(
            server,
            b.plan(connections, Pace::Rate(rate)),
            &mut Produce::spread(&batch, connections, partitions),
        )
    };
    for partitions in [1000, 10_000] {
        let many = server_for(partitions);
        let (mut a, mut c) = (Vec::new(), Vec::new());
        for _ in 0..b.pairs {
            a.push(at_half(&many, partitions));
            c.push(at_half(&one, 1));
        }
        let pick = |of: &[Outcome], f: fn(&Outcome) -> f64| median(of.iter().map(f).collect());
        if partitions == 10_000 {
            for (q, f) in [
                ("p50", (|m| m.quantile_us(0.5)) as fn(&Outcome) -> f64),
                ("p99", |m| m.quantile_us(0.99)),
            ] {
                line(
                    &format!("commit {q}, 10,000 partitions against 1"),
                    pick(&a, f),
                    pick(&c, f),
                    2.0,
                    "us",
                );
            }
        } else {
            let f = |m: &Outcome| m.cpu_per_gb();
            line(
                "1000 partitions against 1, same load",
                pick(&a, f),
                pick(&c, f),
                1.3,
                "CPU-s/GB",
            );
        }
    }
}

fn lanes(b: &Bench) {
    let batch = kafka::batch(63, KIB);
    let connections = 4;
    let forwarded = std::cell::Cell::new((0, 0));
    let run = |shown: bool| {
        let server = broker(&b.setup(&b.fresh("lanes")).set(JOURNAL).cores("2"));
        kafka::create_topics(server.addr, &[(kafka::TOPIC, 16)]).expect("topic");
        let leaders = kafka::leaders(server.addr).expect("metadata");
        let plan = b.plan(connections, Pace::Depth(2)).until_steady();
        let m = if shown {
            let mut traffic = Produce::new(&batch, -1, &by_leader(&leaders, connections));
            b.measure_as(&server, plan, &mut traffic, &mut |_, s| kafka::introduce(s))
        } else {
            // every connection brings batches for all partitions
            let all = vec![(0..16).collect(); connections];
            b.measure(&server, plan, &mut Produce::new(&batch, -1, &all))
        };
        let count = server.stop_and_count("forwarded").expect("a clean stop");
        let (with, without) = forwarded.get();
        forwarded.set(match shown {
            true => (with + count, without),
            false => (with, without + count),
        });
        m.cpu_per_gb()
    };
    let (one_node, with_lanes) = b.pairs(|| run(false), || run(true));
    line(
        "2 shards: one node against lanes",
        one_node,
        with_lanes,
        1.4,
        "CPU-s/GB",
    );
    let (with, without) = forwarded.get();
    note(&format!("of one node's requests {without} were forwarded"));
    bound("2 shards, lanes: forwarded", with as f64, 0.0, "requests");
}

/// For each connection the partitions of one leader.
fn by_leader(leaders: &[i32], connections: usize) -> Vec<Vec<i32>> {
    let mut nodes = leaders.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    let own = |node| (0..).zip(leaders).filter(move |(_, n)| **n == node);
    (0..connections)
        .map(|c| own(nodes[c % nodes.len()]).map(|(p, _)| p).collect())
        .collect()
}

fn shards(b: &Bench) {
    let batch = kafka::batch(63, KIB);
    // enough that two shards have as large commits as one
    let connections = 16;
    let plan = b.plan(connections, Pace::Depth(2));
    let run = |cores: &str| {
        let dir = b.fresh("shards");
        let server = broker(&b.setup(&dir).set(JOURNAL).cores(cores));
        kafka::create_topics(server.addr, &[(kafka::TOPIC, 16)]).expect("topic");
        let leaders = kafka::leaders(server.addr).expect("metadata");
        let mut traffic = Produce::new(&batch, -1, &by_leader(&leaders, connections));
        let plan = plan.until_steady();
        let m = b.measure_as(&server, plan, &mut traffic, &mut |_, s| kafka::introduce(s));
        note(&format!("cores {cores}: {:.0} MB/s", mb_per_s(&m)));
        m.cpu_per_gb()
    };
    let (two, one) = b.pairs(|| run("2"), || run("0-0"));
    line(
        "2 shards against 1 (load on the same cores)",
        two,
        one,
        1.1,
        "CPU-s/GB",
    );
}

fn memory(b: &Bench) {
    let dir = b.fresh("memory");
    let server = broker(&b.setup(&dir));
    bound(
        "resident memory, idle start",
        machine::resident_mib(server.pid()),
        32.0,
        "MiB",
    );
    for i in 0..10 {
        kafka::create_topics(server.addr, &[(&format!("t{i}"), 1000)]).expect("topics");
    }
    bound(
        "resident memory, 10,000 empty partitions",
        machine::resident_mib(server.pid()),
        256.0,
        "MiB",
    );
}

fn idle(b: &Bench) {
    let dir = b.fresh("idle");
    let server = broker(&b.setup(&dir));
    kafka::create_topics(server.addr, &[(kafka::TOPIC, 1000)]).expect("topic");
    let sockets: Vec<TcpStream> = (0..1000)
        .map(|_| TcpStream::connect(server.addr).expect("connect"))
        .collect();
    let began = (Instant::now(), machine::process_seconds(server.pid()));
    let span = Duration::from_secs_f64(b.seconds.max(5.0));
    std::thread::sleep(span);
    let spent = machine::process_seconds(server.pid()) - began.1;
    bound(
        "idle CPU, 1000 sockets, 1000 partitions",
        spent / began.0.elapsed().as_secs_f64() * 100.0,
        1.0,
        "% of a core",
    );
    drop(sockets);
}

fn start(b: &Bench) {
    let batch = kafka::batch(1, KIB);
    for (partitions, clean, killed) in [(1000, 0.2, 2.0), (10_000, 1.0, 3.0)] {
        let dir = b.fresh("start");
        let setup = b.setup(&dir);
        let server = broker(&setup);
        for i in 0..partitions / 1000 {
            let name = if i == 0 {
                kafka::TOPIC.to_string()
            } else {
                format!("t{i}")
            };
            kafka::create_topics(server.addr, &[(&name, 1000)]).expect("topics");
        }
        let load = |server: &Server| {
            b.measure(
                server,
                b.plan(16, Pace::Depth(4)),
                &mut Produce::spread(&batch, 16, 1000),
            );
        };
        load(&server);
        let stop = server.stop().expect("a clean stop");
        let server = broker(&setup);
        bound(
            &format!("start, {partitions} partitions, clean"),
            server.ready_after.as_secs_f64(),
            clean,
            "s",
        );
        note(&format!("clean stop took {:.2} s", stop.as_secs_f64()));
        load(&server);
        server.kill();
        let server = broker(&setup);
        bound(
            &format!("start, {partitions} partitions, after SIGKILL"),
            server.ready_after.as_secs_f64(),
            killed,
            "s",
        );
    }
}

fn create(b: &Bench) {
    let dir = b.fresh("create");
    let server = broker(&b.setup(&dir));
    let mut times = Vec::new();
    for i in 0..b.pairs {
        let began = Instant::now();
        kafka::create_topics(server.addr, &[(&format!("t{i}"), 1000)]).expect("topics");
        times.push(began.elapsed().as_secs_f64());
    }
    bound(
        "CreateTopics, 1000 partitions, until all serve",
        median(times),
        0.5,
        "s",
    );
}
