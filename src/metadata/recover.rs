//! From the bytes of snapshot and log to an image. No IO.

use std::sync::Arc;

use super::apply::{ApplyError, apply};
use super::frame::{FileKind, FrameError, read_header, scan};
use super::image::Image;
use super::store::{LOG_NAME, SNAPSHOT_NAME};
use crate::base::config::BrokerConfig;

/// Why a directory's metadata cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// One of the files is not what was written.
    #[error("{file}: {error}")]
    File {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        error: FrameError,
    },
    /// A record that does not follow from those before it.
    #[error("{file}, batch {sequence}: {error}")]
    Apply {
        /// Which file.
        file: &'static str,
        /// Of which batch.
        sequence: u64,
        /// Why.
        error: ApplyError,
    },
    /// The log goes on from a snapshot that is not there.
    #[error(
        "{LOG_NAME} continues after batch {log}, but {SNAPSHOT_NAME} {}: a file was lost or replaced; \
         restore both from the same backup",
        .snapshot.map_or("is missing".to_owned(), |s| format!("ends with batch {s}"))
    )]
    Gap {
        /// Number in the log's header.
        log: u64,
        /// Number in the snapshot's header.
        snapshot: Option<u64>,
    },
    /// A snapshot without a log.
    #[error("{SNAPSHOT_NAME} is there, but {LOG_NAME} is missing: restore it from a backup")]
    NoLog,
    /// A snapshot that is not whole.
    #[error("{SNAPSHOT_NAME} is damaged: restore it from a backup")]
    Snapshot,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What the cluster knew after the last whole batch.
    pub image: Image,
    /// How to go on.
    pub log: LogState,
    /// Bytes of a write that never finished, to be dropped.
    pub torn: usize,
}

/// How the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Nothing is there: a new cluster.
    New,
    /// Go on with it.
    Append {
        /// Where the last batch begins: it must be written again, since it may be in the page
        /// cache alone, and clean there after a failed flush.
        last: usize,
        /// Where its bytes end.
        end: usize,
        /// Where the next batch goes, a multiple of 8; what stands behind `end` is dropped.
        at: u64,
    },
    /// Everything in it is in the snapshot, which goes further: begin a new one.
    Replace,
}

/// Puts snapshot and log together.
///
/// # Errors
/// For damage that dropping a torn last write does not explain. Nothing may be written then.
pub fn recover(
    broker: &Arc<BrokerConfig>,
    snapshot: Option<&[u8]>,
    log: Option<&[u8]>,
) -> Result<Recovered, RecoverError> {
    let mut image = Image::empty(broker.clone());
    let mut snapshot_at = None;
    if let Some(bytes) = snapshot {
        let sequence = replay_snapshot(&mut image, bytes)?;
        image.sequence = sequence;
        snapshot_at = Some(sequence);
    }
    let Some(bytes) = log else {
        return match snapshot_at {
            None => Ok(Recovered {
                image,
                log: LogState::New,
                torn: 0,
            }),
            Some(_) => Err(RecoverError::NoLog),
        };
    };
    let file = LOG_NAME;
    let bad = |error| RecoverError::File { file, error };
    let base = read_header(FileKind::Log, bytes).map_err(bad)?;
    if base > image.sequence {
        return Err(RecoverError::Gap {
            log: base,
            snapshot: snapshot_at,
        });
    }
    let scan = scan(bytes, base).map_err(bad)?;
    let mut last = base;
    for batch in &scan.batches {
        last = batch.sequence;
        if batch.sequence <= image.sequence {
            continue;
        }
        for record in &batch.records {
            apply(&mut image, record).map_err(|error| RecoverError::Apply {
                file,
                sequence: batch.sequence,
                error,
            })?;
        }
        image.sequence = batch.sequence;
    }
    Ok(Recovered {
        log: if last < image.sequence {
            LogState::Replace
        } else {
            LogState::Append {
                last: scan.last,
                end: scan.end,
                at: (scan.end as u64).next_multiple_of(8),
            }
        },
        torn: scan.torn,
        image,
    })
}

/// Applies a snapshot's records; its sequence number.
fn replay_snapshot(image: &mut Image, bytes: &[u8]) -> Result<u64, RecoverError> {
    let file = SNAPSHOT_NAME;
    let bad = |error| RecoverError::File { file, error };
    let sequence = read_header(FileKind::Snapshot, bytes).map_err(bad)?;
    // its one frame carries the header's number; it is written whole or not at all
    let before = sequence.checked_sub(1).ok_or(RecoverError::Snapshot)?;
    let found = scan(bytes, before).map_err(bad)?;
    let [batch] = found.batches.as_slice() else {
        return Err(RecoverError::Snapshot);
    };
    for record in &batch.records {
        apply(image, record).map_err(|error| RecoverError::Apply {
            file,
            sequence,
            error,
        })?;
    }
    Ok(sequence)
}

#[cfg(test)]
mod tests {
    use super::super::controller::{Draft, NewTopic};
    use super::super::frame::{HEADER_BYTES, encode, header};
    use super::super::record::Record;
    use super::super::snapshot;
    use super::*;
    use crate::base::ids::{NodeId, Uuid};

