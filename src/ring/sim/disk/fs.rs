//! One file system: names, files, space, locks.

use std::collections::BTreeMap;
use std::io;

use super::super::rng::Rng;
use super::content::{Content, Luck, Seq};
use super::names::{Ino, Names, ROOT};
use crate::ring::driver::{DirEntry, OpenOptions, Space};

pub(crate) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

pub(crate) struct Inode {
    dir: bool,
    pub(crate) content: Content,
    /// Open file descriptions, and direct writes of killed processes.
    opens: u32,
    /// Failed flushes so far; each description reports each once.
    pub(crate) failed_flushes: u32,
    /// Page ranges of direct writes on their way.
    pub(crate) direct: Vec<(u64, std::ops::Range<u64>)>,
    /// The description that holds the lock.
    pub(crate) lock: Option<u64>,
}

/// A mounted file system.
pub(crate) struct Fs {
    /// Path components of the mount point.
    pub(crate) mount: Vec<String>,
    names: Names,
    inodes: BTreeMap<Ino, Inode>,
    next_ino: Ino,
    seq: Seq,
    pub(crate) total_bytes: u64,
    /// Failed flushes of any file so far; each description reports each once when it flushes all.
    pub(crate) failed_flushes: u32,
    /// The disk was pulled: no path is found, no descriptor works.
    pub(crate) vanished: bool,
}

impl Fs {
    pub(crate) fn new(mount: Vec<String>, total_bytes: u64, ordered: bool) -> Fs {
        let mut fs = Fs {
            mount,
            names: Names::new(ordered),
            inodes: BTreeMap::new(),
            next_ino: ROOT,
            seq: 0,
            total_bytes,
            failed_flushes: 0,
            vanished: false,
        };
        fs.inode(true);
        fs
    }

