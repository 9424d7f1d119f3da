//! One order of all that a test program was told: what has the lower number happened before.

use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The number of what happens now; no two are equal, and each is above all that were given.
pub fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::SeqCst)
}
