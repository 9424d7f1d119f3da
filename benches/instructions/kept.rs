//! The file that keeps counts, and the tools that they depend on.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

use crate::judge::Counts;

/// The kept counts; none where there is no file.
pub fn read(file: &Path) -> anyhow::Result<Counts> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Counts::default()),
        Err(error) => return Err(error).context(file.display().to_string()),
    };
    parse(&text).with_context(|| format!("{} holds no counts", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Counts> {
    let value: Value = serde_json::from_str(text)?;
    let tools = value["tools"].as_array().context("no tools")?;
    let paths = value["instructions"]
        .as_object()
        .context("no instructions")?;
    let count = |(path, count): (&String, &Value)| {
        let count = count.as_f64().with_context(|| format!("{path}: {count}"))?;
        Ok((path.clone(), count))
    };
    Ok(Counts {
        tools: tools
            .iter()
            .filter_map(|tool| Some(tool.as_str()?.to_owned()))
            .collect(),
        paths: paths.iter().map(count).collect::<anyhow::Result<_>>()?,
    })
}

/// Writes the file anew.
pub fn write(file: &Path, counts: &Counts) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&json!({
        "tools": counts.tools,
        "instructions": counts.paths,
    }))?;
    fs::write(file, text + "\n").context(file.display().to_string())
}

/// The compiler that built this and what for, the counter, the C library with its copies, and
/// whether the machine has AVX2: valgrind shows programs one processor where it has and another
/// where it has not.
pub fn tools() -> anyhow::Result<Vec<String>> {
    Ok(vec![
        env!("BUILT_BY").to_owned(),
        env!("BUILT_FOR").to_owned(),
        said("valgrind", &["--version"], "apt-get install valgrind")?,
        said(
            "getconf",
            &["GNU_LIBC_VERSION"],
            "this needs the GNU C library",
        )?,
        format!("avx2 {}", if has_avx2() { "yes" } else { "no" }),
    ])
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// The first two words that a program says: its name and its version.
fn said(program: &str, arguments: &[&str], remedy: &str) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("can't run {program}: {remedy}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{program} fails: {remedy}");
    Ok(text
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("counts.json");
        assert_eq!(read(&file).unwrap(), Counts::default());
        let counts = Counts {
            tools: vec!["rustc 1.0.0".into()],
            paths: [("decode a".to_owned(), 12.5)].into(),
        };
        write(&file, &counts).unwrap();
        assert_eq!(read(&file).unwrap(), counts);
        fs::write(&file, r#"{"tools":[],"instructions":{"a":"many"}}"#).unwrap();
        let error = format!("{:#}", read(&file).unwrap_err());
        assert!(
            error.contains("counts.json") && error.contains("a: \"many\""),
            "{error}"
        );
    }
}
