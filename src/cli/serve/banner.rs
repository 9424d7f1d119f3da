//! What a broker says when it serves: what it is, where it listens, and what its acks mean here.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::json;

use crate::base::config::{BrokerConfig, FlushPolicy};
use crate::broker::start::Started;
use crate::cli::disk::Disk;
use crate::cli::output::Output;
use crate::cli::serve::shards::numbers;
use crate::cli::tune::disk::kept;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is known before the broker serves.
pub struct Banner {
    config: Arc<BrokerConfig>,
    cores: String,
    shards: usize,
    json: bool,
    name: String,
}

impl Banner {
    pub fn new(config: &Arc<BrokerConfig>, cores: &[usize], output: &Output) -> Banner {
        Banner {
            config: config.clone(),
            cores: numbers(cores),
            shards: cores.len(),
            json: output.json,
            name: output.strong("corelane"),
        }
    }

    /// The lines, once it is known where it listens.
    pub fn text(&self, started: &Started) -> String {
        let policy = self.config.log.flush_policy;
        let disks: Vec<Disk> = self
            .config
            .log
            .dirs
            .iter()
            .map(|dir| Disk::of(dir))
            .collect();
        let addresses: Vec<String> = started
            .listeners
            .iter()
            .map(|l| format!("{} {}", l.name, l.address))
            .collect();
        let dirs: Vec<String> = self
            .config
            .log
            .dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        let tuned: Vec<String> = self
            .config
            .log
            .dirs
            .iter()
            .filter_map(|dir| kept(dir))
            .collect();
        let (all, one) = acks(policy, &disks);
        if self.json {
            let object = json!({
                "version": VERSION,
                "node_id": self.config.node_id.0,
                "cluster_id": started.cluster_id,
                "cores": self.cores,
                "listeners": addresses,
                "data": dirs,
                "disks": tuned,
                "flush_policy": policy.name(),
                "flush_method": method(policy),
                "acks_all": all,
                "acks_1": one,
            });
            return format!("{object}\n");
        }
        let on = |(dir, disk): (&String, &Disk)| match (disk.file_system.as_str(), &disk.device) {
            ("", _) => dir.clone(),
            (fs, device) if device.starts_with('/') => format!("{dir} ({fs} on {device})"),
            (fs, _) => format!("{dir} ({fs})"),
        };
        let data: Vec<String> = dirs.iter().zip(&disks).map(on).collect();
        let mut text = format!(
            "{} {VERSION} serves: node {}, cluster {}\n",
            self.name, self.config.node_id, started.cluster_id
        );
        let shards = match self.shards {
            1 => "1 shard".to_owned(),
            n => format!("{n} shards"),
        };
        let mut lines = vec![
            ("listeners", addresses.join(", ")),
            ("cores", format!("{} ({shards})", self.cores)),
            ("data", data.join(", ")),
        ];
        lines.extend(tuned.into_iter().map(|line| ("disk", line)));
        lines.extend([
            ("flush", format!("{}: {}", policy.name(), method(policy))),
            ("acks=all", all),
            ("acks=1", one),
        ]);
        for (what, value) in lines {
            // a string takes all
            let _ = writeln!(text, "  {what:<10} {value}");
        }
        text
    }
}

fn method(policy: FlushPolicy) -> &'static str {
    match policy {
        FlushPolicy::Group => {
            "each commit is written past the page cache (O_DIRECT) and fdatasync'ed"
        }
        FlushPolicy::Interval => "commits are written to the page cache, fdatasync'ed at intervals",
    }
}

/// What acks=all and acks=1 mean on these disks.
fn acks(policy: FlushPolicy, disks: &[Disk]) -> (String, String) {
    if disks.iter().any(Disk::is_memory) {
        let text = "in memory only: this file system does not outlive the machine".to_owned();
        return (text.clone(), text);
    }
    let killed = "survives a killed process, not a power cut".to_owned();
    match policy {
        FlushPolicy::Interval => (killed.clone(), killed),
        FlushPolicy::Group => {
            let caches: Vec<Option<bool>> = disks.iter().map(|d| d.volatile_cache).collect();
            let how = if caches.iter().all(|c| *c == Some(false)) {
                "the disk says that it has no volatile cache"
            } else if caches.contains(&None) {
                "as far as the disk keeps its word on flushes"
            } else {
                "the disk's write cache is flushed"
            };
            (format!("survives a power cut ({how})"), killed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_promises_no_more_than_the_disk_keeps() {
        let disk = |fs: &str, cache| Disk {
            file_system: fs.into(),
            device: "/dev/x".into(),
            volatile_cache: cache,
            ..Disk::default()
        };
        let all = |policy, disks: &[Disk]| acks(policy, disks).0;
        let group = FlushPolicy::Group;
        assert!(all(group, &[disk("ext4", Some(true))]).contains("cache is flushed"));
        assert!(all(group, &[disk("ext4", Some(false))]).contains("no volatile cache"));
        assert!(all(group, &[disk("ext4", None)]).contains("keeps its word"));
        assert!(all(group, &[disk("xfs", Some(true)), disk("tmpfs", None)]).contains("memory"));
        assert!(all(FlushPolicy::Interval, &[disk("ext4", Some(true))]).contains("not a power"));
    }
}
