//! What a client sees of connections, Produce and Fetch, on the built broker, byte by byte.
#![allow(clippy::disallowed_methods)] // a test may read the clock

mod client;
mod connections;
mod directories;
mod fetching;
mod memory;
mod producing;
mod sessions;
mod stopping;
#[path = "../support/mod.rs"]
mod support;

use support::broker::{Broker, Setup};

/// A broker on two shards with these properties.
fn started(overrides: &[(&str, &str)]) -> (Setup, Broker) {
    let mut all = vec![("corelane.cores", "2")];
    all.extend_from_slice(overrides);
    let setup = Setup::new(&all).unwrap();
    let broker = setup.start().unwrap();
    (setup, broker)
}
