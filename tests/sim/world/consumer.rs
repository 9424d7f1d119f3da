//! Consumers, which remember all that they were shown.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corelane::base::error_code::ErrorCode;
use corelane::ring::sim::Rng;
use corelane::wire::batch::{BatchView, batches, records};
use corelane::wire::compress::decompress;
use corelane::wire::messages::*;

use super::client::Client;
use super::model::{Model, Record};
use super::rule::{Rule, broken, rule};
use super::shared::{DEADLINE, Shared, Tempo, code};
use super::topic::{Topic, draw_patience};

const RETRY: Duration = Duration::from_millis(30);

/// What one partition's answer showed, from the offset on that was asked for.
struct Shown {
    records: BTreeMap<i64, Record>,
    /// Where the next fetch goes on.
    next: i64,
    high_watermark: i64,
}

/// Where and how much to read.
#[derive(Clone, Copy)]
struct Ask {
    partition: usize,
    offset: i64,
    max_bytes: i32,
}

/// Reads a topic's partitions to their ends, again and again.
pub async fn run(shared: Rc<Shared>, topic: Rc<Topic>, mut rng: Rng) {
    let mut client = Client::new(&shared.ring, shared.address);
    client.introduces_itself = rng.chance(0.5);
    let mut next = vec![0; topic.partitions.len()];
    let mut power = shared.power_cuts();
    let most = (shared.value_bytes as i32 * 10).max(2_000);
    while shared.work(&topic, |tempo| tempo != Tempo::Drain).await {
        draw_patience(&mut client, &mut rng);
        if shared.weak && power != shared.power_cuts() {
            power = shared.power_cuts();
            next.fill(0);
        }
        if topic.is_unsettled(&shared) {
            shared.ring.sleep(RETRY).await;
            continue;
        }
        let mut asks: Vec<Ask> = (0..next.len())
            .map(|partition| Ask {
                partition,
                offset: next[partition],
                max_bytes: rng.between(1, most as u64) as i32,
            })
            .collect();
        rng.shuffle(&mut asks);
        asks.truncate(rng.between(1, asks.len() as u64) as usize);
        let wait_ms = [0, 100, 3_000][rng.index(3)];
        let Some(shown) = fetch(&shared, &mut client, &topic, &asks, wait_ms).await else {
            shared.ring.sleep(RETRY).await;
            continue;
        };
        if shown.iter().any(Option::is_none) {
            shared.ring.sleep(RETRY).await;
        }
        for (ask, shown) in asks.iter().zip(shown) {
            let Some(shown) = shown else { continue };
            next[ask.partition] = match shown.next {
                // all seen: some of it once more, it must be the same
                end if end == ask.offset && rng.chance(0.2) => {
                    rng.below(end as u64 + 1) as i64 / [1, 1_000_000][rng.index(2)]
                }
                next => next,
            };
        }
    }
}

/// After power cuts under the interval policy: looks at what is left.
pub async fn settle(shared: Rc<Shared>, topic: Rc<Topic>) {
    let mut client = Client::new(&shared.ring, shared.address);
    client.patience = DEADLINE;
    loop {
        shared.active.set(shared.active.get() - 1);
        while !topic.gone.get() && !topic.is_unsettled(&shared) {
            shared.changed.wait().await;
        }
        shared.active.set(shared.active.get() + 1);
        if topic.gone.get() {
            return;
        }
        for index in 0..topic.partitions.len() {
            if topic.model(&shared, index).is_unsettled() {
                let power = shared.power_cuts();
                let found = read_all(&shared, &mut client, &topic, index).await;
                let Some(found) = found else { return };
                topic.model(&shared, index).settled(found, power);
            }
        }
    }
}

/// A partition from its start to its end; none if its topic goes meanwhile, or if rot hides it.
pub async fn read_all(
    shared: &Shared,
    client: &mut Client,
    topic: &Topic,
    index: usize,
) -> Option<BTreeMap<i64, Record>> {
    let mut all = BTreeMap::new();
    let mut power = shared.power_cuts();
    let mut offset = 0;
    let mut refused = 0;
    while !topic.gone.get() {
        if power != shared.power_cuts() {
            power = shared.power_cuts();
            all.clear();
            offset = 0;
        }
        let ask = Ask {
            partition: index,
            offset,
            max_bytes: 300_000,
        };
        let shown = fetch(shared, client, topic, &[ask], 0).await;
        match shown.and_then(|mut shown| shown.pop().flatten()) {
            Some(shown) if shown.next == offset && offset >= shown.high_watermark => {
                return Some(all);
            }
            Some(shown) => {
                offset = shown.next;
                all.extend(shown.records);
            }
            // a batch that rotted
            None if topic.partitions[index].borrow().is_rotten(offset) => offset += 1,
            // one that rotted may hide those after it
            None if refused > 20 && topic.partitions[index].borrow().has_rot() => return None,
            None => {
                refused += 1;
                shared.ring.sleep(RETRY).await;
            }
        }
    }
    None
}

