//! Brings a log directory that is damaged back to what is whole of it: says first what it would do,
//! and does it when told to. Built on a [`Survey`], and on recovery's own settling.
//!
//! Nothing is thrown away: bytes that are cut, journals that are given up and ids that could not be
//! read stay beside what takes their place, under other names. Until the new base is in place
//! everything can be done again, so a repair that is cut short is repaired by another one.

mod keep;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, Uuid};
use crate::log::format::meta_properties::{self, MetaProperties};
use crate::log::format::names::{self, Kind};
use crate::log::format::{epoch_checkpoint, partition_metadata, producer_snapshot};
use crate::log::journal::properties::{DirectoryProperties, META_ASIDE, ring_file};
use crate::log::partition::Recovering;
use crate::log::producers::ProducerStates;
use crate::log::recovery::identity::{Identity, LOCK_FILE};
use crate::log::recovery::journals::{open_ring, read_superblock};
use crate::log::recovery::overlay::Overlay;
use crate::log::recovery::replay::Replay;
use crate::log::recovery::run::{Reading, finish};
use crate::log::recovery::{Fault, OpenError};
use crate::log::segment::scan::SegmentScan;
use crate::log::segment::{BatchHeader, Largest, Place, SparseIndex};
use crate::log::store::LogConfig;
use crate::log::verify::Survey;
use crate::log::verify::survey::Judged;
use crate::ring::Ring;
use crate::ring::driver::OpenOptions;

/// Kafka's default distance of index entries: what the topic says is not known here.
const INDEX_INTERVAL_BYTES: u32 = 4096;

/// One thing that a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file or directory.
    pub path: PathBuf,
    /// `topic-partition`.
    pub partition: Option<String>,
    /// Offsets that are given up, both of them included; no last one where nobody knows it.
    pub lost: Option<(Offset, Option<Offset>)>,
    /// What is done.
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(partition) = &self.partition {
            write!(f, "{partition}: ")?;
        }
        write!(f, "{} ({})", self.what, self.path.display())?;
        match self.lost {
            Some((first, Some(last))) if first == last => write!(f, ": gives up offset {first}"),
            Some((first, Some(last))) => write!(f, ": gives up offsets {first} to {last}"),
            Some((first, None)) => write!(f, ": gives up whatever came from offset {first} on"),
            None => Ok(()),
        }
    }
}

/// Why a directory cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Kafka's own.
    #[error("{0} is Kafka's own: nothing of it is repaired here")]
    Kafkas(PathBuf),
    /// Nothing tells whose it is.
    #[error(
        "{0}: nothing tells cluster.id and node.id: write the file by hand (cluster.id=.., \
         directory.id={1}, node.id=.., version=1), then repair"
    )]
    NoIds(PathBuf, Uuid),
    /// Settling what is left.
    #[error(transparent)]
    Settle(#[from] OpenError),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> RepairError + use<> {
    let path = path.to_owned();
    move |source| RepairError::Io { path, source }
}

/// Which partitions are cut, and whose the directory is.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Names as `orders-3`; empty: all.
    pub partitions: Vec<String>,
    /// What `meta.properties` must say, if that is known.
    pub meta: Option<MetaProperties>,
}

impl RepairOptions {
    fn takes(&self, name: &str) -> bool {
        self.partitions.is_empty() || self.partitions.iter().any(|p| p == name)
    }
}

fn step(path: impl Into<PathBuf>, what: impl Into<String>) -> Step {
    Step {
        path: path.into(),
        partition: None,
        lost: None,
        what: what.into(),
    }
}

fn name_of(judged: &Judged) -> String {
    names::partition_dir(&judged.replaying.topic, judged.key.partition)
}

