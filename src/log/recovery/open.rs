//! Opens the log directories.

use std::path::Path;
use std::sync::Arc;

use super::error::OpenError;
use super::identity::{self, Identity};
use super::opened::{Opened, OpenedDirectory};
use super::run::{self, Recovered};
use crate::base::ids::Uuid;
use crate::log::format::meta_properties::MetaProperties;
use crate::log::store::{Directory, LogConfig};
use crate::ring::Ring;
use crate::ring::driver::Descriptor;

/// Locks the log directories, checks whose they are, recovers what a crash left, and begins a new
/// run in each. On one shard, before any other touches the log.
///
/// # Errors
/// What the operator must set right: see [`OpenError`]. Damage inside a directory is no error: the
/// directory, or the partition, is offline in the answer.
pub async fn open_directories(ring: &Ring, config: &LogConfig) -> Result<Opened, OpenError> {
    let mut identities = Vec::new();
    for path in &config.dirs {
        let identity = identity::identify(ring, path, config).await?;
        match &identity.fault {
            Some(fault) if identities.is_empty() && identity.lock.is_none() => {
                return Err(OpenError::First(fault.clone()));
            }
            _ => identities.push(identity),
        }
    }
    let cluster_id = agree(ring, config, &identities)?;
    let mut found = Vec::new();
    for identity in &identities {
        found.push(match &identity.fault {
            Some(fault) => Err(fault.clone()),
            None => run::read_base(ring, identity),
        });
    }
    let incarnation = 1 + found
        .iter()
        .filter_map(|base| base.as_ref().ok().map(|table| table.incarnation))
        .max()
        .unwrap_or(0);
    let mut opened = Opened {
        cluster_id: cluster_id.clone(),
        incarnation,
        clean: true,
        directories: Vec::new(),
    };
    for (identity, base) in identities.into_iter().zip(found) {
        let meta = MetaProperties {
            cluster_id: cluster_id.clone(),
            node_id: config.node_id,
            directory_id: identity.directory_id,
        };
        let recovered = match base {
            Ok(base) => run::recover(ring, config, &identity, &meta, base, incarnation).await,
            Err(fault) => Ok(Recovered::offline(fault.to_string())),
        };
        let recovered = match recovered {
            Ok(recovered) => recovered,
            // a disk that fails takes its own partitions offline, and nothing is settled there
            Err(error @ OpenError::Io { .. }) => Recovered::offline(error.to_string()),
            Err(error) => return Err(error),
        };
        opened.clean &= recovered.clean;
        opened
            .directories
            .push(assemble(&identity, recovered, incarnation));
        let directory = &opened.directories[opened.directories.len() - 1].directory;
        directory.keep_locks(identity.lock.map(Descriptor::release).into_iter().collect());
    }
    if opened
        .directories
        .iter()
        .all(|opened| opened.directory.is_offline())
    {
        let first = opened.directories[0].directory.offline_error();
        return Err(OpenError::AllOffline(first.to_string()));
    }
    Ok(opened)
}

fn assemble(identity: &Identity, recovered: Recovered, incarnation: u64) -> OpenedDirectory {
    let directory = Directory::new(
        identity.path.clone(),
        identity.directory_id,
        incarnation,
        recovered.journals,
    );
    if let Some(reason) = &recovered.offline {
        let dir = identity.path.display();
        directory.take_offline(&format!(
            "{reason}; once the broker is stopped, `corelane log verify {dir}` tells all that is \
             wrong there, and `corelane log repair {dir}` what can be brought back"
        ));
    }
    OpenedDirectory {
        directory: Arc::new(directory),
        partitions: recovered.partitions,
    }
}

/// One cluster for all directories, and no directory twice.
fn agree(ring: &Ring, config: &LogConfig, identities: &[Identity]) -> Result<String, OpenError> {
    let mut cluster = config.cluster_id.clone();
    for (i, identity) in identities.iter().enumerate() {
        if identity.fault.is_some() {
            continue;
        }
        if identities[..i]
            .iter()
            .any(|other| other.directory_id == identity.directory_id && other.fault.is_none())
        {
            return Err(OpenError::Twice {
                dir: identity.path.clone(),
            });
        }
        match (&cluster, &identity.cluster_id) {
            (Some(expected), Some(found)) if expected != found => {
                return Err(wrong_cluster(&identity.path, expected, found));
            }
            (None, Some(found)) => cluster = Some(found.clone()),
            _ => {}
        }
    }
    Ok(cluster.unwrap_or_else(|| Uuid::from_random(ring.random(), ring.random()).to_string()))
}

fn wrong_cluster(dir: &Path, expected: &str, found: &str) -> OpenError {
    OpenError::WrongCluster {
        dir: dir.to_path_buf(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
