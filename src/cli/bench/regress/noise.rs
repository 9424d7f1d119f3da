//! Whether a ratio is a loss: pure arithmetic over the ratios of pairs, kept by run.
//!
//! Ratios multiply, so all of it is done with their logarithms. Pairs of one run share the state of
//! the machine, so they are never pooled with those of other runs: each run counts by its median.
//!
//! - e², of one run: the square of the standard error of its median, 1.2533 of its pairs' standard
//!   deviation over the square root of their number. The deviation is the mean distance from the
//!   median, scaled for a normal spread: one outlier moves it by little.
//! - B: the variance of the medians of the baseline's runs. W: the mean of their e².
//! - noise = exp([`SIGMAS`] · √(B + max(W, e² of now) + (B + W) / runs)) - 1, [`LEAST`] at least.
//!
//! B holds W once already: counting it twice makes up for the few runs that B is known from. Where
//! runs are as far apart as pairs, chance goes beyond the noise twice in a thousand rows with three
//! runs, and less than once with five (simulated, as the test below does). Where runs are much
//! further apart than pairs, it is two in a hundred with three runs and five in a thousand with five.

/// Pairs that say something of their spread.
pub const PAIRS_LEAST: usize = 3;
/// Runs that say something of theirs.
pub const RUNS_LEAST: usize = 3;
/// Of standard errors.
const SIGMAS: f64 = 4.0;
/// No smaller change is a loss: what a build lays elsewhere in memory moves as much.
const LEAST: f64 = 0.02;
/// A row of more noise says nothing that is worth its time: it would pass with any loss.
pub const MOST: f64 = 0.25;
/// Half of a circle's constant, under a root: of the mean distance to the standard deviation, and
/// of the error of a mean to that of a median.
const NORMAL: f64 = 1.2533;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No change beyond the noise.
    Same,
    /// Better beyond the noise.
    Better,
    /// Worse beyond the noise.
    Lost,
    /// The noise is above [`MOST`].
    TooNoisy,
    /// The baseline does not tell of it, or this run by too few pairs.
    NotKept,
    /// The baseline tells of it by too few runs.
    FewRuns,
    /// Its noise was above [`MOST`] when the baseline was kept: not judged, as the baseline says.
    LeftOut,
    /// It depends on the machine, which is not the baseline's: not judged.
    Elsewhere,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Same => "ok",
            Verdict::Better => "better",
            Verdict::Lost => "LOST",
            Verdict::TooNoisy => "TOO NOISY",
            Verdict::NotKept => "NOT KEPT",
            Verdict::FewRuns => "TOO FEW RUNS",
            Verdict::LeftOut => "left out",
            Verdict::Elsewhere => "not judged",
        }
    }

    /// A row that can't be judged would let its loss go unseen, but where that is kept or told.
    pub fn fails(self) -> bool {
        matches!(
            self,
            Verdict::Lost | Verdict::TooNoisy | Verdict::NotKept | Verdict::FewRuns
        )
    }
}

/// A row beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The median of the pairs.
    pub ratio: f64,
    /// That of the medians of the baseline's runs.
    pub baseline: Option<f64>,
    /// From the baseline, as a part of it.
    pub change: Option<f64>,
    /// A change above this is a loss.
    pub noise: Option<f64>,
    pub verdict: Verdict,
}

/// Holds ratios of a run's pairs, of which more is worse, against those of the baseline's runs.
pub fn judge(now: &[f64], kept: Option<&[Vec<f64>]>) -> Judged {
    let mut judged = Judged {
        ratio: median(now),
        baseline: kept.map(middle),
        change: None,
        noise: None,
        verdict: Verdict::NotKept,
    };
    let Some((kept, baseline)) = kept.zip(judged.baseline) else {
        return judged;
    };
    let change = judged.ratio / baseline - 1.0;
    judged.change = Some(change);
    if now.len() < PAIRS_LEAST || kept.iter().any(|run| run.len() < PAIRS_LEAST) {
        return judged;
    }
    if kept.len() < RUNS_LEAST {
        judged.verdict = Verdict::FewRuns;
        return judged;
    }
    let noise = noise(kept, error(now).powi(2));
    judged.noise = Some(noise);
    judged.verdict = if noise > MOST {
        Verdict::TooNoisy
    } else if change > noise {
        Verdict::Lost
    } else if 1.0 / (1.0 + change) - 1.0 > noise {
        Verdict::Better
    } else {
        Verdict::Same
    };
    judged
}

