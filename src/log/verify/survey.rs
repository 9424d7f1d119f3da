//! One log directory: whose it is, its base and journals, then each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Finding, Severity};
use super::partition::{self, Expected, Verdict};
use crate::base::ids::{Offset, PartitionKey, TopicId, Uuid};
use crate::base::limits::PAGE_BYTES;
use crate::log::aside::owner;
use crate::log::format::meta_properties::MetaProperties;
use crate::log::format::names::{self, Kind};
use crate::log::format::{clean_shutdown, offset_checkpoint};
use crate::log::journal::properties::{BASE_FILE, DirectoryProperties, FILE_NAME};
use crate::log::journal::superblock::Superblock;
use crate::log::journal::table::Table;
use crate::log::partition::PartitionFacts;
use crate::log::recovery::Fault;
use crate::log::recovery::identity::{LOCK_FILE, other_directory, read_ids};
use crate::log::recovery::journals::{
    Found, is_damaged, is_of_another_boot, open_ring, read_superblock, read_table, replay_evidence,
    replay_journal,
};
use crate::log::recovery::replay::{Replay, Replaying};
use crate::log::recovery::run::is_set_aside;
use crate::log::recovery::walk::walk;
use crate::ring::driver::{DirEntry, OpenOptions};
use crate::ring::{File, Ring};

/// What to do about what a start takes offline.
const REPAIR: &str = "`corelane log repair` shows what can be brought back";
/// How long writes of a broker that was killed are waited for: they end with the disk's answer.
const KILLED_WRITES: Duration = Duration::from_secs(10);
/// What to do about damage of what is not ours.
const KAFKAS: &str = "Kafka wrote it and has to mend it: a log comes back from a replica, and an \
                      index that is deleted is made anew at its next start";

/// Why a directory cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// A broker works there.
    #[error("{0} is in use: stop its broker first, what is on the way can't be judged")]
    Locked(PathBuf),
    /// It holds no log.
    #[error("{0} is no log directory: it holds neither meta.properties nor a partition")]
    NoLog(PathBuf),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A partition of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Topic id and number.
    pub key: PartitionKey,
    /// The topic's name.
    pub topic: String,
}

/// A partition and what is wrong with it.
pub(crate) struct Judged {
    pub(crate) key: PartitionKey,
    pub(crate) replaying: Replaying,
    /// Its journal is damaged: the log goes as far as its files do.
    pub(crate) salvaged: Option<String>,
    /// Where its end was said to be.
    pub(crate) said: Offset,
    pub(crate) verdict: Verdict,
}

/// What a directory holds.
pub struct Survey {
    /// Everything that is found, in the order of looking.
    pub findings: Vec<Finding>,
    /// Its ids, if they can be read.
    pub meta: Option<MetaProperties>,
    /// The last stop was clean.
    pub clean: bool,
    /// Kafka's own, without a journal.
    pub kafkas: bool,
    pub(crate) dir: PathBuf,
    pub(crate) directory_id: Uuid,
    pub(crate) incarnation: u64,
    pub(crate) journals: Vec<Found>,
    /// Of those, the ones that are given up, and those that cannot even be opened.
    pub(crate) damaged: BTreeSet<usize>,
    pub(crate) unreadable: Vec<Uuid>,
    pub(crate) partitions: Vec<Judged>,
    pub(crate) dropped: BTreeMap<PartitionKey, Option<String>>,
    /// The base or the list of journals must be made anew.
    pub(crate) base_lost: bool,
    pub(crate) ids_lost: bool,
    pub(crate) bad_checkpoints: Vec<PathBuf>,
    lock: Option<File>,
}

