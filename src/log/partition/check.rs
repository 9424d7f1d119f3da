//! Bytes of a segment's file are checked before they are sent for the first time in a run: what a
//! disk made of them in the meantime, nobody else would notice before a consumer has it. (The
//! checksum leaves offset, length and epoch of a batch out, and librdkafka does not look at it
//! unless it is asked to.)

use smallvec::SmallVec;

use crate::base::checksum::crc32c_append;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::log::format::names::Kind;
use crate::log::partition::Partition;
use crate::log::partition::error::ReadError;
use crate::log::partition::plan::{Part, ReadPlan};
use crate::log::segment::scan::BatchFault;
use crate::log::segment::{BatchHeader, HEADER_BYTES, Place};
use crate::ring::File;
use crate::ring::driver::Residency;

/// Read at a time.
const WINDOW_BYTES: usize = 128 << 10;
/// So much is asked for before it is wanted. The system's own read-ahead is the disk's (128 KiB, 2.5
/// MiB on a loop device, more on a RAID): with 2.5 MiB its worker held this core for milliseconds at
/// a time, and produce beside a reader that catches up had a p99 of 55 ms; with this 8 ms, as with
/// 256 KiB, which reads a fifth slower.
const AHEAD_BYTES: u64 = 512 << 10;
/// After a read of so much others get their turn.
const YIELD_BYTES: usize = 32 << 10;
/// Bytes of a batch that its checksum leaves out.
const UNCHECKED_BYTES: u64 = 21;
/// Runs of a segment that are remembered as checked: as many as readers that are far apart.
const RUNS_MAX: usize = 8;

/// A run of whole batches that are what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    from: u64,
    to: u64,
    /// The offset that stands at `to`.
    next: Offset,
}

/// What was checked of a segment's file, newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked(SmallVec<[Run; 1]>);

impl Checked {
    /// Where the run that holds `at` ends; `at` itself with `offset` if none does.
    fn reach(&self, at: u64, offset: Offset) -> (u64, Offset) {
        let run = self.0.iter().find(|run| run.from <= at && at < run.to);
        run.map_or((at, offset), |run| (run.to, run.next))
    }

    fn add(&mut self, mut new: Run) {
        if new.from >= new.to {
            return;
        }
        self.0.retain(|run| {
            let apart = run.to < new.from || run.from > new.to;
            if !apart {
                new.from = new.from.min(run.from);
                if run.to > new.to {
                    (new.to, new.next) = (run.to, run.next);
                }
            }
            apart
        });
        if self.0.len() == RUNS_MAX {
            self.0.remove(0);
        }
        self.0.push(new);
    }

    /// The segment was cut.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Batches as they come by in pieces.
struct Stream<E> {
    /// Where the batch that comes by begins, and the offset that must stand there.
    at: u64,
    expected: Offset,
    head: SmallVec<[u8; HEADER_BYTES]>,
    header: Option<BatchHeader>,
    /// Bytes of it that are by.
    seen: u64,
    crc: u32,
    epoch_of: E,
}

impl<E: Fn(Offset) -> Option<LeaderEpoch>> Stream<E> {
    fn new(at: u64, expected: Offset, epoch_of: E) -> Stream<E> {
        Stream {
            at,
            expected,
            head: SmallVec::new(),
            header: None,
            seen: 0,
            crc: 0,
            epoch_of,
        }
    }

