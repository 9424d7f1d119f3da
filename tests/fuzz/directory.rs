//! Whole log directories, through recovery: a broker's log on a simulated machine, which is killed;
//! any of its files are broken, and it is started again.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::base::checksum::crc32c;
use corelane::base::config::TopicConfig;
use corelane::base::ids::{Offset, PartitionId, PartitionKey, ShardId, Uuid};
use corelane::base::limits::PAGE_BYTES;
use corelane::base::time::Timestamp;
use corelane::log::journal::properties::table_file;
use corelane::log::journal::superblock::Superblock;
use corelane::log::partition::Partition;
use corelane::log::recovery::open_directories;
use corelane::log::store::{FlushPolicy, JournalSize, LogConfig, LogStore, NewPartition};
use corelane::log::{AppendError, Origin};
use corelane::ring::Ring;
use corelane::ring::driver::OpenOptions;
use corelane::ring::sim::{ProcessId, SimOptions, SimWorld};
use corelane::wire::batch::{BatchBuilder, BatchView, batches};
use corelane::wire::compress::Codec;

use crate::hunt::{Target, magnitude, shape};
use crate::journal::{reseal_journal, reseal_table};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[Target {
    name: "log_directory",
    seeds: directories,
    mutate: break_a_file,
    repair: Some(reseal),
    run: start_again,
    max_bytes: 512 << 10,
    // the simulated disk and the arena are in it
    memory: |_| 192 << 20,
}];

/// Longer than anything takes in a simulated world that is not stuck.
const LIMIT: Duration = Duration::from_secs(600);
const TOPIC: Uuid = Uuid([7; 16]);
const DIR: &str = "/data";

fn key(n: i32) -> PartitionKey {
    PartitionKey {
        topic: TOPIC,
        partition: PartitionId(n),
    }
}

fn config(policy: FlushPolicy) -> Arc<LogConfig> {
    Arc::new(LogConfig {
        dirs: vec![PathBuf::from(DIR)],
        flush_policy: policy,
        journal_size: JournalSize::Bytes(1 << 20),
        undrained_bytes: 1 << 20,
        bypass_bytes: 32 << 10,
        cache_bytes: 64 << 10,
        reserved_disk_bytes: 0,
        ..LogConfig::default()
    })
}

fn topic() -> Arc<TopicConfig> {
    Arc::new(TopicConfig {
        segment_bytes: 64 << 10,
        index_interval_bytes: 1000,
        ..TopicConfig::default()
    })
}

/// A machine with nothing on it yet, always the same: a directory that is put on it was there when
/// the machine last booted, unless `other_boot`.
struct Machine {
    world: SimWorld,
    id: corelane::ring::sim::MachineId,
}

impl Machine {
    fn new(other_boot: bool) -> Machine {
        let world = SimWorld::new(1 + u64::from(other_boot), SimOptions::default());
        world.set_arena_bytes(32 << 20);
        let id = world.machine(&[]);
        Machine { world, id }
    }

    fn process(&self) -> (ProcessId, Ring) {
        let process = self.world.process(self.id);
        (process, self.world.shard(process, ShardId(0)))
    }

    /// Runs a task of a process to its end.
    fn run<T: 'static>(
        &self,
        process: ProcessId,
        ring: &Ring,
        task: impl Future<Output = T> + 'static,
    ) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.world.spawn(process, ring, async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        });
        let done = self.world.run_until(LIMIT, || result.borrow().is_some());
        assert!(done, "a start or a read is stuck");
        result.borrow_mut().take().expect("it is done")
    }
}

async fn open(ring: &Ring, config: Arc<LogConfig>) -> Result<Rc<LogStore>, u64> {
    let mut opened = match open_directories(ring, &config).await {
        Ok(opened) => opened,
        Err(error) => {
            return Err(shape(&error));
        }
    };
    let known = |key: &PartitionKey| key.topic == TOPIC && (0..8).contains(&key.partition.0);
    if let Err(error) = opened.set_aside_strays(ring, known).await {
        return Err(shape(&error));
    }
    let part = opened.split(1, |_| ShardId(0)).pop().expect("one shard");
    let topic = topic();
    let names = |key: &PartitionKey| known(key).then(|| (Arc::from("t"), topic.clone()));
    let store = LogStore::start(ring, config, part, names).await;
    store.map_err(|error| shape(&error))
}

fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(Timestamp(1_700_000_000_000), None, Some(value), &[]);
    builder.build().expect("uncompressed")
}

/// Appends as a connection does, and waits for the ack.
async fn append(
    store: &LogStore,
    partition: &Rc<Partition>,
    value: &[u8],
) -> Result<(), AppendError> {
    let batch = batch(value);
    let view = BatchView::parse(&batch).expect("a batch");
    let appended = loop {
        store.admit(batch.len()).await;
        match store.append(partition, &view, Origin::Client) {
            Err(AppendError::Busy) => {}
            other => break other?,
        }
    };
    // a directory that has gone offline says so
    let _ = store.flushed(appended.ticket).await;
    Ok(())
}

/// Directories of brokers that were killed or stopped after some work.
fn directories(g: &mut Gen) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for policy in [FlushPolicy::Group, FlushPolicy::Interval] {
        for clean in [false, true] {
            for runs in 1..3 {
                let machine = Machine::new(false);
                for run in 0..runs {
                    let last = run + 1 == runs;
                    work(&machine, policy, g, clean && last);
                }
                let (process, ring) = machine.process();
                let files = machine.run(process, &ring.clone(), async move {
                    let mut files = Vec::new();
                    collect(&ring, Path::new(DIR), &mut files);
                    files
                });
                all.push(pack(policy, &files));
            }
        }
    }
    all
}

/// One run of a broker: some partitions, small and large batches, a deletion.
fn work(machine: &Machine, policy: FlushPolicy, g: &mut Gen, clean: bool) {
    let (process, ring) = machine.process();
    let sizes: Vec<(i32, usize)> = (0..40)
        .map(|_| {
            let size = if g.once_in(12) { 40_000 } else { g.below(900) };
            (g.below(3) as i32, size)
        })
        .collect();
    machine.run(process, &ring.clone(), async move {
        let store = open(&ring, config(policy))
            .await
            .expect("a sound directory");
        for n in 0..4 {
            if store.partition(&key(n)).is_none() {
                let new = NewPartition {
                    key: key(n),
                    topic: Arc::from("t"),
                    config: topic(),
                };
                store.create_partition(new).await.expect("a partition");
            }
        }
        for (n, size) in sizes {
            let partition = store.partition(&key(n)).expect("made above");
            append(&store, &partition, &vec![n as u8; size])
                .await
                .expect("appended");
        }
        if !clean {
            store.delete_partition(&key(3)).await.expect("deleted");
        } else {
            store.stop_clean().await.expect("a clean stop");
        }
    });
    machine.world.kill(process);
}

type Files = Vec<(String, u64, Vec<u8>)>;

/// All files below, with their length and their bytes without the zeros at the end.
fn collect(ring: &Ring, dir: &Path, files: &mut Files) {
    let mut entries = ring.read_dir(dir).expect("a directory");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            collect(ring, &path, files);
            continue;
        }
        let mut bytes = ring.read(&path).expect("a file");
        let len = bytes.len() as u64;
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        bytes.truncate(used);
        let name = path
            .strip_prefix(DIR)
            .expect("below it")
            .to_str()
            .expect("text");
        files.push((name.to_owned(), len, bytes));
    }
}

