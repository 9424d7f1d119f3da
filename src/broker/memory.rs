//! Memory of a shard, from the system before it is needed and back when it no longer is.

use std::rc::Rc;
use std::time::Duration;

use crate::broker::shard::Shard;
use crate::ring::buf::CHUNK_BYTES;

/// What was not needed for two of these is given back.
const PERIOD: Duration = Duration::from_secs(10);
/// How often it is tried again where the arena's bounds leave no chunk to take.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Gives back for ever, a piece at a time. For the background.
pub async fn trim(shard: Rc<Shard>) {
    let arena = shard.ring.arena();
    loop {
        shard.ring.sleep(PERIOD).await;
        let keep = arena.needed_bytes();
        while arena.shed(keep.max(arena.used_bytes())) {
            shard.ring.yield_now().await;
        }
    }
}

/// Sees for ever to it that a free chunk has memory behind it. A shard that touches new memory waits
/// while the kernel clears it, some 0.2 ms for a huge page and milliseconds in a virtual machine
/// whose host has to find it first: so a kernel worker does.
pub async fn warm(shard: Rc<Shard>) {
    let arena = shard.ring.arena();
    loop {
        arena.until_dry().await;
        if let Some(chunk) = arena.try_alloc(CHUNK_BYTES) {
            // a kernel that refuses leaves it to the first use
            let _ = shard.ring.warm(chunk).await;
        }
        if arena.is_dry() {
            shard.ring.sleep(TRY_AGAIN).await;
        }
    }
}
