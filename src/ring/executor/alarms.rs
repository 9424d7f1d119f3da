//! Points in time that are waited for to some ten microseconds: few, where the timer wheel has many.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::base::time::Monotonic;

/// Names an armed alarm; they fire in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlarmKey {
    deadline: Monotonic,
    number: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Alarms {
    armed: BTreeMap<AlarmKey, Waker>,
    armed_ever: u64,
}

impl Alarms {
    pub(super) fn arm(&mut self, deadline: Monotonic, waker: Waker) -> AlarmKey {
        let key = AlarmKey {
            deadline,
            number: self.armed_ever,
        };
        self.armed_ever += 1;
        self.armed.insert(key, waker);
        key
    }

    /// Whether it fired; else the waker is replaced.
    pub(super) fn poll(&mut self, key: AlarmKey, waker: &Waker) -> bool {
        match self.armed.get_mut(&key) {
            Some(old) => {
                old.clone_from(waker);
                false
            }
            None => true,
        }
    }

    /// Ends an alarm, fired or not.
    pub(super) fn disarm(&mut self, key: AlarmKey) {
        self.armed.remove(&key);
    }

    pub(super) fn next(&self) -> Option<Monotonic> {
        self.armed.keys().next().map(|key| key.deadline)
    }

    /// Wakes what is due; answers how many.
    pub(super) fn advance(&mut self, now: Monotonic) -> usize {
        let mut fired = 0;
        while let Some(first) = self.armed.first_entry() {
            if first.key().deadline > now {
                break;
            }
            first.remove().wake();
            fired += 1;
        }
        fired
    }
}
