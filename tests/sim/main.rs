//! The log and the broker in a simulated world, under kills, power cuts and other faults.
//!
//! Runs a fixed set of seeds. `CORELANE_SIM_SEED=N` runs one, `CORELANE_SIM_RUNS=M` so many from
//! there on, `CORELANE_SIM_LOG=info` shows what the broker says meanwhile.

mod control;
mod life;
mod log;
mod order;
mod seeds;
mod world;
