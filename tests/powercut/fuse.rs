//! Serves disks as files of a FUSE file system, for loop devices to stand on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::disk::Disk;

/// How long the kernel may take a name or a size for granted: neither changes.
const TTL: Duration = Duration::from_secs(60);
/// Requests that are served at a time: a slow write holds up no other.
const THREADS: usize = 4;
/// The name in the table of mounts.
pub const NAME: &str = "corelane-powercut";

type Registry = Arc<Mutex<BTreeMap<u64, Arc<Disk>>>>;

/// A mounted FUSE file system whose files are disks.
pub struct Disks {
    directory: PathBuf,
    registry: Registry,
    next: u64,
    // unmounts when it goes
    _session: BackgroundSession,
}

/// A disk that is served as a file until this goes.
pub struct Served {
    pub path: PathBuf,
    number: u64,
    registry: Registry,
}

impl Disks {
    /// Mounts on an empty directory.
    pub fn mount(directory: &Path) -> Result<Disks> {
        let registry = Registry::default();
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(NAME.to_owned()),
            MountOption::DefaultPermissions,
        ];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let files = Files {
            registry: Arc::clone(&registry),
        };
        let session = fuser::spawn_mount(files, directory, &config)
            .with_context(|| format!("cannot mount FUSE on {}", directory.display()))?;
        Ok(Disks {
            directory: directory.to_owned(),
            registry,
            next: INodeNo::ROOT.0 + 1,
            _session: session,
        })
    }

    /// Serves a disk as a file of its own.
    pub fn serve(&mut self, disk: Arc<Disk>) -> Served {
        let number = self.next;
        self.next += 1;
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.insert(number, disk);
        Served {
            path: self.directory.join(number.to_string()),
            number,
            registry: Arc::clone(&self.registry),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.remove(&self.number);
    }
}

struct Files {
    registry: Registry,
}

impl Files {
    fn disk(&self, number: INodeNo) -> Option<Arc<Disk>> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.get(&number.0).cloned()
    }

    fn attributes(&self, number: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = if number == INodeNo::ROOT {
            (FileType::Directory, 0o700, 0)
        } else {
            (FileType::RegularFile, 0o600, self.disk(number)?.size())
        };
        Some(FileAttr {
            ino: number,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // without it the loop device has one write under way at a time
        let wanted = InitFlags::FUSE_ASYNC_DIO;
        config
            .add_capabilities(wanted)
            .map_err(|missing| std::io::Error::other(format!("FUSE lacks {missing:?}")))
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.parse().ok());
        match number.and_then(|number| self.attributes(INodeNo(number))) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // every request of the loop device comes here as it is, several at a time
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self
            .disk(number)
            .and_then(|d| d.read(offset, size as usize))
        {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk(number) {
            Some(disk) if disk.write(offset, data) => reply.written(data.len() as u32),
            _ => reply.error(Errno::EIO),
        }
    }

    /// What the loop device turns a discard or a write of zeros into: the file system below may do
    /// so between any two requests, and a cut may lose it like every other write.
    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let zeros = usize::try_from(length).map(|length| vec![0; length]);
        match (self.disk(number), zeros) {
            (Some(disk), Ok(zeros)) if disk.write(offset, &zeros) => reply.ok(),
            _ => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.disk(number) {
            Some(disk) => {
                disk.flush();
                reply.ok();
            }
            None => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // the end of a descriptor: it promises nothing
        reply.ok();
    }
}
