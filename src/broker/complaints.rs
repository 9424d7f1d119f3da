//! Log lines that clients can cause, bounded.

use std::cell::Cell;
use std::time::Duration;

use crate::base::time::Monotonic;

/// Between two such lines of a shard.
const APART: Duration = Duration::from_secs(1);

/// Lets a line through now and then.
#[derive(Default)]
pub struct Complaints {
    last: Cell<Option<Monotonic>>,
}

impl Complaints {
    /// Whether a line may be written now.
    pub fn allow(&self, now: Monotonic) -> bool {
        let allowed = self.last.get().is_none_or(|last| now.since(last) >= APART);
        if allowed {
            self.last.set(Some(now));
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second() {
        let complaints = Complaints::default();
        let at = |ms: u64| Monotonic(ms * 1_000_000);
        let allowed: Vec<bool> = [0, 1, 999, 1000, 1001]
            .map(|ms| complaints.allow(at(ms)))
            .to_vec();
        assert_eq!(allowed, [true, false, false, true, false]);
    }
}
