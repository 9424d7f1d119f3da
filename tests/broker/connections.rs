//! Frames, order, limits, ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use corelane::wire::messages::*;

use crate::client::{Client, Fetching, batch, data, fetched, outcomes, part, produce, put};
use crate::started;
use crate::support::broker::Setup;

fn closes(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => rest.is_empty(),
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn answers_come_in_the_order_of_requests() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 4, &[]);
    let records = batch(&["a", "b"]);
    let mut all = Vec::new();
    let mut ids = Vec::new();
    for n in 0..40 {
        let parts = [part(n % 4, &records)];
        let topics = [data("t", &parts)];
        let (id, bytes) = client.encode(9, &produce(&topics, if n % 2 == 0 { -1 } else { 1 }));
        all.extend(bytes);
        ids.push(id);
        if n % 5 == 0 {
            let (id, bytes) = client.encode(3, &ApiVersionsRequest::default());
            all.extend(bytes);
            ids.push(id);
        }
    }
    client.socket.write_all(&all).unwrap();
    for id in ids {
        assert_eq!(client.next().unwrap().id(), id);
    }
}

#[test]
fn a_pipelined_fetch_sees_what_was_produced_before_it() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let records = batch(&["a"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    let (_, mut bytes) = client.encode(9, &produce(&topics, -1));
    let (_, fetch) = Fetching::new("t", &[(0, 0)]).with(|f| client.encode(11, f));
    bytes.extend(fetch);
    client.socket.write_all(&bytes).unwrap();
    assert_eq!(outcomes(&client.next().unwrap(), 9), [(0, 0)]);
    let (_, _, partitions) = fetched(&client.next().unwrap(), 11);
    assert_eq!(partitions[0].values, ["a"]);
}

#[test]
fn frames_may_come_byte_by_byte_and_larger_than_any_buffer() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[("max.message.bytes", "9000000")]);
    let (id, bytes) = client.encode(3, &ApiVersionsRequest::default());
    for byte in bytes {
        client.socket.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.next().unwrap().id(), id);
    let value = "x".repeat(8_000_000);
    assert_eq!(put(&mut client, "t", 0, &[&value]), (0, 0));
    assert_eq!(put(&mut client, "t", 0, &["small"]), (0, 1));
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.max_bytes = 20_000_000;
    let answer = fetch.with(|f| client.ask(11, f));
    let (_, _, partitions) = fetched(&answer, 11);
    assert_eq!(partitions[0].values.len(), 2);
    assert_eq!(partitions[0].values[0], value);
}

#[test]
fn a_frame_above_the_limit_closes_the_connection() {
    let (_setup, broker) = started(&[("socket.request.max.bytes", "2000000")]);
    for length in [2_000_001, i32::MAX, -1, i32::MIN] {
        let mut socket = TcpStream::connect(broker.address()).unwrap();
        socket.write_all(&length.to_be_bytes()).unwrap();
        assert!(closes(&mut socket), "{length}");
    }
}

