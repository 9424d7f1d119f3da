//! The cases that hold for every client. Each uses topics of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::error::RDKafkaErrorCode;

use crate::client::{CODECS, Client, Reading, Record, Seen, Sending};
use crate::records::{epoch_ms, every_shape, numbered};
use crate::stage::{KINDS, Kind, Stage, compare};
use crate::support::wait;

fn readers() -> impl Iterator<Item = Kind> {
    KINDS.into_iter().filter(|kind| kind.missing().is_none())
}

/// What a consumer has to show for records written from offset `first` on.
fn expected(records: &[Record], first: i64) -> Vec<Seen> {
    let seen = |(n, record): (usize, &Record)| Seen {
        offset: first + n as i64,
        record: record.clone(),
    };
    records.iter().enumerate().map(seen).collect()
}

/// Offsets that a producer was told are the next free ones; -1 means that it was not told.
fn check_acked(acked: &[i64], first: i64) -> Result<()> {
    for (n, offset) in acked.iter().enumerate() {
        let right = first + n as i64;
        ensure!(
            *offset == right || *offset == -1,
            "record {n} was acknowledged at {offset}, not at {right}"
        );
    }
    Ok(())
}

/// Puts the timestamps that the producer or the broker chose into what is expected, after a look
/// whether they lie between `from` and now.
fn adopt_timestamps(expected: &mut [Seen], seen: &[Seen], from: i64) -> Result<()> {
    for (expected, seen) in expected.iter_mut().zip(seen) {
        if expected.record.timestamp < 0 {
            let time = seen.record.timestamp;
            ensure!(
                (from..=wait::wall_ms()).contains(&time),
                "record {} has the timestamp {time}",
                seen.offset
            );
            expected.record.timestamp = time;
        }
    }
    Ok(())
}

fn shown(client: &dyn Client, expected: &[Seen]) -> Vec<Seen> {
    let show = |seen: &Seen| Seen {
        offset: seen.offset,
        record: client.shows(&seen.record),
    };
    expected.iter().map(show).collect()
}

/// What a client writes in each codec, every client reads, byte for byte.
pub fn every_codec_is_read_by_all(stage: &mut Stage, writer: Kind) -> Result<()> {
    for codec in CODECS {
        let topic = stage.topic(&format!("codec-{codec}-by-{}", writer.name()), 1, &[])?;
        let client = stage.client(writer)?;
        let records: Vec<Record> = every_shape()
            .iter()
            .filter_map(|r| client.can_write(r))
            .collect();
        let began = wait::wall_ms();
        let acked = client.produce(&Sending {
            codec,
            ..Sending::new(&topic, 0, &records)
        });
        let acked = acked.with_context(|| format!("{} writes {codec}", writer.name()))?;
        check_acked(&acked, 0)?;
        let mut expected = expected(&records, 0);
        for reader in readers() {
            let client = stage.client(reader)?;
            let seen = client.consume(&Reading::new(&topic, 0, records.len()));
            let seen = seen.with_context(|| format!("{} reads {topic}", reader.name()))?;
            adopt_timestamps(&mut expected, &seen, began)?;
            compare(reader, &topic, &seen, &shown(client, &expected))?;
        }
        let bounds = stage.librdkafka().bounds(&topic, 0)?;
        ensure!(
            bounds == (0, records.len() as i64),
            "{topic} has the bounds {bounds:?}"
        );
        stage.kept.insert(topic, expected);
    }
    Ok(())
}

