//! What a running broker says of each partition.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use corelane::wire::batch::{batches, records};
use corelane::wire::compress::{Codec, decompress};
use corelane::wire::messages::FetchResponse;

use crate::client::{Client, Fetching, offsets, put};
use crate::data::{FIRST_TIME, Model, Name};

/// Damage that a client is told of.
const CORRUPT_MESSAGE: i16 = 2;
const KAFKA_STORAGE_ERROR: i16 = 56;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// What a test appends to a log that is served.
pub const MORE: &str = "more";

/// What can be read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of it.
    Whole,
    /// Up to an offset, then an error says why.
    Refused { from: i64, error: i16 },
    /// All up to an offset, where the log ends.
    Shorter { end: i64 },
    /// No topic has it.
    Unknown,
}

/// Reads every partition from its first offset on. An error is a record that nobody wrote.
pub fn read_all(address: &str, model: &Model) -> Result<BTreeMap<Name, Seen>> {
    let mut client = Client::connect(address);
    let mut seen = BTreeMap::new();
    for (name, values) in model {
        seen.insert(*name, read(&mut client, *name, values)?);
    }
    Ok(seen)
}

fn read(client: &mut Client, name: Name, expected: &[String]) -> Result<Seen> {
    let mut next = 0i64;
    loop {
        let from = [(name.1, next)];
        let mut fetch = Fetching::new(name.0, &from);
        fetch.max_bytes = 400_000;
        let answer = fetch.with(|fetch| client.ask(11, fetch));
        let response: FetchResponse<'_> = answer.read(11);
        let topic = response.responses.iter().next();
        let Some(found) = topic.and_then(|topic| topic.partitions.iter().next()) else {
            bail!("{name:?}: an answer without it");
        };
        match found.error_code {
            0 => {}
            UNKNOWN_TOPIC_OR_PARTITION if next == 0 => return Ok(Seen::Unknown),
            error @ (CORRUPT_MESSAGE | KAFKA_STORAGE_ERROR) => {
                return Ok(Seen::Refused { from: next, error });
            }
            error => bail!("{name:?}: error {error} at offset {next}"),
        }
        let before = next;
        for batch in batches(found.records.bytes()) {
            let Ok(batch) = batch else { break };
            ensure!(batch.verify_crc(), "{name:?}: rotten bytes at {next}");
            let codec = batch.codec().unwrap_or(Codec::None);
            let plain = decompress(codec, batch.body(), 1 << 24)?;
            for (i, record) in records(&plain, batch.records_count()).enumerate() {
                let offset = batch.base_offset().0 + i as i64;
                let value = String::from_utf8_lossy(record?.value.unwrap_or(b"")).into_owned();
                if offset < next {
                    continue;
                }
                ensure!(offset == next, "{name:?}: offset {offset} follows {next}");
                let wanted = expected.get(offset as usize);
                ensure!(
                    wanted == Some(&value),
                    "{name:?}: another record at {offset}: {:.40}",
                    value
                );
                next += 1;
            }
        }
        if next == before {
            by_time(client, name, &expected[..next as usize])?;
            return Ok(match next == expected.len() as i64 {
                true => Seen::Whole,
                false => Seen::Shorter { end: next },
            });
        }
    }
}

/// Looks offsets up by time: records are 10 ms apart.
fn by_time(client: &mut Client, name: Name, expected: &[String]) -> Result<()> {
    let timed = expected.iter().filter(|value| *value != MORE).count();
    let wanted = [0, timed / 3, timed / 2, timed.saturating_sub(1)];
    for n in wanted.into_iter().filter(|n| *n < timed) {
        let time = FIRST_TIME + 10 * n as i64 - 5;
        let found = offsets(client, 5, name.0, &[(name.1, time)]);
        let found = found.first().map(|(error, _, offset)| (*error, *offset));
        ensure!(
            found == Some((0, n as i64)),
            "{name:?}: {found:?} by the time of {n}"
        );
    }
    Ok(())
}

/// Appends to every partition that is served; the first free offset must be the next one.
pub fn append(address: &str, seen: &BTreeMap<Name, Seen>, model: &Model) -> Result<()> {
    let mut client = Client::connect(address);
    for (name, seen) in seen {
        let end = match seen {
            Seen::Whole => model[name].len() as i64,
            Seen::Shorter { end } => *end,
            _ => continue,
        };
        let (error, offset) = put(&mut client, name.0, name.1, &[MORE]);
        ensure!(
            (error, offset) == (0, end),
            "{name:?}: {error} at {offset}, not {end}"
        );
    }
    Ok(())
}
