//! Ports for servers under test.

use std::fs;
use std::net::TcpListener;
use std::process;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

/// Below them are ports of well-known services.
const FIRST: u16 = 10_000;
/// Fewer could not serve one program.
const LEAST: u16 = 1_000;

/// Where the next search begins.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// The first of `count` ports in a row that nobody listens on, given once in this process.
///
/// They are below those that the kernel chooses from for a socket that asks for none
/// (`net.ipv4.ip_local_port_range`): a client's connection can't take them while their server is
/// between two starts.
pub fn free(count: u16) -> Result<u16> {
    let file = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let end: u16 = range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .with_context(|| format!("{file}: {range:?}"))?;
    ensure!(
        end >= FIRST + LEAST,
        "{file} begins at {end}: no ports are left for servers"
    );
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    // programs that run side by side begin far from each other
    let offset = process::id().wrapping_mul(97) % u32::from(end - FIRST);
    let mut first = next.unwrap_or(FIRST + offset as u16);
    for _ in FIRST..end {
        if end - first < count {
            first = FIRST;
        }
        let bound: Vec<_> = (first..first + count)
            .map(|port| TcpListener::bind(("127.0.0.1", port)))
            .collect();
        *next = Some(first + count);
        if bound.iter().all(Result::is_ok) {
            return Ok(first);
        }
        first += count;
    }
    bail!("no {count} ports in a row are free")
}