/// acks 0, 1 and all, with and without idempotence.
pub fn every_kind_of_ack_delivers(stage: &mut Stage, kind: Kind) -> Result<()> {
    for (acks, idempotent) in [("0", false), ("1", false), ("all", false), ("all", true)] {
        let topic = stage.topic(&format!("acks-{acks}-by-{}", kind.name()), 1, &[])?;
        let client = stage.client(kind)?;
        let values: Vec<Record> = (0..50).map(|n| Record::of(format!("record {n}"))).collect();
        let acked = client.produce(&Sending {
            acks,
            idempotent,
            ..Sending::new(&topic, 0, &values)
        })?;
        if acks != "0" {
            check_acked(&acked, 0)?;
        }
        let end = values.len() as i64;
        wait::until(Duration::from_secs(20), "all records to be there", || {
            Ok((client.bounds(&topic, 0)? == (0, end)).then_some(()))
        })?;
        let seen = client.consume(&Reading::new(&topic, 0, values.len()))?;
        let same = seen
            .iter()
            .map(|s| &s.record.value)
            .eq(values.iter().map(|r| &r.value));
        ensure!(same, "{} reads other values with acks={acks}", kind.name());
    }
    Ok(())
}

/// Twelve partitions, so that every lane is used, each with its own records in order.
pub fn partitions_keep_apart(stage: &mut Stage, kind: Kind) -> Result<()> {
    let topic = stage.topic(&format!("partitions-by-{}", kind.name()), 12, &[])?;
    let client = stage.client(kind)?;
    let of = |partition: i32| -> Vec<Record> {
        let record = |n| Record::of(format!("record {n} of partition {partition}"));
        (0..20).map(record).collect()
    };
    for partition in 0..12 {
        let acked = client.produce(&Sending::plain(&topic, partition, &of(partition)))?;
        check_acked(&acked, 0)?;
    }
    for partition in 0..12 {
        let seen = client.consume(&Reading::new(&topic, partition, 20))?;
        let same = seen
            .iter()
            .map(|s| s.record.value.clone())
            .eq(of(partition).into_iter().map(|r| r.value));
        ensure!(same, "partition {partition} reads wrong: {seen:?}");
    }
    Ok(())
}

/// Reading begins at any offset, also inside a batch, and with a limit below a batch's size.
pub fn reading_begins_anywhere(stage: &mut Stage, kind: Kind) -> Result<()> {
    let topic = stage.topic(&format!("seek-by-{}", kind.name()), 1, &[])?;
    let records = numbered(200);
    for part in records.chunks(50) {
        stage
            .librdkafka()
            .produce(&Sending::plain(&topic, 0, part))?;
    }
    let all = expected(&records, 0);
    let client = stage.client(kind)?;
    for from in [0, 1, 49, 50, 77, 199] {
        let seen = client.consume(&Reading {
            from: from as i64,
            max_bytes: 1_000,
            ..Reading::new(&topic, 0, records.len() - from)
        })?;
        compare(kind, &topic, &seen, &shown(client, &all[from..]))?;
    }
    if kind != Kind::Kcat {
        let outside = client.consume(&Reading {
            from: 201,
            ..Reading::new(&topic, 0, 1)
        });
        let error = outside
            .err()
            .context("an offset beyond the end was served")?;
        let text = format!("{error:#}").to_lowercase().replace(' ', "");
        let right = ["outofrange", "offsetreset"]
            .iter()
            .any(|t| text.contains(t));
        ensure!(right, "beyond the end: {error:#}");
    }
    Ok(())
}

/// The first offset at a time or later, also where times go back.
pub fn offsets_are_found_by_time(stage: &mut Stage, kind: Kind) -> Result<()> {
    let topic = stage.topic(&format!("times-by-{}", kind.name()), 1, &[])?;
    let records = numbered(100);
    for part in records.chunks(10) {
        stage
            .librdkafka()
            .produce(&Sending::plain(&topic, 0, part))?;
    }
    let back = [50_000, 250_000, 120_000, 300_000].map(|after| Record {
        timestamp: epoch_ms() + after,
        ..Record::of("back and forth")
    });
    stage
        .librdkafka()
        .produce(&Sending::plain(&topic, 0, &back))?;
    let client = stage.client(kind)?;
    for (after, right) in [
        (-1, 0),
        (0, 0),
        (1, 1),
        (54_999, 55),
        (55_000, 55),
        (55_001, 56),
        (99_000, 99),
        (99_001, 101),
        (200_000, 101),
        (250_001, 103),
        (300_000, 103),
        (300_001, -1),
    ] {
        let found = client.offset_for_time(&topic, 0, epoch_ms() + after)?;
        ensure!(
            found == right,
            "{after} ms after the first is at {found}, not {right}"
        );
    }
    let bounds = client.bounds(&topic, 0)?;
    ensure!(bounds == (0, 104), "the bounds are {bounds:?}");
    Ok(())
}

