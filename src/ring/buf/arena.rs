//! The arena: where pages come from, and the blocks that count their users.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use super::buddy::{Buddy, CHUNK_PAGES, ORDERS};
use super::unique::BufMut;
use crate::base::limits::PAGE_BYTES;
use crate::ring::sync::Event;
use crate::ring::sync::semaphore::{Permit, Semaphore};

/// What the arena takes from the system at a time; a huge page where the system has them.
pub const CHUNK_BYTES: usize = CHUNK_PAGES as usize * PAGE_BYTES;

/// Single mappings that are kept for the next buffer of their size: fresh memory costs more than all
/// that is done with it afterwards, for the kernel clears it page by page.
const KEPT_MAPPINGS: usize = 4;
/// They hold at most this part of the budget.
const KEPT_SHARE: usize = 8;

/// A bound in bytes that several users share; whoever waits longest is served first.
#[derive(Clone)]
pub struct Budget(Semaphore);

/// Bytes of a [`Budget`] that are spoken for, until dropped.
pub type Grant = Permit;

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes: u64) -> Budget {
        Budget(Semaphore::new(bytes))
    }

    /// The whole budget, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.0.total()
    }

    /// Bytes that are granted now.
    pub fn used_bytes(&self) -> u64 {
        self.0.total() - self.0.available()
    }

    /// How many wait for bytes.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Bytes at once, or none if they do not fit or others wait.
    pub fn try_grant(&self, bytes: u64) -> Option<Grant> {
        self.0.try_acquire(bytes)
    }

    /// Takes bytes out that come back by [`Budget::give_back`], from wherever they went; false if they
    /// do not fit or others wait.
    pub fn try_lend(&self, bytes: u64) -> bool {
        self.0.try_take(bytes)
    }

    /// As [`Budget::try_lend`], but waits, in the order of asking.
    ///
    /// # Panics
    /// If more is asked for than the whole budget.
    pub async fn lend(&self, bytes: u64) {
        self.0.take(bytes).await;
    }

    /// Bytes that were lent are back.
    pub fn give_back(&self, bytes: u64) {
        self.0.give(bytes);
    }

    /// Waits for bytes in the order of asking.
    ///
    /// # Panics
    /// If more is asked for than the whole budget.
    pub async fn grant(&self, bytes: u64) -> Grant {
        self.0.acquire(bytes).await
    }
}

/// The page-aligned memory of a shard. Sizes are powers of two from 4 KiB to 2 MiB; larger ones
/// are mapped one by one. What is handed out never exceeds the budget.
#[derive(Clone)]
pub struct Arena(Rc<Inner>);

pub(super) struct Inner {
    budget: Semaphore,
    base: NonNull<u8>,
    mapped: usize,
    buddy: RefCell<Buddy>,
    headers: RefCell<Vec<NonNull<Block>>>,
    kept: RefCell<Kept>,
    /// Most bytes handed out since the last [`Arena::needed_bytes`], and before it.
    peaks: [Cell<u64>; 2],
    /// The last free chunk of memory that the system has given was begun.
    dry: Event,
}

/// Mappings without a user.
#[derive(Default)]
struct Kept {
    mappings: Vec<(NonNull<u8>, usize)>,
    bytes: usize,
}

/// Memory with its user count. Headers are recycled with the arena.
pub(super) struct Block {
    pub(super) users: Cell<usize>,
    pub(super) ptr: NonNull<u8>,
    pub(super) capacity: usize,
    source: Source,
}

enum Source {
    Pages {
        arena: Rc<Inner>,
        page: u32,
        order: u8,
    },
    Mapped {
        arena: Rc<Inner>,
    },
    Heap {
        _bytes: Vec<u8>,
    },
    Unused,
}

impl Arena {
    /// An arena that hands out at most `budget_bytes`. Memory is taken from the system when it
    /// is first used.
    ///
    /// # Panics
    /// If there is not that much address space.
    pub fn new(budget_bytes: usize) -> Arena {
        // A quarter more than the budget, so that fragments seldom force single mappings.
        let chunks = (budget_bytes + budget_bytes / 4).div_ceil(CHUNK_BYTES) + 1;
        let mapped = (chunks + 1) * CHUNK_BYTES;
        let base = map(mapped);
        Arena(Rc::new(Inner {
            budget: Semaphore::new(budget_bytes as u64),
            base,
            mapped,
            buddy: RefCell::new(Buddy::new(u32::try_from(chunks).unwrap_or(u32::MAX))),
            headers: RefCell::new(Vec::new()),
            kept: RefCell::default(),
            peaks: Default::default(),
            dry: Event::new(),
        }))
    }

    /// The bound, in bytes.
    pub fn budget_bytes(&self) -> usize {
        self.0.budget.total() as usize
    }

