//! Signals: SIGTERM and SIGINT stop the broker (a second one at once), SIGUSR1 logs more, SIGUSR2
//! logs less.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::broker::start::StopFlag;
use crate::cli::serve::logs::Logs;

/// Exit code of a stop that did not wait.
const STOPPED_AT_ONCE: i32 = 1;
/// A second signal this soon is the first one's echo: `timeout` and some supervisors signal the
/// process and then its group.
const ECHO: Duration = Duration::from_millis(500);

/// Signals that only one thread hears of.
pub struct Signals(SigSet);

/// Keeps signals from all threads that are started after.
pub fn block() -> nix::Result<Signals> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(Signals(set))
}

impl Signals {
    /// Starts the thread that hears of them.
    pub fn watch(self, stop: StopFlag, logs: Logs) -> std::io::Result<()> {
        let watch = move || {
            let mut stopping: Option<Instant> = None;
            while let Ok(signal) = self.0.wait() {
                match signal {
                    Signal::SIGUSR1 => logs.more(),
                    Signal::SIGUSR2 => logs.less(),
                    signal => match stopping {
                        None => {
                            tracing::info!("{signal}: stopping; a second one stops at once");
                            stopping = Some(Instant::now());
                            stop.stop();
                        }
                        Some(since) if since.elapsed() < ECHO => {}
                        Some(_) => {
                            tracing::warn!("{signal} again: stopped at once");
                            process::exit(STOPPED_AT_ONCE);
                        }
                    },
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(watch)
            .map(drop)
    }
}
