//! A broker's time on one disk: mount, start, audit, load, stop, unmount; with everything that
//! was asked of the disk and told to clients meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::disk::Disk;
use crate::fuse::Disks;
use crate::ground::Ground;
use crate::image::Image;
use crate::recording::Recording;
use crate::subject::{Place, Running, Subject};
use crate::support::history::{Demand, History, Promise, Verdict};
use crate::support::load;
use crate::support::random::Random;
use crate::support::sequence;
use crate::support::wait::pause;
use crate::volume::{DISK_BYTES, FileSystem, Volume};

/// A run of load at most, besides the time until every client has got on.
const LOAD_MS: u64 = 2_500;
/// The topic whose records a power cut may take back before a consumer saw them.
const ACKS_ONE: &str = "acks-one";

/// Where sessions take place, one after the other.
pub struct Site {
    pub file_system: FileSystem,
    pub subject: Subject,
    pub random: Random,
    place: Place,
    disks: Disks,
    // goes after the disks
    ground: Ground,
}

/// What was asked of a disk and what clients were told in one broker's time on it.
pub struct Session {
    pub recording: Recording,
    histories: Vec<Arc<History>>,
    /// what had been told before; nothing where there was nothing, or it was lost
    prior: Option<Vec<Demand>>,
    /// since when the topics are known to exist
    topics_since: Option<u64>,
}

/// What the broker has to serve from a disk.
#[derive(Clone, Default)]
pub struct Demands {
    /// for each partition of the load
    pub told: Vec<Demand>,
    /// whether the topics have to be there
    pub topics: bool,
}

/// How a session went.
pub enum Outcome {
    /// The file system would not mount.
    Unmountable(String),
    /// The broker did not start, or what it serves could not be read.
    Refused(String),
    /// What it serves differs so much from what was demanded.
    Audited(Verdict, Box<Session>),
}

impl Site {
    /// A place for a broker on a file system.
    pub fn new(file_system: FileSystem, subject: Subject, seed: u64) -> Result<Site> {
        let ground = Ground::prepare()?;
        Ok(Site {
            file_system,
            subject,
            random: Random::new(seed),
            place: Place::new(&ground.volume(), &ground.home())?,
            disks: Disks::mount(&ground.disks())?,
            ground,
        })
    }

    /// A disk with a fresh file system, prepared for the broker.
    pub fn empty_disk(&mut self) -> Result<Image> {
        let mut volume = self.attach(Image::new(DISK_BYTES))?;
        volume.format(self.file_system)?;
        let mounted = volume.mount(self.file_system)?;
        mounted.map_err(|why| anyhow::anyhow!("a fresh file system does not mount: {why}"))?;
        self.subject.prepare(&self.place)?;
        Ok(volume.detach()?.image())
    }

    fn attach(&mut self, image: Image) -> Result<Volume> {
        let disk = Disk::new(image, self.random.split());
        Volume::attach(&mut self.disks, disk, &self.ground.volume())
    }

    /// Mounts a disk, starts the broker, reads and judges everything, puts it under load if asked,
    /// stops it and unmounts.
    pub fn session(&mut self, image: Image, demands: &Demands, load: bool) -> Result<Outcome> {
        let mut volume = self.attach(image)?;
        if let Err(why) = volume.mount(self.file_system)? {
            return Ok(Outcome::Unmountable(why));
        }
        let mut running = match self.subject.start(&self.place, &mut self.random) {
            Ok(running) => running,
            Err(error) => return Ok(Outcome::Refused(format!("no start: {error:#}"))),
        };
        let histories = histories();
        let (present, verdict) = match self.audit(&histories, demands) {
            Ok(audited) => audited,
            Err(error) => {
                let tail = running.log_tail();
                return Ok(Outcome::Refused(format!("unreadable: {error:#}\n{tail}")));
            }
        };
        let missing: Vec<Arc<History>> = histories
            .iter()
            .filter(|h| !present.contains(&h.topic))
            .cloned()
            .collect();
        let mut topics_since = missing.is_empty().then_some(0);
        if load {
            if !missing.is_empty() {
                let created = load::create_topics(&self.bootstrap(), &missing);
                created.with_context(|| running.log_tail())?;
                topics_since = Some(sequence::next());
            }
            let loaded = self.load(&mut running, &histories);
            loaded.with_context(|| running.log_tail())?;
        }
        // a killed process leaves what a power cut finds at any other time; a clean stop is work
        // that can be cut, too
        running.end(self.random.below(2) == 0)?;
        // what is gone stays gone: it is found once
        let prior = verdict.first.is_none().then(|| demands.told.clone());
        Ok(Outcome::Audited(
            verdict,
            Box::new(Session {
                recording: volume.detach()?.take_recording(),
                histories,
                prior,
                topics_since,
            }),
        ))
    }

