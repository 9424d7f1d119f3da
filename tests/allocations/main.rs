//! Produce and Fetch allocate nothing on the shard's own path once it is warm: counted by an
//! allocator that knows which thread asks.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_methods)] // a test may read the clock

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use corelane::base::config::{Inputs, load};
use corelane::broker::counters::Counters;
use corelane::broker::message::Message;
use corelane::broker::start::{ShardContext, Started, StopFlag, run_shard};
use corelane::ring::driver::Driver;
use corelane::ring::mailbox::mesh;
use corelane::ring::uring::UringDriver;
use corelane::ring::{Executor, ExecutorOptions};

#[path = "../broker/client.rs"]
#[allow(dead_code)]
mod client;

use client::{Client, Fetching, batch, data, fetched, outcomes, part, produce};

/// Counts what threads allocate that asked to be counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Some measured run allocated more than it may.
static FAILED: AtomicBool = AtomicBool::new(false);
/// The measured run whose allocations are shown is on.
static TRACE: AtomicBool = AtomicBool::new(false);
/// Names the measured run whose allocations are shown with their callers.
const TRACE_VARIABLE: &str = "CORELANE_TRACE_ALLOCATIONS";

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if TRACE.load(Ordering::Relaxed) {
            COUNTED.with(|c| c.set(false));
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
            COUNTED.with(|c| c.set(true));
        }
    }
}

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A broker of one shard in a thread of its own.
fn start(dir: &std::path::Path) -> (String, StopFlag, thread::JoinHandle<()>) {
    let overrides = vec![
        format!("log.dirs={}", dir.display()),
        "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
    ];
    let inputs = Inputs {
        overrides,
        host_name: "localhost".to_owned(),
        ..Inputs::default()
    };
    let config = Arc::new(load(&inputs).unwrap().config);
    let stop = StopFlag::default();
    let (say, hear) = mpsc::channel();
    let theirs = stop.clone();
    let thread = thread::spawn(move || {
        let driver = Rc::new(UringDriver::new().unwrap());
        let bells = vec![driver.doorbell()];
        let mailbox = mesh::<Message>(1, 16).pop().unwrap();
        let shard = mailbox.shard();
        let mut executor = Executor::with_options(driver, shard, ExecutorOptions::default());
        let ring = executor.ring();
        let post = mailbox.open(&ring, bells);
        COUNTED.with(|c| c.set(true));
        executor
            .block_on(run_shard(ShardContext {
                ring,
                shards: 1,
                config,
                post,
                counters: Arc::new(Counters::default()),
                stop: theirs,
                on_started: Some(Box::new(move |started: &Started| {
                    say.send(started.listeners[0].address).unwrap();
                })),
            }))
            .unwrap();
        COUNTED.with(|c| c.set(false));
    });
    (hear.recv().unwrap().to_string(), stop, thread)
}

/// What grows with the log (a list of pages, an index) doubles now and then.
const GROWTH: u64 = 50;
/// At 120 KB a request the journal is checkpointed and segments are drained all the time; those
/// allocate, beside the path of any request.
const BACKGROUND: u64 = 5_000;
const WARM: usize = 3000;
const MEASURED: usize = 1000;

/// Counts over [`MEASURED`] requests, which may allocate `most` times together.
fn each(what: &str, most: u64, mut request: impl FnMut()) {
    for _ in 0..WARM {
        request();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    TRACE.store(
        std::env::var(TRACE_VARIABLE).is_ok_and(|t| t == what),
        Ordering::Relaxed,
    );
    for _ in 0..MEASURED {
        request();
    }
    TRACE.store(false, Ordering::Relaxed);
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    let allocations = after - before;
    println!("{what}: {allocations} allocations for {MEASURED} requests");
    FAILED.fetch_or(allocations > most, Ordering::Relaxed);
}

#[test]
fn produce_and_fetch_allocate_nothing_when_warm() {
    let dir = tempfile::tempdir().unwrap();
    let (address, stop, thread) = start(dir.path());
    let mut client = Client::connect(&address);
    client.create("t", 4, &[]);
    let records = batch(&["a", "b"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    let mut end = 0;
    each("produce, acks=all", GROWTH, || {
        let answer = client.ask(9, &produce(&topics, -1));
        end = outcomes(&answer, 9)[0].1;
    });
    each("produce, acks=1", GROWTH, || {
        let answer = client.ask(9, &produce(&topics, 1));
        end = outcomes(&answer, 9)[0].1;
    });
    each("fetch, one partition", GROWTH, || {
        let from = [(0, end)];
        let mut fetch = Fetching::new("t", &from);
        fetch.max_bytes = 4096;
        let answer = fetch.with(|f| client.ask(11, f));
        assert_eq!(fetched(&answer, 11).0, 0);
    });
    each("fetch that waits for nothing", GROWTH, || {
        let answer = Fetching::new("t", &[]).with(|f| client.ask(11, f));
        assert_eq!(fetched(&answer, 11).0, 0);
    });
    let mut open = Fetching::new("t", &[(0, 0), (1, 0), (2, 0), (3, 0)]);
    open.session = (0, 0);
    open.max_bytes = 1;
    let (_, session, _) = fetched(&open.with(|f| client.ask(11, f)), 11);
    let mut epoch = 0;
    each("fetch, a session of four partitions", GROWTH, || {
        epoch += 1;
        let mut next = Fetching::new("t", &[]);
        next.session = (session, epoch);
        next.max_bytes = 1000;
        let answer = next.with(|f| client.ask(11, f));
        assert_eq!(fetched(&answer, 11).0, 0);
    });
    let large = batch(&[&"x".repeat(60_000)]);
    let many = [
        part(0, &large),
        part(1, &large),
        part(2, &records),
        part(3, &records),
    ];
    let topics = [data("t", &many)];
    each("produce, four partitions, 120 KB", BACKGROUND, || {
        client.ask(9, &produce(&topics, -1));
    });
    stop.stop();
    drop(client);
    thread.join().unwrap();
    assert!(!FAILED.load(Ordering::Relaxed), "too many, see above");
}
