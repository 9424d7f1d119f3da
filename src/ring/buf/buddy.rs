//! Which pages of the arena are free: a buddy allocator over chunks of 2 MiB, by page number.
//!
//! Owns numbers only, no memory.

/// Sizes from one page (order 0) to a whole chunk.
pub(super) const ORDERS: usize = 10;
/// Pages of a chunk.
pub(super) const CHUNK_PAGES: u32 = 1 << (ORDERS - 1);

const NONE: u32 = u32::MAX;
const IN_USE: u8 = u8::MAX;

#[derive(Clone, Copy)]
struct Page {
    next: u32,
    prev: u32,
    /// Order of the free block that begins here.
    free: u8,
}

pub(super) struct Buddy {
    pages: Vec<Page>,
    heads: [u32; ORDERS],
    /// Blocks given back and not yet merged, so that a steady state neither splits nor merges.
    recent: [Vec<u32>; ORDERS],
    /// Whole chunks set aside, whose memory the system has back.
    shed: Vec<u32>,
    chunks_max: u32,
}

impl Buddy {
    pub(super) fn new(chunks_max: u32) -> Buddy {
        Buddy {
            pages: Vec::new(),
            heads: [NONE; ORDERS],
            recent: std::array::from_fn(|order| Vec::with_capacity(recent_max(order))),
            shed: Vec::new(),
            chunks_max,
        }
    }

    /// A free block of `1 << order` pages, by its first page's number.
    pub(super) fn take(&mut self, order: usize) -> Option<u32> {
        if let Some(page) = self.recent[order].pop() {
            return Some(page);
        }
        self.split(order).or_else(|| {
            self.merge_recent();
            self.split(order).or_else(|| {
                self.grow()?;
                self.split(order)
            })
        })
    }

    /// Gives a block back.
    pub(super) fn give(&mut self, page: u32, order: usize) {
        if self.recent[order].len() < recent_max(order) {
            self.recent[order].push(page);
        } else {
            self.merge(page, order);
        }
    }

    /// Whether a whole chunk is free that was used before.
    pub(super) fn has_chunk(&self) -> bool {
        self.heads[ORDERS - 1] != NONE || !self.recent[ORDERS - 1].is_empty()
    }

    /// Chunks that were ever handed out and have not been shed.
    pub(super) fn chunks(&self) -> usize {
        self.pages.len() / CHUNK_PAGES as usize - self.shed.len()
    }

    /// Sets a free chunk aside if another one is left, by its first page's number; it is used again
    /// when nothing else is free.
    pub(super) fn shed(&mut self) -> Option<u32> {
        self.merge_recent();
        let page = self.heads[ORDERS - 1];
        if page == NONE || self.pages[page as usize].next == NONE {
            return None;
        }
        self.unlink(page, ORDERS - 1);
        self.shed.push(page);
        Some(page)
    }

    fn grow(&mut self) -> Option<()> {
        if let Some(page) = self.shed.pop() {
            self.link(page, ORDERS - 1);
            return Some(());
        }
        let first = u32::try_from(self.pages.len()).ok()?;
        if first / CHUNK_PAGES >= self.chunks_max {
            return None;
        }
        let unused = Page {
            next: NONE,
            prev: NONE,
            free: IN_USE,
        };
        self.pages
            .resize(self.pages.len() + CHUNK_PAGES as usize, unused);
        self.link(first, ORDERS - 1);
        Some(())
    }

    fn split(&mut self, order: usize) -> Option<u32> {
        let mut from = (order..ORDERS).find(|&o| self.heads[o] != NONE)?;
        let page = self.heads[from];
        self.unlink(page, from);
        while from > order {
            from -= 1;
            self.link(page + (1 << from), from);
        }
        Some(page)
    }

    fn merge_recent(&mut self) {
        for order in 0..ORDERS {
            while let Some(page) = self.recent[order].pop() {
                self.merge(page, order);
            }
        }
    }

    fn merge(&mut self, mut page: u32, mut order: usize) {
        while order < ORDERS - 1 {
            let buddy = page ^ (1 << order);
            if usize::from(self.pages[buddy as usize].free) != order {
                break;
            }
            self.unlink(buddy, order);
            page = page.min(buddy);
            order += 1;
        }
        self.link(page, order);
    }

    fn link(&mut self, page: u32, order: usize) {
        let next = self.heads[order];
        if next != NONE {
            self.pages[next as usize].prev = page;
        }
        self.pages[page as usize] = Page {
            next,
            prev: NONE,
            free: order as u8,
        };
        self.heads[order] = page;
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let Page { next, prev, free } = self.pages[page as usize];
        debug_assert_eq!(usize::from(free), order);
        if prev == NONE {
            self.heads[order] = next;
        } else {
            self.pages[prev as usize].next = next;
        }
        if next != NONE {
            self.pages[next as usize].prev = prev;
        }
        self.pages[page as usize].free = IN_USE;
    }
}

/// At most 256 KiB a size wait unmerged.
fn recent_max(order: usize) -> usize {
    (64 >> order).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_overlap_and_all_memory_comes_back_as_whole_chunks() {
        let mut buddy = Buddy::new(4);
        let mut seed = 7u64;
        let mut held: Vec<(u32, usize)> = Vec::new();
        let mut used = vec![false; 4 * CHUNK_PAGES as usize];
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let roll = (seed >> 33) as usize;
            if !roll.is_multiple_of(3) || held.is_empty() {
                let order = (roll / 3) % ORDERS;
                if let Some(page) = buddy.take(order) {
                    assert_eq!(page % (1 << order), 0);
                    for slot in &mut used[page as usize..page as usize + (1 << order)] {
                        assert!(!std::mem::replace(slot, true));
                    }
                    held.push((page, order));
                }
            } else {
                let (page, order) = held.swap_remove((roll / 3) % held.len());
                used[page as usize..page as usize + (1 << order)].fill(false);
                buddy.give(page, order);
            }
        }
        for (page, order) in held {
            buddy.give(page, order);
        }
        // what was set aside is used again, after what was not
        assert_eq!(buddy.chunks(), 4);
        assert!(buddy.shed().is_some() && buddy.shed().is_some());
        assert_eq!(buddy.chunks(), 2);
        let whole: Vec<_> = (0..4).map(|_| buddy.take(ORDERS - 1)).collect();
        assert!(whole.iter().all(Option::is_some));
        assert_eq!(buddy.take(0), None);
    }
}