/// What a repair of this directory would do, in order; nothing if there is nothing to do.
///
/// # Errors
/// If the directory is not ours to repair.
pub fn plan(survey: &Survey, options: &RepairOptions) -> Result<Vec<Step>, RepairError> {
    let dir = &survey.dir;
    if survey.kafkas {
        return Err(RepairError::Kafkas(dir.clone()));
    }
    let mut steps = Vec::new();
    if survey.ids_lost || options.meta.is_some() && options.meta != survey.meta {
        steps.push(step(
            dir.join(meta_properties::FILE_NAME),
            "writes the directory's ids anew",
        ));
    }
    for id in &survey.unreadable {
        let what = "gives the journal up: it stays as .damaged";
        steps.push(step(dir.join(ring_file(*id)), what));
    }
    for i in &survey.damaged {
        let what = "gives up what follows the damage in the journal: it stays as .damaged";
        steps.push(step(&survey.journals[*i].path, what));
    }
    if survey.base_lost {
        let path = dir.join(crate::log::journal::properties::BASE_FILE);
        steps.push(step(
            path,
            "makes the base anew from journals and partitions",
        ));
    }
    for judged in &survey.partitions {
        let name = name_of(judged);
        if options.takes(&name) {
            partition_steps(dir, &name, judged, &mut steps);
        }
    }
    for path in &survey.bad_checkpoints {
        steps.push(step(path, "removes it: the next clean stop writes it anew"));
    }
    Ok(steps)
}

fn partition_steps(dir: &Path, name: &str, judged: &Judged, steps: &mut Vec<Step>) {
    let of = |path: PathBuf, what: &str| Step {
        partition: Some(name.to_owned()),
        ..step(path, what)
    };
    let path = dir.join(name);
    if judged.verdict.wrong_owner {
        let path = path.join(partition_metadata::FILE_NAME);
        steps.push(of(path, "writes the topic's id anew"));
    }
    if judged.salvaged.is_some() {
        let end = judged.replaying.state.end();
        let said = judged.said;
        let mut salvage = of(
            path.clone(),
            &format!("keeps what is whole, up to offset {end}"),
        );
        salvage.lost = Some((end, (end < said).then(|| Offset(said.0 - 1))));
        steps.push(salvage);
    }
    if let Some(cut) = judged.verdict.cut {
        let file = names::file(&path, cut.to.segment, Kind::Log);
        let what = format!(
            "cuts the log at byte {}, keeps the bytes in {}",
            cut.to.position,
            keep::file_name(cut.to, 0)
        );
        let end = judged.replaying.state.end();
        let last = (end > cut.end).then(|| Offset(end.0 - 1));
        let mut cutting = of(file, &what);
        cutting.lost = last.map(|last| (cut.end, Some(last)));
        steps.push(cutting);
    }
    for (_, side) in &judged.verdict.stale_sides {
        steps.push(of(side.clone(), "makes it anew from the log"));
    }
    if judged.verdict.wrong_epochs {
        let path = path.join(epoch_checkpoint::FILE_NAME);
        steps.push(of(path, "makes it anew"));
    }
}

/// Does what [`plan`] says. The directory then comes up at the next start, as after a crash.
///
/// # Errors
/// See [`RepairError`]: then it can be tried again.
pub async fn apply(
    ring: &Ring,
    survey: Survey,
    options: &RepairOptions,
) -> Result<Vec<Step>, RepairError> {
    let dir = survey.dir.clone();
    let steps = plan(&survey, options)?;
    if steps.is_empty() {
        return Ok(steps);
    }
    let _lock = match survey.is_locked() {
        true => None,
        false => Some(lock(ring, &dir)?),
    };
    let meta = write_ids(ring, &survey, options).await?;
    for path in &survey.bad_checkpoints {
        ring.remove_file(path).map_err(io(path))?;
    }
    let newest = survey.journals.iter().map(|j| j.superblock.incarnation);
    let incarnation = newest.max().unwrap_or(0).max(survey.incarnation) + 1;
    let mut left = false;
    let mut partitions = BTreeMap::new();
    for mut judged in survey.partitions {
        let name = name_of(&judged);
        if options.takes(&name) {
            mend(ring, &dir.join(&name), &mut judged).await?;
        } else {
            left |= judged.salvaged.is_some();
            judged.replaying.damaged = judged.salvaged;
        }
        partitions.insert(judged.key, judged.replaying);
    }
    let mut journals = Vec::new();
    for found in &survey.journals {
        let opened = open_ring(ring, &dir, found.id, true)
            .and_then(|file| read_superblock(&dir, found.id, file));
        journals.push(opened.map_err(|fault: Fault| RepairError::Io {
            path: fault.path.clone(),
            source: io::Error::other(fault.what),
        })?);
    }
    let identity = Identity {
        path: dir.clone(),
        cluster_id: Some(meta.cluster_id.clone()),
        directory_id: meta.directory_id,
        properties: Some(DirectoryProperties {
            directory: meta.directory_id,
            journals: journals.iter().map(|journal| journal.id).collect(),
        }),
        entries: ring.read_dir(&dir).map_err(io(&dir))?,
        lock: None,
        fault: None,
    };
    let reading = Reading {
        journals,
        damaged: survey.damaged.into_iter().collect(),
        unreadable: survey.unreadable,
        replay: Replay {
            partitions,
            dropped: survey.dropped,
            ..Replay::default()
        },
        relist: true,
        clean: false,
    };
    let config = LogConfig {
        dirs: vec![dir.clone()],
        ..LogConfig::default()
    };
    crate::log::recovery::identity::set_meta_aside(ring, &identity, &meta).await?;
    finish(ring, &config, &identity, reading, incarnation).await?;
    if !left {
        forget_evidence(ring, &dir)?;
    }
    Ok(steps)
}

