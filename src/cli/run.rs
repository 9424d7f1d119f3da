//! From arguments to an exit code.

use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Arguments, Command};
use crate::cli::output::Output;
use crate::cli::{bench, config, consume, log, produce, serve, topic, tune};

/// Wrong usage that is seen only after the arguments were read: a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs the command line. 0: done; 1: failed; 2: wrong usage.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // help and version come this way too, with code 0
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let output = Output::new(arguments.common.json, arguments.common.color);
    let result = match arguments.command {
        Command::Serve(options) => serve::run(&options, &output),
        Command::Topic { broker, action } => topic::run(&broker, action, &output),
        Command::Produce(options) => produce::run(&options, &output),
        Command::Consume(options) => consume::run(&options, &output),
        Command::Bench { action } => bench::run(action, &output),
        Command::Tune { action } => tune::run(action, &output),
        Command::Log { action } => log::run(action, &output),
        Command::Config { action } => config::run(action, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // whoever reads our output has seen enough: `corelane consume t | head`
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            match error.downcast_ref::<Usage>() {
                Some(_) => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<io::Error>();
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
