//! The result: a table for people, an object for programs, and what an error says.

use std::io;

use serde_json::{Value, json};

use super::Row;
use super::noise::{MOST, RUNS_LEAST, Verdict, median};
use super::surroundings::Difference;
use crate::cli::output::Output;

pub fn table(output: &Output, rows: &[Row], keeps: bool) -> io::Result<()> {
    let percent =
        |part: Option<f64>| part.map_or("-".to_owned(), |p| format!("{:.1} %", 100.0 * p));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let side = |side: fn(&(f64, f64)) -> f64| {
                let values: Vec<f64> = row.figures.pairs.iter().map(side).collect();
                format!("{:.3}", median(&values))
            };
            let judged = &row.judged;
            let word = match keeps {
                true => "kept",
                false => judged.verdict.word(),
            };
            vec![
                row.figures.row.clone(),
                side(|pair| pair.0),
                side(|pair| pair.1),
                format!("{:.3}", judged.ratio),
                judged
                    .baseline
                    .map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
                judged
                    .change
                    .map_or("-".to_owned(), |c| format!("{:+.1} %", 100.0 * c)),
                percent(judged.noise),
                match judged.verdict.fails() && !keeps {
                    true => output.strong(word),
                    false => word.to_owned(),
                },
            ]
        })
        .collect();
    let head = [
        "row", "floor", "broker", "ratio", "baseline", "change", "noise", "",
    ];
    output.table(&head, &cells)
}

pub fn object(rows: &[Row], setup: &Value, differs: &[Difference]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let judged = &row.judged;
            json!({
                "row": row.figures.row,
                "unit": row.figures.metric.unit(),
                "pairs": row.figures.pairs.iter().map(|pair| json!({
                    "floor": pair.0,
                    "broker": pair.1,
                })).collect::<Vec<_>>(),
                "ratio": judged.ratio,
                "baseline": judged.baseline,
                "change": judged.change,
                "noise": judged.noise,
                "verdict": judged.verdict.word(),
            })
        })
        .collect();
    let differs: Vec<Value> = differs.iter().map(Difference::object).collect();
    json!({ "setup": setup, "differs": differs, "rows": rows })
}

/// Why a run failed, with the rows of each reason; none where it did not.
pub fn failure(rows: &[Row]) -> Option<String> {
    let reasons = [
        (Verdict::Lost, "lost".to_owned()),
        (
            Verdict::TooNoisy,
            format!(
                "too noisy to be judged (noise above {:.0} %: measure on a quiet machine, or with \
                 more --pairs)",
                100.0 * MOST
            ),
        ),
        (
            Verdict::NotKept,
            "not in the baseline, or of too few pairs".to_owned(),
        ),
        (
            Verdict::FewRuns,
            format!(
                "in the baseline with fewer than {RUNS_LEAST} runs (--add runs of the good build)"
            ),
        ),
    ];
    let told: Vec<String> = reasons
        .iter()
        .filter_map(|(verdict, reason)| {
            let names: Vec<&str> = rows
                .iter()
                .filter(|row| row.judged.verdict == *verdict)
                .map(|row| row.figures.row.as_str())
                .collect();
            (!names.is_empty()).then(|| format!("{reason}: {}", names.join("; ")))
        })
        .collect();
    (!told.is_empty()).then(|| told.join(". "))
}

#[cfg(test)]
mod tests {
    use super::super::noise::{Judged, judge};
    use super::super::pairs::Figures;
    use super::super::workload::Metric;
    use super::*;

    fn row(name: &str, verdict: Verdict) -> Row {
        Row {
            figures: Figures {
                row: name.to_owned(),
                metric: Metric::CpuEach,
                pairs: vec![(1.0, 2.0)],
            },
            judged: Judged {
                verdict,
                ..judge(&[2.0], None)
            },
        }
    }

    #[test]
    fn each_reason_names_its_rows_and_rows_that_pass_are_none() {
        let rows = [
            row("a", Verdict::Lost),
            row("b", Verdict::Same),
            row("c", Verdict::TooNoisy),
            row("d", Verdict::Lost),
            row("e", Verdict::LeftOut),
        ];
        let told = failure(&rows).unwrap();
        assert!(told.starts_with("lost: a; d. too noisy"), "{told}");
        assert!(told.ends_with("--pairs): c"), "{told}");
        let passing = [
            Verdict::Same,
            Verdict::Better,
            Verdict::LeftOut,
            Verdict::Elsewhere,
        ];
        assert_eq!(failure(&passing.map(|verdict| row("x", verdict))), None);
        let object = object(&rows[..1], &json!({}), &[]);
        assert_eq!(object["rows"][0]["verdict"], "LOST");
    }
}
