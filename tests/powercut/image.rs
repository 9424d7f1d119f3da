//! A disk image in memory. Copies share their pages until one of them writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What a disk writes whole or not at all.
pub const SECTOR: u64 = 512;
/// What copies share.
const PAGE: usize = 4096;

/// The bytes of a disk.
#[derive(Clone)]
pub struct Image {
    /// `None` is zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Image {
    /// An image of zeros; `size` in bytes is whole pages.
    pub fn new(size: u64) -> Image {
        assert_eq!(size % PAGE as u64, 0, "an image is whole pages");
        Image {
            pages: vec![None; size as usize / PAGE],
        }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// Whether the range lies in the image.
    pub fn holds(&self, offset: u64, length: u64) -> bool {
        offset
            .checked_add(length)
            .is_some_and(|end| end <= self.size())
    }

    /// The bytes at an offset; the range lies in the image.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (page, within, part) in pieces(offset, length) {
            if let Some(page) = &self.pages[page] {
                let end = within + part.len();
                bytes[part].copy_from_slice(&page[within..end]);
            }
        }
        bytes
    }

    /// Replaces the bytes at an offset; the range lies in the image.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, part) in pieces(offset, bytes.len()) {
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            let end = within + part.len();
            Arc::make_mut(page)[within..end].copy_from_slice(&bytes[part]);
        }
    }

    /// Writes the image to a file with holes where it is zeros.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size())?;
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                file.write_all_at(&page[..], (number * PAGE) as u64)?;
            }
        }
        Ok(())
    }
}

/// The pages of a range: which one, from where in it, and which part of the range that is.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset as usize + done;
        let (page, within) = (at / PAGE, at % PAGE);
        let part = done..(done + PAGE - within).min(length);
        done = part.end;
        Some((page, within, part))
    })
}