/// The noise of a run that is like those that are kept; of one run only that within it is known.
pub fn noise_of(kept: &[Vec<f64>]) -> f64 {
    noise(kept, 0.0)
}

/// The formula above; `now` is the e² of the run that is judged.
fn noise(kept: &[Vec<f64>], now: f64) -> f64 {
    let runs = kept.len() as f64;
    let within = kept.iter().map(|run| error(run).powi(2)).sum::<f64>() / runs;
    let medians: Vec<f64> = kept.iter().map(|run| median(run).ln()).collect();
    let mean = medians.iter().sum::<f64>() / runs;
    let squares: f64 = medians.iter().map(|median| (median - mean).powi(2)).sum();
    let between = squares / (runs - 1.0).max(1.0);
    let error = (between + within.max(now) + (between + within) / runs).sqrt();
    ((SIGMAS * error).exp() - 1.0).max(LEAST)
}

/// The median of the runs' medians.
fn middle(runs: &[Vec<f64>]) -> f64 {
    median(&runs.iter().map(|run| median(run)).collect::<Vec<_>>())
}

/// The middle one, or the mean of the middle two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The standard error of the median of these, in logarithms.
fn error(ratios: &[f64]) -> f64 {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let middle = median(&logs);
    let distance: f64 = logs.iter().map(|log| (log - middle).abs()).sum();
    let pairs = logs.len() as f64;
    // one of them is spent on the median
    let deviation = NORMAL * distance / (pairs - 1.0).max(1.0);
    NORMAL * deviation / pairs.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quiet row: 3 % apart.
    const CLEAN: [f64; 7] = [1.90, 1.93, 1.88, 1.91, 1.89, 1.92, 1.94];

    fn times(ratios: &[f64], factor: f64) -> Vec<f64> {
        ratios.iter().map(|ratio| ratio * factor).collect()
    }

    /// Runs that are these factors apart.
    fn runs(factors: &[f64]) -> Vec<Vec<f64>> {
        factors
            .iter()
            .map(|factor| times(&CLEAN, *factor))
            .collect()
    }

    #[test]
    fn what_differs_from_run_to_run_is_noise() {
        let steady = runs(&[1.0, 1.002, 0.998]);
        let judged = judge(&times(&CLEAN, 1.08), Some(&steady));
        assert_eq!(judged.verdict, Verdict::Lost);
        assert!((judged.change.unwrap() - 0.08).abs() < 1e-9);
        // the same pairs, runs further apart: 8 % is nothing there
        let apart = runs(&[1.0, 1.03, 0.97]);
        let judged = judge(&times(&CLEAN, 1.08), Some(&apart));
        assert_eq!(judged.verdict, Verdict::Same);
        assert!((0.12..0.25).contains(&judged.noise.unwrap()), "{judged:?}");
        let judged = judge(&times(&CLEAN, 0.92), Some(&steady));
        assert_eq!(judged.verdict, Verdict::Better);
        assert!(!judged.verdict.fails());
    }

    #[test]
    fn the_noise_is_the_formulas() {
        // medians 1 and 1.21: B = ln(1.21)² / 2; pairs that are equal: W = 0
        let kept = [vec![1.0; 3], vec![1.21; 3]];
        let between = 1.21f64.ln().powi(2) / 2.0;
        let wanted = (4.0 * (between * 1.5).sqrt()).exp() - 1.0;
        assert!((noise_of(&kept) - wanted).abs() < 1e-9);
        // of one run, distances ln 1.1, 0, ln 1.1: W alone, for now and for the baseline
        let step = 1.1f64.ln();
        let error = NORMAL * NORMAL * step / 3f64.sqrt();
        let wanted = (4.0 * (2.0f64).sqrt() * error).exp() - 1.0;
        assert!((noise_of(&[vec![1.0, 1.1, 1.21]]) - wanted).abs() < 1e-9);
    }

    /// Numbers of a normal spread, the same each time.
    fn normal(state: &mut u64) -> f64 {
        let mut even = || {
            *state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((*state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let (radius, angle) = ((-2.0 * even().ln()).sqrt(), std::f64::consts::TAU * even());
        radius * angle.cos()
    }

    #[test]
    fn chance_is_seldom_a_loss_where_runs_are_as_far_apart_as_pairs() {
        let mut state = 7;
        let mut run = |spread: f64| {
            let shift = spread * normal(&mut state);
            (0..7)
                .map(|_| (shift + 0.01 * normal(&mut state)).exp())
                .collect::<Vec<f64>>()
        };
        let mut lost = |count: usize, shift: f64| {
            let rows = (0..4000).filter(|_| {
                let kept: Vec<_> = (0..count).map(|_| run(0.01)).collect();
                let now = times(&run(0.01), shift);
                judge(&now, Some(&kept)).verdict == Verdict::Lost
            });
            rows.count()
        };
        let (three, five) = (lost(3, 1.0), lost(5, 1.0));
        assert!(three <= 16, "{three} of 4000 with three runs");
        assert!(five <= 8, "{five} of 4000 with five runs");
        // and what is there is found
        let found = lost(5, 1.15);
        assert!(found > 3900, "{found} of 4000");
    }

    #[test]
    fn one_pair_that_went_wrong_neither_makes_a_loss_nor_hides_one() {
        let kept = runs(&[1.0, 1.002, 0.998]);
        let mut now = CLEAN;
        now[3] = 2.3;
        assert_eq!(judge(&now, Some(&kept)).verdict, Verdict::Same);
        let mut now = times(&CLEAN, 1.5);
        now[3] = 3.4;
        assert_eq!(judge(&now, Some(&kept)).verdict, Verdict::Lost);
    }

    #[test]
    fn a_row_of_too_much_noise_fails_whatever_it_measures() {
        let wild = vec![1.2, 2.6, 1.9, 1.5, 2.4, 2.0, 1.7];
        let kept = vec![wild.clone(), wild.clone(), wild];
        assert!(noise_of(&kept) > MOST);
        let judged = judge(&times(&CLEAN, 9.0), Some(&kept));
        assert_eq!(judged.verdict, Verdict::TooNoisy);
        assert!(judged.verdict.fails());
        // a baseline that is quiet does not help a run that is not
        let quiet = runs(&[1.0, 1.002, 0.998]);
        let judged = judge(&kept[0], Some(&quiet));
        assert_eq!(judged.verdict, Verdict::TooNoisy);
    }

    #[test]
    fn equal_pairs_still_have_a_noise() {
        let kept = vec![vec![1.0; 5]; 3];
        let judged = judge(&[1.01; 5], Some(&kept));
        assert_eq!((judged.noise, judged.verdict), (Some(LEAST), Verdict::Same));
        assert_eq!(judge(&[1.03; 5], Some(&kept)).verdict, Verdict::Lost);
    }

    #[test]
    fn what_is_not_kept_or_by_too_little_is_said_so() {
        assert_eq!(judge(&CLEAN, None).verdict, Verdict::NotKept);
        let kept = runs(&[1.0, 1.0, 1.0]);
        assert_eq!(judge(&CLEAN[..2], Some(&kept)).verdict, Verdict::NotKept);
        let judged = judge(&CLEAN, Some(&kept[..2]));
        assert_eq!(judged.verdict, Verdict::FewRuns);
        assert!(judged.verdict.fails() && judged.noise.is_none());
    }

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
