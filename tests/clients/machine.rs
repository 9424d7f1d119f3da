//! Cases about the broker as a whole: Kafka's own tools, the view of its lanes, a clean stop.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Reading, Record, Sending};
use crate::kcat::Kcat;
use crate::records::numbered;
use crate::stage::{Kind, Stage, compare, java_worker};
use crate::support::broker::is_kafka;
use crate::support::kafka::{TOOL_LIMIT, java, tool, tool_output};
use crate::support::process::run_ok;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// kafka-topics creates, describes, lists and deletes, and reports what it must not do.
pub fn kafka_topics_manages_topics(stage: &mut Stage) -> Result<()> {
    let bootstrap = stage.bootstrap();
    let topics = |args: &[&str]| {
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(args);
        tool_output(TOPICS, &all)
    };
    let ok = |args: &[&str]| -> Result<String> {
        let output = topics(args)?;
        ensure!(
            output.status.success(),
            "{args:?}: {}{}",
            output.text(),
            output.stderr
        );
        Ok(output.text())
    };
    ok(&[
        "--create",
        "--topic",
        "by-tool",
        "--partitions",
        "3",
        "--replication-factor",
        "1",
        "--config",
        "retention.ms=123456789",
    ])?;
    let text = ok(&["--describe", "--topic", "by-tool"])?;
    for part in [
        "PartitionCount: 3",
        "ReplicationFactor: 1",
        "retention.ms=123456789",
    ] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    let lines = text.lines().filter(|l| l.contains("Partition: "));
    ensure!(lines.clone().count() == 3, "described as {text}");
    // tools see the machine: a lane as leader would be none of the cluster's nodes to them
    for line in lines {
        ensure!(line.contains("Leader: 1\t"), "described as {text}");
    }
    for broken in ["--unavailable-partitions", "--under-replicated-partitions"] {
        let text = ok(&["--describe", broken])?;
        ensure!(text.trim().is_empty(), "{broken}: {text}");
    }
    let described = java_worker(&bootstrap)?.describe("by-tool")?;
    ensure!(
        described == (3, 1, 1),
        "(partitions, replicas, nodes) {described:?}"
    );
    ensure!(
        ok(&["--list"])?.lines().any(|l| l == "by-tool"),
        "not listed"
    );

    let refused = |args: &[&str], reason: &str| -> Result<()> {
        let output = topics(args)?;
        let text = output.text() + &output.stderr;
        ensure!(!output.status.success(), "{args:?} succeeded: {text}");
        ensure!(
            text.contains(reason),
            "{args:?} was refused for another reason: {text}"
        );
        Ok(())
    };
    refused(&["--create", "--topic", "by-tool"], "already exists")?;
    let three = ["--create", "--topic", "three", "--replication-factor", "3"];
    refused(
        &three,
        "replication factor of 3 cannot be reached because only 1",
    )?;
    refused(
        &["--create", "--topic", "a b"],
        "Topic name is invalid: 'a b' contains one or more characters",
    )?;
    for (config, reason) in [
        ("no.such=1", "Unknown topic config name: no.such"),
        ("retention.ms=x", "Invalid value x for configuration"),
    ] {
        refused(&["--create", "--topic", "bad", "--config", config], reason)?;
    }
    refused(&["--delete", "--topic", "missing"], "does not exist")?;

    ok(&["--delete", "--topic", "by-tool"])?;
    ensure!(
        !ok(&["--list"])?.lines().any(|l| l == "by-tool"),
        "still listed"
    );
    let gone = java_worker(&bootstrap)?.describe("by-tool");
    ensure!(gone.is_err(), "the deleted topic is described as {gone:?}");
    // the name is free again, and what was there is gone
    ok(&["--create", "--topic", "by-tool"])?;
    let bounds = stage.librdkafka().bounds("by-tool", 0)?;
    ensure!(bounds == (0, 0), "a new topic has the bounds {bounds:?}");
    Ok(())
}

/// kafka-get-offsets gives first, last, by time and the newest timestamp's.
pub fn kafka_get_offsets_agrees(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic("get-offsets", 2, &[])?;
    let mut records = numbered(40);
    records[17].timestamp += 1_000_000; // the newest one is not the last
    stage
        .librdkafka()
        .produce(&Sending::plain(&topic, 0, &records))?;
    let newer = (records[20].timestamp + 1).to_string();
    for (time, first, second) in [
        ("earliest", "0", "0"),
        ("latest", "40", "0"),
        ("max-timestamp", "17", ""),
        (newer.as_str(), "17", ""),
    ] {
        let text = tool(
            "org.apache.kafka.tools.GetOffsetShell",
            &[
                "--bootstrap-server",
                &stage.bootstrap(),
                "--topic",
                &topic,
                "--time",
                time,
            ],
        )?;
        let right = format!("{topic}:0:{first}");
        ensure!(text.lines().any(|l| l == right), "--time {time}: {text}");
        // a partition without records has no line, or one without an offset
        if !second.is_empty() {
            let right = format!("{topic}:1:{second}");
            ensure!(text.lines().any(|l| l == right), "--time {time}: {text}");
        }
    }
    Ok(())
}

