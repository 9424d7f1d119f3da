//! The end of a segment in memory: a run of page-aligned chunks that reaches to the segment's last
//! byte. One copy serves as drain source, cache and read source. Memory goes at the front only.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::limits::PAGE_BYTES;
use crate::base::time::Monotonic;
use crate::ring::buf::{AppendBuf, Arena, Buf};

const PAGE: u64 = PAGE_BYTES as u64;
/// Chunks grow to this for a partition that fills them quickly, so that reads and drains have few
/// parts; a large batch gets chunks of this size at once.
const CHUNK_MAX: usize = 256 << 10;
/// A chunk that was filled within this time is followed by a larger one.
const QUICK: Duration = Duration::from_secs(1);

struct Chunk {
    /// File position of the chunk's first byte, a multiple of the page size.
    at: u64,
    buf: AppendBuf,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.at + self.buf.len() as u64
    }
}

/// See the module.
pub struct Tail {
    chunks: VecDeque<Chunk>,
    /// First byte that is held. What stands between the first chunk's start and this only the file
    /// has; here are zeros, or what was read from there to write the whole page.
    start: u64,
    has_prefix: bool,
    end: u64,
    /// Capacity reserved behind `end`.
    room: usize,
    habit: usize,
    last_grown: Monotonic,
}

impl Tail {
    /// Nothing in memory of a segment of `end` bytes.
    pub fn new(end: u64) -> Tail {
        Tail {
            chunks: VecDeque::new(),
            start: end,
            has_prefix: false,
            end,
            room: 0,
            habit: PAGE_BYTES,
            last_grown: Monotonic(0),
        }
    }

    /// First byte that is held.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// One after the last byte: the segment's length.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The first page cannot be written: its bytes up to [`Tail::start`] are in the file only.
    pub fn lacks_prefix(&self) -> bool {
        !self.chunks.is_empty() && !self.start.is_multiple_of(PAGE) && !self.has_prefix
    }

