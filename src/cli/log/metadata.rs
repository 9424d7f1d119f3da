//! The metadata log beside the partitions: it says which of them there are, and whose.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::config::BrokerConfig;
use crate::base::ids::PartitionKey;
use crate::log::format::meta_properties;
use crate::log::format::names::partition_dir;
use crate::log::journal::properties::META_ASIDE;
use crate::log::recovery::Fault;
use crate::log::verify::{Finding, Survey};
use crate::metadata::Image;
use crate::metadata::frame::FrameError;
use crate::metadata::recover::{RecoverError, recover};
use crate::metadata::store::{LOG_NAME, SNAPSHOT_NAME};
use crate::ring::Ring;

const NO_METADATA: &str = "No broker starts on it. Restore it from a backup, or let `corelane log \
     repair --apply` make it anew from what is left of it and from the partitions";

/// What the metadata says, and what is wrong with it.
#[derive(Default)]
pub struct Metadata {
    pub findings: Vec<Finding>,
    /// Where it lies.
    pub dir: Option<PathBuf>,
    /// What is known, if it can be read.
    pub image: Option<Image>,
}

fn read(ring: &Ring, path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    match ring.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::new(path, error)),
    }
}

/// Reads the metadata of the directory that has it, and holds it against the partitions.
pub fn check(ring: &Ring, dirs: &[PathBuf], surveys: &[Survey]) -> Metadata {
    let mut metadata = Metadata::default();
    let has =
        |dir: &&PathBuf| ring.exists(&dir.join(LOG_NAME)) || ring.exists(&dir.join(SNAPSHOT_NAME));
    let Some(dir) = dirs.iter().find(has) else {
        return metadata;
    };
    metadata.dir = Some(dir.clone());
    match image(ring, dir) {
        Ok((image, note)) => {
            metadata.findings.extend(note);
            compare(ring, &image, surveys, dirs, &mut metadata.findings);
            metadata.image = Some(image);
        }
        Err(fault) => metadata
            .findings
            .push(Finding::fault(&fault).todo(NO_METADATA)),
    }
    metadata
}

/// What the files give together, and a remark on it.
pub fn image(ring: &Ring, dir: &Path) -> Result<(Image, Option<Finding>), Fault> {
    let (log_path, snapshot_path) = (dir.join(LOG_NAME), dir.join(SNAPSHOT_NAME));
    let log = read(ring, &log_path)?;
    let snapshot = read(ring, &snapshot_path)?;
    let config = Arc::new(BrokerConfig::default());
    match recover(&config, snapshot.as_deref(), log.as_deref()) {
        Ok(found) => {
            let note = (found.torn > 0).then(|| {
                let at = log.map_or(0, |log| log.len() - found.torn) as u64;
                let what = format!(
                    "{} bytes of a batch that is not whole: a last write that a crash cut, \
                     or rot of the last batch, which nothing tells apart",
                    found.torn
                );
                Finding::note(&log_path, what).at(at)
            });
            Ok((found.image, note))
        }
        Err(error) => {
            let (path, at) = match &error {
                RecoverError::File { file, error } => {
                    let path = if *file == LOG_NAME {
                        &log_path
                    } else {
                        &snapshot_path
                    };
                    let at = match error {
                        FrameError::Damaged { at, .. } => Some(*at),
                        _ => Some(0),
                    };
                    (path, at)
                }
                RecoverError::Snapshot => (&snapshot_path, Some(0)),
                _ => (&log_path, None),
            };
            Err(Fault {
                path: path.clone(),
                at,
                what: error.to_string(),
            })
        }
    }
}

fn compare(
    ring: &Ring,
    image: &Image,
    surveys: &[Survey],
    dirs: &[PathBuf],
    findings: &mut Vec<Finding>,
) {
    let mut found: BTreeSet<PartitionKey> = BTreeSet::new();
    for (survey, dir) in surveys.iter().zip(dirs) {
        for known in survey.known() {
            found.insert(known.key);
            if survey.kafkas || image.partition(&known.key).is_some() {
                continue;
            }
            let name = partition_dir(&known.topic, known.key.partition);
            findings.push(
                Finding::note(
                    dir.join(&name),
                    "no topic of the metadata has this partition",
                )
                .of(&name)
                .todo("The next start sets it aside"),
            );
        }
        let Some(meta) = &survey.meta else {
            continue;
        };
        let names = [meta_properties::FILE_NAME, META_ASIDE];
        let path = names.map(|name| dir.join(name));
        let path = path
            .iter()
            .find(|path| ring.exists(path))
            .unwrap_or(&path[0]);
        if meta.cluster_id != image.cluster_id() {
            let (got, wanted) = (&meta.cluster_id, image.cluster_id());
            let what = format!("cluster.id={got}, the metadata is of cluster {wanted}");
            findings.push(Finding::damage(path, what).todo(
                "No broker starts on it. `corelane log repair --apply` writes it anew if this is \
                 the right directory",
            ));
        }
        let mut replicas = image.topics().flat_map(|topic| &topic.partitions);
        if let Some(partition) = replicas.find(|p| !p.replicas.contains(&meta.node_id)) {
            let (got, wanted) = (meta.node_id, partition.replicas.first());
            let wanted = wanted.map_or("none".to_owned(), ToString::to_string);
            let what = format!("node.id={got}, the metadata's partitions are on {wanted}");
            findings.push(Finding::damage(path, what).todo(
                "No broker starts on it. `corelane log repair --apply` writes it anew if this is \
                 the right directory",
            ));
        }
    }
    for topic in image.topics() {
        for key in topic.keys().filter(|key| !found.contains(key)) {
            let name = partition_dir(&topic.name, key.partition);
            findings.push(
                Finding::note(
                    dirs.first().cloned().unwrap_or_default(),
                    "none of the directories given holds this partition of the metadata",
                )
                .of(&name)
                .todo("Give all of the broker's log.dirs; one that is nowhere is made anew, empty"),
            );
        }
    }
}
