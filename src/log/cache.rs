//! The memory of a shard's drained pages: bounded, shared by its partitions, the longest drained go
//! first. Logs are read forwards, so the oldest page is also the one that is needed least.
//!
//! It begins small and grows towards its bound when readers ask for what has gone: consumers that
//! keep up need a fraction of it, memory that is used again and again stays warm, and new memory is
//! the dearest thing about it (the kernel clears it: 0.1 to 2 CPU-s/GB).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Weak;

use crate::base::ids::Offset;

/// Who holds pages.
pub trait PageHolder {
    /// Lets whole chunks of a segment below a byte go; answers how many bytes of memory that were.
    fn release(&self, segment: Offset, position: u64) -> usize;
}

/// It begins with this part of its bound ...
const FIRST_SHARE: usize = 8;
/// ... and at least this much.
const FIRST_BYTES: usize = 64 << 20;

struct Item {
    holder: Weak<dyn PageHolder>,
    segment: Offset,
    position: u64,
    bytes: usize,
}

/// See the module.
pub struct PageCache {
    max_bytes: usize,
    /// What it may hold now.
    limit_bytes: Cell<usize>,
    /// Bytes added since that was raised.
    since_raised: Cell<usize>,
    used_bytes: Cell<usize>,
    queue: RefCell<VecDeque<Item>>,
}

impl PageCache {
    /// A cache of at most so many bytes.
    pub fn new(max_bytes: usize) -> PageCache {
        PageCache {
            max_bytes,
            limit_bytes: Cell::new((max_bytes / FIRST_SHARE).max(FIRST_BYTES).min(max_bytes)),
            since_raised: Cell::new(0),
            used_bytes: Cell::new(0),
            queue: RefCell::new(VecDeque::new()),
        }
    }

    /// Bytes of memory that could go.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    /// Takes over `bytes` of a segment's chunks that end at or below `position` and are in the
    /// file now. Older ones go where that is too much. Never called while a holder is borrowed.
    pub fn add(&self, holder: Weak<dyn PageHolder>, segment: Offset, position: u64, bytes: usize) {
        self.used_bytes.set(self.used_bytes.get() + bytes);
        self.since_raised
            .set(self.since_raised.get().saturating_add(bytes));
        self.queue.borrow_mut().push_back(Item {
            holder,
            segment,
            position,
            bytes,
        });
        let over = self.used_bytes.get().saturating_sub(self.limit_bytes.get());
        self.make_room(over);
    }

    /// A reader asked for pages that were here and have gone. More may stay from now on, once all that
    /// is here came after the last raise: what came before could not have stayed.
    pub fn missed(&self) {
        let limit = self.limit_bytes.get();
        if self.since_raised.get() >= limit && limit < self.max_bytes {
            self.limit_bytes.set((limit * 2).min(self.max_bytes));
            self.since_raised.set(0);
        }
    }

    /// Lets pages go until `bytes` of memory are free or nothing is left; answers how many went.
    pub fn make_room(&self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes {
            let Some(item) = self.queue.borrow_mut().pop_front() else {
                break;
            };
            self.used_bytes
                .set(self.used_bytes.get().saturating_sub(item.bytes));
            if let Some(holder) = item.holder.upgrade() {
                freed += holder.release(item.segment, item.position);
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[derive(Default)]
    struct Pages(RefCell<Vec<(i64, u64)>>);

    impl PageHolder for Pages {
        fn release(&self, segment: Offset, position: u64) -> usize {
            self.0.borrow_mut().push((segment.0, position));
            4096
        }
    }

    #[test]
    fn the_longest_drained_go_first() {
        let cache = PageCache::new(8192);
        let pages: Rc<dyn PageHolder> = Rc::new(Pages::default());
        let first = Rc::new(Pages::default());
        let holder: Rc<dyn PageHolder> = first.clone();
        cache.add(Rc::downgrade(&holder), Offset(0), 4096, 4096);
        cache.add(Rc::downgrade(&pages), Offset(7), 4096, 4096);
        assert!(first.0.borrow().is_empty());
        cache.add(Rc::downgrade(&pages), Offset(7), 8192, 4096);
        assert_eq!(*first.0.borrow(), [(0, 4096)]);
        assert_eq!(cache.used_bytes(), 8192);
        assert_eq!(cache.make_room(1), 4096);
        assert_eq!(cache.used_bytes(), 4096);
    }

    #[test]
    fn it_grows_only_when_readers_miss_what_was_there() {
        struct Mebibyte;

        impl PageHolder for Mebibyte {
            fn release(&self, _: Offset, _: u64) -> usize {
                1 << 20
            }
        }

        let max = 3 * FIRST_BYTES;
        let cache = PageCache::new(max);
        let pages: Rc<dyn PageHolder> = Rc::new(Mebibyte);
        let add = |times: usize| {
            for _ in 0..times {
                let position = 1 << 20;
                cache.add(Rc::downgrade(&pages), Offset(0), position, 1 << 20);
            }
        };
        let first = FIRST_BYTES >> 20;
        add(2 * first);
        assert_eq!(cache.used_bytes(), FIRST_BYTES);
        cache.missed();
        cache.missed(); // what the first one raised had no time to help
        add(4 * first);
        assert_eq!(cache.used_bytes(), 2 * FIRST_BYTES);
        cache.missed();
        add(8 * first);
        assert_eq!(cache.used_bytes(), max);
    }

    #[test]
    fn who_is_gone_frees_nothing_and_is_forgotten() {
        let cache = PageCache::new(0);
        let pages: Rc<dyn PageHolder> = Rc::new(Pages::default());
        let holder = Rc::downgrade(&pages);
        drop(pages);
        cache.add(holder, Offset(0), 4096, 4096);
        assert_eq!(cache.used_bytes(), 0);
        assert_eq!(cache.make_room(1), 0);
    }
}
