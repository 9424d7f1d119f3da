//! When a count is a loss.
//!
//! Two runs of one binary agree to the instruction, or nearly: what is left comes from addresses
//! (alignment). What moves counts without a cause in a path is the compiler, which inlines anew
//! where code beside it has changed: below [`SAME_TOOLS`]. Another compiler, C library or valgrind
//! moves more, so with other tools than those of the kept file only gross changes count
//! ([`OTHER_TOOLS`]) until the file is written anew. Counts are kept for one set of tools: those of
//! another would be of older code at each change. A gain fails as a loss does: what is gained is
//! kept, or a later loss of as much would pass.

use std::collections::BTreeMap;

/// The part of a count that a path may change with the tools of the kept file.
pub const SAME_TOOLS: f64 = 0.02;
/// The same with other tools.
pub const OTHER_TOOLS: f64 = 0.10;

/// No smaller difference counts: one system call in fifty operations is the allocator's, whose heap
/// grows a little earlier or later with what lies where.
const LEAST: f64 = 0.02;

/// Instructions of one operation of each path, and what counted them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Versions of all that a count depends on besides the code.
    pub tools: Vec<String>,
    pub paths: BTreeMap<String, f64>,
}

impl Counts {
    /// These, with those that were counted now in the place of theirs; `whole` leaves nothing else.
    pub fn merged(&self, now: Counts, whole: bool) -> Counts {
        let mut paths = match whole {
            true => BTreeMap::new(),
            false => self.paths.clone(),
        };
        paths.extend(now.paths);
        Counts { paths, ..now }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// Fewer than are kept: until they are kept, a loss of as much would pass.
    Less,
    Lost,
    /// Counted and not kept.
    New,
    /// Kept, but there is no such path.
    Gone,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Same => "",
            Verdict::Less => "LESS: KEEP IT",
            Verdict::Lost => "LOST",
            Verdict::New => "NOT KEPT",
            Verdict::Gone => "GONE",
        }
    }

    /// A file that does not tell of every path, or tells of more than it takes, lets a loss go unseen.
    pub fn fails(self) -> bool {
        self != Verdict::Same
    }
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub path: String,
    pub now: Option<f64>,
    pub kept: Option<f64>,
    pub verdict: Verdict,
}

impl Row {
    /// As a part of the kept count.
    pub fn change(&self) -> Option<f64> {
        let change = change(self.now?, self.kept?);
        change.is_finite().then_some(change)
    }
}

/// As a part of what is kept, which may be nothing.
fn change(now: f64, kept: f64) -> f64 {
    match (now - kept).abs() < LEAST {
        true => 0.0,
        false => now / kept - 1.0,
    }
}

/// Compares what was counted with what is kept; `whole` where every path was counted.
pub fn judge(now: &Counts, kept: &Counts, whole: bool) -> Vec<Row> {
    let most = match now.tools == kept.tools {
        true => SAME_TOOLS,
        false => OTHER_TOOLS,
    };
    let counted = now.paths.iter().map(|(path, count)| {
        let kept = kept.paths.get(path).copied();
        let verdict = match kept.map(|kept| change(*count, kept)) {
            None => Verdict::New,
            Some(change) if change > most => Verdict::Lost,
            Some(change) if change < -most => Verdict::Less,
            Some(_) => Verdict::Same,
        };
        Row {
            path: path.clone(),
            now: Some(*count),
            kept,
            verdict,
        }
    });
    let gone = kept
        .paths
        .iter()
        .filter(|(path, _)| whole && !now.paths.contains_key(*path));
    let gone = gone.map(|(path, count)| Row {
        path: path.clone(),
        now: None,
        kept: Some(*count),
        verdict: Verdict::Gone,
    });
    counted.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tools: &str, paths: &[(&str, f64)]) -> Counts {
        Counts {
            tools: vec![tools.to_owned()],
            paths: paths.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect(),
        }
    }

    fn verdicts(now: &Counts, kept: &Counts, whole: bool) -> Vec<(String, Verdict)> {
        let rows = judge(now, kept, whole);
        rows.into_iter()
            .map(|row| (row.path, row.verdict))
            .collect()
    }

    #[test]
    fn a_loss_is_what_lies_beyond_the_part_that_the_tools_allow() {
        let kept = counts("a", &[("decode", 1000.0), ("encode", 1000.0)]);
        let now = counts("a", &[("decode", 1021.0), ("encode", 1019.0)]);
        let found = verdicts(&now, &kept, true);
        assert_eq!(found[0], ("decode".into(), Verdict::Lost));
        assert_eq!(found[1], ("encode".into(), Verdict::Same));
        let other = counts("b", &[("decode", 1021.0), ("encode", 1101.0)]);
        let found = verdicts(&other, &kept, true);
        assert_eq!(found[0].1, Verdict::Same);
        assert_eq!(found[1].1, Verdict::Lost);
        let less = counts("a", &[("decode", 970.0), ("encode", 1000.0)]);
        assert_eq!(verdicts(&less, &kept, true)[0].1, Verdict::Less);
        // what was kept as none
        let (none, one) = (
            counts("a", &[("calls", 0.0)]),
            counts("a", &[("calls", 0.03)]),
        );
        assert_eq!(verdicts(&none, &none, true)[0].1, Verdict::Same);
        assert_eq!(verdicts(&one, &none, true)[0].1, Verdict::Lost);
        assert!(Verdict::Less.fails() && Verdict::Lost.fails() && !Verdict::Same.fails());
    }

    #[test]
    fn a_path_that_is_not_kept_and_a_kept_one_that_is_gone_fail() {
        let kept = counts("a", &[("old", 1.0), ("both", 1.0)]);
        let now = counts("a", &[("both", 1.0), ("new", 1.0)]);
        let found = verdicts(&now, &kept, true);
        let named = |name: &str| found.iter().find(|(path, _)| path == name).unwrap().1;
        assert_eq!(named("new"), Verdict::New);
        assert_eq!(named("old"), Verdict::Gone);
        assert!(Verdict::New.fails() && Verdict::Gone.fails());
        // some paths only: the others were not looked for
        assert_eq!(verdicts(&now, &kept, false).len(), 2);
    }

    #[test]
    fn a_part_that_is_kept_anew_leaves_the_rest() {
        let kept = counts("a", &[("x", 1.0), ("y", 2.0)]);
        let now = counts("b", &[("y", 3.0)]);
        let part = kept.merged(now.clone(), false);
        assert_eq!(part, counts("b", &[("x", 1.0), ("y", 3.0)]));
        assert_eq!(kept.merged(now.clone(), true), now);
    }
}
