//! Logs of the broker: lines on standard error, with a level that changes at run time.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::cli::run::Usage;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
const INFO: usize = 2;

/// Changes what is logged.
pub struct Logs {
    level: AtomicUsize,
    set: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

/// Starts logging. `filter` is a level, or `target=level` pairs as `tracing` reads them.
pub fn start(filter: Option<&str>) -> anyhow::Result<Logs> {
    let text = filter.unwrap_or(LEVELS[INFO]);
    let bad = |what: &str| {
        anyhow!(Usage(format!(
            "--log-level {text}: {what}; error, warn, info, debug, trace are levels"
        )))
    };
    if let Some(word) = text.split(',').find(|part| !is_directive(part)) {
        return Err(bad(&format!("{word:?} is no level")));
    }
    let parsed = EnvFilter::builder()
        .parse(text)
        .map_err(|e| bad(&e.to_string()))?;
    let logger = fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_env_filter(parsed)
        .with_filter_reloading();
    let handle = logger.reload_handle();
    logger
        .try_init()
        .map_err(|e| anyhow!("logging can't be started: {e}"))?;
    let level = LEVELS.iter().position(|level| *level == text);
    Ok(Logs {
        level: AtomicUsize::new(level.unwrap_or(INFO)),
        set: Box::new(move |filter| {
            // fails only after the subscriber is gone, which lives as long as the process
            let _ = handle.reload(filter);
        }),
    })
}

/// A lone word is a target to `tracing`, which would silence all others: it is a level here.
fn is_directive(part: &str) -> bool {
    part.contains('=') || part == "off" || LEVELS.contains(&part)
}

impl Logs {
    /// One level more detailed.
    pub fn more(&self) {
        let level = self.level.load(Ordering::Relaxed);
        self.switch((level + 1).min(LEVELS.len() - 1));
    }

    /// One level less detailed.
    pub fn less(&self) {
        let level = self.level.load(Ordering::Relaxed);
        self.switch(level.saturating_sub(1));
    }

    fn switch(&self, level: usize) {
        self.level.store(level, Ordering::Relaxed);
        (self.set)(EnvFilter::new(LEVELS[level]));
        // said whatever the level is now
        tracing::error!("log level is now {}", LEVELS[level]);
    }
}
