//! `corelane log repair`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json, json};

use crate::base::config::BrokerConfig;
use crate::base::ids::NodeId;
use crate::cli::log::directories::{ARENA_BYTES, Looked, look};
use crate::cli::on_ring::on_ring;
use crate::cli::output::{Output, counted};
use crate::cli::run::Usage;
use crate::log::format::meta_properties::MetaProperties;
use crate::log::format::names::partition_dir;
use crate::log::repair::{RepairOptions, Step, apply, largest_producer_id, plan};
use crate::log::verify::Survey;
use crate::metadata::rebuild::{Beside, Rebuilt, rebuild};
use crate::metadata::store::{LOG_NAME, SNAPSHOT_NAME};
use crate::ring::Ring;

pub fn run(
    dirs: &[PathBuf],
    wanted: bool,
    partitions: Vec<String>,
    output: &Output,
) -> anyhow::Result<()> {
    on_ring(ARENA_BYTES, async |ring| {
        let looked = look(&ring, dirs).await?;
        check_names(&looked.surveys, &partitions)?;
        let damage = looked.damage();
        let mut count = 0;
        let metadata = metadata(&ring, &looked)?;
        let mut options = Vec::new();
        for survey in &looked.surveys {
            options.push(RepairOptions {
                partitions: partitions.clone(),
                meta: ids(&looked, survey),
            });
        }
        if !wanted {
            for (survey, options) in looked.surveys.iter().zip(&options) {
                for step in plan(survey, options)? {
                    count += 1;
                    output.item(&step, || object(&step))?;
                }
            }
        } else {
            for (survey, options) in looked.surveys.into_iter().zip(&options) {
                for step in apply(&ring, survey, options).await? {
                    count += 1;
                    output.item(&step, || object(&step))?;
                }
            }
        }
        // after the partitions: these name what is made
        if let Some((dir, made)) = metadata {
            count += 1;
            let step = metadata_step(&dir, &made);
            output.item(&step, || object(&step))?;
            if wanted {
                write_metadata(&ring, &dir, &made).await?;
            }
        }
        let said = match (count, wanted) {
            (0, _) if damage > 0 => {
                bail!("{damage} places of damage, and nothing here to repair them: see log verify")
            }
            (0, _) => "nothing to repair".to_owned(),
            (n, true) => format!(
                "{} done; the next start recovers the rest",
                counted(n, "step")
            ),
            (n, false) => format!(
                "{} to do; nothing was changed: --apply does it",
                counted(n, "step")
            ),
        };
        output.note(&said);
        Ok(())
    })
}

fn check_names(surveys: &[Survey], wanted: &[String]) -> anyhow::Result<()> {
    let known = |name: &String| {
        let mut all = surveys.iter().flat_map(Survey::known);
        all.any(|known| partition_dir(&known.topic, known.key.partition) == *name)
    };
    match wanted.iter().find(|name| !known(name)) {
        Some(name) => bail!(Usage(format!("--partition {name}: no directory holds it"))),
        None => Ok(()),
    }
}

/// What `meta.properties` of a directory must say by all that is known.
fn ids(looked: &Looked, survey: &Survey) -> Option<MetaProperties> {
    let image = looked.metadata.image.as_ref();
    let others = || looked.surveys.iter().filter_map(|s| s.meta.as_ref());
    if let (Some(meta), Some(image)) = (&survey.meta, image)
        && meta.cluster_id != image.cluster_id()
        && survey
            .known()
            .any(|known| image.partition(&known.key).is_none())
    {
        return Some(meta.clone()); // it is another cluster's
    }
    let cluster_id = match image {
        Some(image) => image.cluster_id().to_owned(),
        None => survey
            .meta
            .as_ref()
            .or_else(|| others().next())?
            .cluster_id
            .clone(),
    };
    Some(MetaProperties {
        cluster_id,
        node_id: node(looked, survey)?,
        directory_id: survey.directory_id(),
    })
}

fn node(looked: &Looked, survey: &Survey) -> Option<NodeId> {
    let image = looked.metadata.image.as_ref();
    let topics = image.into_iter().flat_map(|image| image.topics());
    let mut replicas = topics
        .flat_map(|topic| &topic.partitions)
        .flat_map(|p| p.replicas.iter());
    let first = replicas.next().copied();
    let own = survey.meta.as_ref().map(|meta| meta.node_id);
    let other = looked
        .surveys
        .iter()
        .find_map(|s| s.meta.as_ref())
        .map(|meta| meta.node_id);
    // on one machine every replica is on it
    first
        .filter(|first| replicas.all(|node| node == first))
        .or(own)
        .or(other)
}

fn read(ring: &Ring, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match ring.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// The metadata made anew, if it cannot be read.
fn metadata(ring: &Ring, looked: &Looked) -> anyhow::Result<Option<(PathBuf, Rebuilt)>> {
    let Some(dir) = looked
        .metadata
        .dir
        .clone()
        .filter(|_| looked.metadata.image.is_none())
    else {
        return Ok(None);
    };
    let meta = looked
        .surveys
        .iter()
        .find_map(|survey| survey.meta.as_ref());
    let Some(meta) = meta else {
        bail!(
            "neither the metadata nor a meta.properties can be read: nothing tells the cluster's id"
        );
    };
    let known = looked.surveys.iter().flat_map(Survey::known);
    let beside = Beside {
        cluster_id: meta.cluster_id.clone(),
        node: meta.node_id,
        partitions: known.map(|known| (known.key, known.topic)).collect(),
        largest_producer_id: looked
            .surveys
            .iter()
            .map(largest_producer_id)
            .max()
            .unwrap_or(-1),
    };
    let snapshot = read(ring, &dir.join(SNAPSHOT_NAME))?;
    let log = read(ring, &dir.join(LOG_NAME))?;
    let config = Arc::new(BrokerConfig::default());
    let made = rebuild(&config, snapshot.as_deref(), log.as_deref(), &beside);
    Ok(Some((dir, made)))
}

fn metadata_step(dir: &Path, made: &Rebuilt) -> Step {
    let topics = counted(made.image.topics().len() as u64, "topic");
    let lost = match made.without_settings.as_slice() {
        [] => String::new(),
        names => format!("; the settings of {} are lost", names.join(", ")),
    };
    Step {
        path: dir.join(LOG_NAME),
        partition: None,
        lost: None,
        what: format!(
            "makes the metadata anew with {topics}, keeps the old files as .damaged{lost}"
        ),
    }
}

/// The snapshot first: with it alone the metadata is whole already.
async fn write_metadata(ring: &Ring, dir: &Path, made: &Rebuilt) -> anyhow::Result<()> {
    for (name, bytes) in [(SNAPSHOT_NAME, &made.snapshot), (LOG_NAME, &made.log)] {
        let path = dir.join(name);
        if let Some(old) = read(ring, &path)? {
            let kept = dir.join(format!("{name}.damaged"));
            let written = ring.write_atomic(&kept, &old).await;
            written.with_context(|| kept.display().to_string())?;
        }
        let written = ring.write_atomic(&path, bytes).await;
        written.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn object(step: &Step) -> Json {
    let mut fields = Map::new();
    fields.insert("file".into(), json!(step.path.display().to_string()));
    if let Some(partition) = &step.partition {
        fields.insert("partition".into(), json!(partition));
    }
    fields.insert("step".into(), json!(step.what));
    if let Some((first, last)) = step.lost {
        fields.insert("lost_from".into(), json!(first.0));
        if let Some(last) = last {
            fields.insert("lost_to".into(), json!(last.0));
        }
    }
    Json::Object(fields)
}