    /// Whether it stands between two batches.
    fn is_between(&self) -> bool {
        self.seen == 0
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let Some(header) = self.header else {
                let take = bytes.len().min(HEADER_BYTES - self.head.len());
                self.head.extend_from_slice(&bytes[..take]);
                self.seen += take as u64;
                bytes = &bytes[take..];
                if self.head.len() == HEADER_BYTES {
                    self.begin()?;
                    self.end_if_whole()?;
                }
                continue;
            };
            let take = bytes
                .len()
                .min((u64::from(header.len) - self.seen) as usize);
            self.crc = crc32c_append(self.crc, &bytes[..take]);
            self.seen += take as u64;
            bytes = &bytes[take..];
            self.end_if_whole()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), String> {
        let Some(header) = BatchHeader::parse(&self.head) else {
            return Err("no batch begins here".into());
        };
        let (got, expected) = (header.base_offset, self.expected);
        if got != expected {
            return Err(BatchFault::Offset { got, expected }.to_string());
        }
        if let Some(expected) = (self.epoch_of)(got)
            && header.leader_epoch != expected
        {
            let got = header.leader_epoch;
            return Err(BatchFault::Epoch { got, expected }.to_string());
        }
        self.crc = crc32c_append(0, &self.head[UNCHECKED_BYTES as usize..]);
        self.header = Some(header);
        Ok(())
    }

    fn end_if_whole(&mut self) -> Result<(), String> {
        let Some(header) = self.header.filter(|h| u64::from(h.len) == self.seen) else {
            return Ok(());
        };
        if self.crc != header.crc {
            return Err(BatchFault::Checksum.to_string());
        }
        self.at += self.seen;
        self.expected = header.next_offset();
        self.head.clear();
        self.header = None;
        self.seen = 0;
        Ok(())
    }
}

/// Has what follows a window at `at` read meanwhile. The disk may have taken less than was asked for:
/// what is there is looked at, not what was asked for.
fn read_ahead(file: &File, at: u64, to: u64) {
    let next = at + WINDOW_BYTES as u64;
    let horizon = to.min(at + AHEAD_BYTES);
    let last = next.max(horizon.saturating_sub(WINDOW_BYTES as u64));
    if last < horizon && file.residency(last, horizon - last) == Residency::Cold {
        let end = to.min(next + AHEAD_BYTES + AHEAD_BYTES / 2);
        file.read_ahead(next, end - next);
    }
}

impl Partition {
    /// Checks what of a plan comes from a file and was not checked yet in this run. What follows a
    /// bad batch, and the batch itself, is taken out of the plan.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the first batch is bad; the disk's.
    pub async fn check_plan(&self, plan: &mut ReadPlan) -> Result<(), ReadError> {
        let (Some(Part::File { position, len, .. }), Some(first)) =
            (plan.parts.first(), plan.first_offset)
        else {
            return Ok(());
        };
        let (base, from, to) = (plan.end.segment, *position, position + len);
        let (begin, offset, cuts) = {
            let state = self.state.borrow();
            let Some(i) = state.index_of(base) else {
                return Ok(()); // deleted meanwhile; the file is held
            };
            let (begin, offset) = state.segments[i].checked.reach(from, first);
            (begin, offset, state.cuts)
        };
        if begin >= to {
            return Ok(());
        }
        let epoch_of = |offset| self.state.borrow().epochs.at(offset);
        let mut stream = Stream::new(begin, offset, epoch_of);
        let fault = self.pass_by(plan, begin, &mut stream).await?;
        let (good, next) = (stream.at, stream.expected);
        let mut state = self.state.borrow_mut();
        if state.cuts != cuts {
            return Ok(()); // of a log that was cut meanwhile nothing is sent anyway
        }
        if let Some(segment) = state.by_base(base) {
            segment.checked.add(Run {
                from,
                to: good,
                next,
            });
        }
        drop(state);
        let Some(what) = fault else {
            return Ok(());
        };
        let at = Place::new(base, good);
        if good == from {
            return Err(self.corrupt(at, what));
        }
        plan.parts.truncate(1);
        if let Some(Part::File { len, .. }) = plan.parts.first_mut() {
            *len = good - from;
        }
        plan.bytes = good - from;
        plan.end.position = good;
        Ok(())
    }

    /// A batch that is not what was written.
    pub(super) fn corrupt(&self, at: Place, what: impl ToString) -> ReadError {
        ReadError::Corrupt {
            path: self.path(at.segment, Kind::Log),
            at,
            what: what.to_string(),
            news: self.rotten.replace(Some(at)) != Some(at),
        }
    }

