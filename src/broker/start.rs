//! The life of a shard, from nothing to a clean stop. The same under threads and in the simulator.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use slab::Slab;

use crate::base::config::{self, BrokerConfig, Size};
use crate::base::ids::{LeaderEpoch, PartitionKey, ShardId};
use crate::broker::acceptor::{self, Acceptors};
use crate::broker::api::init_producer_id::ProducerIds;
use crate::broker::auth::AllowAll;
use crate::broker::calls::Calls;
use crate::broker::complaints::Complaints;
use crate::broker::connection::Connection;
use crate::broker::control;
use crate::broker::counters::Counters;
use crate::broker::listener::{self, Binding, BoundListener, ListenError};
use crate::broker::message::{DRAIN_TIME, Message};
use crate::broker::placement::Placement;
use crate::broker::purgatory::Purgatory;
use crate::broker::quota::Unlimited;
use crate::broker::recycle::Pool;
use crate::broker::session::{SessionCache, Slots};
use crate::broker::shard::Shard;
use crate::broker::stages::Stages;
use crate::broker::{apply, expire, memory, serve, sweep, watch};
use crate::log::partition::Observer;
use crate::log::recovery::{OpenError, OpenedShard, open_directories};
use crate::log::store::{FlushPolicy, JournalSize};
use crate::log::{LogConfig, LogStore};
use crate::metadata::Image;
use crate::metadata::store::{Store, StoreError, StoreOptions};
use crate::ring::buf::Budget;
use crate::ring::mailbox::Post;
use crate::ring::sync::{Event, Semaphore, race};
use crate::ring::{Listener, Ring};

/// Of a shard's memory one part in [`ARENA_SHARE`] + 1 is for copies that go to other shards and for
/// answers that do not fit the arena; all else is the arena's.
const ARENA_SHARE: u64 = 7;
/// How often shard 0 looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(50);
/// How often a stopping shard looks at its connections.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// How long a start waits for a listener's address.
const BIND_TIME: Duration = Duration::from_secs(10);
/// How often it tries.
const BIND_RETRY: Duration = Duration::from_millis(50);

/// Asks a running broker to stop; from any thread, or from a signal handler.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a broker says once it serves.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, in the order of the configuration.
    pub listeners: Vec<BoundListener>,
    /// Which cluster it belongs to.
    pub cluster_id: String,
}

/// Is told once, on shard 0, when every shard serves.
pub type OnStarted = Box<dyn FnOnce(&Started)>;

/// What a shard is started with.
pub struct ShardContext {
    /// Its runtime.
    pub ring: Ring,
    /// How many shards the machine has.
    pub shards: u16,
    /// The machine's settings.
    pub config: Arc<BrokerConfig>,
    /// Its end of the mailboxes.
    pub post: Post<Message>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Asks the machine to stop; looked at by shard 0.
    pub stop: StopFlag,
    /// Called once on shard 0 when every shard serves.
    pub on_started: Option<OnStarted>,
}

/// What shard 0 tells the others when it has read the disk.
pub struct Begin {
    opened: OpenedShard,
    image: Arc<Image>,
    listeners: Vec<BoundListener>,
    session_slots: Arc<Slots>,
}

/// Why a broker does not start, or does not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata log.
    #[error(transparent)]
    Metadata(#[from] StoreError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The log.
    #[error("log: {0}")]
    Log(String),
    /// The log's end.
    #[error("{0}: no clean marker is written there, the next start recovers it")]
    Stop(String),
    /// Another shard failed.
    #[error("shard 0 did not start")]
    Aborted,
}

/// The arena of a shard that may use so many bytes in all.
pub fn arena_bytes(memory: u64) -> u64 {
    memory - memory / (ARENA_SHARE + 1)
}

/// Runs a shard until the broker has stopped.
pub async fn run_shard(ctx: ShardContext) -> Result<(), StartError> {
    if ctx.ring.shard() == ShardId(0) {
        first(ctx).await
    } else {
        other(ctx).await
    }
}

