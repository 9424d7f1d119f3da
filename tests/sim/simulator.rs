//! `corelane-sim`: the whole broker in simulated worlds, for as long as wanted.

mod run;
mod world;

fn main() -> std::process::ExitCode {
    run::main()
}
