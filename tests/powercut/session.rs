//! A broker's time on one disk: mount, start, audit, load, stop, unmount; with everything that
//! was asked of the disk and told to clients meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::disk::Disk;
use crate::fuse::Disks;
use crate::ground::Ground;
use crate::image::Image;
use crate::recording::{BLOCK, Damage, Loss, Recording};
use crate::subject::{Place, Running, Subject};
use crate::support::history::{self, Demand, History, Promise, Verdict};
use crate::support::load;
use crate::support::sequence;
use crate::support::wait::pause;
use crate::volume::{DISK_BYTES, FileSystem, Volume};
use corelane::ring::sim::Rng;

/// A run of load at most, besides the time until every client has got on.
const LOAD_MS: u64 = 2_500;
/// Cuts in one run of load that its clients live through, at most.
const LIVE_CUTS: u64 = 3;
/// The topic whose records a power cut may take back before a consumer saw them.
const ACKS_ONE: &str = "acks-one";

/// Where sessions take place, one after the other.
pub struct Site {
    pub file_system: FileSystem,
    pub subject: Subject,
    pub random: Rng,
    /// the last disk that was attached, as it was then
    pub last_disk: Option<Image>,
    place: Place,
    disks: Disks,
    // goes after the disks
    ground: Ground,
}

