//! Our runtime beside glommio: the same two jobs on both, in turns, and the ratio.
//!
//! - ping: four connections send 1 KiB and wait for it to come back;
//! - ingest: four connections send 64 KiB, which are written past the page cache into a file that was written before and
//!   flushed; then one byte comes back.
//!
//! The server is a process of its own, pinned to the first allowed core, the load is pinned to the last. The
//! figure is the server's CPU time, kernel workers included. `--rounds N` and `--seconds S` change the length.
#![allow(clippy::disallowed_methods)] // the load is a plain thread with a plain clock

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corelane::ring::affinity;

const CONNECTIONS: usize = 4;
const PING: usize = 1 << 10;
const INGEST: usize = 64 << 10;
/// Each connection writes round and round in its own part of the file.
const PART: u64 = 16 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, runtime, job] = &args[..]
        && command == "serve"
    {
        return serve(runtime, job);
    }
    let number = |name: &str, default| {
        let at = args.iter().position(|arg| arg == name);
        let value = at.and_then(|at| args.get(at + 1)?.parse::<u64>().ok());
        value.unwrap_or(default)
    };
    let (rounds, seconds) = (number("--rounds", 5), number("--seconds", 2));
    let cores = affinity::allowed_cores().expect("cores");
    affinity::pin(cores[cores.len() - 1]).expect("a core of ours");
    for (job, unit) in [("ping", "CPU us/request"), ("ingest", "CPU-s/GB")] {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (runtime, figures) in ["ours", "glommio"].iter().zip(&mut figures) {
                figures.push(measure(runtime, job, Duration::from_secs(seconds)));
            }
        }
        let [ours, glommio] = figures.map(median);
        println!(
            "{job:7} {unit:15} ours {ours:7.3}  glommio {glommio:7.3}  glommio/ours {:5.2}",
            glommio / ours
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// One run; CPU microseconds a request, or CPU seconds a gigabyte.
fn measure(runtime: &str, job: &str, length: Duration) -> f64 {
    let mut child = Command::new(std::env::current_exe().expect("our own path"))
        .args(["serve", runtime, job])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ourselves again");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("ready");
    let port: u16 = line.trim().parse().expect("a port");
    let mut connections: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            stream.set_nodelay(true).expect("TCP");
            stream
        })
        .collect();
    let (size, back) = if job == "ping" {
        (PING, PING)
    } else {
        (INGEST, 1)
    };
    let request = vec![7; size];
    let mut answer = vec![0; back];
    let mut round = |connections: &mut [TcpStream]| {
        for stream in &mut *connections {
            stream.write_all(&request).expect("sent");
        }
        for stream in connections {
            stream.read_exact(&mut answer).expect("answered");
        }
    };
    for _ in 0..100 {
        round(&mut connections);
    }
    let (cpu, begin) = (cpu_seconds(&child), Instant::now());
    let mut requests = 0;
    while begin.elapsed() < length {
        round(&mut connections);
        requests += CONNECTIONS;
    }
    let cpu = cpu_seconds(&child) - cpu;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    if job == "ping" {
        cpu * 1e6 / requests as f64
    } else {
        cpu * 1e9 / (requests * size) as f64
    }
}

