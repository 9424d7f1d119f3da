//! Whose a log directory is: its lock, `meta.properties`, `corelane.properties`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::OpenError;
use super::journals::Fault;
use crate::base::ids::Uuid;
use crate::log::format::meta_properties::{self, MetaProperties};
use crate::log::format::names;
use crate::log::journal::properties::{DirectoryProperties, FILE_NAME, META_ASIDE};
use crate::log::store::LogConfig;
use crate::ring::File;
use crate::ring::Ring;
use crate::ring::driver::{Descriptor, DirEntry, OpenOptions};

/// Kafka's lock file.
pub(crate) const LOCK_FILE: &str = ".lock";
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What a directory says about itself.
pub(crate) struct Identity {
    pub(crate) path: PathBuf,
    pub(crate) cluster_id: Option<String>,
    pub(crate) directory_id: Uuid,
    /// `None`: it is new, or freshly formatted.
    pub(crate) properties: Option<DirectoryProperties>,
    pub(crate) entries: Vec<DirEntry>,
    /// `None` where the disk did not let it be taken.
    pub(crate) lock: Option<Descriptor>,
    /// Why nothing of that is known: the directory is offline then.
    pub(crate) fault: Option<Fault>,
}

impl Identity {
    /// The journals that the directory lists.
    pub(crate) fn journals(&self) -> Vec<Uuid> {
        let listed = self.properties.as_ref().map(|p| p.journals.clone());
        listed.unwrap_or_default()
    }
}

/// The files that tell whose a directory is, each as it is.
pub(crate) struct Ids {
    pub(crate) meta: Result<Option<MetaProperties>, Fault>,
    pub(crate) properties: Result<Option<DirectoryProperties>, Fault>,
}

/// Reads them.
pub(crate) fn read_ids(ring: &Ring, dir: &Path) -> Ids {
    Ids {
        meta: read_meta(ring, dir),
        properties: read_properties(ring, dir),
    }
}

fn read_properties(ring: &Ring, dir: &Path) -> Result<Option<DirectoryProperties>, Fault> {
    let path = dir.join(FILE_NAME);
    if !ring.exists(&path) {
        return Ok(None);
    }
    let bytes = ring.read(&path).map_err(|error| Fault::new(&path, error))?;
    let decoded = DirectoryProperties::decode(&bytes);
    decoded.map(Some).map_err(|error| Fault::new(&path, error))
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

/// Locks a directory and reads its ids. Where they cannot be read, the directory is offline, and the
/// others serve; where they are another's, the operator must look before anything starts.
pub(super) async fn identify(
    ring: &Ring,
    path: &Path,
    config: &LogConfig,
) -> Result<Identity, OpenError> {
    make_durable(ring, path).await?;
    let mut identity = Identity {
        path: path.to_path_buf(),
        directory_id: Uuid::default(),
        cluster_id: None,
        properties: None,
        entries: Vec::new(),
        lock: None,
        fault: None,
    };
    let locked = lock_directory(ring, &path.join(LOCK_FILE), config).await;
    let entries = match locked {
        Ok(lock) => {
            identity.lock = Some(lock);
            ring.read_dir(path).map_err(OpenError::io(path))
        }
        Err(error) => Err(error),
    };
    match entries {
        Ok(entries) => identity.entries = entries,
        Err(OpenError::Io { path, source }) => {
            identity.fault = Some(Fault::new(&path, source));
            return Ok(identity);
        }
        Err(error) => return Err(error),
    }
    let ids = read_ids(ring, path);
    let (meta, properties) = match (ids.meta, ids.properties) {
        (Ok(meta), Ok(properties)) => (meta, properties),
        (Err(fault), _) | (_, Err(fault)) => {
            identity.fault = Some(fault);
            return Ok(identity);
        }
    };
    if let Some(meta) = &meta
        && meta.node_id != config.node_id
    {
        return Err(OpenError::WrongNode {
            dir: path.to_path_buf(),
            expected: config.node_id.0,
            found: meta.node_id.0,
        });
    }
    let holds_partitions = identity
        .entries
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
            identity.fault = Some(other_directory(path, meta, ours));
            return Ok(identity);
        }
        _ => {}
    }
    identity.directory_id = match &meta {
        Some(meta) => meta.directory_id,
        None => Uuid::from_random(ring.random(), ring.random()),
    };
    identity.cluster_id = meta.map(|meta| meta.cluster_id);
    identity.properties = properties;
    Ok(identity)
}

/// The two files that name a directory disagree.
pub(crate) fn other_directory(
    dir: &Path,
    meta: &MetaProperties,
    ours: &DirectoryProperties,
) -> Fault {
    let (found, listed) = (meta.directory_id, ours.directory);
    Fault::new(
        &dir.join(meta_properties::FILE_NAME),
        format!("directory.id={found} is not the {listed} of {FILE_NAME}"),
    )
}

/// The ids, under the file's own name or the one it has while a broker runs.
fn read_meta(ring: &Ring, dir: &Path) -> Result<Option<MetaProperties>, Fault> {
    let mut found: Option<MetaProperties> = None;
    for name in [meta_properties::FILE_NAME, META_ASIDE] {
        let path = dir.join(name);
        if !ring.exists(&path) {
            continue;
        }
        let bytes = ring.read(&path).map_err(|error| Fault::new(&path, error))?;
        let meta = meta_properties::decode(&bytes).map_err(|error| Fault::new(&path, error))?;
        if found.as_ref().is_some_and(|other| *other != meta) {
            let what = format!("it differs from {}", meta_properties::FILE_NAME);
            return Err(Fault::new(&path, what));
        }
        found = Some(meta);
    }
    Ok(found)
}

/// Writes the ids of a new directory, or moves them aside: Kafka then refuses the directory as
/// long as a journal may hold what its files do not.
pub(crate) async fn set_meta_aside(
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
