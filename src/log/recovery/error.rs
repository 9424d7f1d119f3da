//! Why a broker cannot start on its log directories.

use std::io;
use std::path::PathBuf;

use super::journals::Fault;

/// What the operator must set right before the broker starts.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another broker works there.
    #[error("{dir} is in use: another broker holds its lock")]
    Locked {
        /// The log directory.
        dir: PathBuf,
    },
    /// It belongs to another machine.
    #[error(
        "{dir} belongs to node.id={found} by its meta.properties, this broker is node.id={expected}: \
         it is another's, or `corelane log verify` finds the file damaged"
    )]
    WrongNode {
        /// The log directory.
        dir: PathBuf,
        /// `node.id` of the configuration.
        expected: i32,
        /// `node.id` of its `meta.properties`.
        found: i32,
    },
    /// It belongs to another cluster.
    #[error(
        "{dir} belongs to cluster {found} by its meta.properties, this broker to {expected}: it is \
         another's, or `corelane log verify` finds the file damaged"
    )]
    WrongCluster {
        /// The log directory.
        dir: PathBuf,
        /// The cluster of the other directories, or of the configuration.
        expected: String,
        /// `cluster.id` of its `meta.properties`.
        found: String,
    },
    /// Two entries of `log.dirs` are one directory.
    #[error("{dir} has the same directory.id as another of log.dirs: one is a copy or a link")]
    Twice {
        /// The log directory.
        dir: PathBuf,
    },
    /// It holds partitions, but was not written by this broker.
    #[error(
        "{dir} holds partitions but no {missing}: it is another broker's directory, or a mount is missing"
    )]
    Foreign {
        /// The log directory.
        dir: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// It is not there and cannot be made.
    #[error("the log directory {dir} cannot be made: {source}; set log.dirs (--data) to another")]
    Make {
        /// The log directory.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The directory of the metadata.
    #[error("{0}: the first of log.dirs holds the metadata, without which nothing is served")]
    First(Fault),
    /// None is left.
    #[error("every log directory is offline; the first: {0}")]
    AllOffline(String),
}

impl OpenError {
    /// For `map_err`.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Io { path, source }
    }
}
