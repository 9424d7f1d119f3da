//! Taking a new image: the second phase of creating and deleting topics.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::PartitionKey;
use crate::broker::shard::Shard;
use crate::log::NewPartition;
use crate::metadata::{Image, Topic};

/// How often partitions that could not be made are tried again.
const MAKE_AGAIN: Duration = Duration::from_secs(1);

/// Opens the partitions that this shard owns and does not serve yet, shows the image, then drops
/// the partitions that are gone from it; those whose topic's name is used again go first. An error
/// says why partitions could not be made; the image is shown all the same, for it is committed.
pub async fn apply(shard: &Rc<Shard>, image: Arc<Image>) -> Result<(), String> {
    shard.applying.set(true);
    let applied = take(shard, image).await;
    shard.applying.set(false);
    applied
}

async fn take(shard: &Rc<Shard>, image: Arc<Image>) -> Result<(), String> {
    let mut failed = None;
    let mut new = Vec::new();
    let old = shard.image();
    // a name that is used again needs its directories
    let replaced = |topic: &Topic| image.topic(&topic.name).is_some_and(|t| t.id != topic.id);
    drop_gone(shard, &old, replaced).await;
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
        make_later(shard);
        failed = Some(error.to_string());
    }
    shard.show(image.clone());
    drop_gone(shard, &old, |topic| image.topic_by_id(&topic.id).is_none()).await;
    failed.map_or(Ok(()), Err)
}

/// Tries again to make partitions that found no space, or a directory that failed, until they are
/// there.
fn make_later(shard: &Rc<Shard>) {
    if shard.unmade.replace(true) {
        return; // somebody does already
    }
    let shard = shard.clone();
    let ring = shard.ring.clone();
    ring.spawn_background(async move {
        while shard.unmade.get() {
            shard.ring.sleep(MAKE_AGAIN).await;
            make_missing(&shard).await;
        }
    })
    .detach();
}

/// This shard's partitions of topics that are committed and not there.
fn missing(shard: &Shard) -> Vec<NewPartition> {
    let image = shard.image();
    let mut missing = Vec::new();
    for topic in image.topics() {
        for key in topic.keys() {
            let owned = shard.owner(topic, key.partition) == shard.id;
            if owned && shard.partition(&key).is_none() && !shard.log.is_offline(&key) {
                missing.push(NewPartition {
                    key,
                    topic: topic.name.clone(),
                    config: topic.config.clone(),
                });
            }
        }
    }
    missing
}

/// Makes them.
async fn make_missing(shard: &Rc<Shard>) {
    let new = missing(shard);
    let keys: Vec<PartitionKey> = new.iter().map(|new| new.key).collect();
    // what an image that is being taken says of a name counts more than what the last one said
    let wanted = |key: &PartitionKey| {
        !shard.applying.get() && shard.image().topic_by_id(&key.topic).is_some()
    };
    match shard.log.create_wanted(new, wanted).await {
        Ok(made) if !made.is_empty() => {
            tracing::info!(partitions = made.len(), "made what found no space before");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "still cannot make partitions"),
    }
    // whoever deleted a topic meanwhile did not find them
    let image = shard.image();
    for key in keys {
        if image.topic_by_id(&key.topic).is_none()
            && shard.partition(&key).is_some()
            && let Err(error) = shard.log.delete_partition(&key).await
        {
            tracing::error!(?key, %error, "cannot drop");
        }
    }
    if missing(shard).is_empty() && !shard.applying.get() {
        shard.unmade.set(false);
    }
}

/// Drops this shard's partitions of the topics that are gone, all at once: their ends in the journal
/// share a commit.
async fn drop_gone(shard: &Rc<Shard>, old: &Image, gone: impl Fn(&Topic) -> bool) {
    let mut dropping = Vec::new();
    for topic in old.topics().filter(|topic| gone(topic)) {
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
}

/// At a start with a directory that cannot be read: what was committed before and is not found may
/// lie there, so it is not made anew. See [`crate::log::LogStore::withhold`].
pub fn withhold_missing(shard: &Shard, image: &Image) {
    if !shard.log.lacks_directory() {
        return;
    }
    for topic in image.topics() {
        let owned = |key: &PartitionKey| shard.owner(topic, key.partition) == shard.id;
        for key in topic.keys().filter(owned) {
            if shard.partition(&key).is_none() && !shard.log.is_offline(&key) {
                let partition = key.partition;
                tracing::error!(
                    topic = %topic.name, %partition,
                    "it may lie in a log directory that is offline: not served"
                );
                shard.log.withhold(key);
            }
        }
    }
}
