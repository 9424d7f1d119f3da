//! Many cuts of each run of load, cuts of the recovery from cuts, and load on what a cut left.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::image::{Image, SECTOR};
use crate::recording::Loss;
use crate::session::{Demands, Outcome, Session, Site};
use crate::support::history::Demand;
use crate::tally::Tally;

/// Cuts of one run of load, at least; up to twice as many.
const CUTS_A_LOAD: u64 = 8;
/// Runs of load on one disk, each on what a cut of the one before left.
const GENERATIONS: u64 = 3;

/// Cuts from one line of figures to the next.
const REPORT: u64 = 5;

/// A disk after a cut.
struct Cut {
    image: Image,
    demands: Demands,
    loss: Loss,
    /// in words
    what: String,
}

/// Cuts until `cuts` are made, or `enough` is.
pub struct Rounds {
    pub site: Site,
    pub tally: Tally,
    cuts: u64,
    enough: fn(&Tally) -> bool,
}

impl Rounds {
    /// So many cuts on a site; fewer if `enough` says so, more if none of them took anything.
    pub fn new(site: Site, cuts: u64, enough: fn(&Tally) -> bool) -> Rounds {
        Rounds {
            site,
            tally: Tally::default(),
            cuts,
            enough,
        }
    }

    fn is_done(&self) -> bool {
        // cuts that took nothing prove nothing: a few more may
        let harmless = self.tally.hit == 0 && self.tally.cuts < 3 * self.cuts;
        self.tally.cuts >= self.cuts && !harmless || (self.enough)(&self.tally)
    }

    /// Makes them. An error is a finding where the broker is held to its promises.
    pub fn run(&mut self) -> Result<()> {
        let empty = self.site.empty_disk()?;
        while !self.is_done() {
            let first = self
                .site
                .session(empty.clone(), &Demands::default(), true)?;
            let mut loaded = match first {
                Outcome::Audited(verdict, session) => {
                    let judged = verdict.into_result();
                    judged.with_context(|| self.keep("a cut with live clients"))?;
                    *session
                }
                Outcome::Unmountable(why) | Outcome::Refused(why) => {
                    bail!("{}: {why}", self.keep("on a fresh file system, or live"))
                }
            };
            self.count_live(&loaded);
            for generation in 1.. {
                let cuts = CUTS_A_LOAD + self.site.random.below(CUTS_A_LOAD);
                for _ in 0..cuts {
                    self.cut_and_cut_again(&loaded)?;
                }
                if self.is_done() || generation == GENERATIONS {
                    break;
                }
                let cut = self.draw(&loaded)?;
                let Some(session) = self.after(cut, true)? else {
                    break;
                };
                self.tally.reloaded += 1;
                loaded = session;
            }
        }
        Ok(())
    }

    /// One cut of a run of load; one in three is followed by another one of the recovery from it,
    /// or of the reading and the stop after that, and so on.
    fn cut_and_cut_again(&mut self, loaded: &Session) -> Result<()> {
        let mut inner: Option<Session> = None;
        while !self.is_done() {
            let again = inner.is_some();
            let cut = self.draw(inner.as_ref().unwrap_or(loaded))?;
            inner = self.after(cut, false)?;
            self.tally.again += u64::from(again && inner.is_some());
            if inner.is_none() || self.site.random.below(3) > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Draws a cut of a session.
    fn draw(&mut self, session: &Session) -> Result<Cut> {
        let random = &mut self.site.random;
        // one cut in eight of a run of load may be of the start before it
        let load = session.load_since.filter(|_| random.below(8) > 0);
        let at = session.recording.moment(load.unwrap_or(0), random);
        let at = at.context("the disk was never asked for anything")?;
        let loss = Loss::draw(random);
        let (image, damage) = session.recording.image_at(at, loss, random);
        self.tally.damaged(damage);
        Ok(Cut {
            image,
            demands: session.demands_before(at)?,
            loss,
            what: format!(
                "cut {} ({loss:?}, {} of {} unflushed writes hit)",
                self.tally.cuts + 1,
                damage.hit,
                damage.unflushed
            ),
        })
    }

    /// What the broker makes of a disk after a cut; nothing if it lost what it should have kept.
    fn after(&mut self, cut: Cut, load: bool) -> Result<Option<Session>> {
        let outcome = self.site.session(cut.image.clone(), &cut.demands, load);
        let outcome = outcome.with_context(|| self.keep(&cut.what))?;
        // Both file systems take a block of theirs for written whole or not at all, as a disk with
        // sectors of 4096 bytes does. Where tearing one made the file system unmountable, the cut
        // says nothing about a broker.
        if matches!(outcome, Outcome::Unmountable(_)) && cut.loss == Loss::Pieces(SECTOR) {
            self.tally.torn_file_systems += 1;
            return Ok(None);
        }
        let before = self.tally.cuts;
        self.tally.cuts += 1;
        let acked = |demand: &Demand| demand.acked_count() as u64;
        let at_stake = cut.demands.told.iter().map(acked).sum::<u64>() > 0;
        self.tally.at_stake += u64::from(at_stake);
        for demand in &cut.demands.told {
            self.tally.acked += acked(demand);
            self.tally.seen += demand.seen_count() as u64;
        }
        let (finding, session) = match outcome {
            Outcome::Unmountable(why) => {
                self.tally.unmountable += 1;
                (Some(format!("the file system is lost: {why}")), None)
            }
            Outcome::Refused(why) => {
                self.tally.refused += 1;
                (Some(why), None)
            }
            Outcome::Audited(verdict, session) => {
                self.tally.audit(&verdict);
                self.count_live(&session);
                (verdict.first, Some(*session))
            }
        };
        if self.tally.cuts / REPORT > before / REPORT {
            println!("  {}", self.tally.line());
        }
        if let Some(finding) = finding {
            if self.site.subject.strict {
                bail!("{}: {finding}", self.keep(&cut.what));
            }
            self.tally.note(format!("{}: {finding}", cut.what));
            return Ok(None);
        }
        Ok(session)
    }

    fn count_live(&mut self, session: &Session) {
        let cuts = session.live.len() as u64;
        self.tally.cuts += cuts;
        self.tally.at_stake += cuts;
        self.tally.live += cuts;
        for damage in &session.live {
            self.tally.damaged(*damage);
        }
    }

    /// Keeps the disk of a failure for a look; what it was, and where it is.
    fn keep(&self, what: &str) -> String {
        let name = format!("powercut-{}.img", self.site.file_system.name());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        match self.site.last_disk.as_ref().map(|disk| disk.save(&path)) {
            Some(Ok(())) => format!("{what}; the disk is kept in {}", path.display()),
            Some(Err(error)) => format!("{what}; the disk could not be kept: {error}"),
            None => what.to_owned(),
        }
    }
}