    /// Bytes handed out, counted by capacity.
    pub fn used_bytes(&self) -> usize {
        (self.0.budget.total() - self.0.budget.available()) as usize
    }

    /// A buffer of at least `bytes`, or none if the budget is spent or others wait for it. Its
    /// content is whatever was there before.
    pub fn try_alloc(&self, bytes: usize) -> Option<BufMut> {
        let capacity = capacity_for(bytes);
        self.0
            .budget
            .try_take(capacity as u64)
            .then(|| self.carve(capacity))
    }

    /// A buffer of at least `bytes`, waiting for the budget in the order of asking. Its content
    /// is whatever was there before.
    ///
    /// # Panics
    /// If it is larger than the whole budget.
    pub async fn alloc(&self, bytes: usize) -> BufMut {
        let capacity = capacity_for(bytes);
        let mut take = self.0.budget.take(capacity as u64);
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut take).poll(cx)).await;
        self.carve(capacity)
    }

    /// Most bytes that were handed out at once since the last call but one: a load that comes and
    /// goes more often than that finds warm memory.
    pub fn needed_bytes(&self) -> usize {
        let [newer, older] = &self.0.peaks;
        let used = self.used_bytes() as u64;
        let newer = newer.replace(used).max(used);
        older.replace(newer).max(newer) as usize
    }

    /// Gives a piece of what is free back to the system, where that leaves `keep_bytes`: a single
    /// mapping, or 2 MiB, some ten microseconds of work; false if there is none. One free chunk stays.
    pub fn shed(&self, keep_bytes: usize) -> bool {
        let inner = &self.0;
        let (mut buddy, mut kept) = (inner.buddy.borrow_mut(), inner.kept.borrow_mut());
        if buddy.chunks() * CHUNK_BYTES + kept.bytes < keep_bytes + CHUNK_BYTES {
            return false;
        }
        if let Some((ptr, bytes)) = kept.take_oldest() {
            unmap(ptr, bytes);
            return true;
        }
        let Some(page) = buddy.shed() else {
            return false;
        };
        give_back(inner.page_ptr(page), CHUNK_BYTES);
        true
    }

    /// Whether the next chunk is one that the system has to clear first.
    pub fn is_dry(&self) -> bool {
        !self.0.buddy.borrow().has_chunk()
    }

    /// Waits for [`Arena::is_dry`].
    pub async fn until_dry(&self) {
        loop {
            let wait = self.0.dry.wait();
            if self.is_dry() {
                return;
            }
            wait.await;
        }
    }

    fn carve(&self, capacity: usize) -> BufMut {
        let inner = &self.0;
        let used = self.used_bytes() as u64;
        inner.peaks[0].set(inner.peaks[0].get().max(used));
        let pages = if capacity <= CHUNK_BYTES {
            let order = (capacity / PAGE_BYTES).trailing_zeros();
            let mut buddy = inner.buddy.borrow_mut();
            let had_chunk = buddy.has_chunk();
            let page = buddy.take(order as usize);
            let is_dry = had_chunk && !buddy.has_chunk();
            drop(buddy);
            if is_dry {
                inner.dry.notify_all();
            }
            page.map(|page| (page, order as u8))
        } else {
            None
        };
        let (ptr, source) = match pages {
            Some((page, order)) => {
                let arena = inner.clone();
                (inner.page_ptr(page), Source::Pages { arena, page, order })
            }
            None => {
                let arena = inner.clone();
                let kept = inner.kept.borrow_mut().take(capacity);
                let ptr = kept.unwrap_or_else(|| map(capacity));
                (ptr, Source::Mapped { arena })
            }
        };
        let filled = Block {
            users: Cell::new(1),
            ptr,
            capacity,
            source,
        };
        let recycled = inner.headers.borrow_mut().pop();
        BufMut::of(match recycled {
            Some(header) => {
                // SAFETY: headers in the pool are live boxes without users; the old value is
                // `Unused` and is dropped by the assignment.
                unsafe { *header.as_ptr() = filled };
                header
            }
            None => NonNull::from(Box::leak(Box::new(filled))),
        })
    }
}

impl Inner {
    fn page_ptr(&self, page: u32) -> NonNull<u8> {
        let skip = self.base.align_offset(CHUNK_BYTES);
        // SAFETY: the mapping is one chunk longer than what the buddy may number, so that an
        // aligned first chunk and all that follow lie inside it.
        unsafe { self.base.add(skip + page as usize * PAGE_BYTES) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for header in self.headers.borrow_mut().drain(..) {
            // SAFETY: pooled headers came from `Box::leak` and have no users.
            drop(unsafe { Box::from_raw(header.as_ptr()) });
        }
        for (ptr, bytes) in self.kept.borrow_mut().mappings.drain(..) {
            unmap(ptr, bytes);
        }
        unmap(self.base, self.mapped);
    }
}

impl Kept {
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let at = self.mappings.iter().rposition(|&(_, n)| n == bytes)?;
        self.bytes -= bytes;
        Some(self.mappings.remove(at).0)
    }

