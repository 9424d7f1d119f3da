//! The floor: small servers that do only the unavoidable work, to hold the broker's cost against.
//!
//! `floor ingest|read|echo --listen 127.0.0.1:PORT [--file PATH] [--core N] [--no-flush] [--memory]`
//!
//! Frames are a big-endian `i32` length and that many bytes, both ways. Each server prints `ready` once it
//! listens, and runs until it is killed. TCP congestion control is cubic.
//!
//! - `ingest`: receive, copy with CRC-32C, write past the page cache into a ring file that was written before, fdatasync,
//!   answer. What arrives while a group is being flushed makes the next group.
//! - `read`: a request is `u64` offset and `u32` length (big-endian); the answer are those bytes, by sendfile from the page cache
//!   or from the process' memory.
//! - `echo`: a 50-byte answer to each frame, on Corelane's own runtime.
#![allow(unsafe_code)]

mod common;
mod echo;
mod ingest;
mod read;

use common::Options;

fn main() {
    let options = match Options::from_args() {
        Ok(Some(options)) => options,
        // Started by `cargo bench` among the others: nothing to measure alone.
        Ok(None) => return,
        Err(error) => {
            eprintln!("floor: {error}");
            std::process::exit(2);
        }
    };
    if let Some(core) = options.core {
        corelane::ring::affinity::pin(core).expect("a core of this machine");
    }
    let ended = match options.what.as_str() {
        "ingest" => ingest::serve(&options),
        "read" => read::serve(&options),
        _ => echo::serve(&options),
    };
    if let Err(error) = ended {
        eprintln!("floor: {}: {error}", options.what);
        std::process::exit(1);
    }
}
