//! Memory that a load needed and that nothing needs any more goes back to the system.

use std::rc::Rc;
use std::time::Duration;

use crate::broker::shard::Shard;

/// What was not needed for two of these is given back.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks for ever, a piece at a time. For the background.
pub async fn run(shard: Rc<Shard>) {
    let arena = shard.ring.arena();
    loop {
        shard.ring.sleep(PERIOD).await;
        let keep = arena.needed_bytes();
        while arena.shed(keep) {
            shard.ring.yield_now().await;
        }
    }
}
