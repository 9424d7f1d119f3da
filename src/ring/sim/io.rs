//! Operations on disks: when they happen and what goes wrong with them.

use std::io;
use std::ops::Range;

use super::clock::Event;
use super::disk::content::{PAGE, SECTOR};
use super::disk::fs::errno;
use super::machine::{Description, DiskWrite, Place, What};
use super::state::State;
use crate::ring::driver::{Chain, Descriptor, Op};

/// The bytes of a chain after those that are already gone.
pub(super) fn flatten(chain: &Chain, mut skip: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for buf in chain {
        let from = skip.min(buf.len());
        skip -= from;
        out.extend_from_slice(&buf[from..]);
    }
    out
}

impl State {
    pub(super) fn file(&self, fd: i32) -> io::Result<&Description> {
        match self.handles.get(&fd).map(|h| &h.what) {
            Some(What::File(d)) if !d.orphan => Ok(d),
            _ => Err(errno(libc::EBADF)),
        }
    }

    pub(super) fn fs(&mut self, place: Place) -> &mut super::disk::fs::Fs {
        &mut self.machines[place.machine].disks[place.disk]
    }

    fn disk_time(&mut self, (low, high): (u64, u64)) -> u64 {
        let slow = self.rng.chance(self.options.disk.slow_chance);
        let time = self.rng.between(low, high);
        self.now + if slow { time * 100 } else { time }
    }

    /// Takes an operation on a disk.
    pub(super) fn submit_disk(&mut self, driver: usize, id: u64, op: Op) {
        if let Op::Write {
            file,
            chain,
            skip,
            offset,
        } = &op
        {
            let begun = self.begin_write(driver, id, file, flatten(chain, *skip), *offset, chain);
            match begun {
                Ok(()) => drop(self.ops.insert((driver, id), op)),
                Err(e) => self.complete(driver, id, Err(e), op),
            }
            return;
        }
        let times = match &op {
            Op::Sync { .. } => self.options.disk.flush_ns,
            _ => self.options.disk.io_ns,
        };
        let at = self.disk_time(times);
        // a flush covers what was there when it began
        if let Op::Sync { file, .. } = &op
            && let Ok(d) = self.file(file.raw())
        {
            let place = d.place;
            let seq = self.fs(place).last();
            self.syncs.insert((driver, id), seq);
        }
        self.ops.insert((driver, id), op);
        self.queue.push(at, Event::Disk { driver, op: id });
    }

    fn begin_write(
        &mut self,
        driver: usize,
        id: u64,
        file: &Descriptor,
        mut bytes: Vec<u8>,
        offset: u64,
        chain: &Chain,
    ) -> io::Result<()> {
        let d = self.file(file.raw())?;
        let (place, direct) = (d.place, d.direct);
        if !d.write {
            return Err(errno(libc::EBADF));
        }
        let aligned = |n: usize| n.is_multiple_of(PAGE);
        if direct
            && !(aligned(offset as usize)
                && aligned(bytes.len())
                && chain.iter().all(|b| aligned(b.as_ptr() as usize)))
        {
            return Err(errno(libc::EINVAL));
        }
        let len = bytes.len() as u64;
        self.fs(place).reserve_write(place.ino, offset, len)?;
        let failing = self.failing_writes.get_mut(&(place.machine, place.disk));
        let fails = match failing.filter(|(n, _)| *n > 0) {
            Some((n, error)) => {
                *n -= 1;
                Some(*error)
            }
            None => {
                let fails = self.rng.chance(self.options.disk.write_error_chance);
                fails.then_some(libc::EIO)
            }
        };
        if bytes.len() > PAGE && self.rng.chance(self.options.disk.short_chance) {
            let pages = bytes.len() / PAGE;
            bytes.truncate(PAGE * self.rng.between(1, pages as u64 - 1) as usize);
        }
        let pieces = self.pieces(bytes.len());
        let done = self.disk_time(self.options.disk.io_ns);
        let write = self.id();
        for piece in 0..pieces.len() {
            let at = self.rng.between(self.now, done);
            if fails.is_none() || self.rng.chance(0.5) {
                self.queue.push(at, Event::Land { write, piece });
            }
        }
        let range = offset / PAGE as u64..(offset + bytes.len() as u64).div_ceil(PAGE as u64);
        if direct {
            self.fs(place).file(place.ino)?.direct.push((write, range));
        }
        self.results
            .insert((driver, id), (write, fails, bytes.len() as u32));
        self.writes.insert(
            write,
            DiskWrite {
                place,
                fd: file.raw(),
                offset,
                pieces,
                bytes,
                orphan: false,
            },
        );
        self.queue.push(done, Event::Disk { driver, op: id });
        Ok(())
    }

