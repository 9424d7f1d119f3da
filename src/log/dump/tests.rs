use super::*;
use crate::base::ids::{LeaderEpoch, Offset, Uuid};
use crate::base::time::Timestamp;
use crate::log::format::{epoch_checkpoint::EpochStart, producer_snapshot, time_index};
use crate::wire::batch::{BatchBuilder, stamp};
use crate::wire::compress::Codec;

fn run(name: &str, bytes: &[u8], records: bool) -> (Vec<Line>, usize) {
    let mut lines = Vec::new();
    let options = DumpOptions { records };
    let problems = dump(name, bytes, bytes.len() as u64, options, &mut |line| {
        lines.push(line);
        Ok(())
    });
    (lines, problems.expect("it can be read"))
}

fn segment(batches: i64) -> Vec<u8> {
    let mut all = Vec::new();
    for i in 0..batches {
        let mut builder = BatchBuilder::new(Codec::ALL[i as usize % 5]);
        let headers = [("h", Some(b"v".as_slice()))];
        builder.append(Timestamp(i), Some(b"k"), Some(&[b'v'; 1000]), &headers);
        builder.append(Timestamp(i), None, None, &[]);
        let mut bytes = builder.build().expect("codecs work in memory");
        stamp(&mut bytes, Offset(10 + 2 * i), LeaderEpoch(3));
        all.extend(bytes);
    }
    all
}

const LOG: &str = "00000000000000000010.log";

#[test]
fn a_segment_shows_its_batches_and_records() {
    let bytes = segment(3000); // beyond one window
    let (lines, problems) = run(LOG, &bytes, false);
    assert_eq!((lines.len(), problems), (3000, 0));
    assert!(
        lines[1]
            .to_string()
            .contains("base_offset=12 last_offset=13 count=2")
    );
    let (lines, _) = run(LOG, &bytes, true);
    assert_eq!(lines.len(), 9000);
    let text = lines[4].to_string();
    assert!(
        text.starts_with("  record offset=12 timestamp=1 key=\"k\" value=\"vvv"),
        "{text}"
    );
    assert!(text.ends_with("header=h:v"), "{text}");
    assert!(lines[5].to_string().ends_with("key=null value=null"));
}

#[test]
fn what_is_wrong_in_a_segment_is_said_where_it_is() {
    let good = segment(3);
    let (lines, problems) = run(LOG, &good[..good.len() - 1], false);
    assert_eq!((lines.len(), problems), (3, 1));
    assert!(lines[2].to_string().contains("PROBLEM"), "{}", lines[2]);

    let mut rotten = good.clone();
    rotten[100] ^= 1;
    let (lines, problems) = run(LOG, &rotten, false);
    assert_eq!((lines.len(), problems), (3, 1));
    assert!(lines[0].problem.as_ref().unwrap().contains("checksum"));

    let zeros = [good.clone(), vec![0; 100]].concat();
    let (lines, problems) = run(LOG, &zeros, false);
    assert_eq!((lines.len(), problems), (4, 0));
    assert!(lines[3].to_string().ends_with("zeros=100"));

    let twice = [good.clone(), good].concat();
    assert_eq!(run(LOG, &twice, false).1, 1, "offsets that go back");
}

#[test]
fn side_files_are_shown_by_their_names() {
    let epochs = [EpochStart {
        epoch: LeaderEpoch(2),
        start: Offset(7),
    }];
    let (lines, _) = run(
        epoch_checkpoint::FILE_NAME,
        &epoch_checkpoint::encode(&epochs),
        false,
    );
    assert_eq!(lines[0].to_string(), "epoch epoch=2 start_offset=7");

    let mut index = Vec::new();
    let entry = time_index::Entry {
        timestamp: 99,
        relative_offset: 5,
    };
    time_index::encode(&[entry], &mut index);
    let (lines, _) = run("00000000000000000010.timeindex", &index, false);
    assert_eq!(lines[0].to_string(), "entry timestamp=99 offset=15");

    let (_, problems) = run("00000000000000000010.snapshot", b"nonsense", false);
    assert_eq!(problems, 1);
    let empty = producer_snapshot::encode(&[]);
    assert_eq!(run("00000000000000000010.snapshot", &empty, false).0, []);

    let id = Uuid([7; 16]);
    let bytes = partition_metadata::encode(id);
    let (lines, _) = run(partition_metadata::FILE_NAME, &bytes, false);
    assert!(lines[0].to_string().contains(&id.to_string()));

    let unknown = dump("x", b"x".as_slice(), 1, DumpOptions::default(), &mut |_| {
        Ok(())
    });
    assert!(matches!(unknown, Err(DumpError::Unknown(_))));
}
