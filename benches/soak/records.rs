//! Numbered records: the producers' frames, and the consumer that checks every one it is given.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane::base::checksum::crc32c;
use corelane::base::time::Timestamp;
use corelane::cli::rig::kafka::{call, decode, request};
use corelane::cli::rig::load::Traffic;
use corelane::wire::batch::{BatchBuilder, CRC_START, batches, records};
use corelane::wire::compress::Codec;
use corelane::wire::messages::*;
use corelane::wire::records::Records;

use crate::book::Partition;

const PRODUCE: i16 = 11;
const FETCH: i16 = 12;
/// Between two attempts to reach a broker that is starting.
const RETRY: Duration = Duration::from_millis(20);
/// A number that no record has, to be found in a frame.
const MARK: u64 = 0x0123_4567_89ab_cdef;

/// A topic's books, one a partition.
pub struct Topic {
    pub name: String,
    partitions: Vec<Mutex<Partition>>,
}

impl Topic {
    pub fn new(name: String, partitions: usize) -> Topic {
        Topic {
            name,
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
        }
    }

    fn book(&self, partition: usize) -> MutexGuard<'_, Partition> {
        self.partitions[partition]
            .lock()
            .expect("nobody panics with it")
    }

    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Acked records that the consumer has not read.
    pub fn unread(&self) -> usize {
        (0..self.partitions()).map(|p| self.book(p).unread()).sum()
    }

    pub fn acks(&self) -> u64 {
        (0..self.partitions()).map(|p| self.book(p).acks).sum()
    }

    pub fn reads(&self) -> u64 {
        (0..self.partitions())
            .map(|p| self.book(p).next_offset() as u64)
            .sum()
    }
}

