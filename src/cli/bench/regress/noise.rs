//! Whether a ratio is a loss: pure arithmetic over the ratios of pairs.
//!
//! Ratios multiply, so all of it is done with their logarithms. The spread of a row's pairs is the
//! mean distance from their median, scaled to be the standard deviation where they are normal (one
//! outlier moves it by little, and with few pairs it is steadier than the median distance); the
//! standard error of a median is 1.2533 of it over the square root of the pairs. The noise of a
//! change is [`SIGMAS`] standard errors of now and of the baseline together, [`LEAST`] at least.

/// Pairs that say something of their spread.
pub const PAIRS_LEAST: usize = 3;
/// Of standard errors: with seven pairs on both sides, chance goes beyond it once in a thousand rows.
const SIGMAS: f64 = 4.0;
/// No smaller change is a loss: what a build lays elsewhere in memory moves as much.
const LEAST: f64 = 0.02;
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
    /// The baseline does not tell of it, or by too few pairs.
    NotKept,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Same => "ok",
            Verdict::Better => "better",
            Verdict::Lost => "LOST",
            Verdict::NotKept => "NOT KEPT",
        }
    }

    /// A baseline that does not tell of a row would let its loss go unseen.
    pub fn fails(self) -> bool {
        matches!(self, Verdict::Lost | Verdict::NotKept)
    }
}

/// A row beside its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The median of the pairs.
    pub ratio: f64,
    /// That of the baseline's.
    pub baseline: Option<f64>,
    /// From the baseline, as a part of it.
    pub change: Option<f64>,
    /// A change above this is a loss.
    pub noise: Option<f64>,
    pub verdict: Verdict,
}

/// Holds ratios of pairs, of which more is worse, against those of the baseline.
pub fn judge(now: &[f64], kept: Option<&[f64]>) -> Judged {
    let ratio = median(now);
    let Some(kept) = kept.filter(|kept| kept.len().min(now.len()) >= PAIRS_LEAST) else {
        return Judged {
            ratio,
            baseline: kept.map(median),
            change: None,
            noise: None,
            verdict: Verdict::NotKept,
        };
    };
    let baseline = median(kept);
    let change = ratio / baseline - 1.0;
    let error = standard_error(now).hypot(standard_error(kept));
    let noise = ((SIGMAS * error).exp() - 1.0).max(LEAST);
    let verdict = if change > noise {
        Verdict::Lost
    } else if 1.0 / (1.0 + change) - 1.0 > noise {
        Verdict::Better
    } else {
        Verdict::Same
    };
    Judged {
        ratio,
        baseline: Some(baseline),
        change: Some(change),
        noise: Some(noise),
        verdict,
    }
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

/// Of the median of these, in logarithms.
fn standard_error(ratios: &[f64]) -> f64 {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let middle = median(&logs);
    let distance: f64 = logs.iter().map(|log| (log - middle).abs()).sum();
    let pairs = logs.len() as f64;
    // one of them is spent on the median
    let deviation = NORMAL * distance / (pairs - 1.0);
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

    #[test]
    fn the_noise_of_a_row_is_no_loss() {
        let again = [1.92, 1.87, 1.95, 1.90, 1.93, 1.89, 1.91];
        let judged = judge(&again, Some(&CLEAN));
        assert_eq!(judged.verdict, Verdict::Same);
        assert_eq!((judged.ratio, judged.baseline), (1.91, Some(1.91)));
        let noise = judged.noise.unwrap();
        assert!((0.03..0.07).contains(&noise), "{noise}");
        // pairs that are far apart hide what quiet ones show
        let wild = [1.2, 2.6, 1.9, 1.5, 2.4, 2.0, 1.7];
        assert_eq!(
            judge(&times(&wild, 1.08), Some(&wild)).verdict,
            Verdict::Same
        );
    }

    #[test]
    fn a_shift_is_found_and_a_gain_is_told() {
        let judged = judge(&times(&CLEAN, 1.08), Some(&CLEAN));
        assert_eq!(judged.verdict, Verdict::Lost);
        assert!((judged.change.unwrap() - 0.08).abs() < 1e-9);
        let judged = judge(&times(&CLEAN, 0.92), Some(&CLEAN));
        assert_eq!(judged.verdict, Verdict::Better);
        assert!(!judged.verdict.fails());
    }

    #[test]
    fn one_pair_that_went_wrong_neither_makes_a_loss_nor_hides_one() {
        let mut now = CLEAN;
        now[3] = 9.0;
        assert_eq!(judge(&now, Some(&CLEAN)).verdict, Verdict::Same);
        let mut now = times(&CLEAN, 3.0);
        now[3] = 9.0;
        assert_eq!(judge(&now, Some(&CLEAN)).verdict, Verdict::Lost);
    }

    #[test]
    fn equal_pairs_still_have_a_noise() {
        let judged = judge(&[1.01; 5], Some(&[1.0; 5]));
        assert_eq!((judged.noise, judged.verdict), (Some(LEAST), Verdict::Same));
        assert_eq!(judge(&[1.03; 5], Some(&[1.0; 5])).verdict, Verdict::Lost);
    }

    #[test]
    fn what_is_not_kept_or_by_too_few_pairs_is_said_so() {
        for kept in [None, Some(&CLEAN[..2])] {
            let judged = judge(&CLEAN, kept);
            assert_eq!(judged.verdict, Verdict::NotKept);
            assert!(judged.verdict.fails() && judged.noise.is_none());
        }
        assert_eq!(judge(&CLEAN[..2], Some(&CLEAN)).verdict, Verdict::NotKept);
    }

    #[test]
    fn medians_are_of_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
