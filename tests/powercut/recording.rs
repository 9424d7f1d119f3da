//! What a disk was asked to do, in order, and what a power cut may leave of it.
//!
//! A write is safe once a flush that began after the write had completed has completed itself.
//! Of every other write that began before the cut each sector may be there or not, whatever else
//! is: a cache writes back in any order, and a sector is written whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::image::{Image, SECTOR};
use corelane::ring::sim::Rng;

/// What the file systems write whole, as their disks mostly do.
pub const BLOCK: u64 = 8 * SECTOR;
/// Moments that are weighed for one cut.
const MOMENTS: usize = 12;

/// One request to the disk, with its places in the order of everything that was told
/// (`support::sequence`).
#[derive(Clone)]
pub struct Operation {
    pub kind: Kind,
    /// When the disk was asked.
    pub begun: u64,
    /// When the disk said that it is done; nothing if it did not.
    pub ended: Option<u64>,
}

#[derive(Clone)]
pub enum Kind {
    Write { offset: u64, bytes: Arc<[u8]> },
    Flush,
}

/// What a disk held at first and what it was asked since, in the order in which it was asked.
pub struct Recording {
    pub base: Image,
    pub operations: Vec<Operation>,
}

/// What a cut does to the writes that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are lost.
    All,
    /// None is lost: all that was asked is there.
    Nothing,
    /// Each write is lost or kept whole.
    Writes,
    /// Each piece of so many bytes, whole sectors, is lost or kept.
    Pieces(u64),
    /// One write is lost, the others are kept.
    One,
    /// One write is kept, the others are lost.
    AllButOne,
}

/// What one cut did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Damage {
    /// Writes that were not flushed.
    pub unflushed: u64,
    /// Those of them that lost at least one sector.
    pub hit: u64,
}

impl Recording {
    /// A random moment for a cut: one in two is anywhere, one in four right before or after a
    /// flush completes, where what is told and what is kept are apart the most, and one in four the
    /// best of many such, by the writes that are at stake. Nothing if nothing was asked after
    /// `from`.
    pub fn moment(&self, from: u64, random: &mut Rng) -> Option<u64> {
        let first = self
            .operations
            .iter()
            .map(|o| o.begun)
            .find(|b| *b >= from)?;
        let last = self.operations.iter().filter_map(|o| o.ended).max()?;
        let flushes = self.operations.iter().filter_map(flush_end);
        let flushes: Vec<u64> = flushes.filter(|end| *end >= first).collect();
        let kind = random.below(4);
        let many = if kind == 3 { MOMENTS } else { 1 };
        let drawn = (0..many).map(|_| {
            // what was told goes on where the disk is not asked for anything
            if flushes.is_empty() || kind < 2 {
                return first + random.below(last.saturating_sub(first) + 2);
            }
            let flush = flushes[random.below(flushes.len() as u64) as usize];
            flush + random.below(2)
        });
        drawn.max_by_key(|at| self.unflushed(*at).count())
    }

    /// The writes that a cut at `at` may lose.
    fn unflushed(&self, at: u64) -> impl Iterator<Item = &Operation> {
        let begun = self.operations.partition_point(|o| o.begun < at);
        let before = &self.operations[..begun];
        let done = before
            .iter()
            .filter(move |o| flush_end(o).is_some_and(|ended| ended < at));
        // later flushes began later
        let flushed = done.map(|o| o.begun).next_back().unwrap_or(0);
        before.iter().filter(move |o| {
            matches!(o.kind, Kind::Write { .. }) && o.ended.is_none_or(|ended| ended >= flushed)
        })
    }

    /// The disk after a cut before the moment `at`.
    pub fn image_at(&self, at: u64, loss: Loss, random: &mut Rng) -> (Image, Damage) {
        let unflushed: BTreeSet<u64> = self.unflushed(at).map(|o| o.begun).collect();
        let mut damage = Damage {
            unflushed: unflushed.len() as u64,
            hit: 0,
        };
        let chosen = random.below(damage.unflushed.max(1));
        let mut image = self.base.clone();
        let mut number = 0;
        for operation in self.operations.iter().take_while(|o| o.begun < at) {
            let Kind::Write { offset, bytes } = &operation.kind else {
                continue;
            };
            if !unflushed.contains(&operation.begun) {
                image.write(*offset, bytes);
                continue;
            }
            let piece = match loss {
                Loss::Pieces(size) => size,
                _ => bytes.len().max(1) as u64,
            };
            let mut hit = false;
            for part in parts(*offset, bytes.len() as u64, piece) {
                let keep = match loss {
                    Loss::All => false,
                    Loss::Nothing => true,
                    Loss::Writes | Loss::Pieces(_) => random.below(2) == 0,
                    Loss::One => number != chosen,
                    Loss::AllButOne => number == chosen,
                };
                // in the order in which it was asked: that any version of a sector may be what is
                // left follows from losing the later ones
                if keep {
                    image.write(*offset + part.start as u64, &bytes[part]);
                } else {
                    hit = true;
                }
            }
            damage.hit += u64::from(hit);
            number += 1;
        }
        (image, damage)
    }
}

