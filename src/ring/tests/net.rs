//! Sockets on loopback.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{NEW, chain, evict, on_ring, pattern, scratch};
use crate::ring::driver::{OpenOptions, Residency};
use crate::ring::{Elapsed, Listener, Ring, Socket};

fn local(ring: &Ring) -> (Listener, SocketAddr) {
    let listener = ring.listen("127.0.0.1:0".parse().unwrap(), 64).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn pair(ring: &Ring) -> (Socket, Socket) {
    let (listener, addr) = local(ring);
    let ring2 = ring.clone();
    let client = ring.spawn(async move { ring2.connect(addr).await.unwrap() });
    let (server, peer) = listener.accept().await.unwrap();
    let client = client.await;
    assert_eq!(client.local_addr().unwrap(), peer);
    (client, server)
}

/// Receives until the end.
async fn drain(ring: &Ring, socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = ring.arena().alloc(64 << 10).await;
    loop {
        let len = buf.capacity();
        let (n, back) = socket.recv(buf, 0, len).await;
        buf = back;
        match n.unwrap() {
            0 => return all,
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

#[test]
fn what_is_sent_arrives_and_a_half_closed_connection_still_answers() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        client
            .send(chain(&[b"one", b"", b"two", b"three", b"four", b"five"]))
            .await
            .unwrap();
        client.shutdown(false).unwrap();
        let got = drain(&ring, &server).await;
        assert_eq!(got, b"onetwothreefourfive");
        server.send(chain(&[&got])).await.unwrap();
        server.shutdown(true).unwrap();
        assert_eq!(drain(&ring, &client).await, got);
    });
}

#[test]
fn a_chain_of_more_parts_than_the_kernel_takes_at_once_arrives_whole() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        let parts: Vec<Vec<u8>> = (0..3000).map(|n| pattern(1 + n % 7)).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        client.send(chain(&parts)).await.unwrap();
        client.shutdown(false).unwrap();
        assert!(drain(&ring, &server).await == parts.concat());
    });
}

#[test]
fn what_the_other_end_took_is_counted() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        let before = client.acknowledged().unwrap();
        client.send(chain(&[&pattern(100_000)])).await.unwrap();
        client.shutdown(false).unwrap();
        assert_eq!(drain(&ring, &server).await.len(), 100_000);
        while client.acknowledged().unwrap() - before < 100_000 {
            ring.yield_now().await;
        }
    });
}

#[test]
fn both_address_families_listen_and_the_unspecified_ipv6_address_takes_ipv4_too() {
    on_ring(|ring| async move {
        let listener = match ring.listen("[::]:0".parse().unwrap(), 8) {
            Ok(listener) => listener,
            // A machine without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return,
            Err(error) => panic!("{error}"),
        };
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::1]"] {
            let addr: SocketAddr = format!("{host}:{port}").parse().unwrap();
            let ring2 = ring.clone();
            let client = ring.spawn(async move { ring2.connect(addr).await.unwrap() });
            let (_server, peer) = listener.accept().await.unwrap();
            assert_eq!(client.await.local_addr().unwrap().port(), peer.port());
        }
    });
}

#[test]
fn a_chain_larger_than_every_buffer_arrives_whole() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        client.tune(Some(128 << 10), None).unwrap();
        server.tune(None, Some(128 << 10)).unwrap();
        let bytes = pattern(3 << 20);
        let parts = chain(&[&bytes[..1], &bytes[1..100_000], &bytes[100_000..]]);
        let sender = ring.spawn(async move {
            client.send(parts).await.unwrap();
        });
        let got = drain(&ring, &server).await;
        sender.await;
        assert!(got == bytes);
    });
}

#[test]
fn a_refused_connection_is_an_error_and_so_is_sending_to_a_dead_peer() {
    on_ring(|ring| async move {
        let (listener, addr) = local(&ring);
        drop(listener);
        let error = ring.connect(addr).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let (client, server) = pair(&ring).await;
        drop(server);
        let mut sent = 0;
        let error = loop {
            match client.send(chain(&[b"into the void"])).await {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 100_000);
        };
        let kind = error.kind();
        assert!(matches!(
            kind,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ));
    });
}

#[test]
fn a_given_up_receive_keeps_its_buffer_until_the_kernel_lets_go_and_loses_no_budget() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        let used = ring.arena().used_bytes();
        for _ in 0..100 {
            let buf = ring.arena().alloc(4096).await;
            let given_up = ring
                .timeout(Duration::from_millis(1), server.recv(buf, 0, 4096))
                .await;
            assert!(matches!(given_up, Err(Elapsed)));
            assert!(
                ring.arena().used_bytes() > used,
                "the driver still holds the buffer"
            );
            while ring.arena().used_bytes() > used {
                ring.yield_now().await;
            }
        }
        // The socket is as good as before.
        client.send(chain(&[b"still here"])).await.unwrap();
        let (n, buf) = server.recv(ring.arena().alloc(4096).await, 0, 4096).await;
        assert_eq!(&buf[..n.unwrap()], b"still here");
    });
}

