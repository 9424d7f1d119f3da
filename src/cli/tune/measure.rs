//! Writes and flushes as a broker's journal does them: whole pages past the page cache, one after
//! the other.

use std::fs::{self, OpenOptions as Open};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use nix::fcntl::OFlag;

use crate::cli::disk::{Counters, Disk};
use crate::cli::on_ring::on_ring;
use crate::ring::buf::Buf;
use crate::ring::driver::{Chain, OpenOptions};
use crate::ring::{File, Ring};

/// Sizes of a commit: a page to what a busy shard gathers while a flush is on its way.
pub const SIZES: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// The largest of them and one to write the file with.
const ARENA_BYTES: usize = 32 << 20;
const FILL_BYTES: usize = 1 << 20;

/// Writes of one size, each durable before the next.
pub struct Writes {
    pub bytes: usize,
    pub count: u64,
    pub seconds: f64,
    /// Each, in ns.
    pub latency: Histogram<u64>,
    /// What the device did meanwhile.
    pub device: Option<Counters>,
}

impl Writes {
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 * self.count as f64 / 1e6 / self.seconds
    }

    pub fn quantile_ms(&self, q: f64) -> f64 {
        self.latency.value_at_quantile(q) as f64 / 1e6
    }

    /// Flushes that the device saw for each write.
    pub fn flushes(&self) -> Option<f64> {
        let flushes = self.device?.flushes?;
        (self.count > 0).then(|| flushes as f64 / self.count as f64)
    }
}

/// All that is measured of a disk.
pub struct Measured {
    /// Written and flushed, by size.
    pub flushed: Vec<Writes>,
    /// The smallest size, written with O_DSYNC instead.
    pub dsync: Writes,
    /// MB/s of long writing without a flush: in the first part of it, and in the last.
    pub sustained: (f64, f64),
}

/// Measures for so long, with a file of so many bytes.
pub fn measure(
    dir: &Path,
    disk: &Disk,
    time: Duration,
    size: u64,
    says: &mut dyn FnMut(&str),
) -> anyhow::Result<Measured> {
    let path = dir.join(format!(".corelane-tune-{}", std::process::id()));
    on_ring(ARENA_BYTES, async |ring| {
        all(&ring, &path, disk, time, size, says).await
    })
}

async fn all(
    ring: &Ring,
    path: &Path,
    disk: &Disk,
    time: Duration,
    size: u64,
    says: &mut dyn FnMut(&str),
) -> anyhow::Result<Measured> {
    let options = OpenOptions {
        write: true,
        create_new: true,
        direct: true,
        ..OpenOptions::default()
    };
    let named = || format!("{}", path.display());
    let file = ring.open(path, options).with_context(named)?;
    let flags = OFlag::O_DIRECT | OFlag::O_DSYNC;
    let again = Open::new()
        .write(true)
        .custom_flags(flags.bits())
        .open(path);
    // the files live as long as this process, whatever ends it
    fs::remove_file(path).with_context(named)?;
    let again = again.with_context(named)?;
    // a quarter of the time each: filling, small writes, O_DSYNC, all sizes
    let part = time / 4;
    says("writing");
    let sustained = fill(ring, &file, part, size).await.with_context(named)?;
    says("flushing");
    let mut flushed = vec![
        flush_each(ring, &file, disk, SIZES[0], part, size)
            .await
            .with_context(named)?,
    ];
    says("writing with O_DSYNC");
    let dsync = dsync_each(ring, &again, disk, part, size)
        .await
        .with_context(named)?;
    let part = part / (SIZES.len() - 1) as u32;
    for bytes in &SIZES[1..] {
        says("flushing larger writes");
        let writes = flush_each(ring, &file, disk, *bytes, part, size).await;
        flushed.push(writes.with_context(named)?);
    }
    Ok(Measured {
        flushed,
        dsync,
        sustained,
    })
}

/// Bytes that no disk can make less of.
async fn noise(ring: &Ring, bytes: usize) -> Buf {
    let mut buf = ring.arena().alloc(bytes).await;
    for chunk in buf.chunks_mut(8) {
        let random = ring.random().to_ne_bytes();
        chunk.copy_from_slice(&random[..chunk.len()]);
    }
    buf.freeze(0..bytes)
}