    /// Bytes of a log after some batches, where each batch ends, and the image after each.
    fn history() -> (Vec<u8>, Vec<usize>, Vec<Image>) {
        let broker = Arc::new(BrokerConfig::default());
        let mut image = Image::empty(broker);
        let mut bytes = header(FileKind::Log, 0).to_vec();
        let (mut ends, mut images) = (vec![bytes.len()], vec![image.clone()]);
        let mut drawn = 0;
        for step in 0..6 {
            let mut draft = Draft::new(&image, vec![NodeId(1)]);
            if step == 0 {
                draft.found_cluster("c");
            }
            let topic = |name: String| NewTopic {
                name,
                partitions: 2,
                replication_factor: 1,
                configs: vec![("retention.ms".to_owned(), Some("7".to_owned()))],
                ..NewTopic::default()
            };
            draft.create_topics(
                &[topic(format!("t.{step}")), topic("x".repeat(step + 1))],
                false,
                || {
                    drawn += 1;
                    Uuid::from_random(drawn, drawn)
                },
            );
            if step == 3 {
                draft.delete_topics(&[super::super::controller::TopicRef {
                    name: Some("t.1".to_owned()),
                    ..Default::default()
                }]);
            }
            draft.producer_ids(1000).unwrap();
            let sequence = image.sequence() + 1;
            let (next, records) = draft.finish(sequence);
            encode(&mut bytes, sequence, &records);
            image = next;
            ends.push(bytes.len());
            images.push(image.clone());
        }
        (bytes, ends, images)
    }

    fn same(a: &Image, b: &Image) -> bool {
        a.sequence() == b.sequence() && snapshot::records(a) == snapshot::records(b)
    }

    fn snapshot_of(image: &Image) -> Vec<u8> {
        let mut bytes = header(FileKind::Snapshot, image.sequence()).to_vec();
        encode(&mut bytes, image.sequence(), &snapshot::records(image));
        bytes
    }

    #[test]
    fn a_log_cut_at_any_byte_gives_a_whole_earlier_state_and_goes_on_from_there() {
        let (bytes, ends, images) = history();
        let broker = images[0].broker().clone();
        for cut in HEADER_BYTES..=bytes.len() {
            let found = recover(&broker, None, Some(&bytes[..cut])).unwrap();
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            let n = found.image.sequence() as usize;
            // the zeros behind a frame may be missing
            assert!(n == whole || n == whole + 1, "cut at {cut}");
            assert!(same(&found.image, &images[n]), "cut at {cut}");
            let LogState::Append { last, end, at } = found.log else {
                panic!("the log goes on");
            };
            assert_eq!(at, ends[n] as u64);
            assert_eq!(last, ends[n.saturating_sub(1)]);
            assert!(end <= cut && end + 8 > ends[n]);
            // a second crash, in the write after recovery
            let mut again = bytes[..cut].to_vec();
            again.resize(ends[n], 0);
            let commit = Record::ProducerIds { next: 1 << 40 };
            encode(&mut again, n as u64 + 1, &[commit]);
            let second = recover(&broker, None, Some(&again[..again.len() - 9])).unwrap();
            assert_eq!(second.image.sequence(), n as u64);
            let second = recover(&broker, None, Some(&again)).unwrap();
            assert_eq!(second.image.next_producer_id(), 1 << 40);
        }
        for cut in 0..HEADER_BYTES {
            assert!(recover(&broker, None, Some(&bytes[..cut])).is_err());
        }
    }

    #[test]
    fn a_snapshot_and_any_log_around_it_give_the_newest_state() {
        let (bytes, ends, images) = history();
        let broker = images[0].broker().clone();
        for (n, image) in images.iter().enumerate().skip(1) {
            let snap = snapshot_of(image);
            // the old log, not replaced yet
            let found = recover(&broker, Some(&snap), Some(&bytes)).unwrap();
            assert!(same(&found.image, &images[6]));
            // the old log whose last batches rotted: the snapshot has them
            let found = recover(&broker, Some(&snap), Some(&bytes[..ends[n - 1]])).unwrap();
            assert!(same(&found.image, image));
            assert_eq!(found.log, LogState::Replace);
            // the new log
            let mut log = header(FileKind::Log, n as u64).to_vec();
            log.extend_from_slice(&bytes[ends[n]..]);
            let found = recover(&broker, Some(&snap), Some(&log)).unwrap();
            assert!(same(&found.image, &images[6]));
            assert!(matches!(
                recover(&broker, None, Some(&log)),
                Err(RecoverError::Gap { snapshot: None, .. })
            ));
            let older = snapshot_of(&images[n - 1]);
            if n > 1 {
                assert!(matches!(
                    recover(&broker, Some(&older), Some(&log)),
                    Err(RecoverError::Gap { .. })
                ));
            }
        }
        let snap = snapshot_of(&images[6]);
        assert_eq!(
            recover(&broker, Some(&snap), None).unwrap_err(),
            RecoverError::NoLog
        );
    }

    #[test]
    fn any_damage_to_a_snapshot_is_refused() {
        let (bytes, _, images) = history();
        let broker = images[0].broker().clone();
        let snap = snapshot_of(&images[4]);
        for cut in 0..snap.len() - 8 {
            assert!(recover(&broker, Some(&snap[..cut]), Some(&bytes)).is_err());
        }
        for at in 0..snap.len() - 8 {
            let mut hurt = snap.clone();
            hurt[at] ^= 4;
            assert!(recover(&broker, Some(&hurt), Some(&bytes)).is_err(), "{at}");
        }
    }
}
