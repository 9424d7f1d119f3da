//! Kafka's own producer beside librdkafka: a process that sends until it is killed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::support::history::History;
use crate::support::kafka;
use crate::support::process::Guard;
use corelane::ring::sim::Rng;

const SOURCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/crash/java/Producer.java"
);

/// Why it cannot run here, if so.
pub fn missing() -> Option<String> {
    kafka::class_path().err().map(|error| error.to_string())
}

/// Sends until it is dropped.
pub struct Producer {
    process: Option<Guard>,
    reader: Option<JoinHandle<()>>,
}

impl Producer {
    /// Sends to the partitions of one topic, which are `histories` in their order.
    pub fn start(
        bootstrap: &str,
        histories: Vec<Arc<History>>,
        random: &mut Rng,
    ) -> Result<Producer> {
        let mut child = kafka::java()?
            .args([SOURCE, bootstrap, &histories[0].topic])
            .args([histories.len() as u64, random.below(1 << 53)].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the Java producer")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            // the kill may cut the last line, which says nothing then
            while lines.read_line(&mut line).is_ok() && line.ends_with('\n') {
                if note(line.trim_end(), &histories).is_none() {
                    histories[0].broke(format!("the Java producer said: {line}"));
                }
                line.clear();
            }
        });
        Ok(Producer {
            process: Some(Guard(child)),
            reader: Some(reader),
        })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.process.take()); // ends the lines, and so their reader
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Takes an acknowledgement down; `None` for anything else.
fn note(line: &str, histories: &[Arc<History>]) -> Option<()> {
    let mut words = line.split(' ');
    if words.next()? != "acked" {
        return None;
    }
    let history = histories.get(words.next()?.parse::<usize>().ok()?)?;
    history.acked(words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(())
}