    /// Lets the plan's bytes from `begin` on come by, as far as batches go that begin in the file.
    async fn pass_by<E: Fn(Offset) -> Option<LeaderEpoch>>(
        &self,
        plan: &ReadPlan,
        begin: u64,
        stream: &mut Stream<E>,
    ) -> Result<Option<String>, ReadError> {
        let base = plan.end.segment;
        let mut parts = plan.parts.iter();
        if let Some(Part::File {
            file,
            position,
            len,
        }) = parts.next()
        {
            let (mut at, to) = (begin, position + len);
            while at < to {
                read_ahead(file, at, to);
                let want = (to - at).min(WINDOW_BYTES as u64) as usize;
                let window = self.read_window(file, base, at, want).await?;
                if window.is_empty() {
                    return Ok(Some("the file ends before its log".into()));
                }
                if let Err(what) = stream.feed(&window) {
                    return Ok(Some(what));
                }
                at += window.len() as u64;
                if window.len() >= YIELD_BYTES {
                    // a fetch may have megabytes of each of many partitions to be checked
                    drop(window);
                    self.context.ring.yield_now().await;
                }
            }
        }
        for part in parts {
            if stream.is_between() {
                break;
            }
            let Part::Memory(bytes) = part else {
                break;
            };
            // memory is what was appended: only the rest of the batch that the file begins matters
            let mut rest = &bytes[..];
            while !rest.is_empty() && !stream.is_between() {
                let (some, more) = rest.split_at(rest.len().min(HEADER_BYTES));
                if let Err(what) = stream.feed(some) {
                    return Ok(Some(what));
                }
                rest = more;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::wire::batch::{BatchBuilder, stamp};
    use crate::wire::compress::Codec;

    fn segment() -> Vec<u8> {
        let mut all = Vec::new();
        for n in 0..20i64 {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.append(Timestamp(n), None, Some(&vec![7; 37 * n as usize]), &[]);
            let mut bytes = builder.build().unwrap();
            stamp(&mut bytes, Offset(100 + n), LeaderEpoch(3));
            all.extend(bytes);
        }
        all
    }

    fn fed(bytes: &[u8], piece: usize) -> (Result<(), String>, u64, Offset) {
        let mut stream = Stream::new(0, Offset(100), |_| Some(LeaderEpoch(3)));
        let ended = bytes.chunks(piece).try_for_each(|piece| stream.feed(piece));
        (ended, stream.at, stream.expected)
    }

    #[test]
    fn whole_batches_pass_in_pieces_of_any_size() {
        let bytes = segment();
        for piece in [1, 60, 61, 62, 1000, bytes.len()] {
            let passed = fed(&bytes, piece);
            assert_eq!(passed, (Ok(()), bytes.len() as u64, Offset(120)), "{piece}");
        }
    }

    #[test]
    fn every_flipped_bit_stops_at_its_batch() {
        let good = segment();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let (ended, position, _) = fed(&bytes, 100);
            // a length that grew swallows what follows
            let begun = position <= at as u64;
            assert!(
                begun && (ended.is_err() || position < good.len() as u64),
                "byte {at}"
            );
        }
    }

    #[test]
    fn runs_that_touch_become_one() {
        let run = |from, to| Run {
            from,
            to,
            next: Offset(to as i64),
        };
        let mut checked = Checked::default();
        checked.add(run(0, 10));
        checked.add(run(20, 30));
        assert_eq!(checked.reach(5, Offset(5)), (10, Offset(10)));
        assert_eq!(checked.reach(10, Offset(7)), (10, Offset(7)));
        checked.add(run(10, 20));
        assert_eq!(checked.0.len(), 1);
        assert_eq!(checked.reach(0, Offset(0)), (30, Offset(30)));
        for n in 0..20 {
            checked.add(run(100 * n + 50, 100 * n + 60));
        }
        assert!(checked.0.len() <= RUNS_MAX);
    }
}
