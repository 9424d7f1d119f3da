//! The `rdkafka` crate: a current librdkafka, in this process.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::client::{Client, Reading, Record, Seen, Sending};
use crate::support::wait::Deadline;

/// One whole call.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a fetch waits for records where a case does not care.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// The crate as a client of the suite.
pub struct Librdkafka {
    bootstrap: String,
}

/// Collects the acknowledged offsets by the place of their records.
struct Acks(Mutex<Vec<Option<Result<i64, RDKafkaErrorCode>>>>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        let mut acks = self.0.lock().expect("no holder panics");
        acks[*place] = Some(outcome);
    }
}

impl Librdkafka {
    /// A client of the broker at `bootstrap`.
    pub fn new(bootstrap: &str) -> Librdkafka {
        Librdkafka {
            bootstrap: bootstrap.to_owned(),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn consumer(&self, max_wait: Duration, max_bytes: usize) -> Result<BaseConsumer> {
        let consumer = self
            .config()
            .set("group.id", "assigned by hand, never joined")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", max_wait.as_millis().to_string())
            .set("socket.timeout.ms", "60000")
            .set("fetch.message.max.bytes", max_bytes.to_string())
            .create()?;
        Ok(consumer)
    }

    /// How many nodes, and how many different leaders of `topic`, a Metadata answer shows.
    pub fn nodes_and_leaders(&self, topic: &str) -> Result<(usize, usize)> {
        let consumer = self.consumer(MAX_WAIT, 1 << 20)?;
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
        let topic = metadata
            .topics()
            .first()
            .context("the topic is not there")?;
        let mut leaders: Vec<i32> = topic.partitions().iter().map(|p| p.leader()).collect();
        leaders.sort_unstable();
        leaders.dedup();
        Ok((metadata.brokers().len(), leaders.len()))
    }

    /// The topics that a listing of everything shows.
    pub fn topics(&self) -> Result<Vec<String>> {
        let metadata = self
            .consumer(MAX_WAIT, 1 << 20)?
            .fetch_metadata(None, LIMIT)?;
        let topics = metadata.topics();
        Ok(topics.iter().map(|t| t.name().to_owned()).collect())
    }

    /// Sends one record and answers the error code of its delivery report, if it failed.
    pub fn refused(&self, sending: &Sending<'_>) -> Result<Option<RDKafkaErrorCode>> {
        let outcomes = self.send(sending)?;
        Ok(outcomes.into_iter().find_map(Result::err))
    }

    /// Creates a topic; its configuration as pairs.
    pub fn create(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(LIMIT))
            .operation_timeout(Some(LIMIT));
        let outcome = pollster::block_on(admin.create_topics([&new], &options))?;
        match outcome.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => Err(anyhow!("{topic} was not created: {code}")),
            None => bail!("no answer for {topic}"),
        }
    }

    fn send(&self, sending: &Sending<'_>) -> Result<Vec<Result<i64, RDKafkaErrorCode>>> {
        let acks = Acks(Mutex::new(vec![None; sending.records.len()]));
        let producer: BaseProducer<Acks> = self
            .config()
            .set("compression.type", sending.codec)
            .set("acks", sending.acks)
            .set("enable.idempotence", sending.idempotent.to_string())
            .set("linger.ms", "20")
            .set("message.max.bytes", (4 << 20).to_string())
            .set("message.timeout.ms", (LIMIT / 2).as_millis().to_string())
            .create_with_context(acks)?;
        for (place, record) in sending.records.iter().enumerate() {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_ref(),
                });
            }
            let mut message =
                BaseRecord::<Vec<u8>, Vec<u8>, _>::with_opaque_to(sending.topic, Box::new(place))
                    .partition(sending.partition);
            if !record.headers.is_empty() {
                message = message.headers(headers);
            }
            message.key = record.key.as_ref();
            message.payload = record.value.as_ref();
            message.timestamp = (record.timestamp >= 0).then_some(record.timestamp);
            producer.send(message).map_err(|(e, _)| e)?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(LIMIT)?;
        let acks = producer.context().0.lock().expect("no holder panics");
        acks.iter()
            .map(|ack| (*ack).context("a record without delivery report"))
            .collect()
    }
}

impl Client for Librdkafka {
    fn produce(&mut self, sending: &Sending<'_>) -> Result<Vec<i64>> {
        let outcomes = self.send(sending)?;
        let offsets = outcomes.into_iter().map(|o| Ok(o?));
        offsets.collect()
    }

    fn consume(&mut self, reading: &Reading<'_>) -> Result<Vec<Seen>> {
        let consumer = self.consumer(MAX_WAIT, reading.max_bytes)?;
        assign(&consumer, reading.topic, reading.partition, reading.from)?;
        let mut seen = Vec::new();
        let deadline = Deadline::after(LIMIT);
        while seen.len() < reading.count {
            if deadline.passed() {
                bail!("only {} of {} records came", seen.len(), reading.count);
            }
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                seen.push(to_seen(&message?));
            }
        }
        Ok(seen)
    }

    fn offset_for_time(&mut self, topic: &str, partition: i32, time: i64) -> Result<i64> {
        let consumer = self.consumer(MAX_WAIT, 1 << 20)?;
        let mut times = TopicPartitionList::new();
        times.add_partition_offset(topic, partition, Offset::Offset(time))?;
        let found = consumer.offsets_for_times(times, LIMIT)?;
        let element = found.find_partition(topic, partition);
        match element.context("no answer for the partition")?.offset() {
            Offset::Offset(offset) => Ok(offset),
            Offset::End => Ok(-1),
            other => bail!("an offset by time is {other:?}"),
        }
    }

    fn bounds(&mut self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let consumer = self.consumer(MAX_WAIT, 1 << 20)?;
        Ok(consumer.fetch_watermarks(topic, partition, LIMIT)?)
    }

    fn follow(
        &mut self,
        topic: &str,
        partition: i32,
        count: usize,
        max_wait: Duration,
        next: &mut dyn FnMut(Option<&Seen>) -> Result<()>,
    ) -> Result<()> {
        let (_, end) = self.bounds(topic, partition)?;
        let consumer = self.consumer(max_wait, 1 << 20)?;
        assign(&consumer, topic, partition, end)?;
        next(None)?;
        let deadline = Deadline::after(LIMIT);
        let mut left = count;
        while left > 0 {
            if deadline.passed() {
                bail!("{left} records did not come");
            }
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                next(Some(&to_seen(&message?)))?;
                left -= 1;
            }
        }
        Ok(())
    }
}

fn assign(consumer: &BaseConsumer, topic: &str, partition: i32, from: i64) -> Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from))?;
    Ok(consumer.assign(&list)?)
}

fn to_seen(message: &BorrowedMessage<'_>) -> Seen {
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers
            .iter()
            .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
    });
    Seen {
        offset: message.offset(),
        record: Record {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.collect(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
        },
    }
}