    fn inode(&mut self, dir: bool) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        let inode = Inode {
            dir,
            content: Content::new(),
            opens: 0,
            failed_flushes: 0,
            direct: Vec::new(),
            lock: None,
        };
        self.inodes.insert(ino, inode);
        ino
    }

    /// The next place in the order of changes.
    pub(crate) fn tick(&mut self) -> Seq {
        self.seq += 1;
        self.seq
    }

    /// The last change so far: what a flush that begins now covers.
    pub(crate) fn last(&self) -> Seq {
        self.seq
    }

    /// Fails where the disk is gone.
    pub(crate) fn file(&mut self, ino: Ino) -> io::Result<&mut Inode> {
        if self.vanished {
            return Err(errno(libc::EIO));
        }
        self.inodes.get_mut(&ino).ok_or_else(|| errno(libc::EBADF))
    }

    pub(crate) fn lookup(&self, path: &[String]) -> io::Result<Ino> {
        if self.vanished {
            return Err(errno(libc::ENOENT));
        }
        let mut at = ROOT;
        for name in path {
            if !self.is_dir(at) {
                return Err(errno(libc::ENOTDIR));
            }
            at = self
                .names
                .lookup(at, name)
                .ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(at)
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.inodes.get(&ino).is_some_and(|i| i.dir)
    }

    fn parent<'a>(&self, path: &'a [String]) -> io::Result<(Ino, &'a String)> {
        let (name, above) = path.split_last().ok_or_else(|| errno(libc::EBUSY))?;
        let dir = self.lookup(above)?;
        match self.is_dir(dir) {
            true => Ok((dir, name)),
            false => Err(errno(libc::ENOTDIR)),
        }
    }

    /// Finds or makes what a description is to be opened on.
    pub(crate) fn open(&mut self, path: &[String], options: OpenOptions) -> io::Result<Ino> {
        let found = match self.lookup(path) {
            Ok(ino) => Some(ino),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let ino = match found {
            Some(_) if options.create_new => return Err(errno(libc::EEXIST)),
            Some(ino) if self.is_dir(ino) && (options.write || !options.directory) => {
                return Err(errno(libc::EISDIR));
            }
            Some(ino) if !self.is_dir(ino) && options.directory => {
                return Err(errno(libc::ENOTDIR));
            }
            Some(ino) => ino,
            None if options.create || options.create_new => {
                let (dir, name) = self.parent(path)?;
                let ino = self.inode(false);
                let seq = self.tick();
                self.names.change(seq, vec![(dir, name.clone(), Some(ino))]);
                ino
            }
            None => return Err(errno(libc::ENOENT)),
        };
        if options.truncate {
            self.set_len(ino, 0)?;
        }
        self.inodes.entry(ino).and_modify(|i| i.opens += 1);
        Ok(ino)
    }

    /// One description less.
    pub(crate) fn close(&mut self, ino: Ino, description: u64) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.opens -= 1;
            inode.lock = inode.lock.filter(|d| *d != description);
            if inode.opens == 0 {
                self.collect();
            }
        }
    }

    fn collect(&mut self) {
        let reachable = self.names.reachable();
        let gone = self
            .inodes
            .iter()
            .filter(|(ino, i)| i.opens == 0 && !reachable.contains(ino))
            .map(|(ino, _)| *ino)
            .collect();
        self.names.forget(&gone);
        self.inodes.retain(|ino, _| !gone.contains(ino));
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|i| i.content.alloc_end).sum()
    }

    pub(crate) fn space(&self) -> Space {
        Space {
            total_bytes: self.total_bytes,
            available_bytes: self.total_bytes.saturating_sub(self.used_bytes()),
        }
    }

    fn reserve(&mut self, ino: Ino, end: u64) -> io::Result<()> {
        let now = self.file(ino)?.content.alloc_end;
        match end > now && self.used_bytes() + (end - now) > self.total_bytes {
            true => Err(errno(libc::ENOSPC)),
            false => Ok(()),
        }
    }

    /// Makes sure that a write will find space, as the kernel does before it begins.
    pub(crate) fn reserve_write(&mut self, ino: Ino, offset: u64, len: u64) -> io::Result<()> {
        let end = self.file(ino)?.content.alloc_after(offset, len);
        self.reserve(ino, end)
    }

    pub(crate) fn write(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.reserve_write(ino, offset, bytes.len() as u64)?;
        let seq = self.tick();
        self.file(ino)?.content.write(seq, offset, bytes);
        Ok(())
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        let seq = self.tick();
        self.file(ino)?.content.set_len(seq, len);
        Ok(())
    }

    pub(crate) fn allocate(&mut self, ino: Ino, end: u64, keep_size: bool) -> io::Result<()> {
        self.reserve(ino, end.next_multiple_of(4096))?;
        let seq = self.tick();
        let content = &mut self.file(ino)?.content;
        if !keep_size && end > content.size() {
            content.set_len(seq, end);
        }
        content.alloc_end = content.alloc_end.max(end.next_multiple_of(4096));
        Ok(())
    }

    /// What began at `upto` is durable: a file's data and length, a directory's names.
    pub(crate) fn flushed(&mut self, ino: Ino, upto: Seq) -> io::Result<()> {
        let inode = self.file(ino)?;
        match inode.dir {
            true => self.names.flushed(ino, upto),
            false => inode.content.flushed(upto),
        }
        Ok(())
    }

    /// A flush of everything fails, for files that are not durable.
    pub(crate) fn flush_of_all_failed(&mut self, rng: &mut Rng) {
        let upto = self.seq;
        for inode in self.inodes.values_mut() {
            if !inode.content.is_durable() {
                inode.failed_flushes += 1;
                inode.content.flush_failed(rng, upto);
            }
        }
        self.failed_flushes += 1;
    }

    pub(crate) fn flush_all(&mut self) {
        let upto = self.seq;
        self.names.all_flushed(upto);
        self.inodes
            .values_mut()
            .for_each(|i| i.content.flushed(upto));
        self.collect();
    }

    pub(crate) fn create_dir_all(&mut self, path: &[String]) -> io::Result<()> {
        for n in 1..=path.len() {
            match self.lookup(&path[..n]) {
                Ok(ino) if self.is_dir(ino) => {}
                Ok(_) => return Err(errno(libc::EEXIST)),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Err(_) => {
                    let (dir, name) = self.parent(&path[..n])?;
                    let ino = self.inode(true);
                    let seq = self.tick();
                    self.names.change(seq, vec![(dir, name.clone(), Some(ino))]);
                }
            }
        }
        match self.vanished {
            true => Err(errno(libc::ENOENT)),
            false => Ok(()),
        }
    }

    pub(crate) fn read_dir(&self, path: &[String]) -> io::Result<Vec<DirEntry>> {
        let dir = self.lookup(path)?;
        if !self.is_dir(dir) {
            return Err(errno(libc::ENOTDIR));
        }
        Ok(self
            .names
            .list(dir)
            .map(|(name, ino)| DirEntry {
                name: name.clone(),
                is_dir: self.is_dir(ino),
                len: self.inodes.get(&ino).map_or(0, |i| i.content.size()),
            })
            .collect())
    }

    pub(crate) fn rename(&mut self, from: &[String], to: &[String]) -> io::Result<()> {
        let ino = self.lookup(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        if to.len() > from.len() && to.starts_with(from) {
            return Err(errno(libc::EINVAL));
        }
        if let Some(there) = self.names.lookup(to_dir, to_name) {
            if there == ino {
                return Ok(());
            }
            match (self.is_dir(ino), self.is_dir(there)) {
                (false, true) => return Err(errno(libc::EISDIR)),
                (true, false) => return Err(errno(libc::ENOTDIR)),
                (true, true) if self.names.list(there).next().is_some() => {
                    return Err(errno(libc::ENOTEMPTY));
                }
                _ => {}
            }
        }
        let seq = self.tick();
        let edits = vec![
            (from_dir, from_name.clone(), None),
            (to_dir, to_name.clone(), Some(ino)),
        ];
        self.names.change(seq, edits);
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, path: &[String]) -> io::Result<()> {
        let ino = self.lookup(path)?;
        if self.is_dir(ino) {
            return Err(errno(libc::EISDIR));
        }
        self.unlink(path)
    }

    fn unlink(&mut self, path: &[String]) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let seq = self.tick();
        self.names.change(seq, vec![(dir, name.clone(), None)]);
        Ok(())
    }

    pub(crate) fn remove_dir_all(&mut self, path: &[String]) -> io::Result<()> {
        let dir = self.lookup(path)?;
        if !self.is_dir(dir) {
            return Err(errno(libc::ENOTDIR));
        }
        let names: Vec<_> = self.names.list(dir).map(|(n, i)| (n.clone(), i)).collect();
        for (name, ino) in names {
            let mut below = path.to_vec();
            below.push(name);
            match self.is_dir(ino) {
                true => self.remove_dir_all(&below)?,
                false => self.unlink(&below)?,
            }
        }
        self.unlink(path)
    }

    /// The power fails. No description is open any more.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng, luck: Luck) {
        self.failed_flushes = 0;
        for inode in self.inodes.values_mut() {
            inode.opens = 0;
            inode.lock = None;
            inode.failed_flushes = 0;
            inode.direct.clear();
            if !inode.content.is_durable() {
                // files fare differently in one cut
                let own = if rng.chance(0.2) {
                    Luck::draw(rng)
                } else {
                    luck
                };
                inode.content.power_cut(rng, own);
            }
        }
        self.names.power_cut(rng, luck);
        let kept = self.names.all_below_root();
        let gone = self.inodes.keys().filter(|i| !kept.contains(i)).copied();
        self.names.forget(&gone.collect());
        self.inodes.retain(|ino, _| kept.contains(ino));
    }
}
