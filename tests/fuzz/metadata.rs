//! The metadata log and its snapshot.

use std::sync::Arc;

use corelane::base::checksum::{crc32c, crc32c_append};
use corelane::base::config::BrokerConfig;
use corelane::base::ids::{NodeId, Uuid};
use corelane::metadata::controller::{Draft, NewTopic, TopicRef};
use corelane::metadata::frame::{FileKind, HEADER_BYTES, encode, header};
use corelane::metadata::recover::recover;
use corelane::metadata::{Image, snapshot};

use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[
    Target {
        name: "metadata_log",
        seeds: |g| logs(g).into_iter().map(|(log, _)| log).collect(),
        mutate,
        repair: Some(|bytes| reseal(bytes)),
        run: |log| read(None, Some(log)),
        max_bytes: 16 << 10,
        memory: budget,
    },
    Target {
        name: "metadata_snapshot",
        seeds: |g| logs(g).into_iter().map(|(_, snapshot)| snapshot).collect(),
        mutate,
        repair: Some(|bytes| reseal(bytes)),
        run: |snapshot| {
            let empty = header(FileKind::Log, 0);
            read(Some(snapshot), None) ^ read(Some(snapshot), Some(&empty))
        },
        max_bytes: 16 << 10,
        memory: budget,
    },
];

/// Records as they are in memory, and what an image makes of them: a partition's replicas are a
/// list each, and four bytes in the file.
fn budget(n: usize) -> u64 {
    (64 << 10) + 200 * n as u64
}

/// Logs of some steps, and the snapshot after the last of them.
fn logs(g: &mut Gen) -> Vec<(Vec<u8>, Vec<u8>)> {
    [1, 3, 6]
        .map(|steps| {
            let mut image = Image::empty(Arc::new(BrokerConfig::default()));
            let mut bytes = header(FileKind::Log, 0).to_vec();
            for step in 0..steps {
                let mut draft = Draft::new(&image, vec![NodeId(1)]);
                if step == 0 {
                    draft.found_cluster("c");
                }
                let topic = NewTopic {
                    name: format!("t.{step}"),
                    partitions: 1 + g.below(5) as i32,
                    replication_factor: 1,
                    configs: vec![("retention.ms".to_owned(), Some("7".to_owned()))],
                    ..NewTopic::default()
                };
                draft.create_topics(&[topic], false, || Uuid::from_random(g.next(), g.next()));
                if step == 3 {
                    draft.delete_topics(&[TopicRef {
                        name: Some("t.1".to_owned()),
                        ..TopicRef::default()
                    }]);
                }
                draft.producer_ids(1000).expect("ids are left");
                let sequence = image.sequence() + 1;
                let (next, records) = draft.finish(sequence);
                encode(&mut bytes, sequence, &records);
                image = next;
            }
            let snapshot = written(&image);
            (bytes, snapshot)
        })
        .to_vec()
}

fn written(image: &Image) -> Vec<u8> {
    let mut bytes = header(FileKind::Snapshot, image.sequence()).to_vec();
    encode(&mut bytes, image.sequence(), &snapshot::records(image));
    bytes
}

/// Makes the checksums of header and frames right, and the lengths of frames that are too long.
fn reseal(bytes: &mut [u8]) {
    const HEAD: usize = 20;
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let crc = crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_be_bytes());
    let mut at = HEADER_BYTES;
    while at + HEAD <= bytes.len() {
        let frame = &mut bytes[at..];
        frame[..4].copy_from_slice(b"CLMF");
        let length = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        let length = if length <= frame.len() - HEAD {
            length
        } else {
            frame.len() - HEAD
        };
        frame[4..8].copy_from_slice(&(length as u32).to_be_bytes());
        let crc = crc32c_append(crc32c(&frame[..16]), &frame[HEAD..HEAD + length]);
        frame[16..HEAD].copy_from_slice(&crc.to_be_bytes());
        at += (HEAD + length).next_multiple_of(8);
    }
}

fn read(snapshot: Option<&[u8]>, log: Option<&[u8]>) -> u64 {
    let broker = Arc::new(BrokerConfig::default());
    let found = match recover(&broker, snapshot, log) {
        Ok(found) => found,
        Err(error) => return shape(&error),
    };
    let image = &found.image;
    let counted: usize = image.topics().map(|t| t.partitions.len()).sum();
    assert_eq!(image.partition_count(), counted);
    if image.sequence() > 0 {
        // what was recovered can be kept, and found again
        let kept = written(image);
        let log = header(FileKind::Log, image.sequence());
        let again = recover(&broker, Some(&kept), Some(&log)).expect("a snapshot of ours");
        assert_eq!(snapshot::records(&again.image), snapshot::records(image));
    }
    magnitude(image.partition_count()) ^ shape(&found.log) ^ magnitude(found.torn) << 20
}
