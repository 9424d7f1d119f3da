//! The file that keeps ratios: for each row those of all pairs, run by run, with what they were
//! measured on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::noise::{MOST, noise_of};

/// The ratios of one run: of each row those of its pairs.
pub type Ratios = BTreeMap<String, Vec<f64>>;

/// What is kept.
#[derive(Debug, Default, PartialEq)]
pub struct Baseline {
    /// What the ratios were measured on: all of them on the same.
    pub setup: Value,
    /// Of each row its runs, of each run its pairs.
    pub rows: BTreeMap<String, Vec<Vec<f64>>>,
    /// Rows whose noise was too much to judge by.
    pub left_out: BTreeSet<String>,
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
        let mut baseline = Baseline {
            setup: value["setup"].clone(),
            ..Baseline::default()
        };
        for (name, runs) in value["rows"].as_object().context("no rows")? {
            let runs = runs.as_array().with_context(|| name.clone())?;
            let runs: Option<Vec<Vec<f64>>> = runs.iter().map(pairs).collect();
            match runs {
                Some(runs) if !runs.is_empty() => baseline.rows.insert(name.clone(), runs),
                _ => bail!("{name}: runs are lists of ratios, numbers above 0"),
            };
        }
        let left_out = value["left_out"].as_array().into_iter().flatten();
        baseline.left_out = left_out
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        Ok(baseline)
    }

    /// Takes a run in: in the place of those that are kept of its rows, or beside them. Rows of too
    /// much noise are kept, for more runs may show them steady, and named as left out.
    pub fn take(&mut self, run: &Ratios, adds: bool) {
        for (name, ratios) in run {
            let kept = self.rows.entry(name.clone()).or_default();
            if !adds {
                kept.clear();
            }
            kept.push(ratios.clone());
        }
        let noisy = self.rows.iter().filter(|(_, runs)| noise_of(runs) > MOST);
        self.left_out = noisy.map(|(name, _)| name.clone()).collect();
    }

    /// Runs of the row that has the fewest.
    pub fn runs(&self) -> usize {
        self.rows.values().map(Vec::len).min().unwrap_or(0)
    }

    /// Writes the file anew.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let rounded = |ratio: &f64| (ratio * 1e4).round() / 1e4;
        let run = |run: &Vec<f64>| run.iter().map(rounded).collect::<Value>();
        let rows: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, runs)| (name.clone(), runs.iter().map(run).collect()))
            .collect();
        let whole = json!({ "setup": self.setup, "rows": rows, "left_out": self.left_out });
        let text = serde_json::to_string_pretty(&whole)? + "\n";
        fs::write(file, text).context(file.display().to_string())
    }
}

/// The pairs of a run; none where they are not.
fn pairs(run: &Value) -> Option<Vec<f64>> {
    let ratios = run.as_array().filter(|ratios| !ratios.is_empty())?;
    let above_0 = |ratio: &Value| ratio.as_f64().filter(|ratio| *ratio > 0.0);
    ratios.iter().map(above_0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_grows_by_runs_or_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("baseline.json");
        assert_eq!(Baseline::read(&file).unwrap(), None);
        let mut baseline = Baseline {
            setup: json!({ "kernel": "6.18" }),
            rows: [("a".to_owned(), vec![vec![1.5, 2.0]])].into(),
            left_out: ["a".to_owned()].into(),
        };
        baseline.write(&file).unwrap();
        assert_eq!(Baseline::read(&file).unwrap().unwrap(), baseline);
        let more: Ratios = [("a".to_owned(), vec![3.0]), ("b".to_owned(), vec![1.0])].into();
        baseline.take(&more, true);
        assert_eq!(baseline.rows["a"], [vec![1.5, 2.0], vec![3.0]]);
        assert_eq!(baseline.runs(), 1);
        baseline.take(&more, false);
        assert_eq!(baseline.rows["a"], [[3.0]]);
        assert_eq!(baseline.rows["b"], [[1.0]]);
    }

    #[test]
    fn a_row_of_too_much_noise_is_left_out_until_it_is_steady() {
        let run = |pairs: [f64; 3]| Ratios::from([("a".to_owned(), pairs.to_vec())]);
        let mut baseline = Baseline::default();
        baseline.take(&run([1.0, 2.0, 4.0]), false);
        assert!(baseline.left_out.contains("a"));
        assert_eq!(baseline.rows["a"].len(), 1);
        baseline.take(&run([1.0, 1.01, 1.02]), false);
        assert!(baseline.left_out.is_empty());
    }

    #[test]
    fn a_file_that_is_no_baseline_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        for text in [
            "",
            "{}",
            r#"{"rows":{"a":[]}}"#,
            r#"{"rows":{"a":[1.0]}}"#,
            r#"{"rows":{"a":[[]]}}"#,
            r#"{"rows":{"a":[[0]]}}"#,
            r#"{"rows":{"a":[[1.0,"x"]]}}"#,
        ] {
            fs::write(&file, text).unwrap();
            let error = Baseline::read(&file).unwrap_err();
            assert!(
                format!("{error:#}").contains("x.json is no baseline"),
                "{text}"
            );
        }
    }
}
