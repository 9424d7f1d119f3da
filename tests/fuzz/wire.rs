//! Frames, requests and answers of every API in every version.

use allocation_counter::measure;
use corelane::wire::api::ApiKey;
use corelane::wire::error::{DecodeError, Problem};
use corelane::wire::frame::{self, Split, request_header};
use corelane::wire::message::Message;
use corelane::wire::messages::*;
use corelane::wire::read::Reader;
use corelane::wire::write::Writer;

use crate::hunt::{Target, magnitude, shape};
use crate::mutate::{Gen, mutate};

pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        seeds: streams,
        mutate,
        repair: Some(|bytes| reframe(bytes)),
        run: serve,
        max_bytes: 64 << 10,
        memory: |_| ERROR_BYTES,
    },
    Target {
        name: "requests",
        seeds: |g| grown(g, false),
        mutate,
        repair: None,
        run: |input| read(input, false),
        max_bytes: 16 << 10,
        memory: |n| ERROR_BYTES + 4 * n as u64,
    },
    Target {
        name: "answers",
        seeds: |g| grown(g, true),
        mutate,
        repair: None,
        run: |input| read(input, true),
        max_bytes: 16 << 10,
        memory: |n| ERROR_BYTES + 4 * n as u64,
    },
];

/// What an error may allocate: itself, and a path of many fields.
const ERROR_BYTES: u64 = 1024;
/// Largest frame.
const FRAME_BYTES: usize = 1 << 20;

/// Calls `$do` with every API and the types of its request and its answer.
macro_rules! each_api {
    ($do:ident) => {
        $do! {
            Produce ProduceRequest ProduceResponse,
            Fetch FetchRequest FetchResponse,
            ListOffsets ListOffsetsRequest ListOffsetsResponse,
            Metadata MetadataRequest MetadataResponse,
            ApiVersions ApiVersionsRequest ApiVersionsResponse,
            CreateTopics CreateTopicsRequest CreateTopicsResponse,
            DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
            InitProducerId InitProducerIdRequest InitProducerIdResponse,
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            DescribeCluster DescribeClusterRequest DescribeClusterResponse,
            DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse,
            DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
        }
    };
}

macro_rules! list {
    ($($name:ident $request:ident $response:ident,)*) => {
        const SERVED: &[(ApiKey, (i16, i16))] = &[$((ApiKey::$name, $request::VERSIONS),)*];
    };
}
each_api!(list);

/// A body of an API, as an input of `requests` and `answers`: key, version, the body's bytes.
fn input(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    [&[api.code() as u8, version as u8], body].concat()
}

/// Decodes, and walks over what was decoded: the size foretold is the size written, and what was
/// written reads back as the same.
fn decode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<usize, DecodeError> {
    let mut body = None;
    let made = measure(|| body = Some(M::decode(&mut Reader::new(bytes), version)));
    let body = match body.expect("it ran") {
        Ok(body) => body,
        Err(error) => {
            assert!(made.bytes_max <= ERROR_BYTES, "{made:?}");
            assert!(error.offset() <= bytes.len(), "{error}");
            assert_eq!(error.api(), Some((M::API, version)), "{error}");
            return Err(error);
        }
    };
    assert_eq!(made.count_total, 0, "a message borrows");
    let size = body.size(version);
    let mut again = vec![0; size];
    let mut w = Writer::slice(&mut again);
    body.encode(&mut w, version);
    assert!(!w.overflowed() && w.len() == size, "the size foretold");
    Ok(size)
}

/// Writes what was read, and reads that: both must be alike.
fn round_trip(api: ApiKey, version: i16, answer: bool, bytes: &[u8]) {
    let written = rewrite(api, version, answer, bytes);
    let again = written
        .as_deref()
        .and_then(|w| rewrite(api, version, answer, w));
    // lists and records of an answer leave holes that the caller fills
    if let (Some(written), Some(again)) = (written, again) {
        assert_eq!(written, again, "{} {version}", api.name());
    }
}

fn rewrite(api: ApiKey, version: i16, answer: bool, bytes: &[u8]) -> Option<Vec<u8>> {
    fn one<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Option<Vec<u8>> {
        let body = M::decode(&mut Reader::new(bytes), version).ok()?;
        let mut out = vec![0; body.size(version)];
        body.encode(&mut Writer::slice(&mut out), version);
        Some(out)
    }
    macro_rules! dispatch {
        ($($name:ident $request:ident $response:ident,)*) => {
            match (api, answer) {
                $((ApiKey::$name, false) => one::<$request>(bytes, version),)*
                $((ApiKey::$name, true) => one::<$response>(bytes, version),)*
                _ => None,
            }
        };
    }
    each_api!(dispatch)
}

fn decode_any(
    api: ApiKey,
    version: i16,
    answer: bool,
    bytes: &[u8],
) -> Option<Result<usize, DecodeError>> {
    macro_rules! dispatch {
        ($($name:ident $request:ident $response:ident,)*) => {
            match (api, answer) {
                $((ApiKey::$name, false) => Some(decode::<$request>(bytes, version)),)*
                $((ApiKey::$name, true) => Some(decode::<$response>(bytes, version)),)*
                _ => None,
            }
        };
    }
    each_api!(dispatch)
}

