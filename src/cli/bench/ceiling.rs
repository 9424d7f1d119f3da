//! A server that answers at once, to show what the load itself can do: it takes batches as they
//! are, keeps them in memory where they will be read, and checks nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::base::ids::{ProducerId, Uuid};
use crate::cli::bench::args::Load;
use crate::cli::bench::client::{self, Frames};
use crate::cli::bench::world::{Place, Target, arena_bytes};
use crate::cli::on_ring::on_ring;
use crate::ring::buf::Buf;
use crate::ring::sync::Event;
use crate::ring::{Ring, Socket, affinity};
use crate::wire::api::ApiKey;
use crate::wire::batch::batches;
use crate::wire::frame;
use crate::wire::message::Message;
use crate::wire::messages::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::wire::records::Records;

/// Versions that it speaks: topics go by name.
const VERSION: i16 = 12;
/// A load that is read may produce so many bytes at most; a batch takes some more than its own.
pub const KEPT_BYTES: u64 = 512 << 20;
pub const BATCH_OVERHEAD: u64 = 200;
const BACKLOG: u32 = 1024;
const LOOK: Duration = Duration::from_millis(20);

/// The server; it ends with this value.
pub struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it, on a core where one is given. `keep` makes it keep what it gets.
    pub fn start(core: Option<usize>, keep: bool, load: &Load) -> anyhow::Result<Server> {
        let connections = load.producers + load.consumers + load.replayers;
        let read_bytes = client::read_bytes(connections as usize);
        let arena_bytes = arena_bytes(load)?;
        let over = Arc::new(AtomicBool::new(false));
        let (told, address) = mpsc::channel();
        let its = over.clone();
        let body = move || {
            let served = core
                .map_or(Ok(()), affinity::pin)
                .map_err(anyhow::Error::from)
                .and_then(|()| {
                    on_ring(arena_bytes, async |ring| {
                        serve(&ring, keep, read_bytes, &its, &told).await
                    })
                });
            if let Err(error) = served {
                let _ = told.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("ceiling".into()).spawn(body)?;
        let address = address.recv().context("the server ended")??;
        Ok(Server {
            address,
            over,
            thread: Some(thread),
        })
    }

    /// What a load is directed to.
    pub fn target(&self, partitions: i32, producers: u32) -> Target {
        let place = |partition| Place {
            partition,
            leader: self.address,
            start: 0,
        };
        Target {
            name: "ceiling".into(),
            id: Uuid::default(),
            ready: None,
            places: (0..partitions).map(place).collect(),
            produce: VERSION,
            fetch: VERSION,
            ids: (0..producers)
                .map(|n| (ProducerId(i64::from(n)), 0))
                .collect(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A partition: batches with their first offsets.
#[derive(Default)]
struct Log {
    batches: Vec<(i64, Buf)>,
    end: i64,
}

struct Shelf {
    ring: Ring,
    keep: bool,
    read_bytes: usize,
    logs: RefCell<BTreeMap<i32, Log>>,
    changed: Event,
    over: Cell<bool>,
}

async fn serve(
    ring: &Ring,
    keep: bool,
    read_bytes: usize,
    over: &AtomicBool,
    told: &mpsc::Sender<anyhow::Result<SocketAddr>>,
) -> anyhow::Result<()> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = ring.listen(loopback, BACKLOG)?;
    let _ = told.send(Ok(listener.local_addr()?));
    let shelf = Rc::new(Shelf {
        ring: ring.clone(),
        keep,
        read_bytes,
        logs: RefCell::default(),
        changed: Event::new(),
        over: Cell::new(false),
    });
    while !over.load(Ordering::Relaxed) {
        if let Ok(Ok((socket, _))) = ring.timeout(LOOK, listener.accept()).await {
            let its = shelf.clone();
            // the load says what is wrong with a connection that ends
            let task = async move { drop(its.answer(socket).await) };
            ring.spawn(task).detach();
        }
    }
    shelf.over.set(true);
    shelf.changed.notify_all();
    Ok(())
}

impl Shelf {
    async fn answer(&self, socket: Socket) -> anyhow::Result<()> {
        let mut frames = Frames::new(&self.ring, &socket, self.read_bytes).await;
        loop {
            let frame = frames.next().await?;
            let (header, mut body) = frame::request_header(frame)?;
            let (id, version) = (header.correlation_id, header.api_version);
            match header.api_key {
                ApiKey::Produce => {
                    let request = ProduceRequest::decode(&mut body, version)?;
                    self.produce(&socket, id, &request).await?;
                }
                ApiKey::Fetch => {
                    let request = FetchRequest::decode(&mut body, version)?;
                    self.fetch(&socket, id, &request).await?;
                }
                other => bail!("{other:?} is no part of a load"),
            }
        }
    }

    async fn produce(
        &self,
        socket: &Socket,
        id: i32,
        request: &ProduceRequest<'_>,
    ) -> anyhow::Result<()> {
        let mut answers = Vec::new();
        let mut name = "";
        for topic in request.topic_data.iter() {
            name = topic.name;
            for partition in topic.partition_data.iter() {
                answers.push(PartitionProduceResponse {
                    index: partition.index,
                    base_offset: self.put(partition.index, partition.records.bytes())?,
                    log_append_time_ms: -1,
                    ..Default::default()
                });
            }
        }
        self.changed.notify_all();
        if request.acks == 0 {
            return Ok(());
        }
        let topics = [TopicProduceResponse {
            name,
            partition_responses: answers.as_slice().into(),
            ..Default::default()
        }];
        let message = ProduceResponse {
            responses: topics.as_slice().into(),
            ..Default::default()
        };
        let none = client::no_bodies();
        let chain = client::response(&self.ring, VERSION, id, &message, none).await;
        Ok(socket.send(chain).await?)
    }

    /// The offset of the first record.
    fn put(&self, partition: i32, bytes: &[u8]) -> anyhow::Result<i64> {
        if !self.keep {
            return Ok(0);
        }
        let mut first = None;
        for batch in batches(bytes) {
            let batch = batch?;
            let mut copy = batch.bytes().to_vec();
            let mut logs = self.logs.borrow_mut();
            let log = logs.entry(partition).or_default();
            let base = log.end;
            copy[..8].copy_from_slice(&base.to_be_bytes());
            log.batches.push((base, Buf::from(copy)));
            log.end += i64::from(batch.records_count());
            first.get_or_insert(base);
        }
        first.context("no batch")
    }

    async fn fetch(
        &self,
        socket: &Socket,
        id: i32,
        request: &FetchRequest<'_>,
    ) -> anyhow::Result<()> {
        let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
        let deadline = self.ring.now() + wait;
        let (mut answers, mut bodies) = (Vec::new(), Vec::new());
        let mut name = "";
        loop {
            let changed = self.changed.wait();
            for topic in request.topics.iter() {
                name = topic.topic;
                for asked in topic.partitions.iter() {
                    let most = asked.partition_max_bytes.max(1) as usize;
                    let (end, found) = self.find(asked.partition, asked.fetch_offset, most);
                    if found.is_empty() {
                        continue;
                    }
                    answers.push(PartitionData {
                        partition_index: asked.partition,
                        high_watermark: end,
                        last_stable_offset: end,
                        preferred_read_replica: -1,
                        records: Records::Hole(found.iter().map(|batch| batch.len()).sum()),
                        ..Default::default()
                    });
                    bodies.push(found);
                }
            }
            if !bodies.is_empty() || self.over.get() || self.ring.now() >= deadline {
                break;
            }
            let _ = self.ring.deadline(deadline, changed).await;
        }
        let topics = [FetchableTopicResponse {
            topic: name,
            partitions: answers.as_slice().into(),
            ..Default::default()
        }];
        let message = FetchResponse {
            responses: topics.as_slice().into(),
            ..Default::default()
        };
        let chain = client::response(&self.ring, VERSION, id, &message, bodies).await;
        Ok(socket.send(chain).await?)
    }

    /// Batches from an offset on, one at least where there is one; and where the log ends.
    fn find(&self, partition: i32, from: i64, most: usize) -> (i64, Vec<Buf>) {
        let logs = self.logs.borrow();
        let Some(log) = logs.get(&partition) else {
            return (0, Vec::new());
        };
        let at = log.batches.partition_point(|(base, _)| *base < from);
        let mut left = most;
        let fits = |(_, batch): &&(i64, Buf)| {
            let fits = batch.len() <= left || left == most;
            left = left.saturating_sub(batch.len());
            fits
        };
        let found = log.batches[at..].iter().take_while(fits);
        (log.end, found.map(|(_, batch)| batch.clone()).collect())
    }
}
