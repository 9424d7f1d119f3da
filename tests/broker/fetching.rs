//! Fetch, ListOffsets, OffsetForLeaderEpoch.

use std::time::{Duration, Instant};

use corelane::base::error_code::ErrorCode;
use corelane::base::time::Timestamp;
use corelane::wire::messages::*;

use crate::client::{
    Client, Fetching, batch, batch_at, data, fetched, offsets, outcomes, part, produce, put,
};
use crate::started;

#[test]
fn a_waiting_fetch_wakes_when_records_come() {
    let (_setup, broker) = started(&[]);
    let mut writer = Client::connect(&broker.address());
    writer.create("t", 2, &[]);
    // one waits for a partition, the other for both cores' partitions
    for from in [&[(0, 0)][..], &[(0, 1), (1, 0)]] {
        let mut reader = Client::connect(&broker.address());
        let mut fetch = Fetching::new("t", from);
        fetch.max_wait_ms = 20_000;
        let begin = Instant::now();
        fetch.with(|f| reader.send(11, f));
        reader
            .socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        assert!(
            reader.socket.peek(&mut [0]).is_err(),
            "nothing is there yet"
        );
        reader
            .socket
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        let (partition, _) = from[from.len() - 1];
        assert_eq!(put(&mut writer, "t", partition, &["x"]).0, 0);
        let (_, _, found) = fetched(&reader.next().unwrap(), 11);
        let got: Vec<usize> = found.iter().map(|f| f.values.len()).collect();
        assert_eq!(got[got.len() - 1], 1);
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "long before its time"
        );
    }
}

#[test]
fn a_fetch_waits_for_its_bytes_but_not_beyond_its_time() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    put(&mut client, "t", 0, &["x"]);
    put(&mut client, "t", 1, &["x"]);
    for from in [&[(0, 0)][..], &[(0, 0), (1, 0)]] {
        let mut fetch = Fetching::new("t", from);
        fetch.min_bytes = 100_000;
        fetch.max_wait_ms = 300;
        let begin = Instant::now();
        let answer = fetch.with(|f| client.ask(11, f));
        assert!(begin.elapsed() >= Duration::from_millis(299));
        for found in fetched(&answer, 11).2 {
            assert_eq!(found.values, ["x"], "what there is at the end of its time");
        }
    }
}

#[test]
fn the_first_batch_comes_even_above_the_bounds() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let value = "x".repeat(5000);
    for _ in 0..3 {
        put(&mut client, "t", 0, &[&value]);
    }
    let mut fetch = Fetching::new("t", &[(0, 1)]);
    for (max_bytes, expected) in [(1, 1), (5000, 1), (11_000, 2)] {
        fetch.max_bytes = max_bytes;
        let answer = fetch.with(|f| client.ask(11, f));
        assert_eq!(
            fetched(&answer, 11).2[0].values.len(),
            expected,
            "{max_bytes}"
        );
    }
}

#[test]
fn offsets_outside_of_the_log_are_out_of_range() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    put(&mut client, "t", 0, &["x"]);
    for (offset, expected) in [(-1, 1), (2, 1), (1, 0), (0, 0)] {
        let mut fetch = Fetching::new("t", &[(0, 0)]);
        let from = [(0, offset)];
        fetch.from = &from;
        // an error is answered at once
        fetch.max_wait_ms = if expected == 0 { 0 } else { 20_000 };
        let answer = fetch.with(|f| client.ask(11, f));
        assert_eq!(fetched(&answer, 11).2[0].error, expected, "offset {offset}");
    }
}