/// The outcome as a number: where it ended and why, or that it is a message.
fn outcome(api: ApiKey, version: i16, result: &Result<usize, DecodeError>) -> u64 {
    let what = match result {
        Ok(size) => magnitude(*size),
        // the path of fields, without the places in lists
        Err(error) => shape(error),
    };
    what ^ (api.code() as u64) << 32 ^ (version as u64) << 48
}

fn read(input: &[u8], answer: bool) -> u64 {
    let [key, version, body @ ..] = input else {
        return 0;
    };
    let (Some(api), version) = (ApiKey::from_code(i16::from(*key)), i16::from(*version)) else {
        return 1;
    };
    if answer {
        let _ = frame::read_response_header(body, api, version);
    }
    let Some(result) = decode_any(api, version, answer, body) else {
        return 2;
    };
    if result.is_ok() {
        round_trip(api, version, answer, body);
    }
    outcome(api, version, &result)
}

/// What a broker does with the bytes of a connection.
fn serve(mut bytes: &[u8]) -> u64 {
    let mut found = 0u64;
    loop {
        let made = measure(|| {
            let _ = frame::split(bytes, FRAME_BYTES);
        });
        assert_eq!(made.count_total, 0);
        let range = match frame::split(bytes, FRAME_BYTES) {
            Split::Frame(range) => range,
            Split::Incomplete(need) => {
                assert!(need > bytes.len() && need <= FRAME_BYTES + frame::LENGTH_BYTES);
                return found;
            }
            Split::TooLarge(_) => return found ^ 1,
        };
        let end = range.end;
        let frame = &bytes[range];
        let (header, body) = match request_header(frame) {
            Ok(found) => found,
            Err(error) => return found ^ shape(&error),
        };
        let version = header.api_version;
        let Some(made) = decode_answerless(header.api_key, version, body.rest()) else {
            return found ^ 2;
        };
        found = found.rotate_left(7) ^ made;
        bytes = &bytes[end..];
    }
}

/// As [`decode_any`], for what allocates nothing but an error.
fn decode_answerless(api: ApiKey, version: i16, bytes: &[u8]) -> Option<u64> {
    fn one<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<usize, DecodeError> {
        M::decode(&mut Reader::new(bytes), version).map(|body| body.size(version))
    }
    macro_rules! dispatch {
        ($($name:ident $request:ident $response:ident,)*) => {
            match api {
                $(ApiKey::$name => Some(one::<$request>(bytes, version)),)*
                _ => None,
            }
        };
    }
    each_api!(dispatch).map(|result| outcome(api, version, &result))
}

/// Bodies of every API in every version, grown: what the decoder misses is added until it is
/// content, so that every field of the schema is reached without a second description of it.
fn grown(g: &mut Gen, answer: bool) -> Vec<Vec<u8>> {
    for key in ApiKey::ALL {
        let listed = SERVED.iter().any(|(api, _)| api == key);
        assert_eq!(
            listed,
            key.versions().is_some(),
            "{} is not fuzzed",
            key.name()
        );
    }
    let mut all = Vec::new();
    for (api, (first, last)) in SERVED {
        for version in *first..=*last {
            for _ in 0..3 {
                let body = grow(g, *api, version, answer);
                all.push(input(*api, version, &body));
            }
        }
    }
    all
}

fn grow(g: &mut Gen, api: ApiKey, version: i16, answer: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        let error = match decode_any(api, version, answer, &bytes) {
            Some(Err(error)) => error,
            _ => return bytes,
        };
        match error.problem() {
            Problem::Truncated { needed, left } => {
                let missing = needed.saturating_sub(left).clamp(1, 64);
                // mostly small numbers: counts and lengths of what is to follow
                let value = g.pick(&[0u8, 0, 1, 1, 2, 3, b'a', 0xff]);
                bytes.extend((1..missing).map(|_| if value == 0xff { 0xff } else { 0 }));
                bytes.push(value);
            }
            Problem::Count { .. } => bytes.push(0),
            _ => bytes.truncate(error.offset().min(bytes.len().saturating_sub(1))),
        }
    }
    bytes
}

/// One to three requests in a row, as they come in on a connection.
fn streams(g: &mut Gen) -> Vec<Vec<u8>> {
    let bodies = grown(g, false);
    (0..300)
        .map(|_| {
            let mut stream = Vec::new();
            for _ in 0..=g.below(3) {
                let [key, version, body @ ..] = &bodies[g.below(bodies.len())][..] else {
                    continue;
                };
                let api = ApiKey::from_code(i16::from(*key)).expect("made above");
                let mut frame = Vec::new();
                frame.extend_from_slice(&api.code().to_be_bytes());
                frame.extend_from_slice(&[0, *version, 0, 0, 0, 7, 0, 1, b'c']);
                if api.request_header_version(i16::from(*version)) >= 2 {
                    frame.push(0);
                }
                frame.extend_from_slice(body);
                stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                stream.extend_from_slice(&frame);
            }
            stream
        })
        .collect()
}

/// Makes the first frame as long as all of the input.
fn reframe(bytes: &mut [u8]) {
    if bytes.len() > frame::LENGTH_BYTES {
        let length = (bytes.len() - frame::LENGTH_BYTES) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
    }
}
