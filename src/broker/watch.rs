//! Log directories that are taken away while the broker has their files open.

use std::rc::Rc;
use std::time::Duration;

use crate::broker::shard::Shard;

/// What is acked within such a time after a directory went may go with it.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks for ever. On one shard: directories are the machine's.
pub async fn run(shard: Rc<Shard>) {
    loop {
        shard.ring.sleep(PERIOD).await;
        shard.log.look_for_directories();
    }
}
