//! Several log directories, one of which cannot be read for a while.

use std::fs;
use std::path::{Path, PathBuf};

use corelane::wire::messages::FetchResponse;

use crate::client::{Client, Fetching, fetched, put};
use crate::support::broker::Setup;

const PARTITIONS: i32 = 4;
/// What Kafka leaves after a clean stop.
const MARKER: &str = ".kafka_cleanshutdown";
const KAFKA_STORAGE_ERROR: i16 = 56;

/// The journals of a log directory.
fn journals(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|e| e == "journal"))
        .collect()
}

#[test]
fn a_partition_whose_directory_is_offline_is_not_made_anew_elsewhere() {
    let mut setup = Setup::new(&[("corelane.cores", "2")]).unwrap();
    let dirs = [setup.data().join("a"), setup.data().join("b")];
    let both = format!("{},{}", dirs[0].display(), dirs[1].display());
    setup.set("log.dirs", &both);
    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    client.create("t", PARTITIONS, &[]);
    for n in 0..PARTITIONS {
        assert_eq!(put(&mut client, "t", n, &[&n.to_string()]), (0, 0));
    }
    broker.stop().unwrap();

    let away: Vec<(PathBuf, PathBuf)> = journals(&dirs[1])
        .into_iter()
        .map(|path| (path.clone(), path.with_extension("away")))
        .collect();
    assert!(!away.is_empty(), "the second directory has a journal");
    for (path, to) in &away {
        fs::rename(path, to).unwrap();
    }
    let lost: Vec<i32> = (0..PARTITIONS)
        .filter(|n| dirs[1].join(format!("t-{n}")).exists())
        .collect();
    assert!(!lost.is_empty() && lost.len() < PARTITIONS as usize);
    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    for n in 0..PARTITIONS {
        let answer = Fetching::new("t", &[(n, 0)]).with(|f| client.ask(11, f));
        let found = &fetched(&answer, 11).2[0];
        let (error, _) = put(&mut client, "t", n, &["more"]);
        if lost.contains(&n) {
            assert_eq!(
                (found.error, error),
                (KAFKA_STORAGE_ERROR, KAFKA_STORAGE_ERROR)
            );
            assert!(!dirs[0].join(format!("t-{n}")).exists(), "made anew");
        } else {
            assert_eq!((found.error, error), (0, 0));
            assert_eq!(found.values, [n.to_string()]);
        }
    }
    // the other directory is closed cleanly, this one cannot be
    let (status, said) = broker.terminate().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    let named = format!("{}", dirs[1].display());
    let told = |line: &str| line.contains(&named) && line.contains("no clean marker");
    assert!(said.lines().any(told), "{said}");
    assert!(dirs[0].join(MARKER).exists(), "that one is closed cleanly");

    for (path, to) in &away {
        fs::rename(to, path).unwrap();
    }
    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    for n in 0..PARTITIONS {
        let answer = Fetching::new("t", &[(n, 0)]).with(|f| client.ask(11, f));
        let found = &fetched(&answer, 11).2[0];
        assert_eq!(found.values[0], n.to_string(), "partition {n}");
    }
    broker.stop().unwrap();
}

#[test]
fn what_a_disk_made_of_records_is_sent_only_where_it_is_not_to_be_checked() {
    const CORRUPT_MESSAGE: i16 = 2;
    let mut setup = Setup::new(&[("corelane.cores", "1")]).unwrap();
    let broker = setup.start().unwrap();
    let mut client = Client::connect(&broker.address());
    client.create("t", 1, &[]);
    for value in ["a first record", "a second record"] {
        assert_eq!(put(&mut client, "t", 0, &[value]).0, 0);
    }
    broker.stop().unwrap();
    let segment = setup.data().join("t-0/00000000000000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.windows(5).position(|w| w == b"first").unwrap();
    bytes[place..place + 5].copy_from_slice(b"worst");
    fs::write(&segment, bytes).unwrap();
    for (check, error) in [("true", CORRUPT_MESSAGE), ("false", 0)] {
        setup.set("corelane.check.crcs", check);
        let broker = setup.start().unwrap();
        let mut client = Client::connect(&broker.address());
        let answer = Fetching::new("t", &[(0, 0)]).with(|f| client.ask(11, f));
        let answer: FetchResponse<'_> = answer.read(11);
        let topic = answer.responses.iter().next().expect("one topic");
        let found = topic.partitions.iter().next().expect("one partition");
        assert_eq!(found.error_code, error, "check.crcs={check}");
        let sent = found.records.bytes();
        assert_eq!(sent.windows(5).any(|w| w == b"worst"), error == 0);
        broker.stop().unwrap();
    }
}