#[test]
fn leader_epochs_are_checked() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let id = client.create("t", 2, &[]);
    put(&mut client, "t", 0, &["x", "y"]);
    put(&mut client, "t", 1, &["x", "y"]);
    for partition in [0, 1] {
        let mut ask = |current_leader_epoch, last_fetched_epoch, fetch_offset| {
            let partitions = [FetchPartition {
                partition,
                current_leader_epoch,
                fetch_offset,
                last_fetched_epoch,
                partition_max_bytes: 1000,
                ..FetchPartition::default()
            }];
            let topics = [FetchTopic {
                topic_id: id,
                partitions: partitions[..].into(),
                ..FetchTopic::default()
            }];
            let request = FetchRequest {
                replica_id: -1,
                max_bytes: 1000,
                topics: topics[..].into(),
                session_epoch: -1,
                ..FetchRequest::default()
            };
            let answer = client.ask(16, &request);
            let found = fetched(&answer, 16).2.remove(0);
            (found.error, found.diverging, found.values.len())
        };
        let none = (-1, -1);
        assert_eq!(ask(-1, -1, 0), (0, none, 2));
        assert_eq!(ask(0, 0, 0), (0, none, 2));
        assert_eq!(ask(1, -1, 0).0, ErrorCode::UnknownLeaderEpoch.code());
        assert_eq!(
            ask(0, 5, 0).0,
            ErrorCode::OffsetOutOfRange.code(),
            "no such epoch"
        );
        assert_eq!(ask(0, 0, 9), (0, (0, 2), 0), "our epoch 0 ends at 2");
    }
    let mut ends = |current_leader_epoch, leader_epoch| {
        let partitions = [0, 1].map(|partition| OffsetForLeaderPartition {
            partition,
            current_leader_epoch,
            leader_epoch,
        });
        let topics = [OffsetForLeaderTopic {
            topic: "t",
            partitions: partitions[..].into(),
        }];
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: topics[..].into(),
        };
        let answer = client.ask(4, &request);
        let response: OffsetForLeaderEpochResponse<'_> = answer.read(4);
        let topic = response.topics.iter().next().unwrap();
        let found: Vec<(i16, i32, i64)> = topic
            .partitions
            .iter()
            .map(|p| (p.error_code, p.leader_epoch, p.end_offset))
            .collect();
        assert_eq!(found[0], found[1], "both cores say the same");
        found[0]
    };
    assert_eq!(ends(-1, 0), (0, 0, 2));
    assert_eq!(ends(-1, 3), (0, -1, -1));
    assert_eq!(ends(7, 0), (ErrorCode::UnknownLeaderEpoch.code(), -1, -1));
}

#[test]
fn offsets_by_time_and_by_every_selector() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let t0 = 1_700_000_000_000;
    for partition in [0, 1] {
        for first in [t0, t0 + 10] {
            let records = batch_at(Timestamp(first), &["a", "b", "c"]);
            let parts = [part(partition, &records)];
            let topics = [data("t", &parts)];
            let answer = client.ask(9, &produce(&topics, -1));
            assert_eq!(outcomes(&answer, 9)[0].0, 0);
        }
    }
    let mut ask = |version: i16, timestamp: i64| {
        let found = offsets(&mut client, version, "t", &[(0, timestamp), (1, timestamp)]);
        assert_eq!(found[0], found[1], "both cores say the same");
        found[0]
    };
    for version in 1..=11 {
        assert_eq!(ask(version, -1), (0, -1, 6), "latest, version {version}");
        assert_eq!(ask(version, -2), (0, -1, 0), "earliest, version {version}");
        assert_eq!(ask(version, t0 + 1), (0, t0 + 1, 1));
        assert_eq!(ask(version, t0 + 3), (0, t0 + 10, 3));
        assert_eq!(ask(version, t0 + 13), (0, -1, -1), "no record so new");
        let unsupported = (ErrorCode::UnsupportedVersion.code(), -1, -1);
        let selectors = [(-3, 7, (0, t0 + 12, 5)), (-4, 8, (0, -1, 0))];
        for (selector, from, expected) in selectors {
            let expected = if version < from {
                unsupported
            } else {
                expected
            };
            assert_eq!(
                ask(version, selector),
                expected,
                "{selector}, version {version}"
            );
        }
        for (selector, from) in [(-5, 9), (-6, 11)] {
            let expected = if version < from {
                unsupported
            } else {
                (0, -1, -1)
            };
            assert_eq!(
                ask(version, selector),
                expected,
                "{selector}, version {version}"
            );
        }
        assert_eq!(ask(version, -7), unsupported);
    }
}

#[test]
fn a_partition_asked_twice_is_an_invalid_request() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let found = offsets(&mut client, 5, "t", &[(0, -1), (1, -1), (0, -1)]);
    let codes: Vec<i16> = found.iter().map(|found| found.0).collect();
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, [invalid, 0, invalid]);
}