/// A fetch that waits is answered when records come, long before its time is over: each of these
/// records is sent when the one before was seen.
pub fn a_waiting_fetch_is_woken(stage: &mut Stage, kind: Kind) -> Result<()> {
    const COUNT: usize = 8;
    const MAX_WAIT: Duration = Duration::from_secs(20);
    let topic = stage.topic(&format!("follow-by-{}", kind.name()), 1, &[])?;
    let mut producer = stage.librdkafka();
    producer.produce(&Sending::plain(&topic, 0, &numbered(3)))?;
    let client = stage.client(kind)?;
    let began = wait::now();
    let mut sent = 0;
    client.follow(&topic, 0, COUNT, MAX_WAIT, &mut |seen| {
        if let Some(seen) = seen {
            ensure!(
                seen.offset == 2 + sent as i64,
                "offset {} came",
                seen.offset
            );
        }
        if sent < COUNT {
            producer.produce(&Sending::plain(&topic, 0, &[Record::of("next")]))?;
            sent += 1;
        }
        Ok(())
    })?;
    let took = began.elapsed();
    ensure!(took < MAX_WAIT, "{COUNT} records took {took:?}");
    Ok(())
}

/// With LogAppendTime the broker's clock counts, whatever the producer says.
pub fn append_time_replaces_the_producers(stage: &mut Stage, writer: Kind) -> Result<()> {
    for codec in ["none", "lz4"] {
        let config = [("message.timestamp.type", "LogAppendTime")];
        let topic = stage.topic(&format!("append-time-by-{}", writer.name()), 1, &config)?;
        let began = wait::wall_ms();
        let client = stage.client(writer)?;
        client.produce(&Sending {
            codec,
            ..Sending::new(&topic, 0, &numbered(30))
        })?;
        let mut right = expected(&numbered(30), 0);
        for seen in &mut right {
            seen.record.timestamp = -1;
        }
        for reader in readers() {
            let client = stage.client(reader)?;
            let seen = client.consume(&Reading::new(&topic, 0, 30))?;
            adopt_timestamps(&mut right, &seen, began)?;
            compare(reader, &topic, &seen, &shown(client, &right))?;
        }
        stage.kept.insert(topic, right);
    }
    Ok(())
}

/// A batch above the topic's limit is refused by name, and the next one is taken.
pub fn a_batch_above_the_limit_is_refused(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic("too-large", 1, &[("max.message.bytes", "10000")])?;
    let client = stage.librdkafka();
    let large = [Record::of(vec![7; 20_000])];
    let refused = client.refused(&Sending::new(&topic, 0, &large))?;
    ensure!(
        refused == Some(RDKafkaErrorCode::MessageSizeTooLarge),
        "a large batch was answered with {refused:?}"
    );
    let small = [Record::of("small enough")];
    let refused = client.refused(&Sending::new(&topic, 0, &small))?;
    ensure!(
        refused.is_none(),
        "a small batch was answered with {refused:?}"
    );
    let bounds = stage.librdkafka().bounds(&topic, 0)?;
    ensure!(bounds == (0, 1), "the bounds are {bounds:?}");
    Ok(())
}

/// A client that writes to a topic that is not there gets it.
pub fn a_missing_topic_is_created_by_its_first_producer(
    stage: &mut Stage,
    kind: Kind,
) -> Result<()> {
    let topic = format!("created-by-{}", kind.name());
    let client = stage.client(kind)?;
    let record = [Record::of("first")];
    client.produce(&Sending::new(&topic, 0, &record))?;
    let seen = client.consume(&Reading::new(&topic, 0, 1))?;
    ensure!(seen[0].record.value == record[0].value, "{seen:?} was read");
    Ok(())
}