#[test]
fn an_accept_that_was_given_up_loses_no_connection() {
    on_ring(|ring| async move {
        let (listener, addr) = local(&ring);
        for _ in 0..20 {
            let accept = listener.accept();
            let given_up = ring.timeout(Duration::from_millis(1), accept).await;
            assert!(given_up.is_err());
            let ring2 = ring.clone();
            let client = ring.spawn(async move { ring2.connect(addr).await.unwrap() });
            let (server, _) = listener.accept().await.unwrap();
            drop(server);
            assert_eq!(drain(&ring, &client.await).await, b"");
        }
    });
}

#[test]
fn a_listener_that_goes_while_it_accepts_is_closed() {
    on_ring(|ring| async move {
        let (listener, addr) = local(&ring);
        let accept = listener.accept();
        assert!(
            ring.timeout(Duration::from_millis(1), accept)
                .await
                .is_err()
        );
        drop(listener);
        while ring.connect(addr).await.is_ok() {
            ring.yield_now().await;
        }
    });
}

#[test]
fn an_executor_that_goes_with_operations_in_flight_lets_go_of_everything() {
    on_ring(|ring| async move {
        let (_client, server) = pair(&ring).await;
        let ring2 = ring.clone();
        ring.spawn(async move {
            let buf = ring2.arena().alloc(4096).await;
            let _ = server.recv(buf, 0, 4096).await;
        })
        .detach();
        ring.yield_now().await;
    });
}

#[test]
fn readable_waits_for_bytes_without_taking_them() {
    on_ring(|ring| async move {
        let (client, server) = pair(&ring).await;
        let nothing = ring
            .timeout(Duration::from_millis(1), server.readable())
            .await;
        assert!(nothing.is_err());
        client.send(chain(&[b"x"])).await.unwrap();
        server.readable().await.unwrap();
        let (n, buf) = server.recv(ring.arena().alloc(1).await, 0, 1).await;
        assert_eq!((n.unwrap(), buf[0]), (1, b'x'));
    });
}

/// A peer outside of the ring that reads slowly, so that sends meet a full socket.
fn slow_reader(addr: SocketAddr, request: usize) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(&vec![1; request]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        let mut piece = [0; 7_000];
        loop {
            match stream.read(&mut piece).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    })
}

async fn serve_file(ring: &Ring, direct: bool, cold: bool) {
    let directory = scratch();
    let path = directory.path().join("segment");
    let bytes = pattern((5 << 20) + 777);
    ring.open(&path, NEW).unwrap().write_now(&bytes, 0).unwrap();
    let options = OpenOptions {
        write: true,
        direct,
        ..OpenOptions::default()
    };
    let file = ring.open(&path, options).unwrap();
    file.sync_all().await.unwrap();
    if cold {
        evict(&path);
        assert_eq!(file.residency(0, bytes.len() as u64), Residency::Cold);
    }
    let (listener, addr) = local(ring);
    let reader = slow_reader(addr, 10);
    let (socket, _) = listener.accept().await.unwrap();
    socket.tune(Some(256 << 10), None).unwrap();
    assert_eq!(drain(ring, &socket).await.len(), 10);
    let (from, to) = (4_321, bytes.len() as u64);
    socket.send(chain(&[b"head"])).await.unwrap();
    let sent = socket.send_file(&file, from, to).await.unwrap();
    assert_eq!(sent, to - from, "the file ends before the range");
    socket.send(chain(&[b"tail"])).await.unwrap();
    socket.shutdown(true).unwrap();
    let got = reader.join().unwrap();
    assert!(got[..4] == *b"head" && got[got.len() - 4..] == *b"tail");
    assert!(got[4..got.len() - 4] == bytes[from as usize..]);
}

#[test]
fn a_resident_file_goes_out_whole_through_a_full_socket() {
    on_ring(|ring| async move { serve_file(&ring, false, false).await });
}

#[test]
fn a_cold_file_goes_out_whole_through_a_full_socket() {
    on_ring(|ring| async move { serve_file(&ring, false, true).await });
}

#[test]
fn a_file_opened_for_direct_io_is_sent_from_the_page_cache_all_the_same() {
    on_ring(|ring| async move {
        serve_file(&ring, true, false).await;
        serve_file(&ring, true, true).await;
    });
}

#[test]
fn a_cold_send_that_is_given_up_leaves_nothing_in_the_pipes() {
    on_ring(|ring| async move {
        let directory = scratch();
        let path = directory.path().join("segment");
        let file = ring.open(&path, NEW).unwrap();
        let bytes = pattern(4 << 20);
        file.write_now(&bytes, 0).unwrap();
        file.sync_all().await.unwrap();
        for round in 0..8 {
            evict(&path);
            let (client, server) = pair(&ring).await;
            server.tune(Some(256 << 10), None).unwrap();
            if round % 2 == 0 {
                // Nobody reads: the transfer stops with a filled pipe.
                let send = server.send_file(&file, 0, 4 << 20);
                let given_up = ring.timeout(Duration::from_millis(20), send).await;
                assert!(given_up.is_err());
            } else {
                let ring2 = ring.clone();
                let reader = ring.spawn(async move { drain(&ring2, &client).await });
                let sent = server.send_file(&file, 0, 4 << 20).await.unwrap();
                assert_eq!(sent, 4 << 20);
                server.shutdown(true).unwrap();
                assert!(reader.await == bytes, "bytes of another transfer");
            }
        }
    });
}
