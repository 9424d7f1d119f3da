//! The arguments of all subcommands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::bench::args::BenchAction;
use crate::cli::tune::TuneAction;
use crate::wire::compress::Codec;

/// A streaming broker for Linux that speaks the Apache Kafka protocol.
#[derive(Debug, Parser)]
#[command(
    name = "corelane",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Common {
    /// Write data as JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker
    ///
    /// Without a file it listens on 127.0.0.1:9092, keeps its data in ./data, and uses every core.
    /// SIGTERM and SIGINT stop it (a second one at once); SIGUSR1 logs more, SIGUSR2 less.
    Serve(Box<Serve>),
    /// Make, list, describe and delete topics
    Topic {
        #[command(flatten)]
        broker: Broker,
        #[command(subcommand)]
        action: TopicAction,
    },
    /// Produce the lines of standard input
    Produce(Produce),
    /// Write the records of a topic to standard output
    Consume(Consume),
    /// Put a load on a broker and measure it: Corelane, Kafka, or any that speaks the protocol
    Bench {
        #[command(subcommand)]
        action: BenchAction,
    },
    /// Check, measure, set and plan what a broker stands on
    Tune {
        #[command(subcommand)]
        action: TuneAction,
    },
    /// Look into the files of a log
    Log {
        #[command(subcommand)]
        action: LogAction,
    },
    /// The properties that can be set
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub settings: Settings,
    /// error, warn, info, debug, trace, or target=level pairs [default: info]
    #[arg(long, value_name = "LEVEL", env = "CORELANE_LOG")]
    pub log_level: Option<String>,
    /// End when this process, which starts the broker, ends: for measurements
    #[arg(long, hide = true, value_name = "PID")]
    pub ends_with: Option<i32>,
}

/// What configures a broker.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// A server.properties, as Kafka reads it
    #[arg(value_name = "SERVER.PROPERTIES", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The same
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set a property, over file and environment; may be given again
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Where to listen: host:port, :port, port, or NAME://host:port [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Data directories [default: ./data]
    #[arg(long, alias = "dir", value_name = "DIRECTORY", value_delimiter = ',')]
    pub data: Vec<PathBuf>,
    /// Cores, a shard each: all, a number, or a list as in 0,2-5 ("0," is core 0 alone)
    #[arg(long)]
    pub cores: Option<String>,
    /// This machine's id in the cluster
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub node_id: Option<i32>,
    /// What an ack means: group (on the disk) or interval (with the kernel)
    #[arg(long, value_name = "POLICY")]
    pub flush_policy: Option<String>,
}

/// Which broker to talk to.
#[derive(Clone, Debug, Args)]
pub struct Broker {
    /// Addresses to begin with, separated by commas
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        env = "CORELANE_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        global = true
    )]
    pub bootstrap: Vec<String>,
    /// Give up after so many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, global = true)]
    pub timeout: Duration,
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(Duration::from_secs_f64(s)),
        _ => Err("a number of seconds above 0, at most a day".into()),
    }
}

#[derive(Debug, Subcommand)]
pub enum TopicAction {
    /// Make topics
    Create {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// How many partitions [default: num.partitions of the broker]
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many machines hold each [default: default.replication.factor of the broker]
        #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topics, as in retention.ms=3600000
        #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// Only check, make nothing
        #[arg(long)]
        validate_only: bool,
    },
    /// List all topics
    List,
    /// Show partitions, leaders and offsets of topics
    Describe {
        /// Their names [default: all]
        names: Vec<String>,
    },
    /// Delete topics
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    pub broker: Broker,
    /// Where the records go; made by the broker if it is not there and may be made
    pub topic: String,
    /// What stands between key and value; without it lines have no key
    #[arg(short, long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// A header of every record; more than one may be given
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    pub headers: Vec<(String, String)>,
    /// Send to this partition, whatever a line says [default: by the key, or in turn]
    #[arg(short, long)]
    pub partition: Option<i32>,
    /// How batches are compressed: none, gzip, snappy, lz4, zstd
    #[arg(short = 'z', long, default_value = "none")]
    pub codec: Codec,
    /// What to wait for: the flush and all replicas, the leader's write, nothing
    #[arg(short, long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// Most bytes of a batch, uncompressed
    #[arg(long, value_name = "BYTES", default_value = "262144")]
    pub batch_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    None,
}

impl Acks {
    pub fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    pub broker: Broker,
    /// What to read
    pub topic: String,
    /// Read only this partition; more than one may be given [default: all]
    #[arg(short, long = "partition", value_name = "PARTITION")]
    pub partitions: Vec<i32>,
    /// Where to begin: earliest, latest, or an offset
    #[arg(short, long, default_value = "earliest")]
    pub offset: StartOffset,
    /// End after so many records
    #[arg(short = 'n', long)]
    pub count: Option<u64>,
    /// Go on at the end and wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// Write keys before values, with this between them
    #[arg(short, long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// Write headers before keys and values
    #[arg(short = 'H', long)]
    pub headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartOffset {
    Earliest,
    Latest,
    At(i64),
}

impl std::str::FromStr for StartOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<StartOffset, String> {
        match text {
            "earliest" => Ok(StartOffset::Earliest),
            "latest" => Ok(StartOffset::Latest),
            number => match number.parse() {
                Ok(n) if n >= 0 => Ok(StartOffset::At(n)),
                _ => Err("earliest, latest, or a number from 0 on".into()),
            },
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum LogAction {
    /// Show what files hold: segments, indexes, snapshots, checkpoints (ours and Kafka's), journals
    ///
    /// Ends with code 1 if a file has a problem.
    Dump {
        /// Files, told apart by name and content
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Show records too, not only batches
        #[arg(short, long)]
        records: bool,
    },
    /// Check every byte of log directories whose broker is stopped; changes nothing
    ///
    /// Names each damage with its file and byte, the partition and offsets that it touches, and what
    /// to do. Give all of a broker's log.dirs. Ends with code 0 if all is sound, 1 if there is
    /// damage, 2 if a directory cannot be judged: a broker works there, or it is none.
    Verify {
        /// Log directories: Corelane's, or Kafka's own
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Bring damaged log directories back to what is whole of them; without --apply only show how
    ///
    /// Cuts a partition before its first bad batch, gives up journals that cannot be read, makes
    /// indexes, snapshots, base and metadata anew, and says which offsets are given up. What is cut
    /// or replaced stays beside it: segments as .cut files, journals as .given-up. Give all of a
    /// broker's log.dirs, with the broker stopped.
    Repair {
        /// Log directories
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
        /// Do it
        #[arg(long)]
        apply: bool,
        /// Cut only this partition, as in orders-3; more than one may be given [default: all]
        #[arg(short, long = "partition", value_name = "TOPIC-PARTITION")]
        partitions: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// List properties with their type, default and meaning
    List {
        /// Only those whose name holds this text
        filter: Option<String>,
        /// Only what topics have
        #[arg(long)]
        topic: bool,
    },
}

/// `key=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("name=value was expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
