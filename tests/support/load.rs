//! The load: producers that never stop, a consumer that watches, and the reader that judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::history::{History, Promise, value};
use super::wait::{self, Deadline, pause};
use corelane::ring::sim::Rng;

/// Records of one producer that wait for their acknowledgement.
const IN_FLIGHT: usize = 200;
/// What a producer sends between two pauses: with them some thousand records a second.
const BURST: usize = 16;
const PAUSE: Duration = Duration::from_millis(8);
/// After so long a client gives a request up, closes its connection and sends it again on another.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// From a start until every producer and the watcher get on.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);
/// Between two records of a reading of the logs.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// One delivery that is awaited.
struct Sent {
    place: usize,
    number: u64,
}

struct Context {
    histories: Vec<Arc<History>>,
    in_flight: Arc<AtomicUsize>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // lost connections are what this test is about; a fatal error ends a producer
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.histories[0].broke(format!("the producer ended: {reason}"));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let history = &self.histories[sent.place];
        match result {
            Ok(message) => history.acked(sent.number, message.offset()),
            Err((error, _)) if history.promise == Promise::EachOnce => {
                let purged = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue)
                    || error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeInflight);
                if !purged {
                    history.broke(format!("record {} was not delivered: {error}", sent.number));
                }
            }
            Err(_) => {}
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thread that works until told to stop.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Running {
            stop,
            thread: Some(thread::spawn(move || work(&told))),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("socket.timeout.ms", REQUEST_LIMIT.as_millis().to_string())
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

/// Sends numbered records to the partitions of `histories` in turn, through all crashes, behind
/// those that were seen there.
pub fn producer(
    bootstrap: &str,
    histories: Vec<Arc<History>>,
    acks: &str,
    mut random: Rng,
) -> Result<Running> {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut config = config(bootstrap);
    config
        .set("acks", acks)
        .set("linger.ms", "2")
        .set("message.max.bytes", "4000000")
        .set("message.timeout.ms", "120000")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "100");
    match histories[0].promise {
        Promise::EachOnce => config.set("enable.idempotence", "true"),
        // By a name that the broker does not know, so that it sees one node: librdkafka sends what
        // is in flight to a node that vanishes from the metadata again, as if it had never been
        // sent, and a restart with fewer cores shows fewer nodes. Idempotence is proof against it.
        Promise::AtMostOnce => config
            .set("message.send.max.retries", "0")
            .set("max.in.flight", "1")
            .set("client.software.name", "sees-one-node"),
    };
    let producer: ThreadedProducer<Context> = config.create_with_context(Context {
        histories: histories.clone(),
        in_flight: Arc::clone(&in_flight),
    })?;
    Ok(Running::start(move |stop| {
        let mut numbers: Vec<u64> = histories.iter().map(|h| h.unused_number()).collect();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..BURST {
                if in_flight.load(Ordering::Relaxed) >= IN_FLIGHT {
                    break;
                }
                let place = random.below(histories.len() as u64) as usize;
                let number = numbers[place];
                // mostly small, some of many pages, a few that a broker may treat apart
                let length = match random.below(1000) {
                    0 => 400_000,
                    1..10 => 20_000,
                    _ => 8 + random.below(300) as usize,
                };
                let bytes = value(number, length);
                let sent = Box::new(Sent { place, number });
                let record =
                    BaseRecord::<(), [u8], _>::with_opaque_to(&histories[place].topic, sent)
                        .partition(histories[place].partition)
                        .payload(&bytes);
                in_flight.fetch_add(1, Ordering::Relaxed);
                match producer.send(record) {
                    Ok(()) => numbers[place] += 1,
                    Err((error, _)) => {
                        in_flight.fetch_sub(1, Ordering::Relaxed);
                        histories[place].broke(format!("cannot send: {error}"));
                        return;
                    }
                }
            }
            pause(PAUSE);
        }
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }))
}

fn consumer(bootstrap: &str) -> Result<BaseConsumer> {
    Ok(config(bootstrap)
        .set("group.id", "assigned by hand, never joined")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        .create()?)
}

fn assign(consumer: &BaseConsumer, histories: &[Arc<History>], from: &[i64]) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for (history, from) in histories.iter().zip(from) {
        list.add_partition_offset(&history.topic, history.partition, Offset::Offset(*from))?;
    }
    Ok(consumer.assign(&list)?)
}

/// Consumes everything that the histories have not seen, through all crashes, into them.
pub fn watcher(bootstrap: &str, histories: Vec<Arc<History>>) -> Result<Running> {
    let consumer = consumer(bootstrap)?;
    let from: Vec<i64> = histories.iter().map(|h| h.seen_end()).collect();
    assign(&consumer, &histories, &from)?;
    Ok(Running::start(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            match consumer.poll(Duration::from_millis(50)) {
                None => {}
                Some(Ok(message)) => {
                    if let Some(history) = find(&histories, message.topic(), message.partition()) {
                        history.seen(message.offset(), message.payload().unwrap_or_default());
                    }
                }
                Some(Err(error)) if is_transient(&error) => {}
                Some(Err(error)) => histories[0].broke(format!("the consumer was told: {error}")),
            }
        }
    }))
}