    /// A write reaches the device in up to four pieces, cut between sectors.
    fn pieces(&mut self, len: usize) -> Vec<Range<usize>> {
        let sectors = len.div_ceil(SECTOR);
        let mut cuts: Vec<usize> = (0..self.rng.below(4))
            .map(|_| self.rng.index(sectors.max(1)) * SECTOR)
            .chain([0, len])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|c| c[0]..c[1]).collect()
    }

    pub(super) fn land(&mut self, id: u64, piece: usize) {
        let Some(write) = self.writes.remove(&id) else {
            return;
        };
        let range = write.pieces[piece].clone();
        let at = write.offset + range.start as u64;
        let place = write.place;
        // a full or vanished disk was reported, or will be, by the operation's own result
        let _ = self.fs(place).write(place.ino, at, &write.bytes[range]);
        let over = write.orphan && !self.has_landings(id);
        let fd = write.fd;
        self.writes.insert(id, write);
        if over {
            self.end_write(id);
            self.close_orphan(fd);
        }
    }

    fn has_landings(&mut self, id: u64) -> bool {
        let mut any = false;
        self.queue.retain(|e| {
            any |= matches!(e, Event::Land { write, .. } if *write == id);
            true
        });
        any
    }

    pub(super) fn end_write(&mut self, id: u64) {
        if let Some(write) = self.writes.remove(&id) {
            let place = write.place;
            if let Ok(inode) = self.fs(place).file(place.ino) {
                inode.direct.retain(|(w, _)| *w != id);
            }
        }
    }

    fn close_orphan(&mut self, fd: i32) {
        if !self.writes.values().any(|w| w.fd == fd) {
            self.close_file(fd);
        }
    }

    /// Gives a file's description up: its lock falls.
    pub(super) fn close_file(&mut self, fd: i32) {
        if let Some(handle) = self.handles.remove(&fd)
            && let What::File(d) = handle.what
        {
            self.fs(d.place).close(d.place.ino, fd as u64);
        }
    }

    pub(super) fn disk_due(&mut self, driver: usize, id: u64) {
        let Some(op) = self.ops.remove(&(driver, id)) else {
            // the process is gone; a write of its has ended or will
            return;
        };
        let (result, op) = match op {
            Op::Read {
                file,
                mut buf,
                at,
                len,
                offset,
            } => {
                let result = self.read_op(&file, &mut buf[at..at + len], offset);
                if let Ok(n) = &result {
                    self.trace.note_bytes(&buf[at..at + *n as usize]);
                }
                let op = Op::Read {
                    file,
                    buf,
                    at,
                    len,
                    offset,
                };
                (result, op)
            }
            Op::Write { .. } => (self.write_result(driver, id), op),
            Op::Sync { ref file, .. } => {
                let upto = self.syncs.remove(&(driver, id)).unwrap_or(0);
                (self.sync_op(file.raw(), upto), op)
            }
            Op::Allocate {
                ref file,
                offset,
                len,
                keep_size,
            } => {
                let place = self.file(file.raw()).map(|d| d.place);
                let result = place.and_then(|place| {
                    self.fs(place)
                        .allocate(place.ino, offset + len, keep_size)
                        .map(|()| 0)
                });
                (result, op)
            }
            Op::Splice { ref socket, .. } => {
                let socket = socket.raw();
                self.ops.insert((driver, id), op);
                self.wait_to_send(socket, (driver, id));
                return;
            }
            Op::ReadAhead { .. } | Op::Warm { .. } => (Ok(0), op),
            op => (Err(errno(libc::EINVAL)), op),
        };
        self.complete(driver, id, result, op);
    }

    fn read_op(&mut self, file: &Descriptor, to: &mut [u8], offset: u64) -> io::Result<u32> {
        let d = self.file(file.raw())?;
        let (place, direct) = (d.place, d.direct);
        if direct && !(offset as usize).is_multiple_of(PAGE) | !to.len().is_multiple_of(PAGE) {
            return Err(errno(libc::EINVAL));
        }
        if self.rng.chance(self.options.disk.read_error_chance) {
            return Err(errno(libc::EIO));
        }
        let mut len = to.len();
        if len > PAGE && self.rng.chance(self.options.disk.short_chance) {
            len = PAGE * self.rng.between(1, (len / PAGE) as u64) as usize;
        }
        let inode = self.fs(place).file(place.ino)?;
        Ok(inode.content.read(offset, &mut to[..len]) as u32)
    }

    fn write_result(&mut self, driver: usize, id: u64) -> io::Result<u32> {
        let (write, fails, n) = self
            .results
            .remove(&(driver, id))
            .expect("begun with its operation");
        let vanished = match self.writes.get(&write).map(|w| w.place) {
            Some(place) => self.fs(place).vanished,
            None => false,
        };
        self.end_write(write);
        match fails.or(vanished.then_some(libc::EIO)) {
            Some(error) => Err(errno(error)),
            None => Ok(n),
        }
    }

    fn sync_op(&mut self, fd: i32, upto: u64) -> io::Result<u32> {
        let place = self.file(fd)?.place;
        let fails = self.flush_fails(place);
        let mut rng = self.rng.fork(1);
        let inode = self.fs(place).file(place.ino)?;
        if fails {
            inode.failed_flushes += 1;
            inode.content.flush_failed(&mut rng, upto);
        }
        let failed = inode.failed_flushes;
        match fails {
            true => self.fs(place).failed_flushes += 1,
            false => self.fs(place).flushed(place.ino, upto)?,
        }
        self.report(fd, failed, |d| &mut d.failed_seen).map(|()| 0)
    }

    /// Each description reports a failure once.
    fn report(
        &mut self,
        fd: i32,
        failed: u32,
        seen: impl Fn(&mut Description) -> &mut u32,
    ) -> io::Result<()> {
        let before = match self.handles.get_mut(&fd).map(|h| &mut h.what) {
            Some(What::File(d)) => std::mem::replace(seen(d), failed),
            _ => failed,
        };
        match before < failed {
            true => Err(errno(libc::EIO)),
            false => Ok(()),
        }
    }

    fn flush_fails(&mut self, place: Place) -> bool {
        let failing = self.failing_flushes.get_mut(&(place.machine, place.disk));
        match failing.filter(|n| **n > 0) {
            Some(n) => {
                *n -= 1;
                true
            }
            None => self.rng.chance(self.options.disk.flush_error_chance),
        }
    }

    /// A flush of the whole file system of an open file.
    pub(super) fn sync_fs(&mut self, fd: i32) -> io::Result<()> {
        let place = self.file(fd)?.place;
        self.fs(place).file(place.ino)?; // a pulled disk answers nothing
        let fails = self.flush_fails(place);
        let mut rng = self.rng.fork(1);
        match fails {
            true => self.fs(place).flush_of_all_failed(&mut rng),
            false => self.fs(place).flush_all(),
        }
        let failed = self.fs(place).failed_flushes;
        self.report(fd, failed, |d| &mut d.failed_seen_of_all)
    }

    /// A write through the page cache.
    pub(super) fn write_now(&mut self, fd: i32, bytes: &[u8], offset: u64) -> io::Result<()> {
        let d = self.file(fd)?;
        let place = d.place;
        if !d.write {
            return Err(errno(libc::EBADF));
        }
        let pages = offset / PAGE as u64..(offset + bytes.len() as u64).div_ceil(PAGE as u64);
        let inode = self.fs(place).file(place.ino)?;
        let overlaps = |r: &Range<u64>| r.start < pages.end && pages.start < r.end;
        assert!(
            !inode.direct.iter().any(|(_, range)| overlaps(range)),
            "a write through the page cache overlaps a direct write in flight: which one stays is chance"
        );
        self.trace.note_bytes(bytes);
        self.fs(place).write(place.ino, offset, bytes)
    }
}