#[test]
fn the_bytes_of_all_cores_together_end_a_wait() {
    let (_setup, broker) = started(&[]);
    let mut writer = Client::connect(&broker.address());
    writer.create("t", 2, &[]);
    let mut reader = Client::connect(&broker.address());
    let mut fetch = Fetching::new("t", &[(0, 0), (1, 0)]);
    fetch.min_bytes = 20_000;
    fetch.max_wait_ms = 600_000;
    fetch.with(|f| reader.send(11, f));
    let value = "x".repeat(1000);
    // some of one, then of the other: each alone has less than was asked for
    for n in 0..16 {
        assert_eq!(put(&mut writer, "t", n / 8, &[&value]).0, 0);
    }
    let short = Some(Duration::from_millis(300));
    reader.socket.set_read_timeout(short).unwrap();
    assert!(reader.socket.peek(&mut [0]).is_err(), "not enough yet");
    let long = Some(crate::client::PATIENCE);
    reader.socket.set_read_timeout(long).unwrap();
    for n in 0..4 {
        assert_eq!(put(&mut writer, "t", n % 2, &[&value]).0, 0);
    }
    let (_, _, found) = fetched(&reader.next().unwrap(), 11);
    let records: usize = found.iter().map(|f| f.values.len()).sum();
    assert!(records * 1100 >= 20_000, "{records} records");
}

#[test]
fn an_answer_may_have_more_parts_than_the_kernel_sends_at_once() {
    let (_setup, broker) = started(&[("corelane.cores", "1")]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 700, &[]);
    let value = "x".repeat(1500);
    let records = batch(&[&value]);
    let parts: Vec<_> = (0..700).map(|n| part(n, &records)).collect();
    let answer = client.ask(9, &produce(&[data("t", &parts)], -1));
    assert!(
        outcomes(&answer, 9)
            .iter()
            .all(|outcome| *outcome == (0, 0))
    );
    let from: Vec<_> = (0..700).map(|n| (n, 0)).collect();
    let mut fetch = Fetching::new("t", &from);
    fetch.max_bytes = 8 << 20;
    let answer = fetch.with(|f| client.ask(11, f));
    let (_, _, found) = fetched(&answer, 11);
    assert_eq!(found.len(), 700);
    for partition in found {
        assert_eq!(
            partition.values,
            [value.as_str()],
            "{}",
            partition.partition
        );
    }
}

#[test]
fn an_unknown_topic_is_told_at_once_alone_and_with_the_rest_among_others() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let mut fetch = Fetching::new("nobody", &[(0, 0)]);
    fetch.max_wait_ms = 600_000;
    let answer = fetch.with(|f| client.ask(11, f));
    assert_eq!(fetched(&answer, 11).2[0].error, unknown);
    // as with Kafka, the others are waited for
    for from in [&[(0, 0), (7, 0)][..], &[(0, 0), (1, 0), (7, 0)]] {
        let mut fetch = Fetching::new("t", from);
        fetch.max_wait_ms = 500;
        let begin = Instant::now();
        let answer = fetch.with(|f| client.ask(11, f));
        assert!(begin.elapsed() >= Duration::from_millis(499));
        let (_, _, found) = fetched(&answer, 11);
        assert_eq!((found[0].error, found[from.len() - 1].error), (0, unknown));
    }
}

#[test]
fn a_fetch_that_waits_hears_that_its_topic_is_deleted() {
    let (_setup, broker) = started(&[]);
    let mut maker = Client::connect(&broker.address());
    for (version, expected) in [
        (11, ErrorCode::UnknownTopicOrPartition),
        (16, ErrorCode::UnknownTopicId),
    ] {
        let id = maker.create("t", 2, &[]);
        let mut reader = Client::connect(&broker.address());
        let mut fetch = Fetching::new("t", &[(0, 0), (1, 0)]);
        fetch.id = id;
        fetch.max_wait_ms = 600_000;
        fetch.with(|f| reader.send(version, f));
        let short = Some(Duration::from_millis(300));
        reader.socket.set_read_timeout(short).unwrap();
        assert!(reader.socket.peek(&mut [0]).is_err(), "nothing is there");
        let long = Some(crate::client::PATIENCE);
        reader.socket.set_read_timeout(long).unwrap();
        let topics = [DeleteTopicState {
            name: None,
            topic_id: id,
        }];
        let request = DeleteTopicsRequest {
            topics: topics[..].into(),
            timeout_ms: 20_000,
            ..DeleteTopicsRequest::default()
        };
        maker.ask(6, &request);
        let (_, _, found) = fetched(&reader.next().unwrap(), version);
        assert!(
            found.iter().any(|f| f.error == expected.code()),
            "{found:?}"
        );
        let others = found
            .iter()
            .all(|f| [0, expected.code()].contains(&f.error));
        assert!(others, "{found:?}");
    }
}
