//! Requests of one connection are worked on in their order, also on the way to another shard and
//! when there is no room.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::ids::ShardId;
use corelane::base::time::Timestamp;
use corelane::ring::Ring;
use corelane::ring::sim::{SimOptions, SimWorld};
use corelane::wire::batch::{BatchBuilder, batches, records};
use corelane::wire::compress::Codec;
use corelane::wire::messages::*;
use corelane::wire::records::Records;

use crate::seeds;
use crate::world::client::Client;
use crate::world::machine::Machine;

const LIMIT: Duration = Duration::from_secs(3600);
const PARTITIONS: i32 = 8;
/// Each has a topic of its own.
const PRODUCERS: u64 = 3;
/// Requests of a producer, each with a batch for every partition.
const REQUESTS: u64 = 24;
/// Of them without an answer at a time.
const PIPELINED: u64 = 6;

fn batch(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + bytes, 7);
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(Timestamp(1_700_000_000_000), None, Some(&value), &[]);
    builder.build().expect("not compressed")
}

async fn produce(client: &mut Client, topic: &str, number: u64) {
    // together far more than an entry of the journal takes
    let large = batch(number, 100_000);
    let small = batch(number, 100);
    let parts: Vec<PartitionProduceData<'_>> = (0..PARTITIONS)
        .map(|index| PartitionProduceData {
            index,
            records: Records::Bytes(if number.is_multiple_of(3) {
                &large
            } else {
                &small
            }),
        })
        .collect();
    let topics = [TopicProduceData {
        name: topic,
        partition_data: parts[..].into(),
        ..TopicProduceData::default()
    }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 3_600_000,
        topic_data: topics[..].into(),
        ..ProduceRequest::default()
    };
    client.ask(9, &request).await.expect("it is sent");
}

async fn acked(client: &mut Client) {
    let answer = client.answer().await.expect("an answer");
    let answer: ProduceResponse = answer.decode(9);
    let topic = answer.responses.iter().next().expect("one topic");
    for partition in topic.partition_responses.iter() {
        assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    }
}

/// The numbers in a partition, in the order of their offsets.
async fn numbers(client: &mut Client, topic: &str, partition: i32) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < REQUESTS as usize {
        let partitions = [FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: found.len() as i64,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        }];
        let topics = [FetchTopic {
            topic,
            partitions: partitions[..].into(),
            ..FetchTopic::default()
        }];
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: topics[..].into(),
            ..FetchRequest::default()
        };
        let answer = client.call(11, &request).await.expect("an answer");
        let answer: FetchResponse = answer.decode(11);
        let data = answer.responses.iter().next().expect("one topic");
        let data = data.partitions.iter().next().expect("one partition");
        assert_eq!(data.error_code, 0);
        for batch in batches(data.records.bytes()) {
            let Ok(batch) = batch else { break };
            for record in records(batch.body(), batch.records_count()) {
                let value = record.expect("a record").value.expect("a value");
                found.push(u64::from_be_bytes(value[..8].try_into().expect("8 bytes")));
            }
        }
    }
    found
}

async fn work(ring: Ring, address: SocketAddr, producer: u64, left: Rc<Cell<u64>>) {
    let mut client = Client::new(&ring, address);
    client.patience = LIMIT;
    let topic = format!("t{producer}");
    client.create(&topic, PARTITIONS).await;
    for number in 0..REQUESTS {
        produce(&mut client, &topic, number).await;
        if number >= PIPELINED {
            acked(&mut client).await;
        }
    }
    for _ in 0..PIPELINED {
        acked(&mut client).await;
    }
    for partition in 0..PARTITIONS {
        let found = numbers(&mut client, &topic, partition).await;
        let sent: Vec<u64> = (0..REQUESTS).collect();
        assert_eq!(found, sent, "{topic}-{partition}");
    }
    left.set(left.get() - 1);
}

fn life(seed: u64) {
    let world = SimWorld::new(seed, SimOptions::default());
    let machine = Machine::with(
        &world,
        &[
            ("log.dirs", "/disk0/log"),
            ("corelane.lanes", "off"),
            ("corelane.journal.size", "4194304"),
        ],
    );
    machine.start_shards(&world, 2);
    machine.run_until_started(&world, LIMIT);
    let process = world.process(world.machine(&[]));
    let ring = world.shard(process, ShardId(0));
    let left = Rc::new(Cell::new(PRODUCERS));
    for producer in 0..PRODUCERS {
        let work = work(
            ring.clone(),
            machine.address(&world),
            producer,
            left.clone(),
        );
        world.spawn(process, &ring, work);
    }
    assert!(world.run_until(LIMIT, || left.get() == 0), "it hangs");
}

#[test]
fn pipelined_batches_keep_their_order_when_the_journal_is_full() {
    seeds::run(
        "pipelined_batches_keep_their_order_when_the_journal_is_full",
        3,
        &[],
        life,
    );
}
