//! The options of `corelane bench regress`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::noise::PAIRS_LEAST;

/// As in [`super::noise`], for those who read the help.
const NOISE: &str = "A row is lost where the median of its ratios is above the baseline's by more than its noise, at \
    first and after it was measured again: exp(4 √(B + max(W, e²) + (B + W) / runs)) - 1, 2 % at least. Of \
    logarithms, B is the variance of the medians of the baseline's runs, e² that of this run's median by the \
    spread of its pairs, W the mean of the same of the baseline's runs. It takes three runs (--update, then \
    --add twice); five are better. A row whose noise is above 25 % is too noisy, which fails, unless the \
    baseline was so already: then it is named there as left out.\n\n\
    Where cpu, cores, kernel or file system are not the baseline's, only rows of CPU are judged. Exit codes: 0 \
    nothing lost; 1 a row lost, too noisy or not kept; 2 wrong usage, or a baseline that was measured otherwise.";

#[derive(Clone, Debug, Args)]
#[command(after_long_help = NOISE)]
pub struct Regress {
    /// Only the workloads whose names contain one of these [default: all]
    pub workloads: Vec<String>,
    /// Where broker and floor keep their files while it runs; on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub dir: PathBuf,
    /// The kept ratios
    #[arg(long, value_name = "FILE", default_value = "benches/baseline.json")]
    pub baseline: PathBuf,
    /// Keep what is measured in the place of what is kept
    #[arg(long)]
    pub update: bool,
    /// Keep it as one more run: what differs from run to run becomes noise
    #[arg(long, conflicts_with = "update")]
    pub add: bool,
    /// Pairs of a run of the floor and one of the broker, for each workload
    #[arg(long, default_value_t = 14, value_parser = pairs_of)]
    pub pairs: usize,
    /// How long each run is measured; a part of it goes before, unmeasured
    #[arg(short, long, value_name = "SECONDS", default_value = "0.8", value_parser = crate::cli::args::seconds)]
    pub seconds: Duration,
    /// The broker's core and the load's
    #[arg(long, value_name = "BROKER,LOAD", default_value = "0,1", value_parser = cores)]
    pub cores: (usize, usize),
    /// Of the broker's journal and memory, and of the floor's ring: smaller ones are for tests
    #[arg(long, hide = true, default_value_t = 256 << 20)]
    pub ring_bytes: u64,
}

fn pairs_of(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(pairs) if (PAIRS_LEAST..=1000).contains(&pairs) => Ok(pairs),
        _ => Err(format!("{PAIRS_LEAST} pairs at least")),
    }
}

fn cores(text: &str) -> Result<(usize, usize), String> {
    let pair = text.split_once(',');
    let pair = pair.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    match pair {
        Some((broker, load)) if broker != load => Ok((broker, load)),
        _ => Err("two numbers of cores, as in 0,1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_that_differ_are_wanted() {
        assert_eq!(cores("2, 5"), Ok((2, 5)));
        for wrong in ["", "1", "1,1", "a,b", "1,2,3"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
        assert!(pairs_of("2").is_err() && pairs_of("3").is_ok());
    }
}
