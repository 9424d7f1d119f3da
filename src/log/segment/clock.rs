//! A bounded map: when it is full, what was not used since the hand came by last goes first.

use std::hash::Hash;

use crate::base::map::Map;

struct Slot<K, V> {
    key: K,
    value: V,
    weight: usize,
    used: bool,
}

/// See the module. Weights are whatever the bound counts: files, bytes.
pub(crate) struct Clock<K, V> {
    slots: Vec<Slot<K, V>>,
    by_key: Map<K, usize>,
    hand: usize,
    weight: usize,
    max: usize,
}

impl<K: Copy + Eq + Hash, V> Clock<K, V> {
    pub(crate) fn new(max: usize) -> Clock<K, V> {
        Clock {
            slots: Vec::new(),
            by_key: Map::default(),
            hand: 0,
            weight: 0,
            max,
        }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        let slot = &mut self.slots[*self.by_key.get(key)?];
        slot.used = true;
        Some(&slot.value)
    }

    /// Puts a value in, which stays whatever its weight; others go until the rest fits.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        self.shrink(self.max.saturating_sub(weight));
        self.by_key.insert(key, self.slots.len());
        self.weight += weight;
        self.slots.push(Slot {
            key,
            value,
            weight,
            used: true,
        });
    }

    /// Lets some go until the rest weighs no more than this.
    pub(crate) fn shrink(&mut self, max: usize) {
        while self.weight > max && !self.slots.is_empty() {
            self.hand = (self.hand + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[self.hand].used) {
                let key = self.slots[self.hand].key;
                self.remove(&key);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        let Some(i) = self.by_key.remove(key) else {
            return;
        };
        self.weight -= self.slots.swap_remove(i).weight;
        if let Some(moved) = self.slots.get(i) {
            self.by_key.insert(moved.key, i);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut clock = Clock::new(3);
        for n in 0..3 {
            clock.insert(n, n * 10, 1);
        }
        clock.insert(3, 30, 1); // all were new: the hand went round once
        assert_eq!(clock.len(), 3);
        let kept: Vec<i32> = (0..4).filter(|n| clock.get(n).is_some()).collect();
        assert!(kept.contains(&3));
        clock.remove(&kept[0]);
        assert_eq!(clock.len(), 2);
        assert_eq!(clock.get(&kept[0]), None);
        assert_eq!(clock.get(&kept[1]), Some(&(kept[1] * 10)));
    }

    #[test]
    fn the_bound_holds_by_weight() {
        let mut clock = Clock::new(100);
        for n in 0..50 {
            clock.insert(n, (), 30);
            assert!(clock.len() <= 3);
        }
    }
}
