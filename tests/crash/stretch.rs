//! A set of topics with their clients, through some rounds, and the judgement over them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::AdminOptions;

use crate::support::broker::{Broker, Setup};
use crate::support::history::{self, Entry, History, Promise};
use crate::support::load::{self, Running};
use crate::support::wait;
use crate::{java, support};
use corelane::ring::sim::Rng;

/// From the deletion of a topic until its directories are gone.
const DELETE_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log each round reads again, besides what is new. The last round reads all.
const AGAIN: i64 = 500;

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
        random: &mut Rng,
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
        load::create_topics(&bootstrap, &histories).with_context(|| broker.log_tail())?;
        let clients = vec![
            load::producer(&bootstrap, idempotent, "all", random.fork(1))?,
            load::producer(&bootstrap, plain, "all", random.fork(1))?,
            load::producer(&bootstrap, written, "1", random.fork(1))?,
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
        load::progress(&self.histories, || broker.runs())
            .with_context(|| format!("round {round}; {}", broker.log_tail()))
    }

    /// Reads what is new, and some of what is not, and judges all logs; how many records they hold.
    pub fn judge(&mut self, broker: &mut Broker, round: u64) -> Result<usize> {
        self.judge_from(AGAIN)
            .with_context(|| format!("round {round}; {}", broker.log_tail()))
    }

    /// Reads and judges everything.
    pub fn judge_all(&mut self, broker: &mut Broker, round: u64) -> Result<usize> {
        self.judge_from(i64::MAX >> 1)
            .with_context(|| format!("after round {round}; {}", broker.log_tail()))
    }

    fn judge_from(&mut self, again: i64) -> Result<usize> {
        let demands = self.histories.iter().map(|history| history.demand());
        let demands = demands.collect::<Result<Vec<_>>>()?;
        let logs = &mut self.logs;
        let known: Vec<i64> = logs.iter().map(|log| log.len() as i64).collect();
        let histories = &self.histories;
        load::read(
            &self.bootstrap,
            histories,
            &known,
            again,
            |place, offset, bytes| keep(&mut logs[place], offset, bytes),
        )?;
        for (demand, log) in demands.iter().zip(&self.logs) {
            demand.judge(log).into_result()?;
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
        let admin = load::admin(&self.bootstrap)?;
        let outcome = pollster::block_on(admin.delete_topics(&names, &AdminOptions::new()))?;
        for result in outcome {
            result.map_err(|(name, code)| anyhow!("{name} was not deleted: {code}"))?;
        }
        Ok(())
    }
}

/// Takes a record that was read into its log, or checks that it is as it was.
fn keep(log: &mut Vec<Entry>, offset: i64, bytes: &[u8]) -> Result<()> {
    let entry = history::entry(bytes)?;
    match log.get(offset as usize) {
        Some(known) if *known != entry => {
            bail!("{known:?} was at offset {offset}, where {entry:?} is now")
        }
        Some(_) => {}
        None => log.push(entry),
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
