//! What a file holds: now, and what of it a power cut may leave.
//!
//! Everyone reads the newest bytes (page cache and direct IO are coherent). Beside them each page
//! that changed since its last flush keeps its older versions, beginning with the durable one; a
//! power cut picks one of them for every sector.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::rng::Rng;

/// Order of changes on one file system.
pub(crate) type Seq = u64;

pub(crate) const PAGE: usize = 4096;
pub(crate) const SECTOR: usize = 512;

type Page = Rc<[u8; PAGE]>;

/// How much of what was not flushed survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Luck {
    /// Nothing.
    Lost,
    /// Each sector is the newest with this probability, else any of its versions.
    Mixed(f64),
    /// Everything.
    Kept,
}

impl Luck {
    /// As chance has it.
    pub fn draw(rng: &mut Rng) -> Luck {
        match rng.below(6) {
            0 => Luck::Lost,
            1 => Luck::Kept,
            2 => Luck::Mixed(0.95),
            3 => Luck::Mixed(0.0),
            _ => Luck::Mixed(0.5),
        }
    }

    fn choose(self, rng: &mut Rng, versions: usize) -> usize {
        match self {
            Luck::Lost => 0,
            Luck::Kept => versions - 1,
            Luck::Mixed(newest) if rng.chance(newest) => versions - 1,
            Luck::Mixed(_) => rng.index(versions),
        }
    }
}

#[derive(Clone)]
struct Version {
    seq: Seq,
    /// This version came of cutting the file: bytes of the page from here on were given up.
    cut: Option<usize>,
    /// None: zeros.
    bytes: Option<Page>,
}

struct History {
    /// Oldest first; the first is durable, the live page is not in it.
    older: Vec<Version>,
    live: Seq,
    live_cut: Option<usize>,
    /// Versions up to here were given up by a failed flush: no later one makes them durable.
    lost: Seq,
}

/// Versions kept of one page; a page rewritten more often between two flushes forgets some.
const VERSIONS: usize = 6;

/// A file's bytes and length.
pub(crate) struct Content {
    live: BTreeMap<u64, Page>,
    histories: BTreeMap<u64, History>,
    /// Lengths since the last flush; the first is durable, the last is what readers see.
    sizes: Vec<(Seq, u64)>,
    /// End of the space it takes.
    pub(crate) alloc_end: u64,
}