    fn take_oldest(&mut self) -> Option<(NonNull<u8>, usize)> {
        if self.mappings.is_empty() {
            return None;
        }
        let (ptr, bytes) = self.mappings.remove(0);
        self.bytes -= bytes;
        Some((ptr, bytes))
    }

    /// Keeps a mapping, instead of the oldest ones if there is no room for all.
    fn give(&mut self, ptr: NonNull<u8>, bytes: usize, bound: usize) {
        self.mappings.push((ptr, bytes));
        self.bytes += bytes;
        while (self.mappings.len() > KEPT_MAPPINGS || self.bytes > bound)
            && let Some((ptr, bytes)) = self.take_oldest()
        {
            unmap(ptr, bytes);
        }
    }
}

impl Block {
    /// Memory of the process, for what does not come from an arena.
    pub(super) fn of_vec(mut bytes: Vec<u8>) -> NonNull<Block> {
        let ptr = NonNull::from(&mut bytes[..]).cast();
        NonNull::from(Box::leak(Box::new(Block {
            users: Cell::new(1),
            ptr,
            capacity: bytes.len(),
            source: Source::Heap { _bytes: bytes },
        })))
    }

    /// Whether it came from an arena.
    pub(super) fn is_paged(&self) -> bool {
        matches!(self.source, Source::Pages { .. } | Source::Mapped { .. })
    }

    /// Adds a user.
    ///
    /// # Safety
    /// `block` has a user.
    pub(super) unsafe fn retain(block: NonNull<Block>) {
        // SAFETY: alive, because it has a user.
        let users = unsafe { &block.as_ref().users };
        users.set(users.get() + 1);
    }

    /// Takes a user away; the last one gives the memory back.
    ///
    /// # Safety
    /// The caller is a user and does not touch the block again.
    pub(super) unsafe fn release(block: NonNull<Block>) {
        // SAFETY: alive, because the caller still is a user.
        let users = unsafe { &block.as_ref().users };
        users.set(users.get() - 1);
        if users.get() == 0 {
            // SAFETY: nobody else knows the block any more.
            unsafe { Block::free(block) };
        }
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// The caller holds the only pointer and does not touch the block again.
    unsafe fn free(block: NonNull<Block>) {
        // SAFETY: the caller holds the only pointer.
        let this = unsafe { &mut *block.as_ptr() };
        let arena = match std::mem::replace(&mut this.source, Source::Unused) {
            Source::Pages { arena, page, order } => {
                arena.buddy.borrow_mut().give(page, usize::from(order));
                arena
            }
            Source::Mapped { arena } => {
                let bound = arena.budget.total() as usize / KEPT_SHARE;
                arena.kept.borrow_mut().give(this.ptr, this.capacity, bound);
                arena
            }
            Source::Heap { .. } | Source::Unused => {
                // SAFETY: came from `Box::leak`; the only pointer.
                drop(unsafe { Box::from_raw(block.as_ptr()) });
                return;
            }
        };
        let capacity = this.capacity as u64;
        arena.headers.borrow_mut().push(block);
        arena.budget.give(capacity);
    }
}

fn capacity_for(bytes: usize) -> usize {
    const { assert!(ORDERS == 10 && CHUNK_BYTES == 2 << 20) };
    if bytes <= CHUNK_BYTES {
        bytes.max(PAGE_BYTES).next_power_of_two()
    } else {
        // Coarse, so that buffers of about the same size take each other's mappings.
        bytes.next_multiple_of(CHUNK_BYTES)
    }
}

fn map(bytes: usize) -> NonNull<u8> {
    // SAFETY: a fresh anonymous mapping touches nothing that exists.
    let ptr = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert!(
        ptr != libc::MAP_FAILED,
        "no address space for {bytes} bytes of buffers: {}",
        std::io::Error::last_os_error()
    );
    NonNull::new(ptr.cast()).expect("mmap without MAP_FIXED never maps page zero")
}

/// The system may have the pages back; they read as zeros when they are used again.
fn give_back(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: whole pages of a private anonymous mapping that nobody uses.
    let failed = unsafe { libc::madvise(ptr.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
    debug_assert_eq!(failed, 0);
}

fn unmap(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: a mapping made by `map` with this length, which nobody uses any more.
    let failed = unsafe { libc::munmap(ptr.as_ptr().cast(), bytes) };
    debug_assert_eq!(failed, 0);
}