impl Survey {
    /// The directory's own id, from any file that tells it; zeros if none does.
    pub fn directory_id(&self) -> Uuid {
        self.directory_id
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The partitions that the directory holds.
    pub fn known(&self) -> impl Iterator<Item = Known> {
        self.partitions.iter().map(|judged| Known {
            key: judged.key,
            topic: judged.replaying.topic.clone(),
        })
    }
}

/// Bytes of a directory's files that a survey reads.
pub fn total_bytes(ring: &Ring, dir: &Path) -> u64 {
    let entries = ring.read_dir(dir).unwrap_or_default();
    let partitions = entries.iter().filter(|entry| entry.is_dir);
    let files = partitions.flat_map(|entry| ring.read_dir(&dir.join(&entry.name)));
    let logs = files.flatten().filter(|file| file.name.ends_with(".log"));
    logs.map(|file| file.len).sum()
}

/// Looks through a log directory whose broker is stopped. `read` is told how many bytes of segments
/// were read, now and then.
///
/// # Errors
/// Where nothing can be said: a broker works there, or it is no log directory.
pub async fn survey(
    ring: &Ring,
    dir: &Path,
    read: &mut dyn FnMut(u64),
) -> Result<Survey, SurveyError> {
    let io = |source| SurveyError::Io {
        path: dir.to_owned(),
        source,
    };
    let entries = ring.read_dir(dir).map_err(io)?;
    let lock = lock(ring, dir)?;
    let mut survey = Survey {
        findings: Vec::new(),
        meta: None,
        clean: false,
        kafkas: false,
        dir: dir.to_owned(),
        directory_id: Uuid::default(),
        incarnation: 0,
        journals: Vec::new(),
        damaged: BTreeSet::new(),
        unreadable: Vec::new(),
        partitions: Vec::new(),
        dropped: BTreeMap::new(),
        base_lost: false,
        ids_lost: false,
        bad_checkpoints: Vec::new(),
        lock,
    };
    let ours = survey.identity(ring, &entries).await?;
    let partitions = entries
        .iter()
        .any(|entry| entry.is_dir && names::parse_partition_dir(&entry.name).is_some());
    if survey.meta.is_none() && !ours && !survey.ids_lost && !partitions {
        return Err(SurveyError::NoLog(dir.to_owned()));
    }
    survey.kafkas = !ours;
    let mut replay = match ours {
        true => survey.replay(ring, &entries),
        false => {
            survey.clean = ring.exists(&dir.join(clean_shutdown::FILE_NAME));
            Replay::default()
        }
    };
    let lost = survey.base_lost || !survey.damaged.is_empty() || !survey.unreadable.is_empty();
    if survey.kafkas || lost {
        survey.adopt_unnamed(ring, &entries, &mut replay);
    }
    survey.dropped = std::mem::take(&mut replay.dropped);
    for (key, replaying) in std::mem::take(&mut replay.partitions) {
        survey.judge(ring, key, replaying, read);
    }
    survey.checkpoints(ring);
    survey.leftovers(&entries);
    if survey.kafkas {
        let damage = survey.findings.iter_mut();
        for finding in damage.filter(|f| f.severity == Severity::Damage) {
            KAFKAS.clone_into(&mut finding.todo);
        }
    }
    Ok(survey)
}

/// Held as long as the survey lives, so that no broker begins meanwhile.
fn lock(ring: &Ring, dir: &Path) -> Result<Option<File>, SurveyError> {
    let path = dir.join(LOCK_FILE);
    let file = match ring.open(&path, OpenOptions::default()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SurveyError::Io { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(SurveyError::Locked(dir.to_owned()))
        }
        Err(source) => Err(SurveyError::Io { path, source }),
    }
}

impl Survey {
    fn fault(&mut self, fault: &Fault) {
        self.findings.push(Finding::fault(fault).todo(REPAIR));
    }