/// What kafka-console-producer writes, with keys, headers and a codec, kafka-console-consumer shows.
pub fn kafka_console_tools_round_trip(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic("console", 1, &[])?;
    let bootstrap = stage.bootstrap();
    let written = "h=1,g=2;key;value\nh=3;other;\n";
    let mut producer = java()?;
    producer
        .arg("org.apache.kafka.tools.ConsoleProducer")
        .args(["--bootstrap-server", &bootstrap, "--topic", &topic])
        .args([
            "--compression-codec",
            "zstd",
            "--request-required-acks",
            "all",
        ]);
    for property in [
        "parse.headers=true",
        "headers.delimiter=;",
        "headers.key.separator==",
        "parse.key=true",
        "key.separator=;",
    ] {
        producer.args(["--reader-property", property]);
    }
    run_ok(&mut producer, written.as_bytes(), TOOL_LIMIT)?;
    let mut consumer = java()?;
    consumer
        .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args(["--bootstrap-server", &bootstrap, "--topic", &topic])
        .args(["--partition", "0", "--offset", "earliest"])
        .args(["--isolation-level", "read_committed"])
        .args(["--max-messages", "2", "--timeout-ms", "60000"]);
    for property in ["print.headers=true", "print.key=true", "print.offset=true"] {
        consumer.args(["--formatter-property", property]);
    }
    let text = run_ok(&mut consumer, b"", TOOL_LIMIT)?.text();
    let lines: Vec<&str> = text.lines().collect();
    ensure!(
        lines == ["Offset:0\th:1,g:2\tkey\tvalue", "Offset:1\th:3\tother\t"],
        "{text}"
    );
    Ok(())
}

/// Listing everything shows every topic.
pub fn all_topics_are_listed(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic("listed", 1, &[])?;
    let listed = stage.librdkafka().topics()?;
    ensure!(listed.contains(&topic), "librdkafka lists {listed:?}");
    if Kind::Kcat.missing().is_none() {
        let listed = Kcat::new(&stage.bootstrap()).topics()?;
        ensure!(listed.contains(&topic), "kcat lists {listed:?}");
    }
    Ok(())
}

/// A tool that needs what is not served is told so, and does not wait.
pub fn tools_of_apis_that_are_not_served_say_so(stage: &mut Stage) -> Result<()> {
    if is_kafka() {
        return Ok(());
    }
    let bootstrap = stage.bootstrap();
    let topic = stage.topic("not-served", 1, &[])?;
    let offsets = tempfile::NamedTempFile::new()?;
    fs::write(
        offsets.path(),
        format!(r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":0}}],"version":1}}"#),
    )?;
    let file = offsets.path().display().to_string();
    for (class, args, api) in [
        (
            "org.apache.kafka.tools.LogDirsCommand",
            vec!["--describe"],
            "DESCRIBE_LOG_DIRS",
        ),
        (
            "org.apache.kafka.tools.DeleteRecordsCommand",
            vec!["--offset-json-file", &file],
            "DELETE_RECORDS",
        ),
    ] {
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(args);
        let output = tool_output(class, &all)?;
        let text = output.text() + &output.stderr;
        let told = format!("does not support {api}");
        ensure!(text.contains(&told), "{class}: {text}");
    }
    Ok(())
}

/// kafka-producer-perf-test gets all of its records through.
pub fn kafka_producer_perf_test_runs(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic("perf", 4, &[])?;
    let properties = format!("bootstrap.servers={}", stage.bootstrap());
    let text = tool(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            &topic,
            "--num-records",
            "30000",
            "--record-size",
            "1000",
            "--throughput",
            "-1",
            "--producer-props",
            &properties,
            "compression.type=none",
        ],
    )?;
    ensure!(text.contains("30000 records sent"), "{text}");
    let mut client = stage.librdkafka();
    let ends = (0..4)
        .map(|p| Ok(client.bounds(&topic, p)?.1))
        .sum::<Result<i64>>()?;
    ensure!(ends == 30_000, "{ends} records are there");
    Ok(())
}

/// kafka-broker-api-versions reads the list of APIs.
pub fn kafka_broker_api_versions_reads_the_list(stage: &mut Stage) -> Result<()> {
    let text = tool(
        "org.apache.kafka.tools.BrokerApiVersionsCommand",
        &["--bootstrap-server", &stage.bootstrap()],
    )?;
    for api in [
        "Produce(0): 0 to",
        "Fetch(1): 4 to",
        "ListOffsets(2): 1 to",
        "Metadata(3): 0 to",
    ] {
        ensure!(text.contains(api), "no {api:?} in {text}");
    }
    Ok(())
}

/// How many nodes the two kinds of clients have to see.
#[derive(Clone, Copy)]
pub struct View {
    /// a client that is known to keep one leader a connection
    pub capable: usize,
    /// a client that is not
    pub other: usize,
}

