//! Files and directories.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::buf::BufMut;
use super::driver::{Chain, Descriptor, DirEntry, Op, OpenOptions, Residency, Space};
use super::executor::Ring;
use crate::base::limits::PAGE_BYTES;

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// An open file. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub struct File(Rc<Inner>);

struct Inner {
    ring: Ring,
    descriptor: Descriptor,
    direct: bool,
}

impl Ring {
    /// Opens a file or a directory.
    pub fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        let descriptor = self.with_room(|| self.driver().open(path, options))?;
        let direct = options.direct && descriptor.is_direct();
        Ok(File(Rc::new(Inner {
            ring: self.clone(),
            descriptor,
            direct,
        })))
    }

    /// Opens again where no descriptor was left, as long as some can be freed.
    fn with_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            let opened = open();
            let errno = opened.as_ref().err().and_then(io::Error::raw_os_error);
            if !matches!(errno, Some(libc::EMFILE | libc::ENFILE)) || !self.close_some() {
                return opened;
            }
        }
    }

    /// Makes a directory and those above it.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.driver().create_dir_all(path)
    }

    /// What a directory holds, sorted by name.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.with_room(|| self.driver().read_dir(path))
    }

    /// Renames over what is there. Durable after [`Ring::sync_dir`].
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.driver().rename(from, to)
    }

    /// Unlinks a file.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.driver().remove_file(path)
    }

    /// Removes a directory with all in it.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with_room(|| self.driver().remove_dir_all(path))
    }

    /// Whether something has this name.
    pub fn exists(&self, path: &Path) -> bool {
        self.driver().exists(path)
    }

    /// A whole small file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenOptions::default())?;
        let mut bytes = vec![0; file.len()? as usize];
        let n = file.read_now(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Space on the file system that holds `path`.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        self.driver().space(path)
    }

    /// Flushes the whole file system that holds the directory at `path`: see [`File::sync_fs`].
    pub fn sync_fs(&self, path: &Path) -> io::Result<()> {
        self.open_dir(path)?.sync_fs()
    }

    /// The id of this boot of the machine.
    pub fn boot_id(&self) -> String {
        self.driver().boot_id()
    }

    /// Resolves links and dots.
    pub fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.driver().canonical(path)
    }

    /// Opens a directory, to flush it or its file system.
    pub fn open_dir(&self, path: &Path) -> io::Result<File> {
        let options = OpenOptions {
            directory: true,
            ..OpenOptions::default()
        };
        self.open(path, options)
    }

    /// Makes the names in a directory durable.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.open_dir(path)?.sync_all().await
    }

    /// Replaces a small file so that a power cut leaves the old or the new content: temporary file,
    /// flush, rename, flush of the directory.
    pub async fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path
            .file_name()
            .ok_or(io::ErrorKind::InvalidInput)?
            .to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = self.open(
            &temporary,
            OpenOptions {
                write: true,
                create: true,
                truncate: true,
                ..OpenOptions::default()
            },
        )?;
        file.write_now(bytes, 0)?;
        file.sync_all().await?;
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent).await,
            _ => self.sync_dir(Path::new(".")).await,
        }
    }
}

impl File {
    /// Reads into `buf[at..at + len]` from `offset`, as far as the file goes.
    ///
    /// # Panics
    /// If the range is not within the buffer.
    pub async fn read_at(
        &self,
        mut buf: BufMut,
        at: usize,
        len: usize,
        offset: u64,
    ) -> (io::Result<usize>, BufMut) {
        assert!(at + len <= buf.capacity());
        let mut read = 0;
        while read < len {
            let (result, op) = self
                .0
                .ring
                .op(Op::Read {
                    file: self.0.descriptor.clone(),
                    buf,
                    at: at + read,
                    len: len - read,
                    offset: offset + read as u64,
                })
                .await;
            let Op::Read { buf: back, .. } = op else {
                unreachable!("an operation comes back as it was submitted")
            };
            buf = back;
            match result {
                Ok(0) => break,
                Ok(n) => read += n as usize,
                Err(error) => return (Err(error), buf),
            }
            if self.0.direct && !read.is_multiple_of(PAGE_BYTES) {
                // A direct read ends inside a page only at the end of the file.
                break;
            }
        }
        (Ok(read), buf)
    }

