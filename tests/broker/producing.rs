//! Produce: durability, partial failure, every version.

use std::io::Write;

use corelane::base::error_code::ErrorCode;
use corelane::base::ids::ProducerId;
use corelane::base::time::Timestamp;
use corelane::wire::api::ApiKey;
use corelane::wire::batch::BatchBuilder;
use corelane::wire::compress::Codec;
use corelane::wire::messages::*;

use crate::client::{
    Client, Fetching, batch, batch_at, data, fetched, outcomes, part, produce, put, until,
};
use crate::started;

#[test]
fn every_version_produces_and_fetches() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    let id = client.create("t", 2, &[]);
    let mut offset = 0;
    for version in ApiKey::Produce.versions().unwrap() {
        let records = batch(&["a", "b"]);
        let parts = [part(0, &records), part(1, &records)];
        let mut topic = data("t", &parts);
        topic.topic_id = id;
        let topics = [topic];
        let answer = client.ask(version, &produce(&topics, -1));
        assert_eq!(
            outcomes(&answer, version),
            [(0, offset), (0, offset)],
            "version {version}"
        );
        offset += 2;
    }
    for version in ApiKey::Fetch.versions().unwrap() {
        let from = [(0, 1), (1, offset - 1), (1, offset)];
        let mut fetch = Fetching::new("t", &from);
        fetch.id = id;
        let answer = fetch.with(|f| client.ask(version, f));
        let (error, _, found) = fetched(&answer, version);
        assert_eq!(error, 0);
        let got: Vec<(i32, i16, i64, usize)> = found
            .iter()
            .map(|f| (f.partition, f.error, f.high_watermark, f.values.len()))
            .collect();
        let whole = offset as usize;
        assert_eq!(
            got,
            [(0, 0, offset, whole), (1, 0, offset, 2), (1, 0, offset, 0)]
        );
    }
}

#[test]
fn a_bad_partition_does_not_spoil_the_others() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 4, &[]);
    let good = batch(&["a"]);
    let mut corrupt = good.clone();
    *corrupt.last_mut().unwrap() ^= 1;
    let mut two = good.clone();
    two.extend(&good);
    let parts = [
        part(0, &good),
        part(1, &corrupt),
        part(2, &two),
        part(3, &good),
        part(4, &good),
        part(-1, &good),
        part(2, &[]),
    ];
    let unknown = [part(0, &good)];
    let topics = [data("t", &parts), data("nobody", &unknown)];
    let answer = client.ask(9, &produce(&topics, -1));
    let codes: Vec<i16> = outcomes(&answer, 9).iter().map(|o| o.0).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let invalid = ErrorCode::InvalidRecord.code();
    let corrupt = ErrorCode::CorruptMessage.code();
    assert_eq!(
        codes,
        [0, corrupt, invalid, 0, unknown, unknown, invalid, unknown]
    );
}

#[test]
fn acks_that_kafka_does_not_know_are_refused_for_each_partition() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    let records = batch(&["a"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    let answer = client.ask(9, &produce(&topics, 2));
    assert_eq!(
        outcomes(&answer, 9)[0].0,
        ErrorCode::InvalidRequiredAcks.code()
    );
}

#[test]
fn without_acks_nothing_is_answered_and_an_error_closes() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let records = batch(&["a"]);
    for partition in [0, 1] {
        let parts = [part(partition, &records)];
        let topics = [data("t", &parts)];
        client.send(9, &produce(&topics, 0));
    }
    let id = client.send(3, &ApiVersionsRequest::default());
    assert_eq!(
        client.next().unwrap().id(),
        id,
        "the produces have no answer"
    );
    for partition in [0, 1] {
        until("the record", || {
            let answer = Fetching::new("t", &[(partition, 0)]).with(|f| client.ask(11, f));
            fetched(&answer, 11).2[0].values == ["a"]
        });
    }
    for partition in [0, 1] {
        let mut client = Client::connect(&broker.address());
        let parts = [part(partition, &records[..65])];
        let topics = [data("t", &parts)];
        client.send(9, &produce(&topics, 0));
        assert!(client.next().is_none(), "closed");
    }
}

#[test]
fn records_to_blame_are_named_from_version_eight_on() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[("message.timestamp.before.max.ms", "1000")]);
    let records = batch_at(Timestamp(5), &["a", "b"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    let answer = client.ask(8, &produce(&topics, -1));
    let response: ProduceResponse<'_> = answer.read(8);
    let topic = response.responses.iter().next().unwrap();
    let refused = topic.partition_responses.iter().next().unwrap();
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp.code());
    let blamed: Vec<i32> = refused
        .record_errors
        .iter()
        .map(|e| e.batch_index)
        .collect();
    assert_eq!(blamed, [0, 1]);
    assert!(refused.error_message.is_some());
}

#[test]
fn the_brokers_time_is_stamped_where_the_topic_says_so() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let records = batch(&["a"]);
    let parts = [part(0, &records)];
    let topics = [data("t", &parts)];
    let answer = client.ask(9, &produce(&topics, -1));
    let response: ProduceResponse<'_> = answer.read(9);
    let topic = response.responses.iter().next().unwrap();
    let stamped = topic
        .partition_responses
        .iter()
        .next()
        .unwrap()
        .log_append_time_ms;
    assert!(stamped > 1_700_000_000_000, "{stamped}");
    let answer = Fetching::new("t", &[(0, 0)]).with(|f| client.ask(11, f));
    assert_eq!(
        fetched(&answer, 11).2[0].values,
        ["a"],
        "the checksum is right"
    );
}