    /// Reads whose it is and opens the journals; false if Kafka wrote it.
    async fn identity(&mut self, ring: &Ring, entries: &[DirEntry]) -> Result<bool, SurveyError> {
        let ids = read_ids(ring, &self.dir);
        match ids.meta {
            Ok(meta) => self.meta = meta,
            Err(fault) => {
                self.ids_lost = true;
                self.fault(&fault);
            }
        }
        let properties: Option<DirectoryProperties> = match ids.properties {
            Ok(properties) => properties,
            Err(fault) => {
                self.ids_lost = true;
                self.fault(&fault);
                None
            }
        };
        if let (Some(meta), Some(ours)) = (&self.meta, &properties)
            && meta.directory_id != ours.directory
        {
            let fault = other_directory(&self.dir, meta, ours);
            self.ids_lost = true;
            self.meta = None;
            self.fault(&fault);
        }
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        let ours = properties.is_some() || has(BASE_FILE) || has(FILE_NAME);
        if ours && properties.is_none() && !self.ids_lost {
            self.ids_lost = true;
            self.fault(&Fault::new(&self.dir.join(FILE_NAME), "it is missing"));
        }
        if properties.is_some() && self.meta.is_none() && !self.ids_lost {
            self.ids_lost = true;
            let path = self.dir.join("meta.properties");
            self.fault(&Fault::new(&path, "it is missing"));
        }
        self.directory_id = match (&properties, &self.meta) {
            (Some(ours), _) => ours.directory,
            (None, Some(meta)) => meta.directory_id,
            (None, None) => Uuid::default(),
        };
        let listed = match properties {
            Some(properties) => properties.journals,
            None => ring_files(entries),
        };
        for id in listed {
            if is_set_aside(ring, &self.dir, id) {
                continue;
            }
            let found = open_ring(ring, &self.dir, id, false)
                .and_then(|file| read_superblock(&self.dir, id, file));
            match found {
                Ok(found) => {
                    // writes of a broker that was killed may be on their way yet
                    match ring.timeout(KILLED_WRITES, found.file.0.lock()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(source)) => {
                            let path = found.path.clone();
                            return Err(SurveyError::Io { path, source });
                        }
                        Err(_) => return Err(SurveyError::Locked(self.dir.clone())),
                    }
                    self.superblocks(&found);
                    self.journals.push(found);
                }
                Err(fault) => {
                    self.unreadable.push(id);
                    self.fault(&fault);
                }
            }
        }
        Ok(ours)
    }

    /// One whole superblock is enough: it is said that the other one is not.
    fn superblocks(&mut self, journal: &Found) {
        let mut pages = vec![0; 2 * PAGE_BYTES];
        let read = journal.file.0.read_now(&mut pages, 0);
        for (i, page) in pages.chunks_exact(PAGE_BYTES).enumerate() {
            if read.is_ok() && !Superblock::is_whole(page) {
                self.findings.push(
                    Finding::damage(&journal.path, "one of the two superblocks is not whole")
                        .at((i * PAGE_BYTES) as u64)
                        .todo("The other one serves; the next start writes both anew"),
                );
            }
        }
    }

    /// What base, tables and journals say.
    fn replay(&mut self, ring: &Ring, entries: &[DirEntry]) -> Replay {
        let path = self.dir.join(BASE_FILE);
        let base = ring
            .read(&path)
            .map_err(|error| Fault::new(&path, error))
            .and_then(|bytes| {
                let base = Table::decode_base(&bytes, self.base_owner(&bytes));
                base.map_err(|error| Fault::table(&path, &error))
            });
        let newest = self.journals.iter().map(|j| j.superblock.incarnation).max();
        let mut replay = Replay {
            keep_loose: true,
            ..Replay::default()
        };
        match base {
            Ok(base) => {
                self.clean = base.clean;
                self.incarnation = base.incarnation;
                replay.table(None, base);
            }
            Err(fault) => {
                self.fault(&fault);
                self.base_lost = true;
                self.incarnation = newest.unwrap_or(0);
                self.adopt_unnamed(ring, entries, &mut replay);
            }
        }
        for entry in entries
            .iter()
            .filter(|e| e.name.ends_with(".journal.damaged"))
        {
            let path = self.dir.join(&entry.name);
            if let Err(fault) = replay_evidence(ring, &path, &mut replay) {
                tracing::debug!(%fault, "nothing can be read of it");
            }
        }
        if self.clean {
            return replay;
        }
        let live: Vec<usize> = (0..self.journals.len())
            .filter(|i| self.journals[*i].superblock.incarnation == self.incarnation)
            .collect();
        for i in &live {
            match read_table(ring, &self.dir, &self.journals[*i]) {
                Ok(table) => replay.table(Some(*i), table),
                Err(fault) => {
                    self.fault(&fault);
                    self.damaged.insert(*i);
                }
            }
        }
        if !self.damaged.is_empty() || !self.unreadable.is_empty() {
            // before the entries: theirs may be among the bytes
            self.adopt_unnamed(ring, entries, &mut replay);
        }
        for i in 0..self.journals.len() {
            let journal = &self.journals[i];
            let older = journal.superblock.incarnation < self.incarnation;
            if older && !is_of_another_boot(ring, journal) && is_damaged(journal).unwrap_or(true) {
                self.damaged.insert(i);
            }
        }
        for i in live {
            let journal = &self.journals[i];
            if is_of_another_boot(ring, journal) {
                let what =
                    "the machine was started anew: what was in it is gone with the page cache";
                self.findings.push(Finding::note(&journal.path, what));
                continue;
            }
            let fault = match replay_journal(ring, i, journal, &mut replay) {
                Ok(fault) => fault,
                Err(fault) => {
                    replay.damage_journal(i, &fault.to_string());
                    Some(fault)
                }
            };
            if let Some(fault) = fault {
                self.damaged.insert(i);
                self.fault(&fault);
            }
        }
        for i in &self.damaged {
            let path = self.journals[*i].path.display();
            replay.damage_journal(*i, &format!("{path} is damaged"));
        }
        if !self.unreadable.is_empty() {
            let known: Vec<usize> = (0..self.journals.len()).collect();
            replay.damage_unless(&known, "its journal cannot be read");
        }
        replay.check();
        replay
    }