#[test]
fn http_and_garbage_close_the_connection_and_nothing_else() {
    let (_setup, broker) = started(&[]);
    let mut good = Client::connect(&broker.address());
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 18, 0, 3],
        &[0, 0, 0, 8, 0x7f, 0x7f, 0, 0, 0, 0, 0, 1],
        // Metadata 99, Produce 2: versions that are not served
        &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        // no API at all
        &[0, 0, 0, 0],
    ] {
        let mut socket = TcpStream::connect(broker.address()).unwrap();
        socket.write_all(bytes).unwrap();
        assert!(closes(&mut socket), "{bytes:?}");
    }
    good.ask(3, &ApiVersionsRequest::default());
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let records = batch(&["a"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    for _ in 0..3 {
        client.send(9, &produce(&topics, -1));
    }
    client.end();
    for n in 0..3 {
        assert_eq!(outcomes(&client.next().unwrap(), 9), [(0, n)]);
    }
    assert!(client.next().is_none(), "then the broker closes too");
}

#[test]
fn idle_connections_are_closed_but_not_while_a_fetch_waits() {
    let (_setup, broker) = started(&[("connections.max.idle.ms", "400")]);
    let mut parked = Client::connect(&broker.address());
    parked.create("t", 1, &[]);
    let mut idle = Client::connect(&broker.address());
    idle.ask(3, &ApiVersionsRequest::default());
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.max_wait_ms = 2_000;
    let begin = Instant::now();
    fetch.with(|f| parked.send(11, f));
    assert!(idle.next().is_none());
    assert!(
        begin.elapsed() < Duration::from_millis(1_900),
        "closed early enough"
    );
    let (error, _, _) = fetched(&parked.next().unwrap(), 11);
    assert_eq!(error, 0);
    assert!(begin.elapsed() >= Duration::from_millis(1_990));
}

#[test]
fn a_reader_that_does_not_read_is_cut_and_others_go_on() {
    let (_setup, broker) = started(&[
        ("corelane.send.stall.ms", "1000"),
        ("socket.send.buffer.bytes", "65536"),
    ]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let value = "x".repeat(900_000);
    for _ in 0..10 {
        assert_eq!(put(&mut client, "t", 0, &[&value]).0, 0);
    }
    let mut slow = Client::connect(&broker.address());
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.max_bytes = 50_000_000;
    for _ in 0..4 {
        fetch.with(|f| slow.send(11, f));
    }
    let begin = Instant::now();
    // what the slow one asks for is 36 MB: more than all socket buffers take
    while begin.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(put(&mut client, "t", 0, &["y"]).0, 0);
    }
    let mut got = 0;
    let mut bytes = vec![0; 1 << 20];
    while let Ok(n) = slow.socket.read(&mut bytes) {
        if n == 0 {
            break;
        }
        got += n;
    }
    assert!(got < 36_000_000, "{got} bytes came: it was not cut");
}

#[test]
fn a_reader_that_is_slow_but_reads_gets_all_of_a_large_answer() {
    let (_setup, broker) = started(&[
        ("corelane.send.stall.ms", "1000"),
        ("socket.send.buffer.bytes", "65536"),
    ]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let value = "x".repeat(900_000);
    let count = 24;
    for _ in 0..count {
        assert_eq!(put(&mut client, "t", 0, &[&value]).0, 0);
    }
    let mut fetch = Fetching::new("t", &[(0, 0)]);
    fetch.max_bytes = 50_000_000;
    fetch.with(|f| client.send(11, f));
    // so slowly that the whole answer would take minutes, for much longer than a stall may last
    let begin = Instant::now();
    let mut bytes = vec![0; 40_000];
    let mut got = Vec::new();
    while begin.elapsed() < Duration::from_millis(4_000) {
        let n = client.socket.read(&mut bytes).unwrap();
        assert!(
            n > 0,
            "cut after {:?} and {} bytes",
            begin.elapsed(),
            got.len()
        );
        got.extend_from_slice(&bytes[..n]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let total = 4 + u32::from_be_bytes(got[..4].try_into().unwrap()) as usize;
    assert!(total > count * value.len());
    let mut rest = vec![0; total - got.len()];
    client.socket.read_exact(&mut rest).unwrap();
    client.ask(3, &ApiVersionsRequest::default());
}

#[test]
fn above_max_connections_clients_wait_for_a_place() {
    let (_setup, broker) = started(&[("max.connections", "2")]);
    let mut one = Client::connect(&broker.address());
    one.ask(3, &ApiVersionsRequest::default());
    let mut two = Client::connect(&broker.address());
    two.ask(3, &ApiVersionsRequest::default());
    let mut three = Client::connect(&broker.address());
    three.send(3, &ApiVersionsRequest::default());
    let short = Some(Duration::from_millis(300));
    three.socket.set_read_timeout(short).unwrap();
    let mut byte = [0];
    assert!(three.socket.peek(&mut byte).is_err(), "not served yet");
    drop(one);
    three
        .socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(three.next().is_some());
}

#[test]
fn an_address_above_its_share_is_refused() {
    let (_setup, broker) = started(&[("max.connections.per.ip", "2")]);
    let mut one = Client::connect(&broker.address());
    one.ask(3, &ApiVersionsRequest::default());
    let mut two = Client::connect(&broker.address());
    two.ask(3, &ApiVersionsRequest::default());
    let mut three = Client::connect(&broker.address());
    assert!(closes(&mut three.socket));
    drop(one);
    crate::client::until("a place for the address", || {
        let mut again = Client::connect(&broker.address());
        let (_, bytes) = again.encode(3, &ApiVersionsRequest::default());
        again.socket.write_all(&bytes).is_ok() && again.next().is_some()
    });
}

#[test]
fn a_connection_moves_to_the_core_of_its_partition_and_serves_all_the_same() {
    let (_setup, broker) = started(&[]);
    let mut maker = Client::connect(&broker.address());
    maker.create("t", 2, &[]);
    for n in 0..8 {
        let mut client = Client::connect(&broker.address());
        let records = batch(&["a"]);
        let parts = [part(n % 2, &records)];
        let topics = [data("t", &parts)];
        // the unread ones travel with the connection
        let mut all = Vec::new();
        for _ in 0..5 {
            all.extend(client.encode(9, &produce(&topics, -1)).1);
        }
        client.socket.write_all(&all).unwrap();
        for k in 0..5 {
            let expected = i64::from(n / 2 * 5 + k);
            assert_eq!(outcomes(&client.next().unwrap(), 9), [(0, expected)]);
        }
        // and the other partition is served from there too
        assert_eq!(put(&mut maker, "u", 0, &["z"]).0, 3, "no such topic");
    }
}

/// A log that cannot open a file takes its directory offline: sockets may not use up all of them.
#[test]
fn clients_cannot_take_the_files_that_the_log_needs() {
    let backlog = ("socket.listen.backlog.size", "4000");
    let mut setup = Setup::new(&[("corelane.cores", "1"), backlog]).unwrap();
    setup.limit_open_files(400);
    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    client.create("t", 20, &[]);
    // more than may be open: the rest waits in the backlog
    let address = broker.address().parse().unwrap();
    let open = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let sockets: Vec<TcpStream> = std::iter::from_fn(open).take(600).collect();
    assert!(sockets.len() > 500, "{} sockets", sockets.len());
    // large enough to go to the segment at once
    let value = "x".repeat(300_000);
    for partition in 0..20 {
        assert_eq!(put(&mut client, "t", partition, &[&value]), (0, 0));
    }
    drop(sockets);
    assert_eq!(
        put(&mut Client::connect(&broker.address()), "t", 0, &["next"]),
        (0, 1)
    );
    broker.stop().unwrap();
}

#[test]
fn a_start_with_too_few_files_says_so() {
    let mut setup = Setup::new(&[("corelane.cores", "1")]).unwrap();
    setup.limit_open_files(100);
    let error = setup.start().err().unwrap();
    assert!(format!("{error:#}").contains("ulimit -n"), "{error:#}");
}

#[test]
fn a_connection_moves_also_after_it_produced_to_a_topic_that_is_not_there() {
    let (_setup, broker) = started(&[]);
    let mut maker = Client::connect(&broker.address());
    maker.create("t", 2, &[]);
    for n in 0..8 {
        let mut client = Client::connect(&broker.address());
        let records = batch(&["a"]);
        let (nobody, partition) = ([part(0, &records)], n / 2 % 2);
        let topics = [data("nobody", &nobody)];
        if n < 4 {
            // answered before the next one comes
            assert_eq!(outcomes(&client.ask(9, &produce(&topics, -1)), 9)[0].0, 3);
        } else {
            client.send(9, &produce(&topics, -1));
        }
        client.send(9, &produce(&[data("t", &[part(partition, &records)])], -1));
        if n >= 4 {
            assert_eq!(outcomes(&client.next().unwrap(), 9)[0].0, 3);
        }
        let expected = i64::from(n / 4 * 2 + n % 2);
        assert_eq!(outcomes(&client.next().unwrap(), 9), [(0, expected)]);
        client.ask(3, &ApiVersionsRequest::default());
    }
}

#[test]
fn what_was_acked_is_answered_before_a_malformed_request_ends_the_connection() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let records = batch(&["a"]);
    let parts = [part(0, &records), part(1, &records)];
    let topics = [data("t", &parts)];
    let (_, request) = client.encode(9, &produce(&topics, -1));
    let unsupported = [0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff];
    for (n, bad) in [&unsupported[..], &[0, 0, 0, 0], &[0xff; 4]]
        .into_iter()
        .enumerate()
    {
        let mut sender = Client::connect(&broker.address());
        let mut all = Vec::new();
        for _ in 0..3 {
            all.extend_from_slice(&request);
        }
        all.extend_from_slice(bad);
        sender.socket.write_all(&all).unwrap();
        for k in 0..3 {
            let expected = (n * 3 + k) as i64;
            let answer = sender.next().expect("an answer for each ack");
            assert_eq!(outcomes(&answer, 9), [(0, expected), (0, expected)]);
        }
        assert!(sender.next().is_none(), "closed then");
    }
}

#[test]
fn a_client_that_goes_while_its_fetch_waits_frees_its_place_at_once() {
    let (_setup, broker) = started(&[("max.connections.per.ip", "2")]);
    let mut fetch = Fetching::new("t", &[(0, 0), (1, 0)]);
    fetch.max_wait_ms = 600_000;
    let place = |what: &str| {
        let mut found = None;
        crate::client::until(what, || {
            found = taken_in(&broker.address());
            found.is_some()
        });
        found.expect("found")
    };
    let mut ended = place("a first place");
    assert!(ended.next().is_some());
    ended.create("t", 2, &[]);
    // an answer that is never read makes a reset of the end
    let mut reset = place("a second place");
    for client in [&mut ended, &mut reset] {
        fetch.with(|f| client.send(11, f));
    }
    drop((ended, reset));
    place("a place");
}

/// A client whose first request was answered, not read yet; none if it was refused.
fn taken_in(address: &str) -> Option<Client> {
    let mut client = Client::connect(address);
    let (_, bytes) = client.encode(3, &ApiVersionsRequest::default());
    let sent = client.socket.write_all(&bytes);
    let answered = sent.and_then(|()| client.socket.peek(&mut [0]));
    matches!(answered, Ok(1)).then_some(client)
}

/// Makes the end of a socket a reset at once.
#[allow(unsafe_code)]
fn reset(socket: TcpStream) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value is one of its type, and lives through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const at_once).cast(),
            size_of_val(&at_once) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn clients_that_reset_before_they_are_taken_in_hold_up_nobody() {
    let (_setup, broker) = started(&[]);
    let began = Instant::now();
    for _ in 0..1000 {
        reset(TcpStream::connect(broker.address()).unwrap());
    }
    let mut client = Client::connect(&broker.address());
    client.send(3, &ApiVersionsRequest::default());
    assert!(client.next().is_some());
    // a pause of a tenth of a second for each would be 100 of them
    assert!(began.elapsed() < Duration::from_secs(30));
}