async fn first(mut ctx: ShardContext) -> Result<(), StartError> {
    let others = ctx.shards - 1;
    let opened = open(&ctx).await;
    let Opening {
        store,
        image,
        bound,
        mut parts,
    } = match opened {
        Ok(opened) => opened,
        Err(error) => {
            for n in 1..ctx.shards {
                ctx.post.send(ShardId(n), Message::Abort).await;
            }
            return Err(error);
        }
    };
    let listeners: Vec<BoundListener> = bound.listeners;
    let session_slots = Arc::new(Slots::new(ctx.config.fetch.session_slots));
    let begin = |opened| Begin {
        opened,
        image: image.clone(),
        listeners: listeners.clone(),
        session_slots: session_slots.clone(),
    };
    let own = begin(parts.remove(0));
    for (n, opened) in (1..).zip(parts) {
        let begin = begin(opened);
        ctx.post
            .send(ShardId(n), Message::Begin(Box::new(begin)))
            .await;
    }
    let control = Some(control::State::new(store));
    let on_started = ctx.on_started.take();
    let stop = ctx.stop.clone();
    let cluster_id = image.cluster_id().to_owned();
    let shard = build(ctx, own, control).await?;
    shard.stages.all_ready(others).await;
    let accepting: Vec<_> = bound
        .sockets
        .into_iter()
        .map(|(binding, listener)| {
            let task = acceptor::run(shard.clone(), binding, listener);
            shard.ring.spawn(task)
        })
        .collect();
    if let Some(on_started) = on_started {
        on_started(&Started {
            listeners,
            cluster_id,
        });
    }
    while !stop.is_set() {
        shard.ring.sleep(STOP_LOOK).await;
    }
    // dropping the handles ends the tasks: nothing is accepted any more
    drop(accepting);
    for n in 1..=others {
        shard.post.send(ShardId(n), Message::Stop).await;
    }
    shard.stop();
    drain(&shard).await;
    shard.stages.all_drained(others).await;
    for n in 1..=others {
        shard.post.send(ShardId(n), Message::Close).await;
    }
    let closed = close(&shard).await;
    shard.stages.all_closed(others).await;
    closed
}

async fn other(ctx: ShardContext) -> Result<(), StartError> {
    let begin = loop {
        match ctx.post.recv().await {
            (_, Message::Begin(begin)) => break begin,
            (_, Message::Abort) => return Err(StartError::Aborted),
            _ => {}
        }
    };
    let shard = build(ctx, *begin, None).await?;
    let zero = ShardId(0);
    shard.post.send(zero, Message::Ready).await;
    while !shard.stopping.get() {
        shard.changed.wait().await;
    }
    drain(&shard).await;
    shard.post.send(zero, Message::Drained).await;
    shard.stages.may_close().await;
    let closed = close(&shard).await;
    shard.post.send(zero, Message::Closed).await;
    closed
}

struct Bound {
    listeners: Vec<BoundListener>,
    sockets: Vec<(Binding, Listener)>,
}

/// What shard 0 found on the disk and holds of the network.
struct Opening {
    store: Store,
    image: Arc<Image>,
    bound: Bound,
    /// The log's part of each shard.
    parts: Vec<OpenedShard>,
}

async fn open(ctx: &ShardContext) -> Result<Opening, StartError> {
    let ring = &ctx.ring;
    let mut opened = open_directories(ring, &log_config(ctx)).await?;
    let options = StoreOptions {
        cluster_id: Some(opened.cluster_id.clone()),
        new_cluster_id: opened.cluster_id.clone(),
        may_create: opened.directories.iter().all(|d| d.partitions.is_empty()),
        ..StoreOptions::default()
    };
    let first = &ctx.config.log.dirs[0];
    let (store, mut image) = Store::open(ring, first, &ctx.config, &options).await?;
    opened
        .set_aside_strays(ring, |key| {
            let topic = image.topic_by_id(&key.topic);
            topic.is_some()
        })
        .await?;
    let epochs: BTreeMap<PartitionKey, LeaderEpoch> = opened
        .directories
        .iter()
        .flat_map(|directory| &directory.partitions)
        .map(|partition| (partition.key, partition.leader_epoch))
        .collect();
    image.overlay_leader_epochs(|key| epochs.get(key).copied());
    let placement = Placement::new(ctx.shards);
    let parts = opened.split(ctx.shards, |key| {
        let topic = image.topic_by_id(&key.topic);
        topic.map_or(ShardId(0), |t| placement.owner(t.ordinal, key.partition))
    });
    Ok(Opening {
        store,
        image: Arc::new(image),
        bound: bind(ctx).await?,
        parts,
    })
}