    /// A base carries its directory's id: where the ids are lost, it tells them.
    fn base_owner(&mut self, bytes: &[u8]) -> Uuid {
        if self.directory_id == Uuid::default()
            && let Some(owner) = Table::owner(bytes)
        {
            self.directory_id = owner;
        }
        self.directory_id
    }

    /// Partitions that only their directories name.
    fn adopt_unnamed(&mut self, ring: &Ring, entries: &[DirEntry], replay: &mut Replay) {
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let Some((topic, partition)) = names::parse_partition_dir(&entry.name) else {
                continue;
            };
            let dir = self.dir.join(&entry.name);
            let id = match owner(ring, &dir) {
                Some(id) => id,
                None if self.kafkas => unnamed(topic),
                None => continue,
            };
            let key = PartitionKey {
                topic: id,
                partition,
            };
            let named = replay
                .partitions
                .iter()
                .any(|(key, known)| key.partition == partition && known.topic == topic);
            if named || replay.dropped.contains_key(&key) {
                continue;
            }
            let files = ring.read_dir(&dir).unwrap_or_default();
            let first = files.iter().find_map(|f| match names::parse_file(&f.name) {
                Some((base, Kind::Log)) => Some(base),
                _ => None,
            });
            let facts = PartitionFacts::empty(first.unwrap_or(Offset(0)), ring.wall().0);
            replay.adopt(key, topic, facts, !self.kafkas);
        }
    }

    fn judge(
        &mut self,
        ring: &Ring,
        key: PartitionKey,
        mut replaying: Replaying,
        read: &mut dyn FnMut(u64),
    ) {
        let name = names::partition_dir(&replaying.topic, key.partition);
        let dir = self.dir.join(&name);
        let said = replaying.state.end();
        let salvaged = replaying.damaged.take();
        if let Some(reason) = &salvaged {
            let loose = std::mem::take(&mut replaying.loose);
            let walked = walk(ring, &dir, key.topic, &mut replaying.state, &loose);
            let end = replaying.state.end();
            let mut finding = Finding::damage(&dir, reason).of(&name).todo(format!(
                "A start keeps it offline; `corelane log repair --apply` keeps it up to offset {end}"
            ));
            if end < said {
                finding = finding.offsets(end, Some(Offset(said.0 - 1)));
            }
            self.findings.push(finding);
            if let Err(error) = walked {
                self.findings.push(Finding::damage(&dir, error).of(&name));
            }
        }
        let expected = Expected {
            dir: &dir,
            name: &name,
            topic: (!self.kafkas || key.topic != unnamed(&replaying.topic)).then_some(key.topic),
            state: (!self.kafkas).then_some(&replaying.state),
            clean: self.clean && salvaged.is_none(),
            kafkas: self.kafkas,
        };
        let mut verdict = partition::check(ring, &expected, read);
        self.findings.append(&mut verdict.findings);
        self.partitions.push(Judged {
            key,
            replaying,
            salvaged,
            said,
            verdict,
        });
    }

    /// Kafka's checkpoints, which a clean stop writes for it.
    fn checkpoints(&mut self, ring: &Ring) {
        for name in [
            offset_checkpoint::RECOVERY_POINT,
            offset_checkpoint::REPLICATION,
            offset_checkpoint::LOG_START,
            offset_checkpoint::CLEANER,
        ] {
            let path = self.dir.join(name);
            let what = match ring.read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => error.to_string(),
                Ok(bytes) => match offset_checkpoint::decode(&bytes) {
                    Err(error) => error.to_string(),
                    Ok(entries) => match self.wrong_line(name, &entries) {
                        Some(what) => what,
                        None => continue,
                    },
                },
            };
            self.bad_checkpoints.push(path.clone());
            self.findings.push(
                Finding::damage(path, what)
                    .todo("Only Kafka reads it; the next clean stop writes it anew"),
            );
        }
        let path = self.dir.join(clean_shutdown::FILE_NAME);
        if self.kafkas || !self.clean {
            return;
        }
        let wanted = clean_shutdown::encode(-1);
        if ring.read(&path).is_ok_and(|bytes| bytes != wanted) {
            self.bad_checkpoints.push(path.clone());
            self.findings.push(
                Finding::damage(path, "it is not what the clean stop wrote")
                    .todo("Only Kafka reads it; the next start removes it"),
            );
        }
    }

    /// After a clean stop the checkpoints say where each log ends.
    fn wrong_line(&self, name: &str, entries: &[offset_checkpoint::Entry]) -> Option<String> {
        let ends = [
            offset_checkpoint::RECOVERY_POINT,
            offset_checkpoint::REPLICATION,
        ];
        if self.kafkas || !self.clean || !ends.contains(&name) {
            return None;
        }
        let wrong = |judged: &&Judged| {
            let of = |entry: &&offset_checkpoint::Entry| {
                entry.topic == judged.replaying.topic && entry.partition == judged.key.partition
            };
            judged.salvaged.is_none()
                && judged.verdict.cut.is_none()
                && entries.iter().find(of).map(|e| e.offset) != Some(judged.replaying.state.end())
        };
        let wrong = self.partitions.iter().find(wrong)?;
        let name = names::partition_dir(&wrong.replaying.topic, wrong.key.partition);
        Some(format!("it does not say where {name} ends"))
    }

    /// What is there and means nothing.
    fn leftovers(&mut self, entries: &[DirEntry]) {
        let known: BTreeSet<String> = self
            .partitions
            .iter()
            .map(|judged| names::partition_dir(&judged.replaying.topic, judged.key.partition))
            .collect();
        for entry in entries {
            let name = entry.name.as_str();
            let what = if entry.is_dir && name.ends_with("-delete") {
                "a deleted partition: the next start removes it"
            } else if entry.is_dir && name.ends_with("-stray") {
                "a partition that no topic had: set aside by a start, delete it if you do not want it"
            } else if entry.is_dir && names::parse_partition_dir(name).is_some() {
                match known.contains(name) {
                    true => continue,
                    false => "nothing names this partition: a start leaves it alone",
                }
            } else if name.ends_with(".damaged") || name.ends_with(".given-up") {
                "what was damaged: kept for whoever wants to look, and read by nobody else"
            } else if name.ends_with(".tmp") {
                "a file whose writing a crash cut: nothing reads it"
            } else {
                continue;
            };
            let path = self.dir.join(name);
            self.findings.push(Finding::note(path, what));
        }
    }
}

/// Journals by the names of their files, where their list is lost.
fn ring_files(entries: &[DirEntry]) -> Vec<Uuid> {
    let names = entries.iter().filter_map(|entry| {
        let id = entry.name.strip_prefix("corelane-")?;
        id.strip_suffix(".journal")?.parse().ok()
    });
    names.collect()
}

/// Kafka before 2.8 wrote no topic ids: told apart by name.
fn unnamed(topic: &str) -> TopicId {
    let mut id = [0; 16];
    for (i, byte) in topic.bytes().enumerate() {
        id[i % 16] ^= byte.rotate_left((i / 16) as u32);
    }
    Uuid(id)
}
