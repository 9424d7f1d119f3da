//! What clients make the broker hold stays within `corelane.memory.bytes`.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::base::error_code::ErrorCode;
use corelane::wire::messages::{ProduceRequest, TopicProduceData};

use crate::client::{Client, Fetching, batch, data, fetched, outcomes, part, produce, put};
use crate::started;

/// A produce that is acked when the disk has it, however slow that is.
fn patient<'a>(topics: &'a [TopicProduceData<'a>]) -> ProduceRequest<'a> {
    ProduceRequest {
        timeout_ms: 600_000,
        ..produce(topics, -1)
    }
}

const MEMORY: u64 = 64 << 20;
/// Code, stacks, tables, heap blocks between two uses: what is there beside that memory.
const BESIDE: u64 = 24 << 20;
const PARTITIONS: i32 = 4;
const PRODUCERS: usize = 24;
const REQUESTS: i64 = 16;
const READERS: usize = 24;

#[test]
fn readers_that_stall_and_producers_that_pipeline_stay_within_the_memory() {
    let memory = MEMORY.to_string();
    let (_setup, broker) = started(&[
        ("corelane.memory.bytes", &memory),
        ("corelane.lanes", "off"),
        ("socket.send.buffer.bytes", "65536"),
    ]);
    let idle = broker.resident_bytes().unwrap();
    let address = broker.address();
    let mut client = Client::connect(&address);
    client.create("t", PARTITIONS, &[]);
    client.create("good", 2, &[]);
    let value = "x".repeat(700_000);
    let records = batch(&[&value]);
    for n in 0..96 {
        let parts = [part(n % PARTITIONS, &records)];
        let topics = [data("t", &parts)];
        let answer = client.ask(9, &patient(&topics));
        assert_eq!(outcomes(&answer, 9)[0].0, 0);
    }
    let over = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    let stalled = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(broker.resident_bytes().unwrap(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        // each asks for more than there is memory, from another place on, and takes nothing
        let stalled: Vec<Client> = (0..READERS)
            .map(|n| {
                let mut reader = Client::connect(&address);
                let at = n as i64;
                let from = [(0, at % 20), (1, at % 19), (2, at % 18), (3, at % 17)];
                let mut fetch = Fetching::new("t", &from);
                fetch.max_bytes = 50_000_000;
                fetch.with(|f| reader.send(11, f));
                reader
            })
            .collect();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|n| {
                let (records, address) = (&records, &address);
                scope.spawn(move || {
                    let mut producer = Client::connect(address);
                    let mut answers = producer.reader();
                    // nothing is read before all is sent, if it can all be sent
                    let reading = thread::spawn(move || {
                        thread::sleep(Duration::from_millis(500));
                        for _ in 0..REQUESTS {
                            let answer = answers.next().expect("the connection stays open");
                            assert_eq!(outcomes(&answer, 9)[0].0, 0);
                        }
                    });
                    for _ in 0..REQUESTS {
                        let parts = [part(n as i32 % PARTITIONS, records)];
                        let topics = [data("t", &parts)];
                        producer.send(9, &patient(&topics));
                    }
                    reading.join().unwrap();
                })
            })
            .collect();
        let mut rounds = 0;
        while producers.iter().any(|producer| !producer.is_finished()) || rounds < 20 {
            let at = rounds / 2;
            let partition = (rounds % 2) as i32;
            assert_eq!(put(&mut client, "good", partition, &["fine"]), (0, at));
            let from = [(partition, at)];
            let answer = Fetching::new("good", &from).with(|f| client.ask(11, f));
            assert_eq!(fetched(&answer, 11).2[0].values, ["fine"]);
            rounds += 1;
        }
        for producer in producers {
            producer.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        stalled
    });
    let most = most.load(Ordering::Relaxed);
    println!("idle {} MiB, most {} MiB", idle >> 20, most >> 20);
    assert!(
        most < idle + MEMORY + BESIDE,
        "{} MiB are resident, {} MiB when idle",
        most >> 20,
        idle >> 20
    );
    // nobody was dropped
    for mut reader in stalled {
        let answer = reader.next().expect("the whole answer");
        let (error, _, partitions) = fetched(&answer, 11);
        assert_eq!(error, 0);
        assert!(partitions.iter().any(|p| !p.values.is_empty()));
    }
}

fn large_batches_go_through(address: &str) {
    let mut client = Client::connect(address);
    client.create("t", 2, &[]);
    let value = "x".repeat(900_000);
    for n in 0..6 {
        assert_eq!(put(&mut client, "t", n % 2, &[&value]).0, 0);
    }
}

#[test]
fn a_length_alone_holds_no_memory_that_others_need() {
    let memory = (32 << 20).to_string();
    let (_setup, broker) = started(&[("corelane.memory.bytes", &memory)]);
    // none of these goes on, nor ends
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut socket = TcpStream::connect(broker.address()).unwrap();
            socket.write_all(&1_500_000i32.to_be_bytes()).unwrap();
            socket
        })
        .collect();
    large_batches_go_through(&broker.address());
    drop(silent);
}

