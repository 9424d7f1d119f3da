//! Taking a new image: the second phase of creating and deleting topics.

use std::rc::Rc;
use std::sync::Arc;

use crate::broker::shard::Shard;
use crate::log::NewPartition;
use crate::metadata::Image;

/// Opens the partitions that this shard owns and does not serve yet, shows the image, then drops
/// the partitions that are gone from it. An error says why partitions could not
/// be made; the image is shown all the same, for it is committed.
pub async fn apply(shard: &Rc<Shard>, image: Arc<Image>) -> Result<(), String> {
    let mut failed = None;
    let mut new = Vec::new();
    let old = shard.image();
    for topic in image.topics() {
        let known = old.topic_by_id(&topic.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, topic)) {
            continue;
        }
        for key in topic.keys() {
            if shard.owner(topic, key.partition) != shard.id {
                continue;
            }
            if shard.partition(&key).is_some() {
                shard.log.set_topic_config(&key, topic.config.clone());
                continue;
            }
            if shard.log.is_offline(&key) {
                // there, but not to be served: said at start, and in every answer
                continue;
            }
            new.push(NewPartition {
                key,
                topic: topic.name.clone(),
                config: topic.config.clone(),
            });
        }
    }
    if !new.is_empty()
        && let Err(error) = shard.log.create_partitions(new).await
    {
        tracing::error!(%error, "cannot make partitions");
        failed = Some(error.to_string());
    }
    shard.show(image.clone());
    // all at once: their ends in the journal share a commit
    let mut dropping = Vec::new();
    for topic in old.topics() {
        if image.topic_by_id(&topic.id).is_some() {
            continue;
        }
        for key in topic.keys() {
            if shard.owner(topic, key.partition) == shard.id {
                let (shard, topic) = (shard.clone(), topic.clone());
                dropping.push(shard.ring.clone().spawn(async move {
                    if let Err(error) = shard.log.delete_partition(&key).await {
                        let partition = key.partition;
                        tracing::error!(topic = %topic.name, %partition, %error, "cannot drop");
                    }
                }));
            }
        }
    }
    for dropped in dropping {
        dropped.await;
    }
    failed.map_or(Ok(()), Err)
}
