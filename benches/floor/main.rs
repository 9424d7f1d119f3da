//! The floor: small servers that do only the unavoidable work, to hold the broker's cost against.
//!
//! `corelane-floor ingest|kafka|read|echo [--listen 127.0.0.1:PORT] [--file PATH] [--core N] [--no-flush]
//! [--memory] [--ring-bytes N] [--congestion NAME] [--ends-with PID]`
//!
//! Frames are a big-endian `i32` length and that many bytes, both ways. Each server prints `ready`, its
//! address and its build once it listens, and runs until it is killed. But for `echo` and `kafka` they use nothing of the
//! broker: what makes the broker slower must not make its yardstick slower.
//!
//! - `ingest`: receive, copy with CRC-32C, write past the page cache into a ring file that was written before, fdatasync,
//!   answer. What arrives while a group is being flushed makes the next group.
//! - `kafka`: the same with Kafka's frames, for loads that only produce, from any of its clients; nothing can be read back.
//! - `read`: a request is `u64` offset and `u32` length (big-endian); the answer are those bytes, by sendfile from the page cache
//!   or from the process' memory.
//! - `echo`: a 50-byte answer to each frame, on Corelane's own runtime.
#![allow(unsafe_code)]

mod common;
mod copy;
mod echo;
mod ingest;
mod kafka;
mod read;

use common::Options;

fn main() {
    let options = match Options::from_args() {
        Ok(Some(options)) => options,
        Ok(None) => {
            eprintln!("floor: what to serve? ingest, kafka, read or echo");
            std::process::exit(2);
        }
        Err(error) => {
            eprintln!("floor: {error}");
            std::process::exit(2);
        }
    };
    if let Some(parent) = options.ends_with
        && let Err(error) = common::end_with(parent)
    {
        eprintln!("floor: can't be tied to process {parent}: {error}");
        std::process::exit(1);
    }
    if let Some(core) = options.core
        && let Err(error) = common::pin(core)
    {
        eprintln!("floor: core {core}: {error}");
        std::process::exit(2);
    }
    let ended = match options.what.as_str() {
        "ingest" | "kafka" => ingest::serve(&options),
        "read" => read::serve(&options),
        _ => echo::serve(&options),
    };
    if let Err(error) = ended {
        eprintln!("floor: {}: {error}", options.what);
        std::process::exit(1);
    }
}