impl Loss {
    /// One that is drawn.
    pub fn draw(random: &mut Rng) -> Loss {
        match random.below(8) {
            0 => Loss::All,
            1 => Loss::Nothing,
            2 | 3 => Loss::Writes,
            4 | 5 => Loss::Pieces(SECTOR),
            6 => Loss::One,
            _ => Loss::AllButOne,
        }
    }
}

fn flush_end(operation: &Operation) -> Option<u64> {
    match operation.kind {
        Kind::Flush => operation.ended,
        Kind::Write { .. } => None,
    }
}

/// A write in pieces that end at multiples of `piece` on the disk.
fn parts(offset: u64, length: u64, piece: u64) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let start = done;
        done = ((offset + done) / piece * piece + piece - offset).min(length);
        Some(start as usize..done as usize)
    })
}

const LOSSES: [Loss; 7] = [
    Loss::All,
    Loss::Nothing,
    Loss::Writes,
    Loss::Pieces(SECTOR),
    Loss::Pieces(BLOCK),
    Loss::One,
    Loss::AllButOne,
];

/// A recording by hand: `w` writes the next number to three sectors from the given one, `f`
/// flushes; the numbers are when each began and ended (0: never).
fn recorded(script: &[(char, u64, u64, u64)]) -> Recording {
    let operations = script.iter().enumerate().map(|(number, what)| {
        let (letter, sector, begun, ended) = *what;
        let kind = match letter {
            'w' => Kind::Write {
                offset: sector * SECTOR,
                bytes: vec![number as u8 + 1; 3 * SECTOR as usize].into(),
            },
            _ => Kind::Flush,
        };
        let ended = (ended > 0).then_some(ended);
        Operation { kind, begun, ended }
    });
    Recording {
        base: Image::new(64 * 1024),
        operations: operations.collect(),
    }
}

/// What every cut of `script` at `at` leaves in a sector, over all kinds of loss and many draws.
fn left(script: &[(char, u64, u64, u64)], at: u64, sector: u64) -> Vec<u8> {
    let recording = recorded(script);
    let mut random = Rng::new(7);
    let mut found = Vec::new();
    for loss in LOSSES {
        for _ in 0..50 {
            let (image, _) = recording.image_at(at, loss, &mut random);
            let bytes = image.read(sector * SECTOR, SECTOR as usize);
            assert!(
                bytes.iter().all(|b| *b == bytes[0]),
                "{loss:?} tore a sector"
            );
            found.push(bytes[0]);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What was flushed is always there; what was not may be there or not.
pub fn a_flushed_write_is_never_lost() -> Result<()> {
    let script = [
        ('w', 0, 1, 2),
        ('f', 0, 3, 4),
        ('w', 0, 5, 6),
        ('w', 1, 7, 8),
        ('f', 0, 9, 12),
        ('w', 9, 10, 11),
    ];
    for (at, sector, expected, why) in [
        (4, 0, &[0, 1][..], "the flush has not completed"),
        (5, 0, &[1], "flushed"),
        (6, 0, &[1, 3], "begun, not flushed"),
        (9, 0, &[1, 3], "written, not flushed"),
        (9, 1, &[1, 3, 4], "any version of a sector"),
        (12, 2, &[1, 3, 4], "the second flush has not completed"),
        (13, 0, &[3], "flushed again"),
        (13, 1, &[4], "flushed again, the later version"),
        (13, 9, &[0, 6], "written while the flush was under way"),
        (5, 9, &[0], "not written yet"),
    ] {
        let found = left(&script, at, sector);
        ensure!(
            found == expected,
            "a cut at {at} left {found:?} in sector {sector} ({why})"
        );
    }
    Ok(())
}

/// A flush vouches for no write that had not completed when it began.
pub fn a_flush_does_not_cover_a_write_in_flight() -> Result<()> {
    let script = [('w', 0, 1, 4), ('f', 0, 2, 3), ('w', 5, 5, 0)];
    ensure!(
        left(&script, 4, 0) == [0, 1],
        "a write in flight was taken for flushed"
    );
    ensure!(left(&script, 9, 0) == [0, 1], "a later flush was made up");
    ensure!(
        left(&script, 9, 5) == [0, 3],
        "a write that never ended has a fixed outcome"
    );
    Ok(())
}

/// Writes are torn at sectors, and kept and lost whatever their order.
pub fn unflushed_writes_are_torn_and_reordered() -> Result<()> {
    let recording = recorded(&[('w', 0, 1, 2), ('w', 3, 3, 4)]);
    let mut random = Rng::new(3);
    let (mut torn, mut later_only) = (false, false);
    for _ in 0..200 {
        let (image, damage) = recording.image_at(9, Loss::Pieces(SECTOR), &mut random);
        ensure!(damage.unflushed == 2, "{damage:?}");
        let sectors: Vec<u8> = (0..6).map(|s| image.read(s * SECTOR, 1)[0]).collect();
        torn |= sectors[..3].contains(&0) && sectors[..3].contains(&1);
        let (image, _) = recording.image_at(9, Loss::Writes, &mut random);
        let (first, second) = (image.read(0, 1)[0], image.read(3 * SECTOR, 1)[0]);
        later_only |= first == 0 && second == 2;
    }
    ensure!(torn, "no write was torn");
    ensure!(later_only, "no later write was kept without an earlier one");
    Ok(())
}
