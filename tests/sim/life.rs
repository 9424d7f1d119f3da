//! The whole broker under every fault, as its clients see it.

use std::time::Duration;

use crate::seeds;
use crate::world::simulate;

/// `corelane-sim --minutes 0.7`
const TIME: Duration = Duration::from_secs(42);

/// 1: the base said of a damaged partition what no start could read.
/// 4: partitions of a topic that was made on a full disk were not made when there was space again.
/// 26: under the interval policy an idle shard woke a thousand times a second.
/// 343: of an idempotent producer's five batches the first found no space and the second did, so
/// that the first could never follow.
/// 448: an idle journal was not sealed after a second, but up to ten seconds later.
const FOUND: &[u64] = &[4, 26, 343, 448];

/// How long a seed runs.
fn time(seed: u64) -> Duration {
    match seed {
        1 | 343 => 2 * TIME,
        _ => TIME,
    }
}

#[test]
fn clients_lose_nothing_that_was_acked_or_seen() {
    let name = "clients_lose_nothing_that_was_acked_or_seen";
    seeds::run(name, 3, FOUND, |seed| {
        let lived = simulate(seed, time(seed), &|_| {});
        assert!(lived.time >= time(seed), "it ends early");
        let (tally, faults) = (lived.tally, lived.faults);
        assert!(tally.checks.read() > 0, "{tally}; faults: {faults:?}");
    });
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_one() {
    let hash = |seed| simulate(seed, Duration::from_secs(5), &|_| {}).hash;
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
}
