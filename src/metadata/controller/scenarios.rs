//! Runs the scenarios of `scenarios/*.txt`: lines beginning with `>` are requests, those after
//! them the expected answers. Topic ids are numbered in the order they are drawn: `#1`, `#2`, ...

use std::fmt::Write;
use std::sync::Arc;

use super::*;
use crate::base::config::{Inputs, load};
use crate::base::ids::{NodeId, Uuid};
use crate::metadata::image::Image;
use crate::metadata::{apply, snapshot};

struct World {
    image: Image,
    nodes: Vec<NodeId>,
    drawn: u64,
}

fn id(n: u64) -> Uuid {
    match n {
        0 => Uuid::ZERO,
        n => Uuid::from_random(n, n),
    }
}

fn show(drawn: u64, wanted: &Uuid) -> String {
    (0..=drawn)
        .find(|n| id(*n) == *wanted)
        .map_or_else(|| wanted.to_string(), |n| format!("#{n}"))
}

impl World {
    fn new(overrides: &[String]) -> World {
        let loaded = load(&Inputs {
            overrides: overrides.to_vec(),
            ..Inputs::default()
        })
        .expect("the scenario's configuration is right");
        World {
            image: Image::empty(Arc::new(loaded.config)),
            nodes: vec![NodeId(1)],
            drawn: 0,
        }
    }

    fn commit(&mut self, draft: Draft) -> usize {
        let (image, records) = draft.finish(self.image.sequence() + 1);
        // what was drafted is what replaying the records gives
        let mut replayed = self.image.clone();
        for record in &records {
            apply::apply(&mut replayed, record).unwrap();
        }
        assert_eq!(snapshot::records(&replayed), snapshot::records(&image));
        if !records.is_empty() {
            self.image = image;
        }
        records.len()
    }

    fn topic(spec: &str) -> NewTopic {
        let mut words = spec.split_whitespace();
        let mut topic = NewTopic {
            name: words.next().unwrap_or("").trim_matches('"').to_owned(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        };
        for word in words {
            let (key, value) = word.split_once('=').expect("key=value");
            match key {
                "partitions" => topic.partitions = value.parse().unwrap(),
                "rf" => topic.replication_factor = value.parse().unwrap(),
                "null" => topic.configs.push((value.to_owned(), None)),
                _ => match key.strip_prefix('@') {
                    Some(partition) => {
                        let brokers = value.split('+').filter(|b| !b.is_empty());
                        topic.assignments.push((
                            partition.parse().unwrap(),
                            brokers.map(|b| b.parse().unwrap()).collect(),
                        ));
                    }
                    None => topic.configs.push((key.to_owned(), Some(value.to_owned()))),
                },
            }
        }
        topic
    }

    fn create(&mut self, specs: &str, validate_only: bool) -> String {
        let topics: Vec<NewTopic> = specs.split(';').map(World::topic).collect();
        let mut draft = Draft::new(&self.image, self.nodes.clone());
        let mut drawn = self.drawn;
        let answers = draft.create_topics(&topics, validate_only, || {
            drawn += 1;
            id(drawn)
        });
        self.drawn = drawn;
        let mut out = String::new();
        for TopicCreation { name, result } in answers {
            match result {
                Ok(c) => writeln!(
                    out,
                    "{name} {} partitions={} rf={} {:?}",
                    show(drawn, &c.id),
                    c.partitions,
                    c.replication_factor,
                    c.overrides
                ),
                Err(e) => writeln!(out, "{name} {e}"),
            }
            .unwrap();
        }
        let records = self.commit(draft);
        writeln!(out, "records {records}").unwrap();
        out
    }

    fn delete(&mut self, specs: &str) -> String {
        let topics: Vec<TopicRef> = specs
            .split(';')
            .map(|spec| {
                let mut topic = TopicRef::default();
                for word in spec.split_whitespace() {
                    match word.strip_prefix('#') {
                        Some(n) => topic.id = id(n.parse().unwrap()),
                        None => topic.name = Some(word.to_owned()),
                    }
                }
                topic
            })
            .collect();
        let mut draft = Draft::new(&self.image, self.nodes.clone());
        let mut out = String::new();
        for TopicDeletion { asked, result } in draft.delete_topics(&topics) {
            let asked = match (asked.name, asked.id) {
                (Some(name), Uuid::ZERO) => name,
                (Some(name), id) => format!("{name} {}", show(self.drawn, &id)),
                (None, id) => show(self.drawn, &id),
            };
            match result {
                Ok(d) => writeln!(
                    out,
                    "{asked} deleted {} {}",
                    d.name,
                    show(self.drawn, &d.id)
                ),
                Err(e) => writeln!(out, "{asked} {e}"),
            }
            .unwrap();
        }
        let records = self.commit(draft);
        writeln!(out, "records {records}").unwrap();
        out
    }

    fn run(&mut self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "create" => self.create(rest, false),
            "validate" => self.create(rest, true),
            "delete" => self.delete(rest),
            "nodes" => {
                self.nodes = rest
                    .split_whitespace()
                    .map(|n| NodeId(n.parse().unwrap()))
                    .collect();
                String::new()
            }
            "config" => {
                let set: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
                *self = World::new(&set);
                String::new()
            }
            "producer-ids" => {
                let mut draft = Draft::new(&self.image, self.nodes.clone());
                let out = match draft.producer_ids(rest.trim().parse().unwrap()) {
                    Ok(first) => format!("from {first}\n"),
                    Err(e) => format!("{e}\n"),
                };
                self.commit(draft);
                out
            }
            "show" => {
                let mut out = String::new();
                for t in self.image.topics() {
                    let parts: Vec<String> = t
                        .partitions
                        .iter()
                        .map(|p| {
                            let nodes: Vec<String> =
                                p.replicas.iter().map(|n| n.to_string()).collect();
                            nodes.join("+")
                        })
                        .collect();
                    writeln!(
                        out,
                        "{} {} ordinal={} [{}]",
                        t.name,
                        show(self.drawn, &t.id),
                        t.ordinal,
                        parts.join(" ")
                    )
                    .unwrap();
                }
                writeln!(out, "partitions {}", self.image.partition_count()).unwrap();
                out
            }
            other => panic!("no such command: {other}"),
        }
    }
}

fn check(name: &str, text: &str) {
    let mut world = World::new(&[]);
    let mut got = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(got, "> {command}\n{}", world.run(command).trim_end()).unwrap();
        } else if line.is_empty() || line.starts_with("# ") {
            writeln!(got, "{line}").unwrap();
        }
    }
    let clean = |s: &str| {
        let lines: Vec<&str> = s.lines().filter(|l| !l.is_empty()).collect();
        lines.join("\n")
    };
    assert_eq!(clean(&got), clean(text), "scenario {name}; got:\n{got}");
}

#[test]
fn topics_are_created_as_kafka_creates_them() {
    check("create", include_str!("scenarios/create.txt"));
}

#[test]
fn replicas_are_assigned_as_kafka_assigns_them() {
    check("assign", include_str!("scenarios/assign.txt"));
}

#[test]
fn topics_are_deleted_as_kafka_deletes_them() {
    check("delete", include_str!("scenarios/delete.txt"));
}