    /// Writes all of the chain at `offset`. Nothing is durable before [`File::sync_data`]. On a
    /// direct file memory, lengths and offset are page-aligned.
    pub async fn write_at(&self, mut chain: Chain, offset: u64) -> io::Result<()> {
        if !self.0.direct {
            // Into the page cache: the ring would cost more than the copy.
            let mut at = offset;
            for buf in &chain {
                self.0
                    .ring
                    .driver()
                    .write_now(&self.0.descriptor, buf, at)?;
                at += buf.len() as u64;
            }
            return Ok(());
        }
        let total: usize = chain.iter().map(|buf| buf.len()).sum();
        let mut skip = 0;
        while skip < total {
            let (result, op) = self
                .0
                .ring
                .op(Op::Write {
                    file: self.0.descriptor.clone(),
                    chain,
                    skip,
                    offset: offset + skip as u64,
                })
                .await;
            match result? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => skip += n as usize,
            }
            let Op::Write { chain: back, .. } = op else {
                unreachable!("an operation comes back as it was submitted")
            };
            chain = back;
        }
        Ok(())
    }

    /// Makes content durable (fdatasync). An error means that what was written may be lost; it is
    /// reported once, so it must not be tried again.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// Makes content, length and times durable (fsync).
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(true).await
    }

    /// Makes everything durable on the file system that holds this file; blocks the shard. At start
    /// and stop only. An error tells of any file of it that could not be written since this one was
    /// opened, so who relies on it opens before writing (syncfs, Linux 5.8).
    pub fn sync_fs(&self) -> io::Result<()> {
        self.0.ring.driver().sync_fs(&self.0.descriptor)
    }

    async fn sync(&self, metadata: bool) -> io::Result<()> {
        let file = self.0.descriptor.clone();
        self.0.ring.op(Op::Sync { file, metadata }).await.0?;
        Ok(())
    }

    /// Reserves space; with `keep_size` the length stays.
    pub async fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
        let file = self.0.descriptor.clone();
        let op = Op::Allocate {
            file,
            offset,
            len,
            keep_size,
        };
        self.0.ring.op(op).await.0?;
        Ok(())
    }

    /// Cuts or extends the file.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.ring.driver().set_len(&self.0.descriptor, len)
    }

    /// The length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        self.0.ring.driver().len(&self.0.descriptor)
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads through the page cache, at once; fewer bytes only at the end of the file.
    pub fn read_now(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let driver = self.0.ring.driver();
        driver.read_now(&self.0.descriptor, buf, offset)
    }

    /// Reads at once what the page cache holds; `None` where the disk would have to be waited for.
    pub fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let driver = self.0.ring.driver();
        driver.read_cached(&self.0.descriptor, buf, offset)
    }

    /// Writes all through the page cache, at once. Not durable. Never while direct writes to the
    /// same file are in flight.
    pub fn write_now(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let driver = self.0.ring.driver();
        driver.write_now(&self.0.descriptor, bytes, offset)
    }

    /// An exclusive lock on this open file; WouldBlock where another holds it. Falls when the file
    /// is closed and the last operation on it has ended, also that of a killed process.
    pub fn try_lock(&self) -> io::Result<()> {
        self.0.ring.driver().try_lock(&self.0.descriptor)
    }

    /// Waits for the lock of [`File::try_lock`].
    pub async fn lock(&self) -> io::Result<()> {
        loop {
            match self.try_lock() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.0.ring.sleep(LOCK_RETRY).await;
                }
                other => return other,
            }
        }
    }

    /// Has the system begin to read a range that the page cache does not hold; nobody waits for it.
    /// It begins with the first page, and may leave out what exceeds both a request to the disk and
    /// its read-ahead, without a word.
    pub fn read_ahead(&self, offset: u64, len: u64) {
        if len == 0 || self.residency(offset, len) == Residency::Resident {
            return;
        }
        let ring = self.0.ring.clone();
        let file = self.0.descriptor.clone();
        let begun = async move {
            let op = Op::ReadAhead { file, offset, len };
            // a read of the range tells what is wrong with it
            let _ = ring.op(op).await;
        };
        self.0.ring.spawn(begun).detach();
    }

    /// Whether a range is in the page cache.
    pub fn residency(&self, offset: u64, len: u64) -> Residency {
        let driver = self.0.ring.driver();
        driver.residency(&self.0.descriptor, offset, len)
    }

    /// Whether reads and writes pass the page cache by: false where that was not asked for or the
    /// file system refused it.
    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.0.descriptor.raw())
    }
}
