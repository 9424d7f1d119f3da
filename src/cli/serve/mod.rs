//! `corelane serve`: the broker.

mod banner;
pub mod files;
mod logs;
pub mod settings;
pub mod shards;
mod signals;

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::broker::start::StopFlag;
use crate::cli::args::Serve;
use crate::cli::output::Output;
use crate::ring::process::raise_open_files;
use crate::ring::uring::probe;

/// Open files that are asked for: connections, segments, journals.
const OPEN_FILES: u64 = 1 << 20;

/// Runs a broker until a signal, or until it fails.
pub fn run(options: &Serve, output: &Output) -> anyhow::Result<()> {
    if let Some(parent) = options.ends_with {
        end_with(parent)?;
    }
    let loaded = settings::load(&options.settings)?;
    // before the first thread: all inherit the mask
    let signals = signals::block().context("signals can't be blocked")?;
    let logs = logs::start(options.log_level.as_deref())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    probe()?;
    let files = raise_open_files(OPEN_FILES).context("the limit of open files can't be read")?;
    let mut config = loaded.config;
    let cores = shards::cores(&config)?;
    files::share_out(files, cores.len() as u64, &mut config)?;
    if files < files::COMFORTABLE {
        tracing::warn!(
            "only {files} files may be open at once, so there may be {} connections; raise it with \
             `ulimit -n`",
            config.network.max_connections
        );
    }
    let config = Arc::new(config);
    let stop = StopFlag::default();
    signals.watch(stop.clone(), logs)?;
    let banner = banner::Banner::new(&config, &cores, output);
    let on_started = move |started: &crate::broker::start::Started| {
        // whoever started us may have closed its end: that is no reason to stop
        let _ = io::stdout().write_all(banner.text(started).as_bytes());
        let _ = io::stdout().flush();
    };
    shards::run(&config, &cores, &stop, Box::new(on_started))?;
    tracing::info!("stopped cleanly");
    Ok(())
}

/// Lets the kernel kill this process when the thread that started it ends.
fn end_with(parent: i32) -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("can't be tied to the process that starts it")?;
    // it may have ended before
    ensure!(getppid().as_raw() == parent, "process {parent} is no more");
    Ok(())
}
