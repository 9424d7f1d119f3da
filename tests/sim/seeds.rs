//! Which seeds run, and whose fault it was.

/// Says the seed when a run panics.
struct Named(u64, &'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: CORELANE_SIM_SEED={}", self.1, self.0);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a scenario for seeds 0 to `runs` and for those that once found a bug, or as the environment
/// says.
pub fn run(scenario: &'static str, runs: u64, regressions: &[u64], mut f: impl FnMut(u64)) {
    if let Ok(filter) = std::env::var("CORELANE_SIM_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .without_time()
            .try_init();
    }
    let first = from_env("CORELANE_SIM_SEED");
    let asked = from_env("CORELANE_SIM_RUNS").or(first.map(|_| 1));
    let first = first.unwrap_or(0);
    let again = match asked {
        Some(_) => &[],
        None => regressions,
    };
    let range = first..first + asked.unwrap_or(runs);
    for seed in range.chain(again.iter().copied()) {
        let _named = Named(seed, scenario);
        f(seed);
    }
}