#[test]
fn a_request_that_does_not_go_on_gives_its_memory_to_those_who_wait() {
    let memory = (32 << 20).to_string();
    let (_setup, broker) = started(&[
        ("corelane.memory.bytes", &memory),
        ("corelane.send.stall.ms", "1000"),
    ]);
    // most of a large request, and no more
    let silent: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut socket = TcpStream::connect(broker.address()).unwrap();
            socket.write_all(&1_000_000i32.to_be_bytes()).unwrap();
            socket.set_nonblocking(true).unwrap();
            // as much as the broker and the kernel take
            let _ = socket.write(&[0; 900_000]);
            socket
        })
        .collect();
    large_batches_go_through(&broker.address());
    drop(silent);
}

#[test]
fn a_request_that_waits_for_memory_is_not_taken_for_one_that_does_not_go_on() {
    let memory = (32 << 20).to_string();
    let (_setup, broker) = started(&[
        ("corelane.cores", "1"),
        ("corelane.memory.bytes", &memory),
        ("corelane.send.stall.ms", "1000"),
    ]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let value = "x".repeat(900_000);
    let records = batch(&[&value]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    // more of them than there is memory for; all go on, as far as they are read
    let mut slow: Vec<(Client, Vec<u8>, usize)> = (0..16)
        .map(|_| {
            let mut client = Client::connect(&broker.address());
            client.socket.set_nonblocking(true).unwrap();
            let (_, bytes) = client.encode(9, &patient(&topics));
            (client, bytes, 0)
        })
        .collect();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(3500) {
        for (client, bytes, sent) in &mut slow {
            let most = if *sent < 800_000 { 800_000 } else { *sent + 1 };
            match client.socket.write(&bytes[*sent..most]) {
                Ok(n) => *sent += n,
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "closed by the broker"),
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    thread::scope(|scope| {
        for (client, bytes, sent) in &mut slow {
            scope.spawn(move || {
                client.socket.set_nonblocking(false).unwrap();
                client.socket.write_all(&bytes[*sent..]).unwrap();
                let answer = client.next().expect("the connection stays open");
                assert_eq!(outcomes(&answer, 9)[0].0, 0);
            });
        }
    });
}

#[test]
fn readers_that_stall_at_the_end_of_a_log_do_not_stop_its_producer() {
    let memory = (32 << 20).to_string();
    let (_setup, broker) = started(&[
        ("corelane.cores", "1"),
        ("corelane.memory.bytes", &memory),
        ("corelane.send.stall.ms", "3600000"),
        ("socket.send.buffer.bytes", "65536"),
    ]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let value = "x".repeat(700_000);
    let records = batch(&[&value]);
    // each of these holds another part of the log; together they want more than there is memory
    let mut stalled = Vec::new();
    for n in 0..80 {
        let parts = [part(0, &records)];
        let topics = [data("t", &parts)];
        let answer = client.ask(9, &patient(&topics));
        assert_eq!(outcomes(&answer, 9), [(0, n)]);
        let mut reader = Client::connect(&broker.address());
        let from = [(0, n)];
        let fetch = Fetching::new("t", &from);
        fetch.with(|f| reader.send(11, f));
        stalled.push(reader);
    }
    // who asked when too much was held already hears where the log ends, and asks again
    let mut records = 0;
    for (n, mut reader) in (0..).zip(stalled) {
        let answer = reader.next().expect("the whole answer");
        let (error, _, found) = fetched(&answer, 11);
        assert_eq!((error, found[0].error), (0, 0));
        assert!(found[0].high_watermark > n, "reader {n}");
        records += found[0].values.len();
    }
    assert!(records > 10, "{records}");
}

#[test]
fn a_fetch_of_a_long_name_and_very_many_partitions_is_answered() {
    let memory = (64 << 20).to_string();
    let (_setup, broker) = started(&[("corelane.cores", "1"), ("corelane.memory.bytes", &memory)]);
    let name = "x".repeat(32_000);
    let from: Vec<(i32, i64)> = (0..99_000).map(|n| (n, 0)).collect();
    let mut client = Client::connect(&broker.address());
    let answer = Fetching::new(&name, &from).with(|f| client.ask(7, f));
    let (error, _, partitions) = fetched(&answer, 7);
    assert_eq!((error, partitions.len()), (0, from.len()));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert!(partitions.iter().all(|p| p.error == unknown));
}