/// The log's settings on one shard. Of the memory for buffers half keeps drained pages for
/// readers, an eighth holds what is not drained yet, an eighth large requests that are being
/// received; the rest is for journals and answers.
fn log_config(ctx: &ShardContext) -> LogConfig {
    let config = &ctx.config;
    let arena = ctx.ring.arena().budget_bytes();
    LogConfig {
        dirs: config.log.dirs.clone(),
        node_id: config.node_id,
        cluster_id: config.cluster_id.clone(),
        flush_policy: match config.log.flush_policy {
            config::FlushPolicy::Group => FlushPolicy::Group,
            config::FlushPolicy::Interval => FlushPolicy::Interval,
        },
        flush_interval: Duration::from_millis(config.log.flush_interval_ms),
        journal_size: match config.log.journal_size {
            Size::Auto => JournalSize::Auto,
            Size::Bytes(bytes) => JournalSize::Bytes(bytes),
        },
        undrained_bytes: arena as u64 / 8,
        open_segments: config.log.open_segments,
        cache_bytes: arena / 2,
        ..LogConfig::default()
    }
}

/// Binds, with patience: sockets of a process that was killed are closed a moment after its end.
async fn bind(ctx: &ShardContext) -> Result<Bound, StartError> {
    let deadline = ctx.ring.now() + BIND_TIME;
    let mut told = false;
    loop {
        match try_bind(ctx) {
            Err(StartError::Listen(ListenError::Bind { source, .. }))
                if source.kind() == std::io::ErrorKind::AddrInUse && ctx.ring.now() < deadline =>
            {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("a listener's address is in use: trying for some seconds");
                }
                ctx.ring.sleep(BIND_RETRY).await;
            }
            ended => return ended,
        }
    }
}

fn try_bind(ctx: &ShardContext) -> Result<Bound, StartError> {
    let mut bound = Bound {
        listeners: Vec::new(),
        sockets: Vec::new(),
    };
    for binding in listener::bindings(&ctx.config, ctx.shards)? {
        let fail = |source| ListenError::Bind {
            name: ctx.config.listeners[binding.listener].name.clone(),
            address: binding.address,
            source,
        };
        let socket = ctx
            .ring
            .listen(binding.address, ctx.config.network.backlog)
            .map_err(fail)?;
        if binding.lane.is_none() {
            let address = socket.local_addr().map_err(fail)?;
            let listener = listener::bound(&ctx.config, binding.listener, address, ctx.shards);
            bound.listeners.push(listener);
        }
        bound.sockets.push((binding, socket));
    }
    Ok(bound)
}