    /// Memory held, in bytes.
    pub fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.buf.capacity()).sum()
    }

    /// Makes room for `bytes` more; false if the arena has none, and then nothing changed.
    pub fn reserve(&mut self, bytes: usize, arena: &Arena, now: Monotonic) -> bool {
        if bytes <= self.room {
            return true;
        }
        let before = self.chunks.len();
        let first_skip = if before == 0 { self.end % PAGE } else { 0 } as usize;
        let mut missing = bytes - self.room + first_skip;
        let tight = arena.used_bytes() > arena.budget_bytes() / 2;
        let mut gained = 0;
        let mut at = self
            .chunks
            .back()
            .map_or(self.end - first_skip as u64, |chunk| {
                chunk.at + chunk.buf.capacity() as u64
            });
        let mut habit = self.habit;
        if before > 0 {
            habit = match now.since(self.last_grown) < QUICK && !tight {
                true => (habit * 2).min(CHUNK_MAX),
                false => PAGE_BYTES,
            };
        }
        while missing > 0 {
            let want = missing.next_power_of_two().min(CHUNK_MAX).max(habit);
            let Some(buf) = arena.try_alloc(want).or_else(|| {
                (want > PAGE_BYTES)
                    .then(|| arena.try_alloc(PAGE_BYTES))
                    .flatten()
            }) else {
                self.chunks.truncate(before);
                return false;
            };
            let mut buf = AppendBuf::new(buf);
            if self.chunks.is_empty() {
                buf.pad_to(first_skip);
            }
            missing = missing.saturating_sub(buf.capacity());
            gained += buf.capacity();
            let next = at + buf.capacity() as u64;
            self.chunks.push_back(Chunk { at, buf });
            at = next;
        }
        self.room += gained - first_skip;
        self.habit = habit;
        self.last_grown = now;
        true
    }

    /// Copies bytes to the end.
    ///
    /// # Panics
    /// If no room was reserved for them.
    pub fn append(&mut self, mut bytes: &[u8]) {
        assert!(bytes.len() <= self.room, "room is reserved before");
        self.room -= bytes.len();
        let mut i = self.index_of_end();
        while !bytes.is_empty() {
            let taken = self.chunks[i].buf.append(bytes);
            bytes = &bytes[taken..];
            self.end += taken as u64;
            i += 1;
        }
    }

    /// The chunk that takes the next byte.
    fn index_of_end(&self) -> usize {
        let mut i = self.chunks.len();
        while i > 0 && self.chunks[i - 1].buf.remaining() > 0 {
            i -= 1;
            if !self.chunks[i].buf.is_empty() {
                break;
            }
        }
        i
    }

    fn index_at(&self, position: u64) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.at <= position)
            .saturating_sub(1)
    }

    /// Copies bytes from `position` on into `out`; false unless all of them are held.
    pub fn copy(&self, position: u64, out: &mut [u8]) -> bool {
        let end = position + out.len() as u64;
        if position < self.start || end > self.end {
            return false;
        }
        let (mut done, mut i) = (0, self.index_at(position));
        while done < out.len() {
            let chunk = &self.chunks[i];
            let from = (position + done as u64 - chunk.at) as usize;
            let part = &chunk.buf.filled()[from..];
            let len = part.len().min(out.len() - done);
            out[done..done + len].copy_from_slice(&part[..len]);
            done += len;
            i += 1;
        }
        true
    }

    /// Shares the bytes from `from` to `to`, in as many parts as there are chunks.
    ///
    /// # Panics
    /// If not all of them are held.
    pub fn share(&self, from: u64, to: u64, part: impl FnMut(Buf)) {
        assert!(self.start <= from);
        self.share_pages(from, to, part);
    }

    /// As [`Tail::share`], to write it: `from` may be where the first page begins.
    pub fn share_pages(&self, from: u64, to: u64, mut part: impl FnMut(Buf)) {
        let held = match self.has_prefix {
            true => self.start - self.start % PAGE,
            false => self.start,
        };
        assert!(held <= from && to <= self.end);
        let (mut at, mut i) = (from, self.index_at(from));
        while at < to {
            let chunk = &self.chunks[i];
            let until = to.min(chunk.end());
            part(
                chunk
                    .buf
                    .slice((at - chunk.at) as usize..(until - chunk.at) as usize),
            );
            at = until;
            i += 1;
        }
    }

    /// Puts what the file has of the first page before [`Tail::start`] in, so that the whole page
    /// can be written. Reads go on to take it from the file, for there it is checked.
    pub fn set_prefix(&mut self, page: &[u8], arena: &Arena) -> bool {
        if !self.lacks_prefix() {
            return true;
        }
        let Some(first) = self.chunks.front_mut() else {
            return true;
        };
        let skip = (self.start - first.at) as usize;
        if page.len() < skip {
            return false;
        }
        let Some(mut buf) = arena.try_alloc(first.buf.capacity()) else {
            return false;
        };
        let filled = first.buf.filled();
        buf[..skip].copy_from_slice(&page[..skip]);
        buf[skip..filled.len()].copy_from_slice(&filled[skip..]);
        first.buf = AppendBuf::with_len(buf, filled.len());
        self.has_prefix = true;
        true
    }

    /// Lets whole chunks below `position` go; answers how many bytes of memory that were.
    pub fn release_below(&mut self, position: u64) -> usize {
        let mut freed = 0;
        while let Some(first) = self.chunks.front() {
            let full = first.buf.remaining() == 0;
            if !full || first.end() > position {
                break;
            }
            freed += first.buf.capacity();
            self.start = first.end();
            self.has_prefix = false;
            self.chunks.pop_front();
        }
        freed
    }

    /// Lets everything go of a segment that will not grow and is wholly in its file.
    pub fn release_all(&mut self) -> usize {
        let freed = self.capacity();
        self.chunks = VecDeque::new();
        self.start = self.end;
        self.has_prefix = false;
        self.room = 0;
        freed
    }

    /// End of the first chunk, if that is full: what [`Tail::release_below`] can let go next.
    pub fn first_chunk_end(&self) -> Option<u64> {
        self.chunks
            .front()
            .filter(|chunk| chunk.buf.remaining() == 0)
            .map(Chunk::end)
    }

    /// The full chunks that begin at or after `from` and end at or below `to`: where the last of
    /// them ends (`from` without any), and their memory in bytes.
    pub fn full_chunks(&self, from: u64, to: u64) -> (u64, usize) {
        let (mut end, mut bytes) = (from, 0);
        let first = self.chunks.partition_point(|chunk| chunk.end() <= from);
        for chunk in self.chunks.range(first..) {
            if chunk.buf.remaining() > 0 || chunk.end() > to {
                break;
            }
            end = chunk.end();
            bytes += chunk.buf.capacity();
        }
        (end, bytes)
    }

    /// Cuts the end off. Bytes that are shared with readers stay theirs; what comes after goes to
    /// memory of its own. False if the arena has none for that.
    pub fn truncate(&mut self, end: u64, arena: &Arena) -> bool {
        if end >= self.end {
            return true;
        }
        if end <= self.start {
            *self = Tail {
                habit: self.habit,
                last_grown: self.last_grown,
                ..Tail::new(end)
            };
            return true;
        }
        let i = self.index_at(end);
        let chunk = &self.chunks[i];
        let keep = (end - chunk.at) as usize;
        let mut kept = None;
        if keep > 0 {
            let Some(mut buf) = arena.try_alloc(chunk.buf.capacity()) else {
                return false;
            };
            buf[..keep].copy_from_slice(&chunk.buf.filled()[..keep]);
            let at = chunk.at;
            kept = Some(Chunk {
                at,
                buf: AppendBuf::with_len(buf, keep),
            });
        }
        self.chunks.truncate(i);
        self.chunks.extend(kept);
        self.end = end;
        self.room = self.chunks.back().map_or(0, |chunk| chunk.buf.remaining());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        Arena::new(8 << 20)
    }

    fn bytes(tail: &Tail, from: u64, to: u64) -> Vec<u8> {
        let mut all = Vec::new();
        tail.share(from, to, |part| all.extend_from_slice(&part));
        all
    }

    fn push(tail: &mut Tail, arena: &Arena, bytes: &[u8]) {
        assert!(tail.reserve(bytes.len(), arena, Monotonic(0)));
        tail.append(bytes);
    }

    #[test]
    fn a_little_costs_one_page() {
        let arena = arena();
        let mut tail = Tail::new(0);
        push(&mut tail, &arena, b"hello");
        assert_eq!(tail.capacity(), 4096);
        assert_eq!(bytes(&tail, 1, 4), b"ell");
    }

    #[test]
    fn bytes_come_back_across_chunks_of_all_sizes() {
        let arena = arena();
        let mut tail = Tail::new(0);
        let mut model = Vec::new();
        for n in 0..200usize {
            let part: Vec<u8> = (0..(n * 977) % 9000).map(|i| (i + n) as u8).collect();
            push(&mut tail, &arena, &part);
            model.extend_from_slice(&part);
        }
        assert_eq!(tail.end(), model.len() as u64);
        assert_eq!(bytes(&tail, 0, tail.end()), model);
        let mut some = [0; 5000];
        assert!(tail.copy(4000, &mut some));
        assert_eq!(some[..], model[4000..9000]);
        assert!(!tail.copy(tail.end() - 10, &mut some));
    }

    #[test]
    fn a_segment_that_goes_on_mid_page_keeps_its_alignment_and_knows_what_it_lacks() {
        let arena = arena();
        let mut tail = Tail::new(5000);
        push(&mut tail, &arena, &[7; 100]);
        assert!(tail.lacks_prefix());
        assert_eq!((tail.start(), tail.end()), (5000, 5100));
        assert!(!tail.copy(4999, &mut [0; 2]));
        let mut page = vec![3; 904];
        page.resize(4096, 0);
        assert!(tail.set_prefix(&page, &arena));
        assert!(!tail.lacks_prefix());
        let mut whole = Vec::new();
        tail.share_pages(4096, 5002, |part| whole.extend_from_slice(&part));
        assert_eq!(whole[..904], page[..904]);
        assert_eq!(whole[904..], [7, 7]);
        assert_eq!(tail.start(), 5000, "reads take it from the file");
        assert!(!tail.copy(4999, &mut [0; 2]));
    }

    #[test]
    fn memory_goes_at_the_front_by_whole_chunks() {
        let arena = arena();
        let mut tail = Tail::new(0);
        for _ in 0..5 {
            push(&mut tail, &arena, &[1; 4096]);
        }
        let used = arena.used_bytes();
        assert_eq!(tail.first_chunk_end(), Some(4096));
        assert_eq!(tail.release_below(4095), 0);
        assert_eq!(tail.release_below(4096), 4096);
        assert_eq!(tail.start(), 4096);
        assert_eq!(arena.used_bytes(), used - 4096);
    }

    #[test]
    fn without_memory_nothing_changes() {
        let arena = Arena::new(8192);
        let mut tail = Tail::new(0);
        push(&mut tail, &arena, &[1; 4000]);
        assert!(!tail.reserve(20_000, &arena, Monotonic(0)));
        assert_eq!(tail.capacity(), 4096);
        push(&mut tail, &arena, &[2; 4192]);
        assert_eq!(bytes(&tail, 3999, 4001), [1, 2]);
    }

    #[test]
    fn what_readers_hold_survives_a_cut_and_new_bytes() {
        let arena = arena();
        let mut tail = Tail::new(0);
        push(&mut tail, &arena, &[1; 6000]);
        let mut held = Vec::new();
        tail.share(0, 6000, |part| held.push(part));
        assert!(tail.truncate(5000, &arena));
        push(&mut tail, &arena, &[2; 3000]);
        assert_eq!(bytes(&tail, 4999, 5001), [1, 2]);
        assert!(held.iter().all(|part| part.iter().all(|b| *b == 1)));
        assert!(tail.truncate(0, &arena));
        assert_eq!((tail.start(), tail.end(), tail.capacity()), (0, 0, 0));
    }
}
