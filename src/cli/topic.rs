//! `corelane topic`.

use anyhow::{Context, bail};
use serde_json::json;

use crate::cli::args::{Broker, TopicAction};
use crate::cli::client::{ClientError, Cluster, TopicInfo};
use crate::cli::consume::offsets;
use crate::cli::output::{Output, counted};
use crate::wire::messages::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};

pub fn run(broker: &Broker, action: TopicAction, output: &Output) -> anyhow::Result<()> {
    let mut cluster = Cluster::open(&broker.bootstrap, broker.timeout)?;
    let timeout_ms = broker.timeout.as_millis() as i32;
    match action {
        TopicAction::Create {
            names,
            partitions,
            replication_factor,
            configs,
            validate_only,
        } => {
            let configs: Vec<_> = configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name,
                    value: Some(value),
                })
                .collect();
            let topic = |name| CreatableTopic {
                name,
                num_partitions: partitions.unwrap_or(-1),
                replication_factor: replication_factor.unwrap_or(-1),
                configs: configs.as_slice().into(),
                ..Default::default()
            };
            let request = CreateTopicsRequest {
                topics: names.iter().map(|name| topic(name)).collect(),
                timeout_ms,
                validate_only,
            };
            create(&mut cluster, &request, output)
        }
        TopicAction::List => list(&mut cluster, output),
        TopicAction::Describe { names } => describe(&mut cluster, &names, output),
        TopicAction::Delete { names } => delete(&mut cluster, &names, timeout_ms, output),
    }
}

fn create(
    cluster: &mut Cluster,
    request: &CreateTopicsRequest<'_>,
    output: &Output,
) -> anyhow::Result<()> {
    let answer = cluster.create_topics(request)?;
    let mut failed = 0;
    for topic in &answer.topics {
        let done = ClientError::check(topic.error_code, topic.error_message, || {
            format!("topic {}", topic.name)
        });
        if let Err(error) = done {
            output.error(&error.into());
            failed += 1;
            continue;
        }
        let word = if request.validate_only {
            "would create"
        } else {
            "created"
        };
        match output.json {
            true => output.object(&json!({
                "topic": topic.name,
                "id": topic.topic_id.to_string(),
                "partitions": topic.num_partitions,
                "replication_factor": topic.replication_factor,
                "validate_only": request.validate_only,
            }))?,
            false if topic.num_partitions > 0 => output.line(&format!(
                "{word} {} with {}, id {}",
                topic.name,
                counted(topic.num_partitions as u64, "partition"),
                topic.topic_id
            ))?,
            false => output.line(&format!("{word} {}", topic.name))?,
        }
    }
    all_done(failed)
}

fn all_done(failed: usize) -> anyhow::Result<()> {
    match failed {
        0 => Ok(()),
        n => bail!("{} not done", counted(n as u64, "topic")),
    }
}

fn list(cluster: &mut Cluster, output: &Output) -> anyhow::Result<()> {
    let topics = cluster.topics(None, false)?;
    if output.json {
        for topic in &topics {
            output.object(&json!({
                "topic": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "internal": topic.is_internal,
            }))?;
        }
        return Ok(());
    }
    if topics.is_empty() {
        output.note("no topics; make one with `corelane topic create NAME`");
        return Ok(());
    }
    let row = |t: &TopicInfo| {
        vec![
            t.name.clone(),
            t.partitions.len().to_string(),
            t.id.to_string(),
        ]
    };
    let rows: Vec<_> = topics.iter().map(row).collect();
    output.table(&["topic", "partitions", "id"], &rows)?;
    Ok(())
}

fn describe(cluster: &mut Cluster, names: &[String], output: &Output) -> anyhow::Result<()> {
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let topics = cluster.topics((!wanted.is_empty()).then_some(&wanted), false)?;
    let mut failed = 0;
    for topic in &topics {
        let found = ClientError::check(topic.error_code, None, || format!("topic {}", topic.name));
        if let Err(error) = found {
            output.error(&error.into());
            failed += 1;
            continue;
        }
        let first = offsets(cluster, topic, -2).context("earliest offsets")?;
        let end = offsets(cluster, topic, -1).context("latest offsets")?;
        show(topic, &first, &end, output)?;
    }
    all_done(failed)
}

fn show(topic: &TopicInfo, first: &[i64], end: &[i64], output: &Output) -> anyhow::Result<()> {
    let offsets = |i: usize| (first[i], end[i]);
    if output.json {
        let partition = |(i, p): (usize, &crate::cli::client::PartitionInfo)| {
            json!({
                "partition": p.index,
                "leader": p.leader,
                "leader_epoch": p.leader_epoch,
                "replicas": p.replicas,
                "isr": p.in_sync,
                "first_offset": offsets(i).0,
                "end_offset": offsets(i).1,
            })
        };
        let partitions: Vec<_> = topic.partitions.iter().enumerate().map(partition).collect();
        output.object(&json!({
            "topic": topic.name,
            "id": topic.id.to_string(),
            "internal": topic.is_internal,
            "partitions": partitions,
        }))?;
        return Ok(());
    }
    let name = output.strong(&topic.name);
    output.line(&format!(
        "{name}  id {}, {}",
        topic.id,
        counted(topic.partitions.len() as u64, "partition")
    ))?;
    let numbers = |list: &[i32]| {
        let list: Vec<_> = list.iter().map(i32::to_string).collect();
        list.join(",")
    };
    let row = |(i, p): (usize, &crate::cli::client::PartitionInfo)| {
        vec![
            p.index.to_string(),
            p.leader.to_string(),
            p.leader_epoch.to_string(),
            offsets(i).0.to_string(),
            offsets(i).1.to_string(),
            numbers(&p.replicas),
            numbers(&p.in_sync),
        ]
    };
    let rows: Vec<_> = topic.partitions.iter().enumerate().map(row).collect();
    let head = [
        "partition",
        "leader",
        "epoch",
        "first",
        "end",
        "replicas",
        "isr",
    ];
    output.table(&head, &rows)?;
    Ok(())
}

fn delete(
    cluster: &mut Cluster,
    names: &[String],
    timeout_ms: i32,
    output: &Output,
) -> anyhow::Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = cluster.delete_topics(&names, timeout_ms)?;
    let mut failed = 0;
    for topic in &answer.responses {
        let name = topic.name.unwrap_or("?");
        let what = || format!("topic {name}");
        match ClientError::check(topic.error_code, topic.error_message, what) {
            Ok(()) if output.json => {
                output.object(&json!({"topic": name, "deleted": true}))?;
            }
            Ok(()) => output.line(&format!("deleted {name}"))?,
            Err(error) => {
                output.error(&error.into());
                failed += 1;
            }
        }
    }
    all_done(failed)
}