/// One Fetch. What is shown is judged and remembered. None if there is no answer, and for each
/// partition that refused.
async fn fetch(
    shared: &Shared,
    client: &mut Client,
    topic: &Topic,
    asks: &[Ask],
    max_wait_ms: i32,
) -> Option<Vec<Option<Shown>>> {
    let known: Vec<i64> = asks
        .iter()
        .map(|ask| topic.model(shared, ask.partition).high_watermark())
        .collect();
    let power = shared.power_cuts();
    let partitions: Vec<FetchPartition> = asks
        .iter()
        .map(|ask| FetchPartition {
            partition: ask.partition as i32,
            current_leader_epoch: -1,
            fetch_offset: ask.offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: ask.max_bytes,
            ..FetchPartition::default()
        })
        .collect();
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id: topic.id,
            partitions: partitions.into(),
            ..FetchTopic::default()
        }]
        .into(),
        ..FetchRequest::default()
    };
    let answer = shared.call(client, 16, &request).await?;
    let answer: FetchResponse = answer.decode(16);
    if topic.gone.get() {
        return None;
    }
    let error = code(answer.error_code);
    rule!(
        Rule::Served,
        error == ErrorCode::None,
        "{}: Fetch: {}",
        topic.name,
        error.name()
    );
    let mut shown: Vec<Option<Shown>> = asks.iter().map(|_| None).collect();
    let topics = answer.responses.iter();
    for data in topics.flat_map(|t| t.partitions.iter().collect::<Vec<_>>()) {
        let which = asks
            .iter()
            .position(|ask| ask.partition as i32 == data.partition_index);
        let which = which.expect("a partition that was asked for");
        let ask = &asks[which];
        let error = code(data.error_code);
        match error {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange if shared.weak && power != shared.power_cuts() => continue,
            ErrorCode::KafkaStorageError
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::CorruptMessage => {
                if topic.partitions[ask.partition]
                    .borrow()
                    .is_rotten(ask.offset)
                {
                    shared.tally.rot_found.one();
                }
                shared.refused(topic, ask.partition, error, "fetching");
                continue;
            }
            other => broken(
                Rule::Served,
                format_args!(
                    "{}-{}: fetching at {}, the high watermark was {}: {}",
                    topic.name,
                    ask.partition,
                    ask.offset,
                    known[which],
                    other.name()
                ),
            ),
        }
        shown[which] = judge(shared, topic, ask, &data, known[which], power);
    }
    let unsettled = |ask: &Ask| topic.model(shared, ask.partition).is_unsettled();
    let waits = |(ask, shown): (&Ask, &Option<Shown>)| match shown {
        Some(shown) => shown.next == ask.offset && ask.offset < shown.high_watermark,
        None => false,
    };
    let all = || asks.iter().zip(&shown);
    rule!(
        Rule::Served,
        !all().all(waits) || asks.iter().any(unsettled),
        "{}: nothing is shown at {:?}, though there is something",
        topic.name,
        asks.iter()
            .map(|ask| (ask.partition, ask.offset))
            .collect::<Vec<_>>()
    );
    Some(shown)
}

fn judge(
    shared: &Shared,
    topic: &Topic,
    ask: &Ask,
    data: &PartitionData<'_>,
    known: i64,
    power: u64,
) -> Option<Shown> {
    let mut model = topic.model(shared, ask.partition);
    model.watermark(data.high_watermark, known, power);
    let mut shown = Shown {
        records: BTreeMap::new(),
        next: ask.offset,
        high_watermark: data.high_watermark,
    };
    for batch in batches(data.records.bytes()) {
        let Ok(batch) = batch else { break }; // the last one may be cut
        let first = batch.base_offset().0;
        // a last offset that rotted makes a batch pass for the one that is looked for
        let passes = model.is_rotten(first) && !batch.verify_crc();
        if passes || model.is_rotten(shown.next) && !is_sound(&batch, &model, shown.next) {
            // a broker does not look into what it sends from a file: its clients do
            shared.tally.rot_found.one();
            return None;
        }
        rule!(
            Rule::Acked,
            batch.verify_crc(),
            "{}: the checksum of the batch at {first} is wrong",
            model.name
        );
        let Some(all) = contents(&batch) else {
            broken(
                Rule::Acked,
                format_args!("{}: the batch at {first} changed", model.name),
            );
        };
        for (offset, record) in all {
            model.seen(offset, record, data.high_watermark, power);
            shared.tally.seen.one();
            if offset < ask.offset {
                continue;
            }
            rule!(
                Rule::Offsets,
                offset == shown.next,
                "{}: offset {offset} follows where {} was expected",
                model.name,
                shown.next
            );
            shown.next += 1;
            shown.records.insert(offset, record);
        }
    }
    if shown.next == ask.offset && model.is_rotten(ask.offset) {
        return None;
    }
    Some(shown)
}

/// What is in a batch; none if it is not as a producer made it.
fn contents(batch: &BatchView<'_>) -> Option<Vec<(i64, Record)>> {
    let body = decompress(batch.codec()?, batch.body(), 64 << 20).ok()?;
    let all = records(&body, batch.records_count()).map(|record| {
        let record = record.ok()?;
        let offset = batch.base_offset().0 + i64::from(record.offset_delta);
        Some((offset, Record::of_value(record.value?)?))
    });
    all.collect()
}

/// Whether a batch that rot struck has been mended, or was struck where it does not matter.
fn is_sound(batch: &BatchView<'_>, model: &Model, expected: i64) -> bool {
    let (first, last) = (batch.base_offset().0, batch.last_offset().0);
    batch.verify_crc()
        && (first..=last).contains(&expected)
        && contents(batch).is_some_and(|all| all.iter().all(|(o, r)| model.may_be(*o, *r)))
}
