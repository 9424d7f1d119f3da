//! Things that every request needs and that are used again, so that a steady state allocates
//! nothing.

use std::cell::RefCell;

/// A stack of values that keep their capacity. Holds at most `max` of them.
pub struct Pool<T> {
    free: RefCell<Vec<T>>,
    max: usize,
}

impl<T: Default> Pool<T> {
    /// An empty pool that keeps at most so many values.
    pub fn new(max: usize) -> Pool<T> {
        Pool {
            free: RefCell::new(Vec::new()),
            max,
        }
    }

    /// A value that was given back, or a new one.
    pub fn take(&self) -> T {
        self.free.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a value back; the caller emptied it.
    pub fn give(&self, value: T) {
        let mut free = self.free.borrow_mut();
        if free.len() < self.max {
            free.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_comes_back_and_the_pool_stays_bounded() {
        let pool: Pool<Vec<u8>> = Pool::new(1);
        let mut one = pool.take();
        one.reserve(1000);
        pool.give(one);
        pool.give(Vec::with_capacity(5));
        assert!(pool.take().capacity() >= 1000);
        assert_eq!(pool.take().capacity(), 0);
    }
}