fn lock(ring: &Ring, dir: &Path) -> Result<crate::ring::File, RepairError> {
    let path = dir.join(LOCK_FILE);
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    let file = ring.open(&path, options).map_err(io(&path))?;
    file.try_lock().map_err(io(&path))?;
    Ok(file)
}

/// Journals that were given up held what is in the files now: a later repair must not take bytes
/// from them that others have the place of since.
fn forget_evidence(ring: &Ring, dir: &Path) -> Result<(), RepairError> {
    for entry in ring.read_dir(dir).map_err(io(dir))? {
        if let Some(stem) = entry.name.strip_suffix(".journal.damaged") {
            let (from, to) = (
                dir.join(&entry.name),
                dir.join(format!("{stem}.journal.given-up")),
            );
            ring.rename(&from, &to).map_err(io(&from))?;
        }
    }
    Ok(())
}

/// What cannot be read of the ids goes aside.
async fn write_ids(
    ring: &Ring,
    survey: &Survey,
    options: &RepairOptions,
) -> Result<MetaProperties, RepairError> {
    let own = survey.dir.join(meta_properties::FILE_NAME);
    let meta_is_right =
        survey.meta.is_some() && (options.meta.is_none() || options.meta == survey.meta);
    let wanted = options.meta.clone().or_else(|| survey.meta.clone());
    let wanted = wanted.ok_or_else(|| RepairError::NoIds(own.clone(), survey.directory_id))?;
    let meta = MetaProperties {
        directory_id: survey.directory_id,
        ..wanted
    };
    if meta_is_right && survey.meta.as_ref() == Some(&meta) {
        return Ok(meta);
    }
    let names = [own, survey.dir.join(META_ASIDE)];
    for path in names.iter().filter(|path| ring.exists(path)) {
        let mut kept = path.clone().into_os_string();
        kept.push(".damaged");
        ring.rename(path, Path::new(&kept)).map_err(io(path))?;
    }
    let bytes = meta_properties::encode(&meta);
    let written = ring.write_atomic(&names[1], &bytes).await;
    written.map_err(io(&names[1]))?;
    Ok(meta)
}

/// Mends one partition's files and its state, so that settling finds it whole.
async fn mend(ring: &Ring, dir: &Path, judged: &mut Judged) -> Result<(), RepairError> {
    judged.replaying.damaged = None;
    let state = &mut judged.replaying.state;
    if judged.verdict.wrong_owner {
        let path = dir.join(partition_metadata::FILE_NAME);
        let bytes = partition_metadata::encode(judged.key.topic);
        ring.write_atomic(&path, &bytes).await.map_err(io(&path))?;
    }
    let mut end = state.end_place();
    if let Some(cut) = judged.verdict.cut {
        end = cut.to;
    }
    let shortens = judged.verdict.cut.is_some() || judged.salvaged.is_some();
    if shortens && ring.exists(dir) {
        keep::keep_rest(ring, dir, state, end).await?;
    }
    if let Some(cut) = judged.verdict.cut {
        state.truncate(cut.to, cut.end);
    }
    let stale = std::mem::take(&mut judged.verdict.stale_sides);
    for (base, path) in stale {
        if base > end.segment || !ring.exists(&path) {
            continue; // it goes with its segment
        }
        renew(ring, dir, state, base, &path, end).await?;
    }
    if judged.verdict.wrong_epochs {
        let path = dir.join(epoch_checkpoint::FILE_NAME);
        let bytes = epoch_checkpoint::encode(state.epochs().starts());
        ring.write_atomic(&path, &bytes).await.map_err(io(&path))?;
    }
    Ok(())
}

