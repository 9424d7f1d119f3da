//! `corelane tune`: what the broker stands on.

mod apply;
mod check;
pub mod disk;
#[cfg(test)]
mod fake;
pub mod granted;
mod level;
mod measure;
mod plan;
pub mod system;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::args::Settings;
use crate::cli::output::Output;
use crate::cli::tune::plan::TunePlan;

#[derive(Debug, Subcommand)]
pub enum TuneAction {
    /// Read the machine and say, item by item, what is ok, what should and what must be changed
    ///
    /// Looks at what this broker uses, with the cores and directories of its configuration, and says
    /// what it found, why that matters, and what to do. Changes nothing; what can't be read is said to
    /// be unknown. Ends with code 1 if something must be changed, else with 0.
    Check(TuneCheck),
    /// Set what `check` says should be set, after showing it; --undo takes all of it back
    ///
    /// Writes values below /proc and /sys now, and files that keep them over a boot: sysctl.d,
    /// udev/rules.d, a drop-in for corelane.service and the scripts that it runs. What was there before is
    /// kept in /var/lib/corelane-tune/applied.json. Nothing is written that a machine may not come up with:
    /// the kernel's command line, file systems and mounts stay as they are.
    Apply(TuneApply),
    /// Work out disk, network, memory, cores and journals of a deployment, each with its formula
    ///
    /// Ends with code 1 if a measured disk (--dir) does not carry it.
    Plan(TunePlan),
    /// Measure a disk as a broker uses it: whether its flushes are true, how long they take, how
    /// large commits should be, and what it takes for long
    ///
    /// Writes a file of --size bytes into the directory, which is gone at the end, and keeps what
    /// it found as corelane.disk there: a broker that starts on that directory tells it.
    Disk(TuneDisk),
}

#[derive(Debug, Args)]
pub struct TuneCheck {
    #[command(flatten)]
    pub settings: Settings,
    /// Look at the limits of a process that runs, as a broker, instead of this one's
    #[arg(long)]
    pub pid: Option<u32>,
    /// Say why of what is ok, too
    #[arg(short, long)]
    pub all: bool,
    /// A directory that stands for the machine
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct TuneApply {
    #[command(flatten)]
    pub settings: Settings,
    /// Only show what would be written
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Put back what was there before, where it still is as it was written
    #[arg(long)]
    pub undo: bool,
    /// A directory that stands for the machine, as the root of an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct TuneDisk {
    /// A directory on the disk, best an empty one of log.dirs
    #[arg(default_value = "data")]
    pub dir: PathBuf,
    /// How long all of it takes, about
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = crate::cli::args::seconds)]
    pub time: Duration,
    /// Bytes that are written at most, again and again
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub size_mib: u64,
    /// Do not keep the result
    #[arg(long)]
    pub no_keep: bool,
}

pub fn run(action: TuneAction, output: &Output) -> anyhow::Result<()> {
    match action {
        TuneAction::Apply(options) => apply::run(&options, output),
        TuneAction::Check(options) => check::run(&options, output),
        TuneAction::Plan(options) => plan::run(&options, output),
        TuneAction::Disk(options) => disk::run(&options, output),
    }
}
