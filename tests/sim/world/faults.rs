//! Which faults a world has: a random subset of all for each seed, as in swarm testing (Groce and
//! others, ISSTA 2012), so that rare ones are not always hidden behind frequent ones.

use corelane::ring::sim::{Rng, SimOptions};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $chance:literal, $words:literal,)+) => {
        /// What may happen to a world.
        #[derive(Clone, Copy, Debug)]
        pub struct Faults {
            $($(#[$doc])* pub $name: bool,)+
        }

        impl Faults {
            fn roll(rng: &mut Rng) -> Faults {
                Faults { $($name: rng.chance($chance),)+ }
            }

            /// Those that are on, by name.
            pub fn names(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$name { names.push($words); })+
                names
            }
        }
    };
}

faults! {
    /// SIGKILL at any time, and in the middle of a call.
    kills: 0.7, "kills",
    /// The machine loses its power: any subset of what was not flushed is kept, sectors are torn.
    cuts: 0.6, "power cuts",
    /// Kills and power cuts in a start, and soon after it.
    short: 0.5, "starts cut short",
    stops: 0.5, "clean stops",
    /// Another number of shards at each start.
    cores: 0.6, "other core counts",
    /// SIGSTOP, of the whole process or of one shard's thread.
    stalls: 0.4, "stalls",
    /// The network between the broker and its clients does not pass anything for a time.
    partings: 0.3, "partings",
    /// Every connection is reset at once.
    resets: 0.3, "mass resets",
    /// Operations on disks take long for a time.
    slow: 0.3, "slow disks",
    /// A disk has no space left for a time.
    full: 0.25, "full disks",
    /// A write fails.
    writes: 0.2, "write errors",
    /// A flush fails, loses data and is reported once.
    flushes: 0.2, "flush errors",
    /// Reads fail for a time.
    reads: 0.1, "read errors",
    /// A bit of a segment flips.
    rot: 0.15, "rot",
    /// The wall clock jumps.
    jumps: 0.3, "clock jumps",
    /// flush.policy=interval: a power cut may take acked records off the end.
    interval: 0.2, "interval policy",
    two_dirs: 0.35, "two directories",
    lanes: 0.5, "lanes",
    /// As little memory as a shard may have.
    little_memory: 0.3, "little memory",
    /// Values of one size, so that what is stale lines up with what is not.
    equal_sizes: 0.25, "equal sizes",
    deletes: 0.6, "early deletions",
    /// Batches that go to their segments past the journal.
    large: 0.15, "large batches",
}

impl Faults {
    pub fn draw(seed: u64) -> Faults {
        let mut faults = Faults::roll(&mut Rng::new(seed ^ 0x6661_756c_7473));
        if !(faults.kills || faults.cuts || faults.stops) {
            faults.kills = true; // nothing would ever be read again from the disk
        }
        faults
    }

    /// The world's options: network and disks that are as bad as they like, errors aside.
    pub fn options(seed: u64) -> SimOptions {
        let mut options = SimOptions::swarm(seed);
        // of a whole life few connections would be left
        options.net.reset_chance /= 3.0;
        options
    }
}
