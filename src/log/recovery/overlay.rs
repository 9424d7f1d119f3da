//! A segment as recovery would leave it: its file, and over it the bytes that only a journal has.

use std::io;
use std::path::Path;

use crate::base::ids::Offset;
use crate::log::format::names::{self, Kind};
use crate::log::journal::scan::RingSource;
use crate::log::segment::Place;
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// See the module.
pub(crate) struct Overlay<'p> {
    file: Option<File>,
    file_len: u64,
    patches: Vec<(u64, &'p [u8])>,
}

impl<'p> Overlay<'p> {
    /// A segment in `dir` with what `pending` has for it. A file that is not there is empty.
    pub(crate) fn open(
        ring: &Ring,
        dir: &Path,
        base: Offset,
        pending: impl Iterator<Item = (Place, &'p [u8])>,
    ) -> io::Result<Overlay<'p>> {
        let path = names::file(dir, base, Kind::Log);
        let file = match ring.open(&path, OpenOptions::default()) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file_len = match &file {
            Some(file) => file.len()?,
            None => 0,
        };
        let patches = pending
            .filter(|(at, bytes)| at.segment == base && !bytes.is_empty())
            .map(|(at, bytes)| (at.position, bytes))
            .collect();
        Ok(Overlay {
            file,
            file_len,
            patches,
        })
    }

    /// Bytes of the file alone; `None` if it is not there.
    pub(crate) fn file_len(&self) -> Option<u64> {
        self.file.as_ref().map(|_| self.file_len)
    }

    /// Where the last byte of either ends.
    pub(crate) fn len(&self) -> u64 {
        let ends = self.patches.iter().map(|(at, p)| at + p.len() as u64);
        ends.max().unwrap_or(0).max(self.file_len)
    }

    /// Whether the file alone has these bytes.
    pub(crate) fn is_in_file(&self, from: u64, to: u64) -> bool {
        to <= self.file_len
            && !self
                .patches
                .iter()
                .any(|(at, patch)| *at < to && at + patch.len() as u64 > from)
    }
}

impl RingSource for Overlay<'_> {
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = match &self.file {
            Some(file) => file.read_now(buf, at)?,
            None => 0,
        };
        buf[got..].fill(0);
        let end = at + buf.len() as u64;
        for (from, patch) in &self.patches {
            let (first, last) = ((*from).max(at), (from + patch.len() as u64).min(end));
            if first >= last {
                continue;
            }
            let bytes = &patch[(first - from) as usize..(last - from) as usize];
            let to = (first - at) as usize;
            buf[to..to + bytes.len()].copy_from_slice(bytes);
            got = got.max(to + bytes.len());
        }
        Ok(got)
    }
}