/// The value of a record: its number, then bytes that do not repeat.
fn value(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut value = MARK.to_be_bytes().to_vec();
    value.resize_with(bytes.max(8), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    value
}

struct Template {
    frame: Vec<u8>,
    /// Where the batch begins and ends, and where the number stands.
    batch: std::ops::Range<usize>,
    number: usize,
    next: u32,
    /// Sent and not answered.
    in_flight: VecDeque<u32>,
}

/// Connection n produces to partition n.
pub struct Produce {
    topic: Arc<Topic>,
    templates: Vec<Template>,
}

impl Produce {
    pub fn new(topic: Arc<Topic>, record_bytes: usize) -> Produce {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.append(Timestamp(1), None, Some(&value(record_bytes)), &[]);
        let batch = builder.build().expect("nothing is compressed");
        let place = |frame: &[u8], of: &[u8]| {
            let found = frame.windows(of.len()).position(|part| part == of);
            found.expect("it stands in the frame")
        };
        let templates = (0..topic.partitions() as i32)
            .map(|partition| {
                let frame = request(
                    PRODUCE,
                    &ProduceRequest {
                        acks: -1,
                        timeout_ms: 30_000,
                        topic_data: vec![TopicProduceData {
                            name: &topic.name,
                            partition_data: vec![PartitionProduceData {
                                index: partition,
                                records: Records::Bytes(&batch),
                            }]
                            .into(),
                            ..Default::default()
                        }]
                        .into(),
                        ..Default::default()
                    },
                );
                let at = place(&frame, &batch);
                Template {
                    number: place(&frame, &MARK.to_be_bytes()),
                    batch: at..at + batch.len(),
                    frame,
                    next: 0,
                    in_flight: VecDeque::new(),
                }
            })
            .collect();
        Produce { topic, templates }
    }

    pub fn frame_bytes(&self) -> usize {
        self.templates[0].frame.len()
    }

    /// The connections are gone, with the answers to what was in flight.
    pub fn disconnected(&mut self) {
        for template in &mut self.templates {
            template.in_flight.clear();
        }
    }
}

impl Traffic for Produce {
    fn frame(&mut self, connection: usize) -> &[u8] {
        let template = &mut self.templates[connection];
        let number = template.number;
        let frame = &mut template.frame;
        frame[number..number + 8].copy_from_slice(&u64::from(template.next).to_be_bytes());
        let batch = &mut frame[template.batch.clone()];
        let crc = crc32c(&batch[CRC_START..]);
        batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        template.in_flight.push_back(template.next);
        template.next += 1;
        &template.frame
    }

    fn answer(&mut self, connection: usize, head: &[u8], _: usize) -> Result<(), String> {
        let answer: ProduceResponse<'_> = decode(head, PRODUCE).map_err(|e| e.to_string())?;
        let number = self.templates[connection].in_flight.pop_front();
        let number = number.ok_or("an answer that nobody asked for")?;
        for topic in answer.responses.iter() {
            for p in topic.partition_responses.iter() {
                if p.error_code != 0 {
                    return Err(format!("produce answered error {}", p.error_code));
                }
                self.topic.book(connection).acked(p.base_offset, number)?;
            }
        }
        Ok(())
    }
}

/// Reads all partitions of a topic until it is dropped, through all restarts.
pub struct Consumer {
    over: Arc<AtomicBool>,
    broken: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    pub fn start(addr: SocketAddr, topic: Arc<Topic>, record_bytes: usize) -> Consumer {
        let over = Arc::new(AtomicBool::new(false));
        let broken = Arc::new(Mutex::new(None));
        let (stop, told) = (Arc::clone(&over), Arc::clone(&broken));
        let thread = thread::spawn(move || {
            let expected = value(record_bytes);
            while !stop.load(Ordering::Relaxed) {
                match follow(addr, &topic, &expected, &stop) {
                    Ok(()) => return,
                    Err(Ended::Connection) => thread::sleep(RETRY),
                    Err(Ended::Broken(what)) => {
                        told.lock()
                            .expect("nobody panics with it")
                            .get_or_insert(what);
                        return;
                    }
                }
            }
        });
        Consumer {
            over,
            broken,
            thread: Some(thread),
        }
    }

    /// A promise that was seen to be broken.
    pub fn check(&self) -> Result<(), String> {
        match &*self.broken.lock().expect("nobody panics with it") {
            Some(what) => Err(what.clone()),
            None => Ok(()),
        }
    }

    /// Waits until every acked record was read.
    pub fn catch_up(&self, topic: &Topic, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        while topic.unread() > 0 {
            self.check()?;
            if Instant::now() > deadline {
                let unread = topic.unread();
                return Err(format!(
                    "{unread} acked records could not be read in {limit:?}"
                ));
            }
            thread::sleep(RETRY);
        }
        self.check()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Ended {
    Connection,
    Broken(String),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Ended {
        Ended::Connection
    }
}

/// Reads over one connection until told to stop.
fn follow(
    addr: SocketAddr,
    topic: &Topic,
    expected: &[u8],
    stop: &AtomicBool,
) -> Result<(), Ended> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_nodelay(true)?;
    while !stop.load(Ordering::Relaxed) {
        let partitions: Vec<FetchPartition> = (0..topic.partitions())
            .map(|p| FetchPartition {
                partition: p as i32,
                fetch_offset: topic.book(p).next_offset(),
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            })
            .collect();
        let fetch = request(
            FETCH,
            &FetchRequest {
                max_wait_ms: 100,
                min_bytes: 1,
                max_bytes: 16 << 20,
                session_epoch: -1,
                topics: vec![FetchTopic {
                    topic: &topic.name,
                    partitions: partitions[..].into(),
                    ..Default::default()
                }]
                .into(),
                ..Default::default()
            },
        );
        let answer = call(&mut socket, &fetch)?;
        take(topic, expected, &answer).map_err(Ended::Broken)?;
    }
    Ok(())
}

fn take(topic: &Topic, expected: &[u8], answer: &[u8]) -> Result<(), String> {
    let answer: FetchResponse<'_> = decode(answer, FETCH).map_err(|e| e.to_string())?;
    for part in answer
        .responses
        .iter()
        .flat_map(|t| t.partitions.iter().collect::<Vec<_>>())
    {
        let place = part.partition_index as usize;
        let fail = |what: String| format!("{}-{place}: {what}", topic.name);
        // 6: a start does not lead all of its partitions at once
        match part.error_code {
            0 => {}
            6 => continue,
            code => return Err(fail(format!("fetch answered error {code}"))),
        }
        let mut book = topic.book(place);
        for batch in batches(part.records.bytes()) {
            let Ok(batch) = batch else { break }; // the last one may be cut
            if !batch.verify_crc() {
                return Err(fail(format!("a broken batch at {}", batch.base_offset())));
            }
            for record in records(batch.body(), batch.records_count()) {
                let record = record.map_err(|e| fail(e.to_string()))?;
                let value = record.value.unwrap_or(b"");
                let number = value.first_chunk().map(|n| u64::from_be_bytes(*n));
                let number = number.and_then(|n| u32::try_from(n).ok());
                let same = value.get(8..) == expected.get(8..);
                let (Some(number), true) = (number, same) else {
                    return Err(fail(format!("a changed record at {}", batch.base_offset())));
                };
                book.read(batch.base_offset().0, number).map_err(&fail)?;
            }
        }
    }
    Ok(())
}