impl Content {
    pub(crate) fn new() -> Content {
        Content {
            live: BTreeMap::new(),
            histories: BTreeMap::new(),
            sizes: vec![(0, 0)],
            alloc_end: 0,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.sizes[self.sizes.len() - 1].1
    }

    /// Bytes up to the end of the file.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let end = self.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < end {
            let at = offset + done as u64;
            let start = (at % PAGE as u64) as usize;
            let n = (PAGE - start).min(end - done);
            let to = &mut buf[done..done + n];
            match self.live.get(&(at / PAGE as u64)) {
                Some(page) => to.copy_from_slice(&page[start..start + n]),
                None => to.fill(0),
            }
            done += n;
        }
        done
    }

    /// The end that space must be found for, were this written.
    pub(crate) fn alloc_after(&self, offset: u64, len: u64) -> u64 {
        self.alloc_end
            .max((offset + len).next_multiple_of(PAGE as u64))
    }

    pub(crate) fn write(&mut self, seq: Seq, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = (at % PAGE as u64) as usize;
            let n = (PAGE - start).min(bytes.len() - done);
            let page = at / PAGE as u64;
            self.remember(page, seq, None);
            let live = self.live.entry(page).or_insert_with(|| Rc::new([0; PAGE]));
            Rc::make_mut(live)[start..start + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        let end = offset + bytes.len() as u64;
        if end > self.size() {
            self.sizes.push((seq, end));
        }
        self.alloc_end = self.alloc_after(offset, bytes.len() as u64);
    }

    /// Cuts or extends.
    pub(crate) fn set_len(&mut self, seq: Seq, len: u64) {
        let old = self.size();
        if len < old {
            let first = len / PAGE as u64;
            let pages: Vec<u64> = self.live.range(first..).map(|(page, _)| *page).collect();
            for page in pages {
                let from = len.saturating_sub(page * PAGE as u64) as usize;
                if from >= PAGE {
                    continue;
                }
                self.remember(page, seq, Some(from));
                if from == 0 {
                    self.live.remove(&page);
                } else if let Some(live) = self.live.get_mut(&page) {
                    Rc::make_mut(live)[from..].fill(0);
                }
            }
        }
        if len != old {
            self.sizes.push((seq, len));
        }
        self.alloc_end = match len < old {
            true => len.next_multiple_of(PAGE as u64),
            false => self.alloc_end.max(len.next_multiple_of(PAGE as u64)),
        };
    }

    fn remember(&mut self, page: u64, seq: Seq, cut: Option<usize>) {
        let bytes = self.live.get(&page).cloned();
        let h = self.histories.entry(page).or_insert(History {
            older: Vec::new(),
            live: 0,
            live_cut: None,
            lost: 0,
        });
        h.older.push(Version {
            seq: h.live,
            cut: h.live_cut,
            bytes,
        });
        h.live = seq;
        h.live_cut = cut;
        if h.older.len() > VERSIONS
            && let Some(i) = (1..h.older.len() - 1).find(|i| h.older[*i].cut.is_none())
        {
            h.older.remove(i);
        }
    }

    /// All changes up to `upto` are durable now.
    pub(crate) fn flushed(&mut self, upto: Seq) {
        self.histories.retain(|_, h| {
            if h.live <= upto && h.live > h.lost {
                return false;
            }
            let last = h
                .older
                .iter()
                .rposition(|v| v.seq <= upto && v.seq > h.lost);
            if let Some(i) = last {
                h.older.drain(..i);
                h.older[0].seq = 0;
                h.older[0].cut = None;
            }
            true
        });
        if let Some(i) = self.sizes.iter().rposition(|(seq, _)| *seq <= upto) {
            self.sizes.drain(..i);
            self.sizes[0].0 = 0;
        }
    }

    /// A flush failed: some pages will never be written, though everyone reads them.
    pub(crate) fn flush_failed(&mut self, rng: &mut Rng, upto: Seq) {
        let one = rng.index(self.histories.len().max(1));
        for (i, h) in self.histories.values_mut().enumerate() {
            if i == one || rng.chance(0.5) {
                h.lost = upto;
            }
        }
    }

    /// Whether a power cut could change anything.
    pub(crate) fn is_durable(&self) -> bool {
        self.histories.is_empty() && self.sizes.len() == 1
    }

    /// The power fails: the length and each unflushed sector become any that is legal.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng, luck: Luck) {
        let (meta, size) = self.sizes[luck.choose(rng, self.sizes.len())];
        for (page, mut h) in std::mem::take(&mut self.histories) {
            h.older.push(Version {
                seq: h.live,
                cut: h.live_cut,
                bytes: self.live.get(&page).cloned(),
            });
            // with the length of before a cut the file has the blocks of before it
            let end = h
                .older
                .iter()
                .position(|v| v.cut.is_some() && v.seq > meta)
                .unwrap_or(h.older.len());
            let versions = &h.older[..end];
            let whole = rng.chance(0.5).then(|| luck.choose(rng, end));
            let mut bytes = [0; PAGE];
            for sector in 0..PAGE / SECTOR {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                let pick = whole.unwrap_or_else(|| luck.choose(rng, end));
                if let Some(from) = &versions[pick].bytes {
                    bytes[range.clone()].copy_from_slice(&from[range.clone()]);
                }
                for cut in versions[pick + 1..].iter().filter_map(|v| v.cut) {
                    bytes[cut.clamp(range.start, range.end)..range.end].fill(0);
                }
            }
            self.live.insert(page, Rc::new(bytes));
        }
        self.live.retain(|page, _| page * (PAGE as u64) < size);
        let tail = (size % PAGE as u64) as usize;
        if tail > 0
            && let Some(page) = self.live.get_mut(&(size / PAGE as u64))
        {
            Rc::make_mut(page)[tail..].fill(0);
        }
        self.sizes = vec![(0, size)];
        self.alloc_end = size.next_multiple_of(PAGE as u64);
    }

    /// Flips a bit, on the medium and in every cache.
    pub(crate) fn rot(&mut self, offset: u64, bit: u8) {
        let page = offset / PAGE as u64;
        let at = (offset % PAGE as u64) as usize;
        let flip = |bytes: &mut Option<Page>| {
            let bytes = bytes.get_or_insert_with(|| Rc::new([0; PAGE]));
            Rc::make_mut(bytes)[at] ^= 1 << (bit & 7);
        };
        let mut live = self.live.remove(&page);
        flip(&mut live);
        self.live.extend(live.map(|bytes| (page, bytes)));
        if let Some(h) = self.histories.get_mut(&page) {
            h.older.iter_mut().for_each(|v| flip(&mut v.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut out = vec![0; content.size() as usize];
        assert_eq!(content.read(0, &mut out), out.len());
        out
    }

    #[test]
    fn flushed_bytes_survive_and_unflushed_ones_may_be_torn_at_sectors() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut c = Content::new();
            c.write(1, 0, &[1; 8192]);
            c.flushed(1);
            c.write(2, 0, &[2; 4096]);
            let luck = Luck::draw(&mut rng);
            c.power_cut(&mut rng, luck);
            let now = bytes(&c);
            assert_eq!(now.len(), 8192, "the flushed length stays");
            assert!(
                now[4096..].iter().all(|b| *b == 1),
                "the flushed page stays"
            );
            let new = now[..4096].chunks(SECTOR).filter(|s| s[0] == 2).count();
            assert!(
                now[..4096]
                    .chunks(SECTOR)
                    .all(|s| s.iter().all(|b| *b == s[0]))
            );
            match new {
                0 => lost += 1,
                8 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 10 && lost > 10 && torn > 10, "{kept} {lost} {torn}");
    }

    #[test]
    fn length_and_data_part_ways_until_the_flush() {
        let (mut longer, mut zeros) = (0, 0);
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut c = Content::new();
            c.write(1, 0, &[7; 4096]);
            c.power_cut(&mut rng, Luck::Mixed(0.5));
            longer += u32::from(c.size() == 4096);
            zeros += u32::from(bytes(&c).contains(&0));
        }
        assert!(longer > 50 && longer < 190, "{longer}");
        assert!(zeros > 10, "{zeros}");
    }

    #[test]
    fn a_flush_covers_what_came_before_it_only() {
        let mut c = Content::new();
        c.write(1, 0, &[1; 512]);
        c.write(2, 0, &[2; 512]);
        c.write(3, 0, &[3; 512]);
        c.flushed(2);
        c.power_cut(&mut Rng::new(1), Luck::Lost);
        assert_eq!(bytes(&c), [2; 512]);
    }

    #[test]
    fn a_cut_and_regrown_file_never_shows_old_bytes_at_its_new_length() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut c = Content::new();
            c.write(1, 0, &[1; 12288]);
            c.flushed(1);
            c.set_len(2, 700);
            c.write(3, 4096, &[3; 4096]);
            c.power_cut(&mut rng, Luck::Mixed(0.3));
            let now = bytes(&c);
            match now.len() {
                12288 => assert!(
                    now.iter().all(|b| *b == 1),
                    "before the cut nothing changed"
                ),
                700 => assert!(now.iter().all(|b| *b == 1)),
                8192 => {
                    assert!(now[700..4096].iter().all(|b| *b == 0), "seed {seed}");
                    assert!(now[4096..].iter().all(|b| *b == 0 || *b == 3));
                }
                other => panic!("a length that never was: {other}"),
            }
        }
    }

    #[test]
    fn after_a_failed_flush_the_next_one_succeeds_and_the_data_is_gone() {
        let mut c = Content::new();
        c.write(1, 0, &[1; 4096]);
        c.flushed(1);
        c.write(2, 0, &[2; 4096]);
        c.flush_failed(&mut Rng::new(1), 2);
        c.flushed(3);
        assert_eq!(bytes(&c), [2; 4096], "readers see it");
        c.power_cut(&mut Rng::new(1), Luck::Lost);
        assert_eq!(bytes(&c), [1; 4096]);
    }
}
