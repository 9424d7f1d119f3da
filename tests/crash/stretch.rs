//! A set of topics with their clients, through some rounds, and the judgement over them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::history::{Entry, History, Promise};
use crate::load::{self, Running};
use crate::random::Random;
use crate::support::broker::{Broker, Setup};
use crate::support::wait;
use crate::{java, support};

/// From a start until every producer and the watcher get on.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
/// From the deletion of a topic until its directories are gone.
const DELETE_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log each round reads again, besides what is new. The last round reads all.
const AGAIN: usize = 500;

pub struct Stretch {
    bootstrap: String,
    histories: Vec<Arc<History>>,
    logs: Vec<Vec<Entry>>,
    clients: Vec<Running>,
    java: Option<java::Producer>,
}

impl Stretch {
    /// Makes topics whose names end with `number`, and starts their clients.
    pub fn begin(
        setup: &Setup,
        broker: &mut Broker,
        number: u64,
        random: &mut Random,
    ) -> Result<Stretch> {
        let bootstrap = setup.address().to_string();
        let topic = |name: &str, partitions: i32, promise: Promise| -> Vec<Arc<History>> {
            let name = format!("{name}-{number}");
            (0..partitions)
                .map(|partition| Arc::new(History::new(&name, partition, promise)))
                .collect()
        };
        let idempotent = topic("idempotent", 4, Promise::EachOnce);
        let plain = topic("plain", 2, Promise::AtMostOnce);
        let written = topic("acks-one", 2, Promise::AtMostOnce);
        let of_java = match java::missing() {
            None => topic("java", 2, Promise::EachOnce),
            Some(_) => Vec::new(),
        };
        let histories = [&idempotent[..], &plain, &written, &of_java].concat();
        create_topics(&bootstrap, &histories).with_context(|| broker.log_tail())?;
        let clients = vec![
            load::producer(&bootstrap, idempotent, "all", random.split())?,
            load::producer(&bootstrap, plain, "all", random.split())?,
            load::producer(&bootstrap, written, "1", random.split())?,
            load::watcher(&bootstrap, histories.clone())?,
        ];
        let java = match of_java.is_empty() {
            true => None,
            false => Some(java::Producer::start(&bootstrap, of_java, random)?),
        };
        Ok(Stretch {
            bootstrap,
            logs: vec![Vec::new(); histories.len()],
            histories,
            clients,
            java,
        })
    }

    /// Waits until every partition has acknowledged something new and the watcher has seen it.
    pub fn progress(&self, broker: &mut Broker, round: u64) -> Result<()> {
        let histories = &self.histories;
        let before: Vec<usize> = histories.iter().map(|h| h.acked_count()).collect();
        let seen: Vec<i64> = histories.iter().map(|h| h.seen_end()).collect();
        let what = "every client to get on after a start";
        let done = wait::until(PROGRESS_LIMIT, what, || {
            ensure!(broker.runs(), "the broker ended by itself");
            let mut news = histories.iter().zip(before.iter().zip(&seen));
            if news.all(|(h, (acked, seen))| h.acked_count() > *acked && h.seen_end() > *seen) {
                return Ok(Some(()));
            }
            for history in histories {
                history.snapshot()?; // a broken promise ends the wait
            }
            Ok(None)
        });
        done.with_context(|| format!("round {round}; {}", broker.log_tail()))
    }

    /// Reads what is new, and some of what is not, and judges all logs; how many records they hold.
    pub fn judge(&mut self, broker: &mut Broker, round: u64) -> Result<usize> {
        self.judge_from(AGAIN)
            .with_context(|| format!("round {round}; {}", broker.log_tail()))
    }

    /// Reads and judges everything.
    pub fn judge_all(&mut self, broker: &mut Broker, round: u64) -> Result<usize> {
        self.judge_from(usize::MAX >> 1)
            .with_context(|| format!("after round {round}; {}", broker.log_tail()))
    }

    fn judge_from(&mut self, again: usize) -> Result<usize> {
        let told = self.histories.iter().map(|history| history.snapshot());
        let told = told.collect::<Result<Vec<_>>>()?;
        load::read(&self.bootstrap, &self.histories, &mut self.logs, again)?;
        for ((history, log), told) in self.histories.iter().zip(&self.logs).zip(&told) {
            history.judge(log, told)?;
        }
        Ok(self.logs.iter().map(Vec::len).sum())
    }

    /// No client sends or reads any more.
    pub fn stop_clients(&mut self) {
        self.clients.clear();
        self.java.take();
    }

    /// Deletes the topics.
    pub fn delete_topics(self) -> Result<()> {
        let mut names: Vec<&str> = self.histories.iter().map(|h| h.topic.as_str()).collect();
        names.dedup();
        let admin = admin(&self.bootstrap)?;
        let outcome = pollster::block_on(admin.delete_topics(&names, &AdminOptions::new()))?;
        for result in outcome {
            result.map_err(|(name, code)| anyhow!("{name} was not deleted: {code}"))?;
        }
        Ok(())
    }
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?)
}

fn create_topics(bootstrap: &str, histories: &[Arc<History>]) -> Result<()> {
    let admin = admin(bootstrap)?;
    let mut topics: Vec<(&str, i32)> = Vec::new();
    for history in histories {
        match topics.last_mut() {
            Some((name, partitions)) if *name == history.topic => *partitions += 1,
            _ => topics.push((&history.topic, 1)),
        }
    }
    for (name, partitions) in topics {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let outcome = pollster::block_on(admin.create_topics([&new], &AdminOptions::new()))?;
        for result in outcome {
            result.map_err(|(name, code)| anyhow!("{name} was not created: {code}"))?;
        }
    }
    Ok(())
}

/// Waits until the directories of all deleted partitions are gone, whatever they are called by
/// then: what was deleted, also by a broker that was killed since, must not fill the disk.
pub fn no_partition_is_left(setup: &Setup) -> Result<()> {
    if support::broker::is_kafka() {
        return Ok(()); // it waits a minute before it unlinks
    }
    wait::until(DELETE_LIMIT, "deleted partitions to leave the disk", || {
        let left = fs::read_dir(setup.data())?
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().join("partition.metadata").exists());
        Ok((left.count() == 0).then_some(()))
    })
}
