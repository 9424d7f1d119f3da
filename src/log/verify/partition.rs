//! One partition's directory, byte by byte, against what base and journals know of it.

use std::io;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::sides::{self, SideFault, Sides, Wanted};
use crate::base::ids::{LeaderEpoch, Offset, TopicId};
use crate::log::epochs::LeaderEpochs;
use crate::log::format::names::{self, Kind};
use crate::log::format::{epoch_checkpoint, partition_metadata};
use crate::log::partition::{LastBatch, Recovering};
use crate::log::recovery::overlay::Overlay;
use crate::log::segment::Place;
use crate::log::segment::scan::{BatchFault, SegmentScan, check_batch, only_zeros};
use crate::ring::Ring;
use crate::ring::driver::DirEntry;

/// Findings of one partition that are told one by one; the rest is counted.
const TOLD_MAX: usize = 20;

/// What a partition's directory should hold.
pub(crate) struct Expected<'a> {
    /// Its directory.
    pub(crate) dir: &'a Path,
    /// `topic-partition`.
    pub(crate) name: &'a str,
    /// Its topic; `None` where nothing says it.
    pub(crate) topic: Option<TopicId>,
    /// What base and journals say; `None` where only the files say anything.
    pub(crate) state: Option<&'a Recovering>,
    /// Everything is in the files: the last stop was clean.
    pub(crate) clean: bool,
    /// Written by Kafka: compacted logs have gaps.
    pub(crate) kafkas: bool,
}

/// Where a log must be cut so that all of the rest is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// First byte that goes.
    pub(crate) to: Place,
    /// One after the last offset that stays.
    pub(crate) end: Offset,
}

/// What is wrong with a partition.
#[derive(Default)]
pub(crate) struct Verdict {
    /// All of it, in the order of the log.
    pub(crate) findings: Vec<Finding>,
    /// Where the log must be cut.
    pub(crate) cut: Option<Cut>,
    /// Side files that the log can make anew, by the segment's base offset.
    pub(crate) stale_sides: Vec<(Offset, PathBuf)>,
    /// `partition.metadata` must be written anew.
    pub(crate) wrong_owner: bool,
    /// `leader-epoch-checkpoint` must be written anew.
    pub(crate) wrong_epochs: bool,
}

/// A segment that should be there.
struct Segment {
    base: Offset,
    /// Bytes, pending ones included; `None`: as many as the file has.
    len: Option<u64>,
    /// Bytes that must be in the file.
    in_file: u64,
    /// One after its last offset.
    end: Option<Offset>,
    last_batch: Option<LastBatch>,
    active: bool,
}

/// Checks a partition. `read` is told of every file's bytes once they are read.
pub(crate) fn check(ring: &Ring, expected: &Expected<'_>, read: &mut dyn FnMut(u64)) -> Verdict {
    let mut verdict = Verdict::default();
    let dir = expected.dir;
    let entries = match ring.read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            missing_directory(expected, &mut verdict);
            return verdict;
        }
        Err(error) => {
            verdict.findings.push(Finding::damage(dir, error));
            return verdict;
        }
    };
    check_owner(ring, expected, &mut verdict);
    let segments = segments(expected, &entries, &mut verdict);
    for (i, segment) in segments.iter().enumerate() {
        if let Some(next) = segments.get(i + 1)
            && segment.end.is_some_and(|end| end < next.base)
            && !expected.kafkas
        {
            let path = names::file(dir, next.base, Kind::Log);
            let what = "segments are missing before it";
            verdict.findings.push(Finding::damage(path, what));
        }
        check_segment(ring, expected, segment, &mut verdict, read);
    }
    let snapshots = entries
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Snapshot)) => Some(base),
            _ => None,
        });
    for base in snapshots {
        verdict.side(sides::snapshot(ring, dir, base));
    }
    check_epochs(ring, expected, &mut verdict);
    for finding in &mut verdict.findings {
        finding
            .partition
            .get_or_insert_with(|| expected.name.to_owned());
    }
    if verdict.findings.len() > TOLD_MAX {
        let more = verdict.findings.len() - TOLD_MAX;
        verdict.findings.truncate(TOLD_MAX);
        let what = format!("{more} more findings of this partition are not listed");
        verdict
            .findings
            .push(Finding::damage(dir, what).of(expected.name));
    }
    verdict
}

