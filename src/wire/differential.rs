//! Every message in every version against another implementation of the protocol.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};

use crate::wire::message::Message;
use crate::wire::messages as ours;
use crate::wire::random::{Gen, Random};
use crate::wire::read::Reader;
use crate::wire::write::Writer;

/// Versions that the other implementation does not have, and so can't be compared.
const GAPS: &[(&str, i16)] = &[
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("ApiVersionsRequest", 5),
];

const ROUNDS: usize = 40;

fn encode<'a>(message: &impl Message<'a>, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut Writer::vec(&mut bytes), version);
    assert_eq!(bytes.len(), message.size(version), "the size foretold");
    bytes
}

/// The list of versions that were compared.
fn compare<O, T>(name: &str, seed: u64) -> Vec<i16>
where
    O: Message<'static> + Random + PartialEq + std::fmt::Debug,
    T: Encodable + Decodable + TheirMessage + std::fmt::Debug,
{
    let mut g = Gen(seed);
    let mut compared = Vec::new();
    let (low, high) = O::VERSIONS;
    for version in low..=high {
        let theirs = T::VERSIONS.min..=T::VERSIONS.max;
        if GAPS.contains(&(name, version)) {
            assert!(!theirs.contains(&version), "{name} {version} is no gap");
            continue;
        }
        assert!(theirs.contains(&version), "{name} {version} is a new gap");
        compared.push(version);
        for _ in 0..ROUNDS {
            let message = O::random(&mut g, version);
            let sent = encode(&message, version);

            let mut input = Bytes::copy_from_slice(&sent);
            let read = T::decode(&mut input, version)
                .unwrap_or_else(|e| panic!("{name} {version}: {e}\n{message:?}"));
            assert!(input.is_empty(), "{name} {version}: {message:?}");

            let mut back = BytesMut::new();
            read.encode(&mut back, version)
                .unwrap_or_else(|e| panic!("{name} {version}: {e}\n{read:?}"));
            assert_eq!(
                sent[..],
                back[..],
                "{name} {version}: {message:?}\n{read:?}"
            );

            // decoded lists borrow: the test leaks its few bytes
            let back: &'static [u8] = Box::leak(back.to_vec().into_boxed_slice());
            let again = O::decode(&mut Reader::new(back), version)
                .unwrap_or_else(|e| panic!("{name} {version}: {e}\n{message:?}"));
            assert_eq!(again, message, "{name} {version}");
            assert_eq!(encode(&again, version), sent, "{name} {version}");
        }
    }
    compared
}

#[test]
fn both_implementations_read_and_write_the_same_bytes() {
    let mut count = 0;
    macro_rules! run {
        ($name:ident) => {
            let compared = compare::<ours::$name, theirs::$name>(stringify!($name), 7);
            count += compared.len();
        };
    }
    ours::each_message!(run);
    assert!(count > 100, "{count} versions of messages were compared");
}

#[test]
fn what_the_other_implementation_leaves_out_reads_back() {
    macro_rules! run {
        ($name:ident) => {
            for (_, version) in GAPS.iter().filter(|(name, _)| *name == stringify!($name)) {
                let mut g = Gen(11);
                for _ in 0..ROUNDS {
                    let message = ours::$name::random(&mut g, *version);
                    let bytes = encode(&message, *version);
                    let again = ours::$name::decode(&mut Reader::new(&bytes), *version);
                    assert_eq!(again.unwrap(), message);
                }
            }
        };
    }
    ours::each_message!(run);
}

#[test]
fn defaults_are_the_same() {
    macro_rules! run {
        ($name:ident) => {
            let version = ours::$name::VERSIONS.1.min(theirs::$name::VERSIONS.max);
            let mut back = BytesMut::new();
            let name = stringify!($name);
            // nulls that the protocol has no default for begin as null here, as empty there
            if theirs::$name::default().encode(&mut back, version).is_ok()
                && !["MetadataRequest", "InitProducerIdRequest"].contains(&name)
            {
                let bytes = encode(&ours::$name::default(), version);
                assert_eq!(bytes[..], back[..], "{name}");
            }
        };
    }
    ours::each_message!(run);
}
