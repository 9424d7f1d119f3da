//! The topic of a run: made before, removed after, and what it holds at its end.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

use crate::base::ids::ProducerId;
use crate::broker::offsets::LATEST;
use crate::cli::bench::args::Load;
use crate::cli::bench::world::{Place, Target};
use crate::cli::client::{ClientError, Cluster, TopicInfo};
use crate::wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, FetchRequest, InitProducerIdRequest,
    InitProducerIdResponse, ProduceRequest,
};

/// From these versions on topics have ids only; below, names work with every broker.
const PRODUCE_BY_NAME: i16 = 12;
const FETCH_BY_NAME: i16 = 12;
/// How often a new topic is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A topic, and how long it took to make.
pub struct Topic {
    pub name: String,
    ready: Option<Duration>,
}

/// The topic that the load names, or a new one.
pub fn find(cluster: &mut Cluster, load: &Load) -> anyhow::Result<Topic> {
    if let Some(name) = &load.topic {
        return Ok(Topic {
            name: name.clone(),
            ready: None,
        });
    }
    // processes of several machines may share a number
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let moment = now.map_or(0, |now| now.as_micros() as u64);
    let topic = Topic {
        name: format!("corelane-bench-{}-{moment:x}", std::process::id()),
        ready: None,
    };
    let begun = Instant::now();
    let made = create(cluster, load, &topic.name)
        .and_then(|()| served(cluster, load, &topic.name, Some(load.partitions)));
    if let Err(error) = made {
        // it may be there all the same
        let again = Cluster::open(&load.broker.bootstrap, load.broker.timeout);
        let removed = again.map_err(anyhow::Error::from);
        return Err(
            match removed.and_then(|mut c| remove(&mut c, load, &topic.name)) {
                Ok(()) => error,
                Err(_) => error.context(format!("topic {} was not made, or is left", topic.name)),
            },
        );
    }
    Ok(Topic {
        ready: Some(begun.elapsed()),
        ..topic
    })
}

/// All that a load has to know of a topic.
pub fn prepare(cluster: &mut Cluster, load: &Load, topic: &Topic) -> anyhow::Result<Target> {
    // one that somebody else has just made may not be served yet
    let (info, starts) = served(cluster, load, &topic.name, None)?;
    let mut leaders: BTreeMap<i32, SocketAddr> = BTreeMap::new();
    let mut places = Vec::new();
    let (mut produce, mut fetch) = (PRODUCE_BY_NAME, FETCH_BY_NAME);
    for partition in &info.partitions {
        let leader = match leaders.get(&partition.leader) {
            Some(leader) => *leader,
            None => {
                let node = cluster.node(partition.leader)?;
                produce = produce.min(node.version::<ProduceRequest<'_>>(PRODUCE_BY_NAME)?);
                fetch = fetch.min(node.version::<FetchRequest<'_>>(FETCH_BY_NAME)?);
                let address = resolved(node.address())?;
                leaders.insert(partition.leader, address);
                address
            }
        };
        places.push(Place {
            partition: partition.index,
            leader,
            start: starts.get(&partition.index).copied().unwrap_or(0),
        });
    }
    let mut ids = Vec::new();
    if load.idempotent {
        for _ in 0..load.producers {
            ids.push(producer_id(cluster, load.broker.timeout)?);
        }
    }
    Ok(Target {
        name: topic.name.clone(),
        id: info.id,
        ready: topic.ready,
        places,
        produce,
        fetch,
        ids,
    })
}

/// The first address of a `host:port`.
pub fn resolved(address: &str) -> anyhow::Result<SocketAddr> {
    let mut all = address
        .to_socket_addrs()
        .with_context(|| format!("can't find {address}"))?;
    all.next()
        .with_context(|| format!("{address} has no address"))
}

fn create(cluster: &mut Cluster, load: &Load, name: &str) -> anyhow::Result<()> {
    let configs: Vec<CreatableTopicConfig<'_>> = load
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name,
            value: Some(value),
        })
        .collect();
    let topics = [CreatableTopic {
        name,
        num_partitions: load.partitions,
        replication_factor: load.replication_factor,
        configs: configs.as_slice().into(),
        ..Default::default()
    }];
    let request = CreateTopicsRequest {
        topics: topics.as_slice().into(),
        timeout_ms: load.broker.timeout.as_millis() as i32,
        ..Default::default()
    };
    for topic in &cluster.create_topics(&request)?.topics {
        ClientError::check(topic.error_code, topic.error_message, || {
            format!("topic {name}")
        })?;
    }
    Ok(())
}

