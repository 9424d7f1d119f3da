//! Batches on their way to the leaders of their partitions.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::base::ids::ProducerId;
use crate::base::time::Timestamp;
use crate::cli::args::{Acks, Produce};
use crate::cli::client::{ClientError, Cluster, TopicInfo};
use crate::cli::produce::Record;
use crate::wire::array::Array;
use crate::wire::batch::BatchBuilder;
use crate::wire::messages::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::records::Records;

/// What became of a partition's records.
#[derive(Clone, Debug)]
pub struct Done {
    pub partition: i32,
    pub records: u64,
    /// First and last.
    pub offsets: (i64, i64),
}

struct Open {
    builder: BatchBuilder,
    count: i32,
}

struct Batch {
    partition: i32,
    bytes: Vec<u8>,
    count: i32,
}

/// Collects records by partition, and sends them: one batch of a partition at a time, so that
/// order holds.
pub struct Sender<'o> {
    cluster: Cluster,
    topic: TopicInfo,
    options: &'o Produce,
    partitions: Vec<i32>,
    producer: Option<(ProducerId, i16)>,
    sequences: BTreeMap<i32, i32>,
    open: BTreeMap<i32, Open>,
    done: BTreeMap<i32, Done>,
}

impl<'o> Sender<'o> {
    pub fn new(
        cluster: Cluster,
        topic: TopicInfo,
        options: &'o Produce,
        producer: Option<(ProducerId, i16)>,
    ) -> Sender<'o> {
        Sender {
            cluster,
            partitions: topic.partitions.iter().map(|p| p.index).collect(),
            topic,
            options,
            producer,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// The topic's partitions.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// What was produced so far, by partition.
    pub fn done(&self) -> impl Iterator<Item = &Done> {
        self.done.values()
    }

    /// Adds a record to its partition's batch.
    pub fn add(&mut self, partition: i32, record: &Record, now: Timestamp) {
        let (codec, producer) = (self.options.codec, self.producer);
        let sequence = *self.sequences.entry(partition).or_insert(0);
        let open = self.open.entry(partition).or_insert_with(|| {
            let builder = BatchBuilder::new(codec);
            Open {
                builder: match producer {
                    Some((id, epoch)) => builder.producer(id, epoch, sequence),
                    None => builder,
                },
                count: 0,
            }
        });
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        open.builder.append(
            record.timestamp.map_or(now, Timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        open.count += 1;
    }

    /// True if a batch is as large as it may be.
    pub fn is_full(&self) -> bool {
        let full = |open: &Open| open.builder.size() >= self.options.batch_bytes;
        self.open.values().any(full)
    }

    /// Sends all that was added and waits for the acks.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let mut left = Vec::new();
        for (partition, open) in std::mem::take(&mut self.open) {
            let sequence = self.sequences.entry(partition).or_insert(0);
            *sequence = sequence.wrapping_add(open.count) & i32::MAX;
            left.push(Batch {
                partition,
                bytes: open.builder.build()?,
                count: open.count,
            });
        }
        let deadline = Instant::now() + self.options.broker.timeout;
        while !left.is_empty() {
            let (again, error) = self.send(left)?;
            left = again;
            if let Some(error) = error {
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                thread::sleep(Duration::from_millis(100));
                // leaders may have moved
                if let Ok(topic) = self.cluster.topic(&self.topic.name, false) {
                    self.topic = topic;
                }
            }
        }
        Ok(())
    }

    fn leader(&self, partition: i32) -> i32 {
        let found = self.topic.partitions.iter().find(|p| p.index == partition);
        found.map_or(-1, |p| p.leader)
    }

    /// Sends to all leaders, then reads their answers. Returns what is to be sent again, and why.
    fn send(
        &mut self,
        batches: Vec<Batch>,
    ) -> Result<(Vec<Batch>, Option<ClientError>), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<Batch>> = BTreeMap::new();
        for batch in batches {
            let leader = self.leader(batch.partition);
            by_leader.entry(leader).or_default().push(batch);
        }
        let mut waiting = Vec::new();
        let mut again = Vec::new();
        let mut why = None;
        for (leader, batches) in by_leader {
            match self.ask(leader, &batches) {
                Ok(sent) => waiting.push((leader, sent, batches)),
                Err(error) if error.is_retriable() => {
                    self.cluster.forget(leader);
                    again.extend(batches);
                    why = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        for (leader, sent, batches) in waiting {
            match self.answer(leader, sent, &batches) {
                Ok(refused) => {
                    for batch in batches {
                        match refused.get(&batch.partition) {
                            None => {}
                            Some(_) => again.push(batch),
                        }
                    }
                    why = refused.into_values().next().or(why);
                }
                Err(error) if error.is_retriable() => {
                    self.cluster.forget(leader);
                    again.extend(batches);
                    why = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((again, why))
    }

    fn ask(&mut self, leader: i32, batches: &[Batch]) -> Result<(i32, i16), ClientError> {
        let data: Vec<PartitionProduceData<'_>> = batches
            .iter()
            .map(|batch| PartitionProduceData {
                index: batch.partition,
                records: Records::Bytes(&batch.bytes),
            })
            .collect();
        let topic = TopicProduceData {
            name: &self.topic.name,
            topic_id: self.topic.id,
            partition_data: data.as_slice().into(),
        };
        let connection = self.cluster.node(leader)?;
        let newest = if self.topic.id.is_zero() {
            12
        } else {
            i16::MAX
        };
        let version = connection.version::<ProduceRequest<'_>>(newest)?;
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.options.acks.code(),
            timeout_ms: self.options.broker.timeout.as_millis() as i32,
            topic_data: Array::Slice(std::slice::from_ref(&topic)),
        };
        Ok((connection.send(&request, version)?, version))
    }

    /// Reads an answer; returns the partitions that want another try.
    fn answer(
        &mut self,
        leader: i32,
        (id, version): (i32, i16),
        batches: &[Batch],
    ) -> Result<BTreeMap<i32, ClientError>, ClientError> {
        let mut refused = BTreeMap::new();
        if self.options.acks == Acks::None {
            for batch in batches {
                note(&mut self.done, batch, 0);
            }
            return Ok(refused);
        }
        let connection = self.cluster.node(leader)?;
        let answer: ProduceResponse<'_> = connection.receive(id, version)?;
        for partition in answer
            .responses
            .iter()
            .flat_map(|t| t.partition_responses.iter().collect::<Vec<_>>())
        {
            let index = partition.index;
            let what = || format!("partition {index} of {}", self.topic.name);
            match ClientError::check(partition.error_code, partition.error_message, what) {
                Ok(()) => {
                    let batch = batches.iter().find(|b| b.partition == index);
                    if let Some(batch) = batch {
                        note(&mut self.done, batch, partition.base_offset);
                    }
                }
                Err(error) if error.is_retriable() => {
                    refused.insert(index, error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }
}

fn note(done: &mut BTreeMap<i32, Done>, batch: &Batch, base_offset: i64) {
    let last = base_offset + i64::from(batch.count) - 1;
    let done = done.entry(batch.partition).or_insert(Done {
        partition: batch.partition,
        records: 0,
        offsets: (base_offset, last),
    });
    done.records += batch.count as u64;
    done.offsets.1 = last;
}
