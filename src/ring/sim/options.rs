//! What a simulated world is like, and which faults it has.

use super::rng::Rng;

/// The network between (and within) machines. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Shortest and longest time of a segment on its way.
    pub delay_ns: (u64, u64),
    /// Chance that a segment takes a hundred times as long.
    pub slow_chance: f64,
    /// Longest segment that arrives in one piece; senders' bytes are cut at random places below it.
    pub segment_bytes: u64,
    /// Chance that a receive gives fewer bytes than there are.
    pub short_chance: f64,
    /// Chance that a connection is reset at some byte of its life.
    pub reset_chance: f64,
    /// The byte of such a reset lies below this.
    pub reset_below_bytes: u64,
    /// Size of a socket's send and receive buffer, where it is not tuned.
    pub buffer_bytes: usize,
}

/// A disk with its file system. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Shortest and longest time of a read or write.
    pub io_ns: (u64, u64),
    /// Shortest and longest time of a flush.
    pub flush_ns: (u64, u64),
    /// Chance that an operation takes a hundred times as long.
    pub slow_chance: f64,
    /// Chance that a read or write ends short.
    pub short_chance: f64,
    /// Chance that a write fails with EIO, having written any part of its sectors.
    pub write_error_chance: f64,
    /// Chance that a flush fails once, loses data, and succeeds the next time.
    pub flush_error_chance: f64,
    /// Chance that a read fails with EIO.
    pub read_error_chance: f64,
    /// Chance that a range is said not to be in the page cache.
    pub cold_chance: f64,
    /// Changes of names reach the disk in their order, as with the journals of ext4 and XFS;
    /// otherwise in any order that keeps each name's own changes in theirs (POSIX).
    pub ordered_names: bool,
    /// Refuses unaligned direct IO, as the kernel does. Off: O_DIRECT itself is refused.
    pub direct: bool,
    /// Space in all.
    pub total_bytes: u64,
}

/// The whole world.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Network.
    pub net: NetOptions,
    /// Every machine's disks, unless given otherwise.
    pub disk: DiskOptions,
    /// Time that one turn of the shards takes, shortest and longest.
    pub turn_ns: (u64, u64),
    /// Chance that a shard's thread is not run in a turn in which it could.
    pub stall_chance: f64,
    /// Chance, each simulated second, that the wall clock of a machine jumps.
    pub wall_jump_chance: f64,
}

impl Default for SimOptions {
    /// A world without faults.
    fn default() -> SimOptions {
        SimOptions {
            net: NetOptions {
                delay_ns: (20_000, 60_000),
                slow_chance: 0.0,
                segment_bytes: 65_536,
                short_chance: 0.0,
                reset_chance: 0.0,
                reset_below_bytes: 100_000,
                buffer_bytes: 256 * 1024,
            },
            disk: DiskOptions {
                io_ns: (50_000, 200_000),
                flush_ns: (80_000, 600_000),
                slow_chance: 0.0,
                short_chance: 0.0,
                write_error_chance: 0.0,
                flush_error_chance: 0.0,
                read_error_chance: 0.0,
                cold_chance: 0.1,
                ordered_names: false,
                direct: true,
                total_bytes: 1 << 34,
            },
            turn_ns: (1_000, 20_000),
            stall_chance: 0.0,
            wall_jump_chance: 0.0,
        }
    }
}

impl SimOptions {
    /// A random subset of the faults that a correct broker hides from its clients, with random
    /// rates. IO errors are not among them: what they may cost depends on the test.
    pub fn swarm(seed: u64) -> SimOptions {
        let mut rng = Rng::new(seed ^ 0x5357_4152_4d00);
        let mut o = SimOptions::default();
        if rng.chance(0.5) {
            let low = rng.between(1_000, 200_000);
            o.net.delay_ns = (low, low + rng.between(0, 3_000_000));
        }
        if rng.chance(0.3) {
            o.net.slow_chance = 0.02;
        }
        if rng.chance(0.5) {
            o.net.segment_bytes = 1 << rng.between(4, 14);
        }
        if rng.chance(0.4) {
            o.net.short_chance = 0.3;
        }
        if rng.chance(0.4) {
            o.net.reset_chance = 0.3;
            o.net.reset_below_bytes = 1 << rng.between(6, 18);
        }
        if rng.chance(0.3) {
            o.net.buffer_bytes = 1 << rng.between(9, 16);
        }
        if rng.chance(0.5) {
            let low = rng.between(5_000, 300_000);
            o.disk.io_ns = (low, low + rng.between(0, 2_000_000));
        }
        if rng.chance(0.5) {
            let low = rng.between(5_000, 1_000_000);
            o.disk.flush_ns = (low, low + rng.between(0, 5_000_000));
        }
        if rng.chance(0.3) {
            o.disk.slow_chance = 0.02;
        }
        if rng.chance(0.4) {
            o.disk.short_chance = 0.1;
        }
        o.disk.cold_chance = [0.0, 0.1, 0.5, 1.0][rng.index(4)];
        o.disk.ordered_names = rng.chance(0.4);
        o.disk.direct = !rng.chance(0.1);
        if rng.chance(0.3) {
            o.turn_ns = (1_000, 500_000);
        }
        if rng.chance(0.4) {
            o.stall_chance = 0.3;
        }
        if rng.chance(0.3) {
            o.wall_jump_chance = 0.5;
        }
        o
    }
}
