//! Log lines that clients can cause, bounded.

use std::cell::Cell;
use std::time::Duration;

use crate::base::time::Monotonic;

/// Between two lines of a shard about the same.
const APART: Duration = Duration::from_secs(10);

/// What lines are about. Each kind has its own bound: many of one must not hide the first of
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// A connection cannot be accepted.
    Accept,
    /// An address has its share of connections.
    Refused,
    /// A request that is none.
    Malformed,
    /// A length that no frame has.
    Oversized,
    /// A request that is not served.
    Unsupported,
    /// TLS on a plain listener.
    Tls,
    /// HTTP.
    Http,
    /// Any other protocol that is known.
    OtherProtocol,
    /// A file that the disk does not give.
    Unreadable,
}

const KINDS: usize = Complaint::Unreadable as usize + 1;

#[derive(Default)]
struct Kind {
    last: Cell<Option<Monotonic>>,
    silent: Cell<u64>,
}

/// Lets a line of each kind through now and then.
#[derive(Default)]
pub struct Complaints([Kind; KINDS]);

impl Complaints {
    /// Whether a line may be written now: then how many of its kind were not since the last one.
    pub fn allow(&self, complaint: Complaint, now: Monotonic) -> Option<u64> {
        let kind = &self.0[complaint as usize];
        if kind.last.get().is_some_and(|last| now.since(last) < APART) {
            kind.silent.set(kind.silent.get() + 1);
            return None;
        }
        kind.last.set(Some(now));
        Some(kind.silent.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_in_ten_seconds_and_it_counts_the_others() {
        let complaints = Complaints::default();
        let at = |s: u64, kind| complaints.allow(kind, Monotonic(s * 1_000_000_000));
        let allowed = [0, 1, 9, 10, 11].map(|s| at(s, Complaint::Http));
        assert_eq!(allowed, [Some(0), None, None, Some(2), None]);
        assert_eq!(at(11, Complaint::Tls), Some(0), "has its own bound");
    }
}