impl Verdict {
    fn side(&mut self, faults: impl IntoIterator<Item = SideFault>) {
        for fault in faults {
            self.stale_sides
                .push((fault.base, fault.finding.path.clone()));
            self.findings.push(fault.finding);
        }
    }

    fn cut_at(&mut self, to: Place, end: Offset) {
        let earlier = self.cut.is_some_and(|cut| cut.to <= to);
        if !earlier {
            self.cut = Some(Cut { to, end });
        }
    }
}

fn missing_directory(expected: &Expected<'_>, verdict: &mut Verdict) {
    let Some(state) = expected.state else {
        return;
    };
    let drained = state.drained();
    if drained.position == 0 && drained.segment <= state.log_start() {
        return; // nothing of it was in files yet
    }
    let start = state.log_start();
    let last = Offset(state.end().0 - 1);
    verdict.cut_at(Place::new(start, 0), start);
    verdict.findings.push(
        Finding::damage(expected.dir, "the partition's directory is missing")
            .of(expected.name)
            .offsets(start, Some(last))
            .todo(
                "Put it back from where it went, or let `corelane log repair --apply` give its \
                 records up",
            ),
    );
}

fn check_owner(ring: &Ring, expected: &Expected<'_>, verdict: &mut Verdict) {
    let path = expected.dir.join(partition_metadata::FILE_NAME);
    let what = match ring.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // a start after a crash writes it, and Kafka's own may not have one
            if !expected.clean || expected.kafkas {
                return;
            }
            "it is missing".to_owned()
        }
        Err(error) => error.to_string(),
        Ok(bytes) => match (partition_metadata::decode(&bytes), expected.topic) {
            (Ok(found), Some(topic)) if found != topic => {
                format!("it names topic {found}, the partition is of {topic}")
            }
            (Ok(_), _) => return,
            (Err(_), _) if bytes.is_empty() && !expected.clean => return, // lost in a crash
            (Err(error), _) => error.to_string(),
        },
    };
    verdict.wrong_owner = expected.topic.is_some();
    let finding = Finding::damage(path, what);
    verdict.findings.push(match expected.topic {
        Some(topic) => finding.todo(format!(
            "`corelane log repair --apply` writes it anew with topic {topic}"
        )),
        None => finding.todo("Nothing else says whose partition this is"),
    });
}

/// What must be there, from the first segment to the active one. Where a listed one is missing the
/// log is cut.
fn segments(expected: &Expected<'_>, entries: &[DirEntry], verdict: &mut Verdict) -> Vec<Segment> {
    let found: Vec<(Offset, u64)> = entries
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Log)) => Some((base, entry.len)),
            _ => None,
        })
        .collect();
    let Some(state) = expected.state else {
        let nexts = found.iter().skip(1).map(|(base, _)| Some(*base));
        return found
            .iter()
            .zip(nexts.chain([None]))
            .map(|((base, len), end)| Segment {
                base: *base,
                len: None,
                in_file: *len,
                end,
                last_batch: None,
                active: end.is_none(),
            })
            .collect();
    };
    let (drained, known) = (state.drained(), state.segments());
    let mut bases: Vec<(Offset, Option<u64>)> = found
        .iter()
        .filter(|(base, _)| *base < drained.segment)
        .map(|(base, len)| (*base, Some(*len)))
        .collect();
    for (base, len) in state.sealed() {
        if !bases.iter().any(|(there, _)| there == base) {
            bases.push((*base, None));
        }
        if let Some((_, Some(there))) = bases.iter().find(|(there, _)| there == base)
            && there > len
        {
            let path = names::file(expected.dir, *base, Kind::Log);
            let what = format!("it has {there} bytes, {len} were recorded: others wrote here");
            verdict.findings.push(Finding::damage(path, what).at(*len));
        }
    }
    bases.sort();
    let ends: Vec<Offset> = bases
        .iter()
        .skip(1)
        .map(|(base, _)| *base)
        .chain(known.first().map(|first| first.base))
        .collect();
    let recorded = |base| {
        let sealed = state.sealed().iter().find(|(there, _)| *there == base);
        sealed.map(|(_, len)| *len)
    };
    let mut segments: Vec<Segment> = bases
        .iter()
        .zip(ends)
        // what the log's start has left behind may be gone
        .filter(|((_, there), end)| there.is_some() || *end > state.log_start())
        .map(|((base, there), end)| {
            let len = recorded(*base).or(*there).unwrap_or(0);
            Segment {
                base: *base,
                len: Some(len),
                in_file: len,
                end: Some(end),
                last_batch: None,
                active: false,
            }
        })
        .collect();
    let first = segments
        .first()
        .map(|s| s.base)
        .or(known.first().map(|s| s.base));
    if let Some(first) = first.filter(|first| *first > state.log_start()) {
        let (start, last) = (state.log_start(), Offset(first.0 - 1));
        verdict.cut_at(Place::new(start, 0), start);
        verdict.findings.push(
            Finding::damage(expected.dir, "the first segments are missing")
                .offsets(start, Some(last)),
        );
    }
    for (i, facts) in known.iter().enumerate() {
        segments.push(Segment {
            base: facts.base,
            len: Some(facts.len),
            in_file: match facts.base.cmp(&drained.segment) {
                std::cmp::Ordering::Equal => drained.position,
                _ => 0,
            },
            end: Some(facts.end),
            last_batch: facts.last_batch.filter(|_| expected.clean),
            active: i + 1 == known.len(),
        });
    }
    segments
}

