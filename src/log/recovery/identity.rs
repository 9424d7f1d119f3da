//! Whose a log directory is: its lock, `meta.properties`, `corelane.properties`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::OpenError;
use crate::base::ids::{NodeId, Uuid};
use crate::log::format::meta_properties::{self, MetaProperties};
use crate::log::format::names;
use crate::log::journal::properties::{DirectoryProperties, FILE_NAME, META_ASIDE};
use crate::log::store::LogConfig;
use crate::ring::File;
use crate::ring::Ring;
use crate::ring::driver::{Descriptor, DirEntry, OpenOptions};

/// Kafka's lock file.
const LOCK_FILE: &str = ".lock";
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What a directory says about itself.
pub(super) struct Identity {
    pub path: PathBuf,
    pub cluster_id: Option<String>,
    pub directory_id: Uuid,
    /// `None`: it is new, or freshly formatted.
    pub properties: Option<DirectoryProperties>,
    pub entries: Vec<DirEntry>,
    pub lock: Descriptor,
}

/// Kafka's lock of the whole directory.
async fn lock_directory(
    ring: &Ring,
    path: &Path,
    config: &LogConfig,
) -> Result<Descriptor, OpenError> {
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    let driver = ring.driver();
    let lock = driver.open(path, options).map_err(OpenError::io(path))?;
    let deadline = ring.now() + config.lock_timeout;
    let mut told = false;
    loop {
        match driver.try_lock(&lock) {
            Ok(()) => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(OpenError::io(path)(error));
            }
            Err(_) if ring.now() >= deadline => {
                return Err(OpenError::Locked {
                    dir: path.parent().unwrap_or(path).to_path_buf(),
                });
            }
            Err(_) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(path = %path.display(), "waits for a broker that holds the lock");
                }
                ring.sleep(LOCK_RETRY).await;
            }
        }
    }
}

pub(super) async fn wait_for_lock(
    ring: &Ring,
    file: &File,
    path: &Path,
    config: &LogConfig,
) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(OpenError::io(path)(error)),
    }
    match ring.timeout(config.lock_timeout, file.lock()).await {
        Ok(locked) => locked.map_err(OpenError::io(path)),
        Err(_) => Err(OpenError::Locked {
            dir: path.parent().unwrap_or(path).to_path_buf(),
        }),
    }
}

/// Makes a log directory, and its name durable wherever it or one above it is new.
async fn make_durable(ring: &Ring, path: &Path) -> Result<(), OpenError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !ring.exists(above))
        .collect();
    ring.create_dir_all(path)
        .map_err(|source| OpenError::Make {
            dir: path.to_path_buf(),
            source,
        })?;
    for made in missing {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        ring.sync_dir(parent).await.map_err(OpenError::io(parent))?;
    }
    Ok(())
}

/// Locks a directory and reads its ids.
pub(super) async fn identify(
    ring: &Ring,
    path: &Path,
    config: &LogConfig,
) -> Result<Identity, OpenError> {
    make_durable(ring, path).await?;
    let lock = lock_directory(ring, &path.join(LOCK_FILE), config).await?;
    let entries = ring.read_dir(path).map_err(OpenError::io(path))?;
    let meta = read_meta(ring, path, config.node_id)?;
    let file = path.join(FILE_NAME);
    let properties = match ring.exists(&file) {
        true => {
            let bytes = ring.read(&file).map_err(OpenError::io(&file))?;
            let decoded = DirectoryProperties::decode(&bytes);
            Some(decoded.map_err(|error| OpenError::Broken {
                path: file,
                what: error.to_string(),
            })?)
        }
        false => None,
    };
    let holds_partitions = entries
        .iter()
        .any(|entry| entry.is_dir && names::parse_partition_dir(&entry.name).is_some());
    let foreign = |missing| OpenError::Foreign {
        dir: path.to_path_buf(),
        missing,
    };
    match (&meta, &properties) {
        (None, None) if holds_partitions => {
            return Err(foreign(meta_properties::FILE_NAME));
        }
        (Some(_), None) if holds_partitions => return Err(foreign(FILE_NAME)),
        (None, Some(_)) => return Err(foreign(meta_properties::FILE_NAME)),
        (Some(meta), Some(ours)) if meta.directory_id != ours.directory => {
            return Err(OpenError::Broken {
                path: path.join(meta_properties::FILE_NAME),
                what: format!(
                    "directory.id={} is not the {} of {FILE_NAME}",
                    meta.directory_id, ours.directory
                ),
            });
        }
        _ => {}
    }
    Ok(Identity {
        path: path.to_path_buf(),
        directory_id: match &meta {
            Some(meta) => meta.directory_id,
            None => Uuid::from_random(ring.random(), ring.random()),
        },
        cluster_id: meta.map(|meta| meta.cluster_id),
        properties,
        entries,
        lock,
    })
}

/// The ids, under the file's own name or the one it has while a broker runs.
fn read_meta(ring: &Ring, dir: &Path, node: NodeId) -> Result<Option<MetaProperties>, OpenError> {
    let mut found: Option<MetaProperties> = None;
    for name in [meta_properties::FILE_NAME, META_ASIDE] {
        let path = dir.join(name);
        if !ring.exists(&path) {
            continue;
        }
        let bytes = ring.read(&path).map_err(OpenError::io(&path))?;
        let meta = meta_properties::decode(&bytes).map_err(|error| OpenError::Broken {
            path: path.clone(),
            what: error.to_string(),
        })?;
        if meta.node_id != node {
            return Err(OpenError::WrongNode {
                dir: dir.to_path_buf(),
                expected: node.0,
                found: meta.node_id.0,
            });
        }
        if found.as_ref().is_some_and(|other| *other != meta) {
            return Err(OpenError::Broken {
                path,
                what: format!("it differs from {}", meta_properties::FILE_NAME),
            });
        }
        found = Some(meta);
    }
    Ok(found)
}

/// Writes the ids of a new directory, or moves them aside: Kafka then refuses the directory as
/// long as a journal may hold what its files do not.
pub(super) async fn set_meta_aside(
    ring: &Ring,
    identity: &Identity,
    meta: &MetaProperties,
) -> Result<(), OpenError> {
    let aside = identity.path.join(META_ASIDE);
    let own = identity.path.join(meta_properties::FILE_NAME);
    if ring.exists(&own) {
        ring.rename(&own, &aside).map_err(OpenError::io(&own))?;
        let synced = ring.sync_dir(&identity.path).await;
        return synced.map_err(OpenError::io(&identity.path));
    }
    if ring.exists(&aside) {
        return Ok(());
    }
    ring.write_atomic(&aside, &meta_properties::encode(meta))
        .await
        .map_err(OpenError::io(&aside))
}
