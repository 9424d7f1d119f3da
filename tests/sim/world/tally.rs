//! What happened in a run.

use std::cell::Cell;
use std::fmt;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)+) => {
        /// Counts of what happened in a world.
        #[derive(Debug, Default)]
        pub struct Tally {
            $($(#[$doc])* pub $name: Count,)+
        }

        impl Tally {
            /// Adds another world's.
            pub fn add(&self, other: &Tally) {
                $(self.$name.add(other.$name.read());)+
            }
        }

        impl fmt::Display for Tally {
            /// What is not 0, as in "3 kills, 120 records acked".
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut first = true;
                $(if self.$name.read() > 0 {
                    let comma = if std::mem::take(&mut first) { "" } else { ", " };
                    write!(f, "{comma}{} {}", self.$name.read(), $words)?;
                })+
                Ok(())
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn read(&self) -> u64 {
        self.0.get()
    }
}

tally! {
    starts: "starts",
    kills: "kills",
    cuts: "power cuts",
    /// Deaths before the broker served.
    short: "starts cut short",
    stops: "clean stops",
    failed: "failed starts",
    stalls: "stalls",
    slow: "slow disks",
    parted: "partings",
    resets: "mass resets",
    full: "full disks",
    io: "IO errors",
    rot: "rotten bits",
    rot_found: "found rotten",
    calls: "answers",
    retries: "lost calls",
    forgiven: "errors forgiven",
    made: "topics made",
    deleted: "topics deleted",
    acked: "records acked",
    seen: "records seen",
    checked: "records checked",
    checks: "whole checks",
    /// Bytes of record values that were sent.
    bytes: "bytes sent",
    operations: "IO operations",
}