fn check_segment(
    ring: &Ring,
    expected: &Expected<'_>,
    segment: &Segment,
    verdict: &mut Verdict,
    read: &mut dyn FnMut(u64),
) {
    let dir = expected.dir;
    let path = names::file(dir, segment.base, Kind::Log);
    let pending = expected.state.into_iter().flat_map(Recovering::pending);
    let source = match Overlay::open(ring, dir, segment.base, pending) {
        Ok(source) => source,
        Err(error) => {
            verdict.findings.push(Finding::damage(&path, error));
            verdict.cut_at(Place::new(segment.base, 0), segment.base);
            return;
        }
    };
    let there = source.file_len().unwrap_or(0);
    let len = segment.len.unwrap_or(there);
    let last = |end: Offset| Offset(end.0 - 1);
    if source.file_len().is_none() && segment.in_file > 0 {
        verdict.cut_at(Place::new(segment.base, 0), segment.base);
        verdict.findings.push(
            Finding::damage(&path, "the segment is missing")
                .offsets(segment.base, segment.end.map(last))
                .todo("Put it back, or let `corelane log repair --apply` cut the log before it"),
        );
        return;
    }
    let epochs = expected.state.map(Recovering::epochs);
    let wanted = match (expected.kafkas, segment.active && !expected.clean) {
        (true, _) => Wanted::Kafkas,
        (false, true) => Wanted::True,
        (false, false) => Wanted::Complete,
    };
    let mut sides = Sides::read(ring, dir, segment.base, len, segment.end, wanted);
    let mut walked = Walked::new(segment, len);
    walked.walk(&source, expected, epochs, &mut sides);
    read(there);
    if let Some((position, end)) = walked.cut {
        verdict.cut_at(Place::new(segment.base, position), end);
    }
    let whole = walked.cut.is_none();
    for mut finding in walked.findings {
        finding.path.clone_from(&path);
        verdict.findings.push(finding);
    }
    if whole && segment.active && expected.clean && there > len && !expected.kafkas {
        let what = format!("{there} bytes are there, {len} were recorded: others wrote here");
        verdict.findings.push(
            Finding::damage(&path, what)
                .at(len)
                .todo("Put the file back as it was, or let `corelane log repair --apply` cut it"),
        );
        verdict.cut_at(Place::new(segment.base, len), walked.expected);
    }
    if whole
        && let Some(wanted) = segment.last_batch
        && walked.last != Some(wanted)
    {
        let what = format!(
            "the last batch, with CRC {:08x}, is not at byte {}: others wrote here since the \
             clean stop",
            wanted.crc, wanted.position
        );
        let finding = Finding::damage(&path, what).at(wanted.position);
        verdict.findings.push(finding.todo(
            "Put the file back as it was; `corelane log repair --apply` keeps what is there now",
        ));
        verdict.cut_at(Place::new(segment.base, len), walked.expected);
    }
    verdict.side(sides.finish(whole));
}

