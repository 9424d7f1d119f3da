//! What holds at any time, whatever fails. A broken rule ends the run.

use std::fmt;

/// The rules, numbered as in the README beside this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// 1: an acked record is there, unchanged, in its producer's order.
    Acked,
    /// 2: offsets have no gap, and never another record than the one that someone saw there.
    Offsets,
    /// 3: nothing above the high watermark is shown, and it does not go back.
    Watermark,
    /// 4: a record is there once; a producer id is given away once.
    Once,
    /// 6: memory, waiting and idleness are bounded.
    Bounds,
    /// 7: what works is not refused: an error has a fault as its reason.
    Served,
    /// 8: the topics and partitions are those that were made and not deleted.
    Topics,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Acked => "rule 1, an acked record stays",
            Rule::Offsets => "rule 2, an offset keeps its record and has no gap before it",
            Rule::Watermark => "rule 3, nothing above the high watermark is shown",
            Rule::Once => "rule 4, everything is there once",
            Rule::Bounds => "rule 6, memory and waiting have their bounds",
            Rule::Served => "rule 7, nothing is refused without a fault",
            Rule::Topics => "rule 8, topics are those that were made",
        })
    }
}

/// Ends the run if the condition does not hold.
macro_rules! rule {
    ($rule:expr, $holds:expr, $($what:tt)+) => {
        if !$holds {
            $crate::world::rule::broken($rule, format_args!($($what)+));
        }
    };
}
pub(crate) use rule;

/// Ends the run.
#[track_caller]
pub fn broken(rule: Rule, what: fmt::Arguments<'_>) -> ! {
    panic!("{rule}: {what}")
}