/// A shard is a node to those that can use it, and leaders are spread over the nodes.
pub fn lanes_are_shown_to_clients_that_can_use_them(stage: &mut Stage, view: View) -> Result<()> {
    let topic = stage.topic("lanes", 8, &[])?;
    let lanes = if is_kafka() { 1 } else { view.capable };
    let seen = stage.librdkafka().nodes_and_leaders(&topic)?;
    ensure!(
        seen == (lanes, lanes),
        "librdkafka sees (nodes, leaders) {seen:?}, not {lanes}"
    );
    if Kind::Kcat.missing().is_none() {
        let nodes = Kcat::new(&stage.bootstrap()).nodes(&topic)?;
        ensure!(
            nodes == view.other,
            "kcat sees {nodes} nodes, not {}",
            view.other
        );
    }
    Ok(())
}

fn files(data: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data)? {
        let directory = entry?.path();
        let name = directory
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        // not Kafka's own topics, nor those that are being deleted
        if !directory.is_dir() || name.starts_with("__") || name.ends_with("-delete") {
            continue;
        }
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs kafka-dump-log over files of a kind; answers its text, which must hold no complaint.
fn dump(data: &Path, extension: &str) -> Result<String> {
    let found = files(data, extension)?;
    if found.is_empty() {
        return Ok(String::new());
    }
    let names: Vec<String> = found.iter().map(|p| p.display().to_string()).collect();
    let output = tool_output(
        "org.apache.kafka.tools.DumpLogSegments",
        &["--deep-iteration", "--files", &names.join(",")],
    )?;
    let text = output.text();
    let mut lines = output.stderr.lines().peekable();
    let mut errors = Vec::new();
    while let Some(line) = lines.next() {
        // it expects the first offset of every file to be 0
        let from_zero = lines.next_if(|next| next.starts_with("  -1 is followed by "));
        if from_zero.is_none() {
            errors.push(line);
        }
    }
    ensure!(
        output.status.success() && errors.is_empty(),
        "kafka-dump-log: {errors:?}"
    );
    for complaint in [
        "Found timestamp mismatch",
        "Found out of order timestamp",
        "Index timestamp:",
        "Non-consecutive offsets",
        "Mismatches in",
        "isvalid: false",
        "isValid: false",
        "skipping",
        "invalid bytes at the end",
        "corrupt",
    ] {
        if let Some(line) = text.lines().find(|l| l.contains(complaint)) {
            bail!("kafka-dump-log of *.{extension} complains: {line}");
        }
    }
    Ok(text)
}

/// The batches of every `codec-` topic are in the codec that its producer was asked for.
fn check_codecs(stage: &Stage, dump: &str) -> Result<()> {
    let mut found = BTreeSet::new();
    let mut directory = "";
    for line in dump.lines() {
        if let Some(file) = line.strip_prefix("Dumping ") {
            directory = file.rsplit('/').nth(1).unwrap_or_default();
        } else if let Some((_, after)) = line.split_once("compresscodec: ") {
            found.insert((directory, after.split(' ').next().unwrap_or_default()));
        }
    }
    for topic in stage.kept.keys() {
        let Some((codec, writer)) = topic
            .strip_prefix("codec-")
            .and_then(|rest| rest.split_once("-by-"))
        else {
            continue;
        };
        // librdkafka compresses with lz4 only where FindCoordinator is advertised, which comes
        // with groups; until then it sends such batches as they are
        let librdkafka = !writer.starts_with("java") && !writer.starts_with("kafka-python");
        if codec == "lz4" && librdkafka && !is_kafka() {
            continue;
        }
        let directory = format!("{topic}-0");
        ensure!(
            found.contains(&(directory.as_str(), codec)),
            "{topic} has no batch in {codec}"
        );
    }
    Ok(())
}

/// After SIGTERM Kafka's own reader finds every file in order, and the next start serves all that
/// was there and goes on behind it.
pub fn a_clean_stop_leaves_what_kafka_reads(stage: &mut Stage) -> Result<()> {
    let more = stage.topic("goes-on", 1, &[])?;
    stage
        .librdkafka()
        .produce(&Sending::plain(&more, 0, &numbered(10)))?;
    stage.stop()?;
    if Kind::Java.missing().is_none() {
        let data = stage.setup().data();
        let text = dump(&data, "log")?;
        check_codecs(stage, &text)?;
        let payloads = text.matches("| offset: ").count();
        let kept: usize = stage.kept.values().map(Vec::len).sum();
        ensure!(
            payloads >= kept,
            "{payloads} records in the segments, {kept} were written"
        );
        for extension in ["index", "timeindex", "snapshot"] {
            dump(&data, extension)?;
        }
    }
    stage.start()?;
    let mut client = stage.librdkafka();
    for (topic, expected) in &stage.kept {
        let seen = client.consume(&Reading::new(topic, 0, expected.len()))?;
        compare(Kind::Librdkafka, topic, &seen, expected)?;
    }
    let acked = client.produce(&Sending::plain(&more, 0, &[Record::of("after the stop")]))?;
    ensure!(
        acked == [10],
        "the next record was acknowledged at {acked:?}"
    );
    let (first, end) = client.bounds(&more, 0).context("bounds after the stop")?;
    ensure!((first, end) == (0, 11), "the bounds are {first} and {end}");
    stage.stop()
}
