//! `corelane log dump`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json, json};

use crate::cli::output::{Output, counted};
use crate::cli::payload;
use crate::log::dump::{DumpError, DumpOptions, Line, Value, dump};
use crate::log::journal::scan::RingSource;
use crate::metadata::frame::{self, FileKind};

/// A metadata log is cut by snapshots long before it is as large.
const METADATA_BYTES_MAX: u64 = 1 << 30;

struct OnDisk(File);

impl RingSource for OnDisk {
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

pub fn run(files: &[PathBuf], records: bool, output: &Output) -> anyhow::Result<()> {
    let options = DumpOptions { records };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut problems = 0;
    for path in files {
        let shown = path.display();
        if files.len() > 1 && !output.json {
            writeln!(out, "{}", output.strong(&shown.to_string()))?;
        }
        let found = show(path, options, &mut |line| match output.json {
            true => writeln!(out, "{}", object(path, &line)),
            false => writeln!(out, "{line}"),
        });
        match found {
            Ok(n) => problems += n,
            Err(DumpError::Write(error)) => return Err(error.into()),
            Err(error) => {
                out.flush()?;
                return Err(error).with_context(|| shown.to_string());
            }
        }
    }
    out.flush()?;
    match problems {
        0 => Ok(()),
        n => bail!("{} found", counted(n as u64, "problem")),
    }
}

fn show(
    path: &Path,
    options: DumpOptions,
    take: &mut dyn FnMut(Line) -> io::Result<()>,
) -> Result<usize, DumpError> {
    let file = File::open(path).map_err(DumpError::Read)?;
    let metadata = file.metadata().map_err(DumpError::Read)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (file, len) = (OnDisk(file), metadata.len());
    let mut magic = [0; 8];
    file.read(0, &mut magic).map_err(DumpError::Read)?;
    match FileKind::of(magic) {
        Some(kind) => show_metadata(kind, &file, len, take),
        None => dump(&name, &file, len, options, take),
    }
}

/// The metadata log and its snapshots, which lie above the log.
fn show_metadata(
    kind: FileKind,
    file: &OnDisk,
    len: u64,
    take: &mut dyn FnMut(Line) -> io::Result<()>,
) -> Result<usize, DumpError> {
    let mut bytes = vec![0; len.min(METADATA_BYTES_MAX) as usize];
    let n = file.read(0, &mut bytes).map_err(DumpError::Read)?;
    bytes.truncate(n);
    let mut put = |line| take(line).map_err(DumpError::Write);
    let found = frame::read_header(kind, &bytes)
        .and_then(|sequence| Ok((sequence, frame::scan(&bytes, sequence)?)));
    let (sequence, scan) = match found {
        Ok(found) => found,
        Err(error) => {
            put(Line::new("file").wrong(error))?;
            return Ok(1);
        }
    };
    put(Line::new("metadata").with("sequence", sequence))?;
    for batch in &scan.batches {
        let records = batch.records.len() as u64;
        put(Line::new("batch")
            .with("sequence", batch.sequence)
            .with("records", records))?;
        for record in &batch.records {
            put(Line::new("record")
                .nested()
                .with("content", format!("{record:?}")))?;
        }
    }
    let end = Line::new("end").with("position", scan.end as u64);
    put(match scan.torn {
        0 => end,
        torn => end.with("torn_bytes", torn as u64),
    })?;
    Ok(0)
}

fn object(path: &Path, line: &Line) -> Json {
    let mut fields = Map::new();
    fields.insert("file".into(), json!(path.display().to_string()));
    fields.insert("kind".into(), json!(line.kind));
    let mut headers = Vec::new();
    for (name, value) in &line.fields {
        let value = match value {
            Value::Number(n) => json!(n),
            Value::Unsigned(n) => json!(n),
            Value::Crc(crc) => json!(format!("{crc:08x}")),
            Value::Bool(b) => json!(b),
            Value::Text(text) if *name == "header" => {
                headers.push(json!(text));
                continue;
            }
            Value::Text(text) => json!(text),
            Value::Bytes(bytes) => payload::to_json(bytes.as_deref()),
        };
        fields.insert((*name).into(), value);
    }
    if !headers.is_empty() {
        fields.insert("headers".into(), Json::Array(headers));
    }
    if let Some(problem) = &line.problem {
        fields.insert("problem".into(), json!(problem));
    }
    Json::Object(fields)
}