#[test]
fn a_batch_above_the_topics_limit_is_too_large() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[("max.message.bytes", "1000")]);
    let big = "x".repeat(2000);
    assert_eq!(
        put(&mut client, "t", 0, &[&big]).0,
        ErrorCode::MessageTooLarge.code()
    );
    assert_eq!(put(&mut client, "t", 0, &["x"]), (0, 0));
}

#[test]
fn pipelined_batches_of_both_cores_keep_their_order() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[]);
    let mut all = Vec::new();
    for n in 0..200 {
        let value = n.to_string();
        let records = batch(&[&value]);
        let parts = [part(0, &records), part(1, &records)];
        let topics = [data("t", &parts)];
        all.extend(client.encode(9, &produce(&topics, 1)).1);
    }
    client.socket.write_all(&all).unwrap();
    for n in 0..200 {
        let answer = client.next().unwrap();
        assert_eq!(outcomes(&answer, 9), [(0, n), (0, n)]);
    }
    // shown once it is durable
    for partition in [0, 1] {
        until("all records", || {
            let answer = Fetching::new("t", &[(partition, 0)]).with(|f| client.ask(11, f));
            let values = &fetched(&answer, 11).2[0].values;
            let expected: Vec<String> = (0..values.len()).map(|n| n.to_string()).collect();
            assert_eq!(*values, expected);
            values.len() == 200
        });
    }
}

#[test]
fn what_is_wrong_with_a_batch_is_told_the_same_from_both_cores() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[("cleanup.policy", "compact")]);
    // records without a key
    let records = batch(&["a", "b", "c"]);
    let parts = [part(0, &records), part(1, &records), part(0, &records)];
    let topics = [data("t", &parts)];
    for version in [7, 8, 9, 12] {
        let answer = client.ask(version, &produce(&topics, -1));
        let response: ProduceResponse<'_> = answer.read(version);
        let topic = response.responses.iter().next().unwrap();
        let told: Vec<_> = topic
            .partition_responses
            .iter()
            .map(|p| {
                let blamed: Vec<_> = p
                    .record_errors
                    .iter()
                    .map(|r| {
                        (
                            r.batch_index,
                            r.batch_index_error_message.map(str::to_owned),
                        )
                    })
                    .collect();
                (
                    p.error_code,
                    p.base_offset,
                    p.error_message.map(str::to_owned),
                    blamed,
                )
            })
            .collect();
        assert_eq!(told[0].0, ErrorCode::InvalidRecord.code());
        assert_eq!(told[0].3.len(), if version < 8 { 0 } else { 3 });
        assert_eq!(told[0], told[1], "version {version}");
        assert_eq!(told[0], told[2], "version {version}");
    }
}

#[test]
fn an_answer_to_very_many_bad_batches_names_only_some_of_their_records() {
    let (_setup, broker) = started(&[]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 2, &[("cleanup.policy", "compact")]);
    // records without a key
    let records = batch(&["x"; 64]);
    let parts: Vec<_> = (0..4000).map(|n| part(n % 2, &records)).collect();
    let topics = [data("t", &parts)];
    let answer = client.ask(8, &produce(&topics, -1));
    let response: ProduceResponse<'_> = answer.read(8);
    let topic = response.responses.iter().next().unwrap();
    let partitions: Vec<_> = topic.partition_responses.iter().collect();
    let refused = ErrorCode::InvalidRecord.code();
    assert_eq!(partitions.len(), parts.len());
    assert!(partitions.iter().all(|p| p.error_code == refused));
    for shard in 0..2 {
        let its = || partitions.iter().filter(|p| p.index == shard);
        let blamed: usize = its().map(|p| p.record_errors.len()).sum();
        assert_eq!(blamed, 1000);
        assert_eq!(its().next().unwrap().record_errors.len(), 64);
        assert!(its().next().unwrap().error_message.is_some());
    }
}

#[test]
fn a_producer_that_was_silent_for_long_is_forgotten() {
    let (_setup, broker) = started(&[
        ("producer.id.expiration.ms", "3600000"),
        ("producer.id.expiration.check.interval.ms", "20"),
    ]);
    let mut client = Client::connect(&broker.address());
    client.create("t", 4, &[]);
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let (now, old) = (now.as_millis() as i64, 1_700_000_000_000);
    let mut put = |partition, at, sequence| {
        let mut builder = BatchBuilder::new(Codec::None).producer(ProducerId(1), 0, sequence);
        builder.append(Timestamp(at), None, Some(b"x"), &[]);
        let records = builder.build().unwrap();
        let parts = [part(partition, &records)];
        let topics = [data("t", &parts)];
        outcomes(&client.ask(9, &produce(&topics, -1)), 9)[0].0
    };
    for partition in 0..2 {
        assert_eq!(put(partition, now, 0), 0);
        assert_eq!(put(partition + 2, old, 0), 0);
    }
    // nobody knows which sequence is next
    until("the silent one to be forgotten", || put(2, old, 7) == 0);
    until("the silent one to be forgotten", || put(3, old, 7) == 0);
    let gap = ErrorCode::OutOfOrderSequenceNumber.code();
    assert_eq!((put(0, now, 7), put(1, now, 7)), (gap, gap));
}
