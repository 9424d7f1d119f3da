//! A broker's log directories with something of every kind in them, made once and copied for each
//! trial.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corelane::base::ids::ProducerId;
use corelane::base::time::Timestamp;
use corelane::wire::batch::BatchBuilder;
use corelane::wire::compress::Codec;
use corelane::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::client::{Client, data, outcomes, part, produce};
use crate::support::broker::Setup;
use crate::support::process::{Output, run};
use crate::support::wait;

/// Topic and partition, as its directory is called.
pub type Name = (&'static str, i32);
/// What stands at each offset of each partition.
pub type Model = BTreeMap<Name, Vec<String>>;

const TOPICS: [(&str, i32); 3] = [("rolled", 2), ("codecs", 2), ("idempotent", 2)];
/// Time of each partition's first record; every other is 10 ms later than the one before.
pub const FIRST_TIME: i64 = 1_700_000_000_000;
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How the broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Killed,
}

/// The data as the broker left it.
pub struct Template {
    pub model: Model,
    pub setup: Setup,
    kept: PathBuf,
}

/// Runs the built binary's `log` commands.
pub fn log(arguments: &[&str], dirs: &[PathBuf]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("log").args(arguments).args(dirs);
    run(&mut command, b"", COMMAND_LIMIT)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), &to)?),
        }
    }
    Ok(())
}

impl Template {
    pub fn make(end: End) -> Result<Template> {
        let mut setup = Setup::new(&[
            ("corelane.cores", "2"),
            ("corelane.journal.size", "4194304"),
            ("corelane.memory.bytes", "67108864"),
        ])?;
        let dirs = [setup.data().join("a"), setup.data().join("b")];
        let both = format!("{},{}", dirs[0].display(), dirs[1].display());
        setup.set("log.dirs", &both);
        let broker = setup.start()?;
        let mut client = Client::connect(&broker.address());
        let mut model = Model::new();
        for (topic, partitions) in TOPICS {
            client.create(topic, partitions, &[("segment.bytes", "1048576")]);
            for n in 0..partitions {
                model.insert((topic, n), Vec::new());
            }
        }
        // the last batch of the metadata is of no use to anyone: its rot looks like a torn write
        let answer = client.ask(4, &InitProducerIdRequest::default());
        let response: InitProducerIdResponse = answer.read(4);
        ensure!(response.error_code == 0, "a producer id");
        fill(&mut client, &mut model, response.producer_id)?;
        match end {
            End::Clean => broker.stop()?,
            End::Killed => {
                // rot of the very last entry looks like a torn write: a seal comes after it
                wait::until(COMMAND_LIMIT, "every journal to be sealed", || {
                    let sealed = dirs.iter().all(|dir| is_sealed(dir).unwrap_or(false));
                    Ok(sealed.then_some(()))
                })?;
                broker.kill()?;
            }
        }
        let kept = setup.data().with_file_name("kept");
        fs::rename(setup.data(), &kept)?;
        Ok(Template { model, setup, kept })
    }

    pub fn dirs(&self) -> [PathBuf; 2] {
        [self.setup.data().join("a"), self.setup.data().join("b")]
    }

    /// Puts the data back as it was.
    pub fn restore(&self) -> Result<()> {
        if self.setup.data().exists() {
            fs::remove_dir_all(self.setup.data())?;
        }
        copy(&self.kept, &self.setup.data())
    }

    /// Every file, relative to the data.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut left = vec![self.kept.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                match path.is_dir() {
                    true => left.push(path),
                    false => files.push(path.strip_prefix(&self.kept)?.to_owned()),
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// The log directory of a partition, `a` or `b`.
    pub fn home(&self, name: Name) -> &'static str {
        let dir = format!("{}-{}", name.0, name.1);
        match self.kept.join("a").join(dir).exists() {
            true => "a",
            false => "b",
        }
    }
}

fn journals(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let paths: Result<Vec<PathBuf>> = entries.collect();
    Ok(paths?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "journal"))
        .collect())
}

/// Whether each journal's last entry says that all before it is durable.
fn is_sealed(dir: &Path) -> Result<bool> {
    for journal in journals(dir)? {
        let shown = log(&["dump"], &[journal])?.text();
        let last = shown.lines().rfind(|line| line.starts_with("entry"));
        if !last.is_some_and(|last| last.contains("type=seal")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a journal's last entry begins: behind it nothing is read.
pub fn journal_end(journal: &Path) -> Result<u64> {
    let shown = log(&["dump"], &[journal.to_owned()])?.text();
    let last = shown.lines().rfind(|line| line.starts_with("entry"));
    let place = last.and_then(|line| line.split("position=").nth(1)?.split(' ').next());
    Ok(place.context("an entry")?.parse()?)
}

fn fill(client: &mut Client, model: &mut Model, producer: i64) -> Result<()> {
    let mut put = |name: Name, codec: Codec, sequence: Option<i32>, values: Vec<String>| {
        let mut builder = BatchBuilder::new(codec);
        if let Some(sequence) = sequence {
            builder = builder.producer(ProducerId(producer), 0, sequence);
        }
        let known = model.get_mut(&name).context("a partition")?;
        for (i, value) in values.iter().enumerate() {
            let at = Timestamp(FIRST_TIME + 10 * (known.len() + i) as i64);
            builder.append(at, None, Some(value.as_bytes()), &[]);
        }
        let records = builder.build()?;
        let parts = [part(name.1, &records)];
        let topics = [data(name.0, &parts)];
        let answer = client.ask(9, &produce(&topics, -1));
        ensure!(
            outcomes(&answer, 9)[0] == (0, known.len() as i64),
            "{name:?}"
        );
        known.extend(values);
        anyhow::Ok(())
    };
    // some go past the journal, some do not; three segments each
    for n in 0..36 {
        let size = if n % 6 == 0 {
            300_000
        } else {
            60_000 + 1000 * n
        };
        for partition in 0..2 {
            let value = format!("rolled {partition} {n} {}", "x".repeat(size));
            put(("rolled", partition), Codec::None, None, vec![value])?;
        }
    }
    for n in 0..40 {
        for partition in 0..2 {
            let values = (0..5).map(|i| format!("codecs {partition} {n} {i}"));
            let codec = Codec::ALL[n % Codec::ALL.len()];
            put(("codecs", partition), codec, None, values.collect())?;
            let values = (0..3).map(|i| format!("idempotent {partition} {n} {i}"));
            let sequence = Some(3 * n as i32);
            put(
                ("idempotent", partition),
                Codec::None,
                sequence,
                values.collect(),
            )?;
        }
    }
    Ok(())
}