/// Makes a side file anew from the batches.
async fn renew(
    ring: &Ring,
    dir: &Path,
    state: &Recovering,
    base: Offset,
    path: &Path,
    end: Place,
) -> Result<(), RepairError> {
    let kind = path
        .file_name()
        .and_then(|name| names::parse_file(name.to_str()?));
    let bytes = match kind {
        Some((_, Kind::Index | Kind::TimeIndex)) => {
            let index = index(ring, dir, state, base, end).map_err(io(path))?;
            let (offsets, times) = index.to_files();
            match kind {
                Some((_, Kind::Index)) => offsets,
                _ => times,
            }
        }
        Some((_, Kind::Snapshot)) => {
            let producers = producers(ring, dir, state, base).map_err(io(path))?;
            producer_snapshot::encode(&producers.to_snapshot())
        }
        _ => return ring.remove_file(path).map_err(io(path)),
    };
    ring.write_atomic(path, &bytes).await.map_err(io(path))
}

fn headers(
    ring: &Ring,
    dir: &Path,
    state: &Recovering,
    base: Offset,
    end: Option<u64>,
    mut each: impl FnMut(u64, &BatchHeader),
) -> io::Result<()> {
    let source = Overlay::open(ring, dir, base, state.pending())?;
    let len = end.unwrap_or(source.len()).min(source.len());
    let mut scan = SegmentScan::new(&source, 0, len);
    while let Ok(Some((at, batch))) = scan.next_batch() {
        if let Some(header) = BatchHeader::parse(batch.bytes()) {
            each(at, &header);
        }
    }
    Ok(())
}

fn index(
    ring: &Ring,
    dir: &Path,
    state: &Recovering,
    base: Offset,
    end: Place,
) -> io::Result<SparseIndex> {
    let mut index = SparseIndex::new(base, 0, base);
    let mut largest: Option<Largest> = None;
    let upto = (base == end.segment).then_some(end.position);
    headers(ring, dir, state, base, upto, |position, header| {
        if largest.is_none_or(|largest| largest.timestamp < header.max_timestamp) {
            largest = Some(Largest {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            });
        }
        index.note(header, position, INDEX_INTERVAL_BYTES, largest);
    })?;
    if let Some(largest) = largest {
        index.note_time(largest);
    }
    Ok(index)
}

/// The producers of the batches below an offset.
fn producers(
    ring: &Ring,
    dir: &Path,
    state: &Recovering,
    upto: Offset,
) -> io::Result<ProducerStates> {
    let mut producers = ProducerStates::default();
    for entry in ring.read_dir(dir)? {
        if let Some((base, Kind::Log)) = names::parse_file(&entry.name)
            && base < upto
        {
            headers(ring, dir, state, base, None, |_, header| {
                if header.next_offset() <= upto {
                    producers.note(header);
                }
            })?;
        }
    }
    Ok(producers)
}

/// No broker has given away so many ids of producers: a client made a larger one up.
const PRODUCER_ID_MAX: i64 = 1 << 48;

/// The largest id of an idempotent producer that wrote here; -1 for none.
pub fn largest_producer_id(survey: &Survey) -> i64 {
    let ids = survey.partitions.iter().flat_map(|judged| {
        let state = &judged.replaying.state;
        state.producer_ids()
    });
    ids.filter(|id| *id <= PRODUCER_ID_MAX).max().unwrap_or(-1)
}