/// What was asked of a disk and what clients were told in one broker's time on it.
pub struct Session {
    pub recording: Recording,
    histories: Vec<Arc<History>>,
    /// what had been told before, if anything
    prior: Vec<Demand>,
    /// since when the topics are known to exist
    topics_since: Option<u64>,
    /// when the load began, if there was any
    pub load_since: Option<u64>,
    /// what the cuts that the clients lived through did, each
    pub live: Vec<Damage>,
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
            random: Rng::new(seed),
            last_disk: None,
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
        self.last_disk = Some(image.clone());
        let disk = Disk::new(image, self.random.fork(1));
        Volume::attach(&mut self.disks, disk, &self.ground.volume())
    }

    /// Mounts a disk, starts the broker, reads and judges everything, puts it under load if asked,
    /// stops it and unmounts.
    pub fn session(&mut self, image: Image, demands: &Demands, load: bool) -> Result<Outcome> {
        let mut volume = self.attach(image)?;
        let mut running = match self.mount_and_start(&mut volume)? {
            Ok(running) => running,
            Err(outcome) => return Ok(outcome),
        };
        let histories = histories();
        let (present, mut verdict) = match self.audit(&histories, demands) {
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
        let mut load_since = None;
        let mut live = Vec::new();
        if load {
            if !missing.is_empty() {
                let created = load::create_topics(&self.bootstrap(), &missing);
                created.with_context(|| running.log_tail())?;
                topics_since = Some(sequence::next());
            }
            load_since = Some(sequence::next());
            let clients = self.clients(&histories)?;
            self.load(&mut running, &histories)?;
            // clients of a broker that keeps its promises live through its cuts
            let wanted = self.random.below(LIVE_CUTS + 1);
            while self.subject.strict && (live.len() as u64) < wanted {
                running.end(false)?;
                let (cut, damage) = self.cut_now(&volume);
                volume.detach()?;
                volume = self.attach(cut)?;
                running = match self.mount_and_start(&mut volume)? {
                    Ok(running) => running,
                    Err(outcome) => return Ok(outcome),
                };
                live.push(damage);
                let told = demands_before(&histories, &demands.told, u64::MAX)?;
                match self.read_again(&histories, &told) {
                    Ok(found) => verdict.add(found),
                    Err(error) => {
                        let tail = running.log_tail();
                        let what = format!("unreadable: {error:#}\n{tail}");
                        return Ok(Outcome::Refused(what));
                    }
                }
                self.load(&mut running, &histories)?;
            }
            drop(clients);
        }
        // a killed process leaves what a power cut finds at any other time; a clean stop is work
        // that can be cut, too
        running.end(self.random.below(2) == 0)?;
        Ok(Outcome::Audited(
            verdict,
            Box::new(Session {
                recording: volume.detach()?.recording(),
                histories,
                prior: demands.told.clone(),
                topics_since,
                load_since,
                live,
            }),
        ))
    }

    fn mount_and_start(&mut self, volume: &mut Volume) -> Result<Result<Running, Outcome>> {
        if let Err(why) = volume.mount(self.file_system)? {
            return Ok(Err(Outcome::Unmountable(why)));
        }
        let started = self.subject.start(&self.place, &mut self.random);
        Ok(started.map_err(|error| Outcome::Refused(format!("no start: {error:#}"))))
    }

    /// What a cut at this moment leaves of a disk whose broker has just been killed: no client
    /// was told anything since. Blocks of the file system are left whole.
    fn cut_now(&mut self, volume: &Volume) -> (Image, Damage) {
        let at = sequence::next();
        let loss = match Loss::draw(&mut self.random) {
            Loss::Pieces(_) => Loss::Pieces(BLOCK),
            loss => loss,
        };
        let recording = volume.disk.recording();
        recording.image_at(at, loss, &mut self.random)
    }

    /// Reads all that is there once more and judges it.
    fn read_again(&self, histories: &[Arc<History>], told: &[Demand]) -> Result<Verdict> {
        let mut logs = vec![Vec::new(); histories.len()];
        let known = vec![0; histories.len()];
        let bootstrap = self.bootstrap();
        load::read(&bootstrap, histories, &known, 0, |place, _, bytes| {
            logs[place].push(history::entry(bytes)?);
            Ok(())
        })?;
        let mut verdict = Verdict::default();
        for (demand, log) in told.iter().zip(&logs) {
            verdict.add(demand.judge(log));
        }
        Ok(verdict)
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

    /// Starts the producers and the consumer.
    fn clients(&mut self, histories: &[Arc<History>]) -> Result<Vec<load::Running>> {
        let bootstrap = self.bootstrap();
        let random = &mut self.random;
        let mut clients = Vec::new();
        for (topic, acks) in [("idempotent", "all"), ("plain", "all"), (ACKS_ONE, "1")] {
            let of_topic = histories.iter().filter(|h| h.topic == topic).cloned();
            let of_topic = of_topic.collect();
            clients.push(load::producer(&bootstrap, of_topic, acks, random.fork(1))?);
        }
        clients.push(load::watcher(&bootstrap, histories.to_vec())?);
        Ok(clients)
    }

    /// Lets every client get on twice, and a while between.
    fn load(&mut self, running: &mut Running, histories: &[Arc<History>]) -> Result<()> {
        let time = Duration::from_millis(self.random.below(LOAD_MS));
        let first = load::progress(histories, || running.runs());
        first.with_context(|| running.log_tail())?;
        pause(time);
        let then = load::progress(histories, || running.runs());
        then.with_context(|| running.log_tail())
    }

    fn bootstrap(&self) -> String {
        self.place.address().to_string()
    }
}

impl Session {
    /// What had been told before a moment.
    pub fn demands_before(&self, at: u64) -> Result<Demands> {
        Ok(Demands {
            told: demands_before(&self.histories, &self.prior, at)?,
            topics: self.topics_since.is_some_and(|since| since < at),
        })
    }
}

/// What was told to the clients before a moment, besides what had been told to others before.
fn demands_before(histories: &[Arc<History>], prior: &[Demand], at: u64) -> Result<Vec<Demand>> {
    let mut told = Vec::new();
    for (place, history) in histories.iter().enumerate() {
        let mut new = history.demand_before(at)?;
        if history.topic == ACKS_ONE {
            new.forget_acks();
        }
        let mut all = match prior.get(place) {
            Some(prior) => prior.clone(),
            None => new.clone(),
        };
        all.extend(&new);
        told.push(all);
    }
    Ok(told)
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
