//! What a repair cuts off stays beside the log, in files that nothing takes for segments.

use std::io;
use std::path::Path;

use super::{RepairError, io as at_path};
use crate::base::ids::Offset;
use crate::base::limits::PAGE_BYTES;
use crate::log::format::names::{self, Kind};
use crate::log::journal::scan::RingSource;
use crate::log::partition::Recovering;
use crate::log::recovery::overlay::Overlay;
use crate::log::segment::Place;
use crate::ring::driver::OpenOptions;
use crate::ring::{File, Ring};

/// Copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Where what a cut takes off a segment goes: `N.log.P.cut`, and `N.log.P.1.cut` and so on where
/// an earlier cut at that place has kept something else.
pub(super) fn file_name(to: Place, n: u32) -> String {
    let number = match n {
        0 => String::new(),
        n => format!(".{n}"),
    };
    format!("{:020}.log.{}{number}.cut", to.segment.0, to.position)
}

/// Copies what lies behind `end`.
pub(super) async fn keep_rest(
    ring: &Ring,
    dir: &Path,
    state: &Recovering,
    end: Place,
) -> Result<(), RepairError> {
    let mut bases: Vec<Offset> = ring
        .read_dir(dir)
        .map_err(at_path(dir))?
        .iter()
        .filter_map(|entry| match names::parse_file(&entry.name) {
            Some((base, Kind::Log)) => Some(base),
            _ => None,
        })
        .chain(state.pending().map(|(at, _)| at.segment))
        .filter(|base| *base >= end.segment)
        .collect();
    bases.sort();
    bases.dedup();
    let mut kept = false;
    for base in bases {
        let path = names::file(dir, base, Kind::Log);
        let source = Overlay::open(ring, dir, base, state.pending()).map_err(at_path(&path))?;
        let from = if base == end.segment { end.position } else { 0 };
        if source.len() > from {
            kept |= keep(ring, dir, &source, Place::new(base, from)).await?;
        }
    }
    if kept {
        ring.sync_dir(dir).await.map_err(at_path(dir))?;
    }
    Ok(())
}

/// Keeps one segment from a place on; false if that was kept already, by a repair that was cut.
async fn keep(
    ring: &Ring,
    dir: &Path,
    source: &Overlay<'_>,
    from: Place,
) -> Result<bool, RepairError> {
    let temporary = dir.join(format!("{}.tmp", file_name(from, 0)));
    let options = OpenOptions {
        write: true,
        create: true,
        truncate: true,
        ..OpenOptions::default()
    };
    let copy = ring
        .open(&temporary, options)
        .map_err(at_path(&temporary))?;
    let segment = names::file(dir, from.segment, Kind::Log);
    copy_readable(source, &copy, from.position, &segment).map_err(at_path(&temporary))?;
    copy.sync_all().await.map_err(at_path(&temporary))?;
    let mut n = 0;
    loop {
        let to = dir.join(file_name(from, n));
        if !ring.exists(&to) {
            ring.rename(&temporary, &to).map_err(at_path(&to))?;
            return Ok(true);
        }
        if is_same(ring, &temporary, &to).map_err(at_path(&to))? {
            ring.remove_file(&temporary).map_err(at_path(&temporary))?;
            return Ok(false);
        }
        n += 1;
    }
}

fn is_same(ring: &Ring, a: &Path, b: &Path) -> io::Result<bool> {
    let open = |path| ring.open(path, OpenOptions::default());
    let (a, b) = (open(a)?, open(b)?);
    if a.len()? != b.len()? {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = 0;
    loop {
        let got = a.read_now(&mut left, at)?;
        if got == 0 {
            return Ok(true);
        }
        b.read_now(&mut right[..got], at)?;
        if left[..got] != right[..got] {
            return Ok(false);
        }
        at += got as u64;
    }
}

/// Copies a segment from a place on. A page that the disk cannot read stays a hole of zeros: it is
/// no reason to lose what stands behind it.
fn copy_readable(source: &Overlay<'_>, to: &File, from: u64, segment: &Path) -> io::Result<()> {
    let mut buf = vec![0; COPY_BYTES];
    let (mut at, len) = (from, source.len());
    let mut step = COPY_BYTES;
    while at < len {
        let wanted = (len - at).min(step as u64) as usize;
        match source.read(at, &mut buf[..wanted]) {
            Ok(0) => break,
            Ok(got) => {
                to.write_now(&buf[..got], at - from)?;
                at += got as u64;
                step = COPY_BYTES;
            }
            // page by page up to the one that is bad
            Err(_) if step > PAGE_BYTES => step = PAGE_BYTES - at as usize % PAGE_BYTES,
            Err(error) => {
                let path = segment.display();
                tracing::warn!(%path, at, bytes = wanted, %error, "cannot be read, zeros are kept for it");
                at += wanted as u64;
            }
        }
    }
    to.set_len(len - from)
}
