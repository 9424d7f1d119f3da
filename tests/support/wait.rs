//! The only clock and the only pause of the test programs: every wait has a condition and an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition that nothing announces.
const PAUSE: Duration = Duration::from_millis(5);

/// The time now.
#[allow(clippy::disallowed_methods)] // tests of real processes live in real time
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, as records carry them.
#[allow(clippy::disallowed_methods)] // see above
pub fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis() as i64)
}

/// The moment after which a wait is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now.
    pub fn after(limit: Duration) -> Deadline {
        Deadline(now() + limit)
    }

    /// What is left; zero once passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether nothing is left.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Looks again and again until `attempt` gives something, at most for `limit`; `what` names the
/// condition in the failure.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if deadline.passed() {
            bail!("waited {limit:?} in vain for: {what}");
        }
        pause(PAUSE);
    }
}

/// Lets the processes under test run for a while. The length is part of a test's plan (the moment
/// of a kill), never a guess at when something is ready.
#[allow(clippy::disallowed_methods)] // see above
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
