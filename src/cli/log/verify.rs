//! `corelane log verify`.

use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Map, Value as Json, json};

use crate::cli::log::directories::{ARENA_BYTES, look};
use crate::cli::on_ring::on_ring;
use crate::cli::output::{Output, counted};
use crate::log::verify::Finding;

pub fn run(dirs: &[PathBuf], output: &Output) -> anyhow::Result<()> {
    on_ring(ARENA_BYTES, async |ring| {
        let looked = look(&ring, dirs).await?;
        for finding in looked.findings() {
            output.item(finding, || object(finding))?;
        }
        let partitions: u64 = looked
            .surveys
            .iter()
            .map(|s| s.known().count() as u64)
            .sum();
        let whole = counted(partitions, "partition");
        match looked.damage() {
            0 if output.json => Ok(()),
            0 => {
                output.line(&format!("sound: {whole}"))?;
                Ok(())
            }
            n => bail!("{} of damage found in {whole}", counted(n, "place")),
        }
    })
}

fn object(finding: &Finding) -> Json {
    let mut fields = Map::new();
    fields.insert("severity".into(), json!(finding.severity.name()));
    fields.insert("file".into(), json!(finding.path.display().to_string()));
    if let Some(at) = finding.at {
        fields.insert("position".into(), json!(at));
    }
    if let Some(partition) = &finding.partition {
        fields.insert("partition".into(), json!(partition));
    }
    if let Some((first, last)) = finding.offsets {
        fields.insert("first_offset".into(), json!(first.0));
        if let Some(last) = last {
            fields.insert("last_offset".into(), json!(last.0));
        }
    }
    fields.insert("problem".into(), json!(finding.what));
    if !finding.todo.is_empty() {
        fields.insert("todo".into(), json!(finding.todo));
    }
    Json::Object(fields)
}