fn find<'a>(
    histories: &'a [Arc<History>],
    topic: &str,
    partition: i32,
) -> Option<&'a Arc<History>> {
    histories
        .iter()
        .find(|h| h.topic == topic && h.partition == partition)
}

/// What a client is told while a broker is away or has not taken its partitions up again.
fn is_transient(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

/// A client that makes and deletes topics.
pub fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>> {
    // what makes files is not given up as soon as a request for records is
    let limit = PROGRESS_LIMIT.as_millis().to_string();
    Ok(config(bootstrap).set("socket.timeout.ms", limit).create()?)
}

/// Makes the topics of the histories, each with as many partitions as it has histories.
pub fn create_topics(bootstrap: &str, histories: &[Arc<History>]) -> Result<()> {
    let admin = admin(bootstrap)?;
    let mut topics: Vec<(&str, i32)> = Vec::new();
    for history in histories {
        match topics.last_mut() {
            Some((name, partitions)) if *name == history.topic => *partitions += 1,
            _ => topics.push((&history.topic, 1)),
        }
    }
    for (name, partitions) in topics {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let outcome = pollster::block_on(admin.create_topics([&new], &AdminOptions::new()))?;
        for result in outcome {
            result.map_err(|(name, code)| anyhow::anyhow!("{name} was not created: {code}"))?;
        }
    }
    Ok(())
}

/// The topics that there are.
pub fn topics(bootstrap: &str) -> Result<Vec<String>> {
    let all = consumer(bootstrap)?.fetch_metadata(None, READ_LIMIT)?;
    Ok(all.topics().iter().map(|t| t.name().to_owned()).collect())
}

/// Waits until every partition has acknowledged something new and the watcher has seen it.
pub fn progress(histories: &[Arc<History>], mut runs: impl FnMut() -> bool) -> Result<()> {
    let before: Vec<usize> = histories.iter().map(|h| h.acked_count()).collect();
    let seen: Vec<i64> = histories.iter().map(|h| h.seen_end()).collect();
    wait::until(
        PROGRESS_LIMIT,
        "every client to get on after a start",
        || {
            ensure!(runs(), "the broker ended by itself");
            let acked = histories
                .iter()
                .zip(&before)
                .all(|(h, b)| h.acked_count() > *b);
            let watched = histories.iter().zip(&seen).all(|(h, s)| h.seen_end() > *s);
            if acked && watched {
                return Ok(Some(()));
            }
            for history in histories {
                history.demand()?; // a broken promise ends the wait
            }
            Ok(None)
        },
    )
}

/// Reads every partition to its end now, with a new consumer, from `again` records before the end
/// that is known on. `take` is given the place of the history, the offset and the value.
pub fn read(
    bootstrap: &str,
    histories: &[Arc<History>],
    known: &[i64],
    again: i64,
    mut take: impl FnMut(usize, i64, &[u8]) -> Result<()>,
) -> Result<()> {
    let consumer = consumer(bootstrap)?;
    let mut next = Vec::new();
    let mut ends = Vec::new();
    for (history, known) in histories.iter().zip(known) {
        // a broker that has just started may not lead all of its partitions yet
        let (_, end) = wait::until(READ_LIMIT, "the end of a partition", || {
            let bounds =
                consumer.fetch_watermarks(&history.topic, history.partition, READ_LIMIT / 4);
            match bounds {
                Ok(bounds) => Ok(Some(bounds)),
                Err(error) if is_transient(&error) => Ok(None),
                Err(error) => bail!("{}-{}: {error}", history.topic, history.partition),
            }
        })?;
        ensure!(
            end >= *known,
            "{}-{} ended at {known} and ends at {end} now",
            history.topic,
            history.partition
        );
        next.push((known - again).max(0));
        ends.push(end);
    }
    assign(&consumer, histories, &next)?;
    // as long as records come it goes on: a busy machine reads a long log slowly
    let mut deadline = Deadline::after(READ_LIMIT);
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        if deadline.passed() {
            bail!("the logs end at {ends:?}, but nothing came after {next:?} for {READ_LIMIT:?}");
        }
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(error)) if is_transient(&error) => continue,
            Some(Err(error)) => bail!("a reader was told: {error}"),
            Some(Ok(message)) => message,
        };
        let place = histories
            .iter()
            .position(|h| h.topic == message.topic() && h.partition == message.partition());
        let Some(place) = place else { continue };
        let offset = message.offset();
        ensure!(
            offset == next[place],
            "{}-{}: offset {offset} was read where {} comes",
            histories[place].topic,
            histories[place].partition,
            next[place]
        );
        take(place, offset, message.payload().unwrap_or_default())?;
        next[place] += 1;
        deadline = Deadline::after(READ_LIMIT);
    }
    Ok(())
}