    /// Reads all that is there into the histories and judges it; answers which topics there are.
    fn audit(
        &self,
        histories: &[Arc<History>],
        demands: &Demands,
    ) -> Result<(Vec<String>, Verdict)> {
        let bootstrap = self.bootstrap();
        let present = load::topics(&bootstrap)?;
        let there: Vec<Arc<History>> = histories
            .iter()
            .filter(|h| present.contains(&h.topic))
            .cloned()
            .collect();
        let known = vec![0; there.len()];
        load::read(&bootstrap, &there, &known, 0, |place, offset, bytes| {
            there[place].seen(offset, bytes);
            Ok(())
        })?;
        for history in histories {
            history.demand()?; // an error if what was read is no record of ours
        }
        let mut verdict = Verdict::default();
        if demands.topics && there.len() < histories.len() {
            verdict.lost += (histories.len() - there.len()) as u64;
            verdict.first = Some(format!("of the topics only {present:?} are there"));
        }
        for (demand, history) in demands.told.iter().zip(histories) {
            verdict.add(demand.judge(&history.log()));
        }
        Ok((present, verdict))
    }

    /// Puts the broker under load for a while.
    fn load(&mut self, running: &mut Running, histories: &[Arc<History>]) -> Result<()> {
        let bootstrap = self.bootstrap();
        let random = &mut self.random;
        let mut clients = Vec::new();
        for (topic, acks) in [("idempotent", "all"), ("plain", "all"), (ACKS_ONE, "1")] {
            let of_topic = histories.iter().filter(|h| h.topic == topic).cloned();
            let of_topic = of_topic.collect();
            clients.push(load::producer(&bootstrap, of_topic, acks, random.split())?);
        }
        clients.push(load::watcher(&bootstrap, histories.to_vec())?);
        load::progress(histories, || running.runs())?;
        pause(Duration::from_millis(random.below(LOAD_MS)));
        load::progress(histories, || running.runs())
    }

    fn bootstrap(&self) -> String {
        self.place.address().to_string()
    }
}

impl Session {
    /// What had been told before a moment.
    pub fn demands_before(&self, at: u64) -> Result<Demands> {
        let mut told = Vec::new();
        for (place, history) in self.histories.iter().enumerate() {
            let mut new = history.demand_before(at)?;
            if history.topic == ACKS_ONE {
                new.forget_acks();
            }
            match self.prior.as_ref().and_then(|prior| prior.get(place)) {
                None => told.push(new),
                Some(prior) => {
                    let mut both = prior.clone();
                    both.extend(&new);
                    told.push(both);
                }
            }
        }
        Ok(Demands {
            told,
            topics: self.topics_since.is_some_and(|since| since < at),
        })
    }
}

fn histories() -> Vec<Arc<History>> {
    let topics = [
        ("idempotent", 4, Promise::EachOnce),
        ("plain", 2, Promise::AtMostOnce),
        (ACKS_ONE, 2, Promise::AtMostOnce),
    ];
    let mut histories = Vec::new();
    for (topic, partitions, promise) in topics {
        for partition in 0..partitions {
            histories.push(Arc::new(History::new(topic, partition, promise)));
        }
    }
    histories
}
