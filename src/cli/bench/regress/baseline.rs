//! The file that keeps ratios: for each row those of all its pairs, with what they were measured on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The ratios of each row's pairs.
pub type Ratios = BTreeMap<String, Vec<f64>>;

/// What is kept.
#[derive(Debug, Default, PartialEq)]
pub struct Baseline {
    /// What the ratios were measured on.
    pub setup: Value,
    pub rows: Ratios,
}

impl Baseline {
    /// None where there is no such file.
    pub fn read(file: &Path) -> anyhow::Result<Option<Baseline>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(file.display().to_string()),
        };
        let baseline = Baseline::parse(&text);
        let baseline = baseline.with_context(|| format!("{} is no baseline", file.display()))?;
        Ok(Some(baseline))
    }

    fn parse(text: &str) -> anyhow::Result<Baseline> {
        let value: Value = serde_json::from_str(text)?;
        let mut rows = Ratios::new();
        for (name, ratios) in value["rows"].as_object().context("no rows")? {
            let ratios = ratios.as_array().with_context(|| name.clone())?;
            let ratios: Vec<f64> = ratios.iter().filter_map(Value::as_f64).collect();
            if ratios.is_empty() || ratios.iter().any(|ratio| *ratio <= 0.0) {
                bail!("{name}: ratios are numbers above 0");
            }
            rows.insert(name.clone(), ratios);
        }
        Ok(Baseline {
            setup: value["setup"].clone(),
            rows,
        })
    }

    /// Takes rows in: in the place of those that are kept, or beside them.
    pub fn take(&mut self, rows: &Ratios, adds: bool) {
        for (name, ratios) in rows {
            let kept = self.rows.entry(name.clone()).or_default();
            if !adds {
                kept.clear();
            }
            kept.extend(ratios);
        }
    }

    /// Writes the file anew.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let rounded = |ratio: &f64| (ratio * 1e4).round() / 1e4;
        let rows: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, ratios)| (name.clone(), ratios.iter().map(rounded).collect()))
            .collect();
        let whole = json!({ "setup": self.setup, "rows": rows });
        let text = serde_json::to_string_pretty(&whole)? + "\n";
        fs::write(file, text).context(file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_grows_or_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("baseline.json");
        assert_eq!(Baseline::read(&file).unwrap(), None);
        let mut baseline = Baseline {
            setup: json!({ "kernel": "6.18" }),
            rows: [("a".to_owned(), vec![1.5, 2.0])].into(),
        };
        baseline.write(&file).unwrap();
        assert_eq!(Baseline::read(&file).unwrap().unwrap(), baseline);
        let more: Ratios = [("a".to_owned(), vec![3.0]), ("b".to_owned(), vec![1.0])].into();
        baseline.take(&more, true);
        assert_eq!(baseline.rows["a"], [1.5, 2.0, 3.0]);
        baseline.take(&more, false);
        assert_eq!(baseline.rows["a"], [3.0]);
        assert_eq!(baseline.rows["b"], [1.0]);
    }

    #[test]
    fn a_file_that_is_no_baseline_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        for text in ["", "{}", r#"{"rows":{"a":[]}}"#, r#"{"rows":{"a":[0]}}"#] {
            fs::write(&file, text).unwrap();
            let error = Baseline::read(&file).unwrap_err();
            assert!(
                format!("{error:#}").contains("x.json is no baseline"),
                "{text}"
            );
        }
    }
}