async fn build(
    ctx: ShardContext,
    begin: Begin,
    control: Option<control::State>,
) -> Result<Rc<Shard>, StartError> {
    let log_config = Arc::new(log_config(&ctx));
    let Begin {
        opened,
        image,
        listeners,
        session_slots,
    } = begin;
    let ShardContext {
        ring,
        shards,
        config,
        post,
        counters,
        ..
    } = ctx;
    let log = LogStore::start(&ring, log_config, opened, |key| {
        let topic = image.topic_by_id(&key.topic)?;
        topic.partition(key.partition)?;
        Some((topic.name.clone(), topic.config.clone()))
    })
    .await
    .map_err(|error| StartError::Log(error.to_string()))?;
    let purgatory = Rc::new(Purgatory::default());
    let observer: Rc<dyn Observer> = purgatory.clone();
    let input = input_budget(&config, &ring, shards);
    let copies = ring.arena().budget_bytes() as u64 / ARENA_SHARE;
    let input_bytes = usize::try_from(input.total_bytes()).unwrap_or(usize::MAX);
    let shard = Rc::new(Shard {
        id: ring.shard(),
        placement: Placement::new(shards),
        listeners,
        log,
        authorizer: Box::new(AllowAll),
        quotas: Box::new(Unlimited),
        counters,
        sessions: RefCell::new(SessionCache::new(session_slots)),
        purgatory,
        control,
        producer_ids: ProducerIds::default(),
        scratch: RefCell::default(),
        refusals: RefCell::default(),
        observer,
        image: RefCell::new(Arc::new(Image::empty(config.clone()))),
        post,
        calls: Rc::new(Calls::default()),
        served: RefCell::new(BTreeMap::new()),
        appending: (0..shards).map(|_| Semaphore::new(1)).collect(),
        connections: RefCell::new(Slab::<Rc<Connection>>::new()),
        acceptors: Acceptors::default(),
        stages: Stages::default(),
        complaints: Complaints::default(),
        request_max_bytes: config.network.request_max_bytes.min(input_bytes),
        input,
        parcels: Budget::new((copies / 2).max(1)),
        lent: Budget::new((copies / 2).max(1)),
        pages: Budget::new((ring.arena().budget_bytes() as u64 / 4).max(1)),
        owed: (0..shards).map(|_| Cell::new(0)).collect(),
        answers: Pool::new(4096),
        items: Pool::new(1024),
        stopping: Cell::new(false),
        changed: Event::new(),
        unmade: Cell::new(false),
        applying: Cell::new(false),
        config,
        ring,
    });
    apply::withhold_missing(&shard, &image);
    // what could not be made was said, and is tried again: the rest is served meanwhile
    let _ = apply::apply(&shard, image).await;
    shard.ring.spawn(serve::receive(shard.clone())).detach();
    shard.ring.spawn(sweep::run(shard.clone())).detach();
    if shard.id == ShardId(0) {
        let watching = watch::run(shard.clone());
        shard.ring.spawn_background(watching).detach();
    }
    let expiring = expire::run(shard.clone());
    shard.ring.spawn_background(expiring).detach();
    let trimming = memory::trim(shard.clone());
    shard.ring.spawn_background(trimming).detach();
    let warming = memory::warm(shard.clone());
    shard.ring.spawn_background(warming).detach();
    Ok(shard)
}

/// Memory for large requests that are being received: what is configured, at most an eighth of the
/// arena.
fn input_budget(config: &BrokerConfig, ring: &Ring, shards: u16) -> Budget {
    let most = ring.arena().budget_bytes() as u64 / 8;
    let configured = config
        .network
        .queued_max_bytes
        .map_or(most, |bytes| bytes / u64::from(shards));
    Budget::new(configured.clamp(1 << 20, most.max(1 << 20)))
}

/// Lets what is in flight come to its end, closes what is idle, and after a while everything.
async fn drain(shard: &Rc<Shard>) {
    let deadline = shard.ring.now() + DRAIN_TIME;
    while !shard.connections.borrow().is_empty() {
        let late = shard.ring.now() >= deadline;
        for (_, connection) in shard.connections.borrow().iter() {
            if late || !connection.in_flight() {
                connection.cut("the broker stops");
            }
        }
        race(shard.changed.wait(), shard.ring.sleep(DRAIN_LOOK)).await;
    }
}

async fn close(shard: &Rc<Shard>) -> Result<(), StartError> {
    let stopped = shard.log.stop_clean().await;
    let counters = &shard.counters;
    tracing::info!(
        connections = counters.connections_opened.read(),
        handed_off = counters.handed_off.read(),
        forwarded = counters.forwarded_requests.read(),
        bytes_in = counters.bytes_in.read(),
        bytes_out = counters.bytes_out.read(),
        "shard {} stopped",
        shard.id
    );
    stopped.map_err(|error| StartError::Stop(error.to_string()))
}