/// Where the next write of so many bytes goes: round and round.
fn next(at: &mut u64, bytes: u64, size: u64) -> u64 {
    if *at + bytes > size {
        *at = 0;
    }
    let from = *at;
    *at += bytes;
    from
}

/// Writes all of the file, and goes on over it until the time is over.
async fn fill(ring: &Ring, file: &File, time: Duration, size: u64) -> std::io::Result<(f64, f64)> {
    let buf = noise(ring, FILL_BYTES).await;
    let bytes = FILL_BYTES as u64;
    let (begun, mut at, mut written) = (Instant::now(), 0, 0);
    let mut marks: Vec<(f64, u64)> = vec![(0.0, 0)];
    while begun.elapsed() < time || written < size {
        let from = next(&mut at, bytes, size);
        file.write_at(Chain::from_iter([buf.clone()]), from).await?;
        written += bytes;
        marks.push((begun.elapsed().as_secs_f64(), written));
    }
    file.sync_data().await?;
    let all = marks.last().map_or(0.0, |mark| mark.0);
    let between = |from: f64, to: f64| {
        let first = marks.iter().find(|mark| mark.0 >= from);
        let last = marks.iter().rfind(|mark| mark.0 <= to);
        let (first, last) = first.zip(last)?;
        let seconds = last.0 - first.0;
        (seconds > 0.0).then(|| (last.1 - first.1) as f64 / 1e6 / seconds)
    };
    let rate = |from, to| between(from, to).unwrap_or(written as f64 / 1e6 / all);
    Ok((rate(0.0, all / 4.0), rate(all * 0.75, all)))
}

async fn flush_each(
    ring: &Ring,
    file: &File,
    disk: &Disk,
    bytes: usize,
    time: Duration,
    size: u64,
) -> std::io::Result<Writes> {
    let buf = noise(ring, bytes).await;
    let mut tally = Tally::begin(disk, bytes, time);
    let mut at = 0;
    while tally.goes_on() {
        let from = next(&mut at, bytes as u64, size);
        let begun = Instant::now();
        file.write_at(Chain::from_iter([buf.clone()]), from).await?;
        file.sync_data().await?;
        tally.took(begun.elapsed());
    }
    Ok(tally.end())
}

async fn dsync_each(
    ring: &Ring,
    file: &std::fs::File,
    disk: &Disk,
    time: Duration,
    size: u64,
) -> std::io::Result<Writes> {
    let buf = noise(ring, SIZES[0]).await;
    let mut tally = Tally::begin(disk, SIZES[0], time);
    let mut at = 0;
    while tally.goes_on() {
        let from = next(&mut at, SIZES[0] as u64, size);
        let begun = Instant::now();
        file.write_all_at(&buf, from)?;
        tally.took(begun.elapsed());
    }
    Ok(tally.end())
}

/// Counts writes and their times.
struct Tally<'a> {
    disk: &'a Disk,
    before: Option<Counters>,
    bytes: usize,
    begun: Instant,
    time: Duration,
    count: u64,
    latency: Histogram<u64>,
}

impl<'a> Tally<'a> {
    fn begin(disk: &'a Disk, bytes: usize, time: Duration) -> Tally<'a> {
        Tally {
            disk,
            before: disk.counters(),
            bytes,
            begun: Instant::now(),
            time,
            count: 0,
            latency: Histogram::new(3).expect("3 digits are allowed"),
        }
    }

    /// Once at least.
    fn goes_on(&self) -> bool {
        self.count == 0 || self.begun.elapsed() < self.time
    }

    fn took(&mut self, time: Duration) {
        self.count += 1;
        // its range grows with what it gets
        let _ = self.latency.record(time.as_nanos() as u64);
    }

    fn end(self) -> Writes {
        let after = self.disk.counters();
        Writes {
            bytes: self.bytes,
            count: self.count,
            seconds: self.begun.elapsed().as_secs_f64(),
            latency: self.latency,
            device: after.zip(self.before).map(|(a, b)| a.since(b)),
        }
    }
}
