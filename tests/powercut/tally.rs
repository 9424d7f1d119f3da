//! What a run found.

use crate::recording::Damage;
use crate::support::history::Verdict;

/// Figures of many cuts of one broker on one file system.
#[derive(Default)]
pub struct Tally {
    /// Disks after a cut that were mounted, served and judged.
    pub cuts: u64,
    /// Those of them before which records had been acknowledged that a cut may not take.
    pub at_stake: u64,
    /// Those of them that were cut again after they had been mounted.
    pub again: u64,
    /// Runs of load on a disk that had been cut.
    pub reloaded: u64,
    /// Cuts that the clients lived through.
    pub live: u64,
    /// Acknowledgements and records seen that counted, over all cuts.
    pub acked: u64,
    pub seen: u64,
    /// Writes that no flush covered, and those of them that lost something, over all cuts.
    pub unflushed: u64,
    pub hit: u64,
    /// Cuts with a torn block of the file system's own that it did not stand; not counted as cuts.
    pub torn_file_systems: u64,
    /// Cuts after which the file system did not mount though its blocks were whole.
    pub unmountable: u64,
    /// Cuts after which the broker did not start, or what it served could not be read.
    pub refused: u64,
    /// Cuts after which acknowledged records were lost; records seen were gone or others.
    pub with_lost: u64,
    pub with_unseen: u64,
    /// Cuts after which records were there twice or out of order.
    pub with_disorder: u64,
    /// The most of one cut.
    pub most_lost: u64,
    pub most_unseen: u64,
    /// What was found first, in words.
    pub notes: Vec<String>,
}

/// Findings that are kept in words.
const NOTES: usize = 5;

impl Tally {
    /// Adds what one cut did.
    pub fn damaged(&mut self, damage: Damage) {
        self.unflushed += damage.unflushed;
        self.hit += damage.hit;
    }

    /// Adds what one audit found.
    pub fn audit(&mut self, verdict: &Verdict) {
        self.with_lost += u64::from(verdict.lost > 0);
        self.with_unseen += u64::from(verdict.unseen > 0);
        self.with_disorder += u64::from(verdict.doubled + verdict.disordered > 0);
        self.most_lost = self.most_lost.max(verdict.lost);
        self.most_unseen = self.most_unseen.max(verdict.unseen);
    }

    /// Keeps a finding in words.
    pub fn note(&mut self, finding: String) {
        if self.notes.len() < NOTES {
            self.notes.push(finding);
        }
    }

    /// Everything in one line.
    pub fn line(&self) -> String {
        format!(
            "{} cuts ({} after acks, {} of a recovery, {} loaded again, {} with live clients), {} of {} unflushed writes hit, {} acks \
             and {} records seen demanded: {} refused, {} with lost (at most {}), {} with unseen \
             (at most {}), {} in disorder; {} unmountable, {} torn file systems left out",
            self.cuts,
            self.at_stake,
            self.again,
            self.reloaded,
            self.live,
            self.hit,
            self.unflushed,
            self.acked,
            self.seen,
            self.refused,
            self.with_lost,
            self.most_lost,
            self.with_unseen,
            self.most_unseen,
            self.with_disorder,
            self.unmountable,
            self.torn_file_systems
        )
    }
}
