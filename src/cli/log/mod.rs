//! `corelane log`: the files of a log, without a broker.

mod directories;
mod dump;
mod metadata;
mod repair;
mod verify;

use crate::cli::args::LogAction;
use crate::cli::output::Output;

pub fn run(action: LogAction, output: &Output) -> anyhow::Result<()> {
    match action {
        LogAction::Dump { files, records } => dump::run(&files, records, output),
        LogAction::Verify { dirs } => verify::run(&dirs, output),
        LogAction::Repair {
            dirs,
            apply,
            partitions,
        } => repair::run(&dirs, apply, partitions, output),
    }
}