/// The batches of one segment.
struct Walked {
    findings: Vec<Finding>,
    /// The first byte that is not good, and the offset that should stand there.
    cut: Option<(u64, Offset)>,
    /// The offset that comes next.
    expected: Offset,
    last: Option<LastBatch>,
    len: u64,
    end: Option<Offset>,
    may_end_early: bool,
}

impl Walked {
    fn new(segment: &Segment, len: u64) -> Walked {
        Walked {
            findings: Vec::new(),
            cut: None,
            expected: segment.base,
            last: None,
            len,
            end: segment.end,
            may_end_early: false,
        }
    }

    fn walk(
        &mut self,
        source: &Overlay<'_>,
        expected: &Expected<'_>,
        epochs: Option<&LeaderEpochs>,
        sides: &mut Sides,
    ) {
        // a killed Kafka leaves a tail that it cuts itself
        self.may_end_early = expected.kafkas && !expected.clean && self.end.is_none();
        let mut scan = SegmentScan::new(source, 0, self.len);
        // after a bad batch the next good one says how it goes on
        let mut lost: Option<Finding> = None;
        loop {
            let (at, batch) = match scan.next_batch() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(fault) => {
                    let at = scan.position();
                    if expected.kafkas && only_zeros(source, at, self.len).unwrap_or(false) {
                        break;
                    }
                    if self.may_end_early {
                        let what = format!("{fault}: Kafka cuts here when it starts");
                        self.findings.push(Finding::note("", what).at(at));
                        break;
                    }
                    let first = self.bad(at, &fault, &mut lost);
                    self.close(&mut lost, first, self.end);
                    return;
                }
            };
            let gap = expected.kafkas || lost.is_some();
            let wanted = match gap && batch.base_offset() > self.expected {
                true => batch.base_offset(),
                false => self.expected,
            };
            let epoch: Option<LeaderEpoch> = epochs.and_then(|epochs| epochs.at(wanted));
            match check_batch(&batch, wanted, epoch) {
                Ok(()) => {
                    self.close(&mut lost, self.expected, Some(wanted));
                    self.expected = batch.next_offset();
                    self.last = Some(LastBatch {
                        position: at,
                        crc: batch.crc(),
                    });
                    sides.batch(at, &batch);
                }
                Err(fault) => {
                    self.bad(at, &fault, &mut lost);
                }
            }
        }
        self.close(&mut lost, self.expected, self.end);
        if let Some(end) = self.end
            && self.cut.is_none()
            && self.expected != end
            && !expected.kafkas
        {
            let what = format!(
                "it ends before offset {}, and should before {end}",
                self.expected
            );
            self.cut = Some((self.len, self.expected));
            let finding = Finding::damage("", what).at(self.len);
            self.findings.push(match self.expected < end {
                true => finding.offsets(self.expected, Some(Offset(end.0 - 1))),
                false => finding,
            });
        }
    }

    /// A bad batch; answers with the first offset that is not good.
    fn bad(&mut self, at: u64, fault: &BatchFault, lost: &mut Option<Finding>) -> Offset {
        self.cut.get_or_insert((at, self.expected));
        if lost.is_none() {
            *lost = Some(
                Finding::damage("", fault)
                    .at(at)
                    .todo("`corelane log repair --apply` cuts the log before it"),
            );
        }
        self.expected
    }

    /// What was lost ends before `next`.
    fn close(&mut self, lost: &mut Option<Finding>, first: Offset, next: Option<Offset>) {
        if let Some(finding) = lost.take() {
            let last = next.map(|next| Offset(next.0 - 1)).filter(|l| *l >= first);
            self.findings.push(finding.offsets(first, last));
        }
    }
}

fn check_epochs(ring: &Ring, expected: &Expected<'_>, verdict: &mut Verdict) {
    let path = expected.dir.join(epoch_checkpoint::FILE_NAME);
    let what = match ring.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => error.to_string(),
        Ok(bytes) => match (epoch_checkpoint::decode(&bytes), expected.state) {
            (Err(error), _) => error.to_string(),
            (Ok(found), Some(state)) if expected.clean && found != state.epochs().starts() => {
                "it is not what the clean stop wrote".to_owned()
            }
            _ => return,
        },
    };
    verdict.wrong_epochs = expected.state.is_some();
    verdict.findings.push(Finding::damage(path, what).todo(
        "Only Kafka reads it; the next clean stop, or `corelane log repair --apply`, writes it anew",
    ));
}
