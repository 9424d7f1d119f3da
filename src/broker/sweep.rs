//! Closing connections that are idle or do not take their answers.
//!
//! Slow is who takes nothing: as long as the other end acknowledges bytes it may take its time.
//!
//! One task looks at all connections now and then, so that a request costs no timer.

use std::rc::Rc;
use std::time::Duration;

use crate::base::time::Monotonic;
use crate::broker::connection::Connection;
use crate::broker::shard::Shard;

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Idle,
    Slow,
    /// It began a large request and sends nothing more, while others wait for its memory.
    Stuck,
}

/// Looks for ever.
pub async fn run(shard: Rc<Shard>) {
    let idle = shard.config.network.idle_max_ms.map(Duration::from_millis);
    let stall = Duration::from_millis(shard.config.network.send_stall_ms);
    let period = idle.map_or(stall, |idle| idle.min(stall)) / 4;
    let period = period.clamp(Duration::from_millis(10), Duration::from_secs(5));
    loop {
        shard.ring.sleep(period).await;
        shard.repay_all();
        let now = shard.ring.now();
        let scarce = shard.input.waiting() > 0;
        for (_, connection) in shard.connections.borrow().iter() {
            // one send takes as long as the client takes for its whole answer
            let sending = connection.sending_since.get();
            if sending.is_some_and(|since| now.since(since) >= period) && connection.takes() {
                connection.sending_since.set(Some(now));
            }
            match judge(connection, now, idle, stall, scarce) {
                None => {}
                Some(Verdict::Idle) => {
                    shard.counters.connections_expired.add(1);
                    connection.cut("idle for connections.max.idle.ms");
                }
                Some(Verdict::Stuck) => {
                    shard.counters.connections_slow.add(1);
                    tracing::info!(peer = %connection.peer, "closed: its request does not go on");
                    connection.cut("its request does not go on");
                }
                Some(Verdict::Slow) => {
                    shard.counters.connections_slow.add(1);
                    tracing::info!(peer = %connection.peer, "closed: it does not take its answers");
                    connection.cut("it did not take its answers");
                }
            }
        }
    }
}

fn judge(
    connection: &Connection,
    now: Monotonic,
    idle: Option<Duration>,
    stall: Duration,
    scarce: bool,
) -> Option<Verdict> {
    if connection.closing.get().is_some() {
        return None;
    }
    if let Some(since) = connection.sending_since.get() {
        return (now.since(since) >= stall).then_some(Verdict::Slow);
    }
    let rested = now.since(connection.last_active.get());
    let stuck = scarce && connection.receiving.get() && !connection.in_flight();
    if stuck && rested >= stall {
        return Some(Verdict::Stuck);
    }
    let expired = idle.is_some_and(|idle| rested >= idle);
    (expired && !connection.in_flight()).then_some(Verdict::Idle)
}
