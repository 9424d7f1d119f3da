//! Forgetting idempotent producers that wrote nothing for `producer.id.expiration.ms`.

use std::rc::Rc;
use std::time::Duration;

use crate::broker::shard::Shard;

/// Looks for ever, one partition at a time. For the background.
pub async fn run(shard: Rc<Shard>) {
    let producers = &shard.config.producers;
    let period = Duration::from_millis(producers.expiration_check_ms);
    let expiration = Duration::from_millis(producers.expiration_ms);
    loop {
        shard.ring.sleep(period).await;
        for partition in shard.log.partitions() {
            partition.expire_producers(shard.ring.wall(), expiration);
            shard.ring.yield_now().await;
        }
    }
}