/// User and system time of a process with its kernel workers.
fn cpu_seconds(child: &Child) -> f64 {
    let path = format!("/proc/{}/stat", child.id());
    let stat = std::fs::read_to_string(path).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

fn serve(runtime: &str, job: &str) {
    let core = affinity::allowed_cores().expect("cores")[0];
    // The directory goes at once, the file with the process: the load ends it by a signal.
    let directory = (job == "ingest").then(|| {
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
        std::fs::create_dir_all(target).expect("a directory");
        let directory = tempfile::tempdir_in(target).expect("a directory");
        let zeros = vec![0; (PART as usize) * CONNECTIONS];
        std::fs::write(directory.path().join("data"), zeros).expect("space");
        directory
    });
    if runtime == "ours" {
        ours::serve(core, directory);
    } else {
        glom::serve(core, directory);
    }
}

fn announce(port: u16) {
    println!("{port}");
    std::io::stdout().flush().expect("a pipe");
}

mod ours {
    use std::rc::Rc;

    use corelane::base::ids::ShardId;
    use corelane::ring::buf::Buf;
    use corelane::ring::driver::{Chain, OpenOptions};
    use corelane::ring::uring::UringDriver;
    use corelane::ring::{Executor, File, Ring, Socket, affinity};

    use super::{INGEST, PART, PING};

    pub fn serve(core: usize, directory: Option<tempfile::TempDir>) {
        affinity::pin(core).expect("a core of ours");
        let driver = Rc::new(UringDriver::new().expect("io_uring"));
        let mut executor = Executor::new(driver, ShardId(0));
        let ring = executor.ring();
        executor.block_on(async move {
            let file = directory.map(|directory| {
                let options = OpenOptions {
                    write: true,
                    direct: true,
                    ..OpenOptions::default()
                };
                let path = directory.path().join("data");
                ring.open(&path, options).expect("our file")
            });
            let listener = ring.listen("127.0.0.1:0".parse().expect("an address"), 64);
            let listener = listener.expect("a port");
            super::announce(listener.local_addr().expect("bound").port());
            for connection in 0.. {
                let (socket, _) = listener.accept().await.expect("a connection");
                let ring2 = ring.clone();
                match file.clone() {
                    None => ring.spawn(ping(ring2, socket)).detach(),
                    Some(file) => ring
                        .spawn(ingest(ring2, socket, file, connection * PART))
                        .detach(),
                }
            }
        });
    }

    async fn ping(ring: Ring, socket: Socket) {
        loop {
            let mut buf = ring.arena().alloc(PING).await;
            let mut filled = 0;
            while filled < PING {
                let (n, back) = socket.recv(buf, filled, PING - filled).await;
                buf = back;
                match n {
                    Ok(0) | Err(_) => return,
                    Ok(n) => filled += n,
                }
            }
            let answer = Chain::from_iter([buf.freeze(0..PING)]);
            if socket.send(answer).await.is_err() {
                return;
            }
        }
    }

    async fn ingest(ring: Ring, socket: Socket, file: File, base: u64) {
        let mut offset = 0;
        loop {
            let mut buf = ring.arena().alloc(INGEST).await;
            let mut filled = 0;
            while filled < INGEST {
                let (n, back) = socket.recv(buf, filled, INGEST - filled).await;
                buf = back;
                match n {
                    Ok(0) | Err(_) => return,
                    Ok(n) => filled += n,
                }
            }
            let page = Chain::from_iter([buf.freeze(0..INGEST)]);
            file.write_at(page, base + offset).await.expect("written");
            file.sync_data().await.expect("flushed");
            offset = (offset + INGEST as u64) % PART;
            let answer = Chain::from_iter([Buf::from_static(&[1])]);
            if socket.send(answer).await.is_err() {
                return;
            }
        }
    }
}

mod glom {
    use std::rc::Rc;

    use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
    use glommio::io::{DmaFile, OpenOptions};
    use glommio::net::{TcpListener, TcpStream};
    use glommio::{LocalExecutorBuilder, Placement, spawn_local};

    use super::{INGEST, PART, PING};

    pub fn serve(core: usize, directory: Option<tempfile::TempDir>) {
        let executor = LocalExecutorBuilder::new(Placement::Fixed(core));
        let handle = executor.spawn(|| accept(directory)).expect("an executor");
        handle.join().expect("it is killed before it ends");
    }

    async fn accept(directory: Option<tempfile::TempDir>) {
        let file = match directory {
            None => None,
            Some(directory) => {
                let path = directory.path().join("data");
                let mut options = OpenOptions::new();
                options.read(true).write(true);
                Some(Rc::new(options.dma_open(path).await.expect("our file")))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        super::announce(listener.local_addr().expect("bound").port());
        for connection in 0.. {
            let stream = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("TCP");
            match file.clone() {
                None => spawn_local(ping(stream)).detach(),
                Some(file) => spawn_local(ingest(stream, file, connection * PART)).detach(),
            };
        }
    }

    async fn ping(mut stream: TcpStream) {
        let mut buf = [0; PING];
        while stream.read_exact(&mut buf).await.is_ok() && stream.write_all(&buf).await.is_ok() {}
    }

    async fn ingest(mut stream: TcpStream, file: Rc<DmaFile>, base: u64) {
        let mut offset = 0;
        loop {
            let mut buf = file.alloc_dma_buffer(INGEST);
            if stream.read_exact(buf.as_bytes_mut()).await.is_err() {
                return;
            }
            file.write_at(buf, base + offset).await.expect("written");
            file.fdatasync().await.expect("flushed");
            offset = (offset + INGEST as u64) % PART;
            if stream.write_all(&[1]).await.is_err() {
                return;
            }
        }
    }
}
