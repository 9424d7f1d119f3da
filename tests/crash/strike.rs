//! What is done to the broker while it works: killed, or stopped and killed.

use std::time::Duration;

use anyhow::Result;

use crate::support::broker::{Broker, Setup};
use crate::support::load::REQUEST_LIMIT;
use crate::support::wait::pause;
use corelane::ring::sim::Rng;

/// Counts of what was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub kills: u64,
    /// SIGSTOP, then SIGCONT
    pub stops: u64,
    /// of these, those that the clients' requests did not outlive
    pub long_stops: u64,
    /// SIGKILL of a stopped process
    pub killed_stopped: u64,
    /// starts that were killed before they had recovered
    pub cut_starts: u64,
}

/// Lets the broker work for a moment and ends it with SIGKILL, one time in five after stopping it.
/// A stopped broker that goes on finds what was sent to it in its sockets, from clients that may
/// have given up on it and sent the same on a new connection.
pub fn strike(broker: Broker, random: &mut Rng, tally: &mut Tally) -> Result<()> {
    pause(Duration::from_millis(random.below(500)));
    tally.kills += 1;
    match random.below(15) {
        0..2 => {
            broker.freeze()?;
            let long = random.below(4) == 0;
            let at_least = if long { REQUEST_LIMIT } else { Duration::ZERO };
            pause(at_least + Duration::from_millis(random.below(if long { 1500 } else { 300 })));
            broker.thaw()?;
            tally.stops += 1;
            tally.long_stops += u64::from(long);
            // the kill comes while it works off what waited, or later
            pause(Duration::from_millis(random.below(if long {
                1000
            } else {
                100
            })));
        }
        2 => {
            broker.freeze()?;
            pause(Duration::from_millis(random.below(200)));
            tally.killed_stopped += 1;
        }
        _ => {}
    }
    broker.kill()
}

/// Starts the broker on one core or two: a restart may find another number than the run before.
pub fn start(setup: &mut Setup, random: &mut Rng, tally: &mut Tally) -> Result<Broker> {
    let cores = if random.below(2) == 0 { "1" } else { "2" };
    setup.set("corelane.cores", cores);
    // one start in three is killed while it recovers
    if random.below(3) == 0 {
        let broker = setup.spawn()?;
        pause(Duration::from_millis(random.below(120)));
        broker.kill()?;
        tally.kills += 1;
        tally.cut_starts += 1;
    }
    setup.start()
}