/// The topic and the ends of its partitions, once all of them are served: a broker may answer before
/// its partitions have leaders, and those before they serve. With a number of partitions it was just
/// made, and is waited for where it is not known yet.
fn served(
    cluster: &mut Cluster,
    load: &Load,
    name: &str,
    made: Option<i32>,
) -> anyhow::Result<(TopicInfo, BTreeMap<i32, i64>)> {
    let deadline = Instant::now() + load.broker.timeout;
    loop {
        let late = Instant::now() >= deadline;
        let missing = match cluster.topic(name, false) {
            Ok(info) => match made.filter(|made| info.partitions.len() != *made as usize) {
                Some(made) => format!("{} of {made} partitions", info.partitions.len()),
                None => match ends(cluster, &info)? {
                    Ok(ends) => return Ok((info, ends)),
                    Err(missing) => missing,
                },
            },
            Err(ClientError::Refused { .. }) if made.is_some() && !late => {
                "it is not known".to_owned()
            }
            Err(error) => return Err(error.into()),
        };
        if late {
            bail!("topic {name} is not served: {missing}");
        }
        std::thread::sleep(LOOK);
    }
}

/// The end offset of each partition; or what is missing, a leader or its answer.
fn ends(
    cluster: &mut Cluster,
    info: &TopicInfo,
) -> anyhow::Result<Result<BTreeMap<i32, i64>, String>> {
    if let Some(partition) = info.partitions.iter().find(|p| p.leader < 0) {
        return Ok(Err(format!("partition {} has no leader", partition.index)));
    }
    match cluster.offsets(info, LATEST) {
        Ok(ends) => Ok(Ok(ends)),
        Err(error @ ClientError::Refused { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// That each partition ends where the acks say: a consumer stops when it has all that was acked,
/// and does not see what stands behind.
pub fn check_ends(
    cluster: &mut Cluster,
    target: &Target,
    acked: &BTreeMap<i32, u64>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let info = cluster.topic(&target.name, false)?;
        let missing = match ends(cluster, &info)? {
            Ok(ends) => behind(target, acked, &ends)?,
            Err(missing) => Some(missing),
        };
        // with acks=1 followers may have records yet to fetch, and the end that is told waits
        match missing {
            None => return Ok(()),
            Some(what) if Instant::now() >= deadline => bail!(what),
            Some(_) => std::thread::sleep(LOOK),
        }
    }
}

/// What ends before its acks say, if something does. An end behind them is an error.
fn behind(
    target: &Target,
    acked: &BTreeMap<i32, u64>,
    ends: &BTreeMap<i32, i64>,
) -> anyhow::Result<Option<String>> {
    for place in &target.places {
        let acked = acked.get(&place.partition).copied().unwrap_or(0) as i64;
        let expected = place.start + acked;
        let told = |end| {
            format!(
                "partition {} ends at offset {end}, by its acks at {expected}",
                place.partition
            )
        };
        match ends.get(&place.partition) {
            Some(end) if *end == expected => {}
            Some(end) if *end > expected => bail!(
                "{}: records are there that were not sent, or were sent once",
                told(end)
            ),
            Some(end) => return Ok(Some(format!("{}: acked records are missing", told(end)))),
            None => return Ok(Some(format!("partition {} is gone", place.partition))),
        }
    }
    Ok(None)
}

/// Removes the topic.
pub fn remove(cluster: &mut Cluster, load: &Load, name: &str) -> anyhow::Result<()> {
    let timeout_ms = load.broker.timeout.as_millis() as i32;
    for topic in &cluster.delete_topics(&[name], timeout_ms)?.responses {
        ClientError::check(topic.error_code, topic.error_message, || {
            format!("topic {name}")
        })?;
    }
    Ok(())
}

/// A broker that has just started may have none to give yet.
fn producer_id(cluster: &mut Cluster, timeout: Duration) -> anyhow::Result<(ProducerId, i16)> {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let deadline = Instant::now() + timeout;
    loop {
        let connection = cluster.controller()?;
        let version = connection.version::<InitProducerIdRequest<'_>>(4)?;
        let answer: InitProducerIdResponse = connection.call(&request, version)?;
        match ClientError::check(answer.error_code, None, || "a producer id".into()) {
            Ok(()) => return Ok((ProducerId(answer.producer_id), answer.producer_epoch)),
            Err(ClientError::Refused { code, .. })
                if code.is_retriable() && Instant::now() < deadline =>
            {
                std::thread::sleep(LOOK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