/// An input: the policy, then of each file the length of its name, its length, the number of bytes
/// that are not the zeros at its end, name and bytes. Those that matter most come last, where
/// nothing follows them that a changed length makes unreadable.
fn pack(policy: FlushPolicy, files: &Files) -> Vec<u8> {
    let mut out = vec![policy as u8, 0];
    for (name, len, bytes) in files {
        out.push(name.len() as u8);
        out.extend_from_slice(&(*len as u32).to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

fn unpack(mut input: &[u8]) -> Option<(FlushPolicy, bool, Files)> {
    let policy = match input.first()? & 1 {
        0 => FlushPolicy::Group,
        _ => FlushPolicy::Interval,
    };
    let other_boot = input.get(1)? & 1 == 1;
    input = &input[2..];
    let mut files = Vec::new();
    while let [name_len, a, b, c, d, e, f, g, h, rest @ ..] = input {
        let name_len = usize::from(*name_len);
        let len = u32::from_le_bytes([*a, *b, *c, *d]).min(8 << 20);
        let stored = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
        let name = std::str::from_utf8(rest.get(..name_len)?).ok()?;
        let stored = stored.min(rest.len() - name_len);
        let bytes = rest[name_len..name_len + stored].to_vec();
        input = &rest[name_len + stored..];
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic()) && part.len() < 200
        };
        // what is no name of a file here is none of the broker's
        if name
            .split('/')
            .all(|part| plain(part) && part != "." && part != "..")
        {
            files.push((name.to_owned(), u64::from(len), bytes));
        }
    }
    (files.len() < 200).then_some((policy, other_boot, files))
}

/// Breaks one file or two as such, so that the others stay what they are.
fn break_a_file(g: &mut Gen, input: &mut Vec<u8>, other: &[u8], max_bytes: usize) {
    let Some((policy, mut other_boot, mut files)) = unpack(input) else {
        return;
    };
    other_boot ^= g.once_in(20);
    for _ in 0..1 + g.below(2) {
        if files.is_empty() {
            break;
        }
        // mostly what the log believes: its journals, tables and bases
        let ours = |(name, ..): &(String, u64, Vec<u8>)| name.starts_with("corelane");
        let of_ours: Vec<usize> = (0..files.len()).filter(|i| ours(&files[*i])).collect();
        let at = match of_ours.is_empty() || g.once_in(3) {
            true => g.below(files.len()),
            false => g.pick(&of_ours),
        };
        let donor = g.below(files.len());
        match g.below(12) {
            0 => files[at].1 = g.pick(&[0, 1, 4096, 1 << 20]),
            1 => drop(files.remove(at)),
            2 => files[at].2 = files[donor].2.clone(),
            _ => {
                let part = match g.once_in(2) {
                    true => other.to_vec(),
                    false => files[donor].2.clone(),
                };
                let (_, len, bytes) = &mut files[at];
                let before = bytes.len() as u64;
                mutate(g, bytes, &part, max_bytes / 2);
                *len = (*len + bytes.len() as u64).saturating_sub(before);
            }
        }
    }
    let mut broken = pack(policy, &files);
    broken[1] = u8::from(other_boot);
    if broken.len() <= max_bytes {
        *input = broken;
    }
}

/// Makes the checksums of every file right that has some.
fn reseal(input: &mut Vec<u8>) {
    let Some((policy, other_boot, mut files)) = unpack(input) else {
        return;
    };
    for (name, len, bytes) in &mut files {
        if name.ends_with("corelane.base") {
            bytes.resize(*len as usize, 0);
            reseal_table(bytes);
        } else if name.ends_with("corelane.properties")
            && let Some(at) = bytes.windows(4).rposition(|word| word == b"crc=")
        {
            bytes.truncate(at);
            let crc = crc32c(bytes);
            bytes.extend_from_slice(format!("crc={crc:08x}\n").as_bytes());
            *len = bytes.len() as u64;
        }
    }
    // the table that the newer superblock names
    let mut journals = files.iter().filter(|(name, ..)| name.ends_with(".journal"));
    let named = journals.next_back().and_then(|(_, _, ring)| {
        let superblock = Superblock::choose(&ring[..ring.len().min(2 * PAGE_BYTES)]).ok()?;
        let table = superblock.table;
        Some((table_file(superblock.journal, table.file), table.len))
    });
    let mut table = None;
    for (name, len, bytes) in &mut files {
        if let Some((file, part)) = &named
            && name == file
        {
            bytes.resize(*len as usize, 0);
            let part = (*part).min(bytes.len() as u64);
            table = Some((reseal_table(&mut bytes[..part as usize]), part));
        }
    }
    for (name, _, bytes) in &mut files {
        if name.ends_with(".journal") {
            reseal_journal(bytes, table);
        }
    }
    let head = [input[0], u8::from(other_boot)];
    *input = pack(policy, &files);
    input[..2].copy_from_slice(&head);
}

fn start_again(input: &[u8]) -> u64 {
    let Some((policy, other_boot, files)) = unpack(input) else {
        return 0;
    };
    let machine = Machine::new(other_boot);
    let (process, ring) = machine.process();
    machine.run(process, &ring.clone(), async move {
        ring.create_dir_all(Path::new(DIR)).expect("a directory");
        for (name, len, bytes) in files {
            let path = Path::new(DIR).join(name);
            let parent = path.parent().expect("below the root");
            let options = OpenOptions {
                write: true,
                create: true,
                ..OpenOptions::default()
            };
            // a file where a directory was
            if ring.create_dir_all(parent).is_err() {
                continue;
            }
            let Ok(file) = ring.open(&path, options) else {
                continue;
            };
            file.set_len(len.max(bytes.len() as u64)).expect("space");
            file.write_now(&bytes, 0).expect("written");
        }
    });
    machine.world.kill(process);
    let mut found = 0u64;

    // twice: what a recovery leaves must do for the next
    for clean in [false, true] {
        let (process, ring) = machine.process();
        let outcome = machine.run(process, &ring.clone(), serve(ring, policy, clean));
        found = found.rotate_left(11) ^ outcome;
        machine.world.kill(process);
    }
    found
}

/// Starts, reads all that is there, appends a record to each partition, and reads that.
async fn serve(ring: Ring, policy: FlushPolicy, clean: bool) -> u64 {
    let store = match open(&ring, config(policy)).await {
        Ok(store) => store,
        Err(found) => {
            return found;
        }
    };
    let mut found = 1u64;
    for n in 0..8 {
        let Some(partition) = store.partition(&key(n)) else {
            let damage = store.damage(&key(n));

            found = found.rotate_left(5) ^ shape(&damage);
            continue;
        };
        found = found.rotate_left(5) ^ read_all(&partition).await;
        match append(&store, &partition, b"goes on").await {
            Ok(()) => {}
            Err(error) => found ^= shape(&error),
        }
        let end = partition.durable_end();
        let last = Offset(end.0.saturating_sub(1)).max(partition.log_start());
        let _ = partition.read_cold(last, 1 << 20, end, true).await;
    }
    if clean {
        let _ = store.stop_clean().await;
    }
    found
}

/// Reads to the end or to the first error; what is read is whole batches, each with its checksum or
/// told to be broken, and the read gets on.
async fn read_all(partition: &Rc<Partition>) -> u64 {
    let mut found = 0;
    let mut from = partition.log_start();
    let limit = partition.durable_end();
    for turn in 0..2000 {
        if from >= limit {
            return found ^ magnitude(turn);
        }
        let plan = match partition.read_cold(from, 64 << 10, limit, true).await {
            Ok(plan) => plan,
            Err(error) => return found ^ shape(&error),
        };
        let bytes = match plan.copy_now() {
            Ok(bytes) => bytes,
            // a file may be shorter than its log was: the connection would be cut
            Err(error) => return found ^ shape(&error),
        };
        let before = from;
        for batch in batches(&bytes) {
            match batch {
                Ok(batch) => from = from.max(batch.next_offset()),
                Err(error) => return found ^ shape(&error),
            }
        }
        if from == before {
            return found ^ 3; // a client would ask again, and be told the same
        }
        found = found.rotate_left(1);
    }
    found
}
