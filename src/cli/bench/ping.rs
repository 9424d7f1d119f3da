//! Requests in which no record moves: what a broker pays for a request as such.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::base::time::Monotonic;
use crate::cli::args::Broker;
use crate::cli::bench::args::Run;
use crate::cli::bench::client::{self, Frames};
use crate::cli::bench::cost::{Cost, Snapshot};
use crate::cli::bench::measure::Sum;
use crate::cli::bench::{report, setup, topics};
use crate::cli::client::Cluster;
use crate::cli::on_ring::on_ring;
use crate::cli::output::Output;
use crate::ring::{Ring, Socket};
use crate::wire::api::ApiKey;
use crate::wire::message::Message;
use crate::wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// An answer names each request that the broker knows.
const READ_BYTES: usize = 4 << 10;
const ARENA_BYTES: usize = 256 << 20;
/// The version that Kafka's clients begin with.
const VERSION: i16 = 4;
/// A last answer may come so much later.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Args)]
pub struct Ping {
    #[command(flatten)]
    pub broker: Broker,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    #[command(flatten)]
    pub run: Run,
}

/// What was found.
pub struct Pinged {
    seconds: f64,
    sum: Sum,
    cost: Cost,
}

/// Asks for as long as it is told.
pub fn measure(ping: &Ping) -> anyhow::Result<Pinged> {
    let mut cluster = Cluster::open(&ping.broker.bootstrap, ping.broker.timeout)?;
    let broker = cluster.bootstrap();
    let version = broker.version::<ApiVersionsRequest<'_>>(VERSION)?;
    let address = topics::resolved(broker.address())?;
    on_ring(ARENA_BYTES, async |ring| {
        measured(&ring, ping, address, version).await
    })
}

async fn measured(
    ring: &Ring,
    ping: &Ping,
    address: SocketAddr,
    version: i16,
) -> anyhow::Result<Pinged> {
    let mut sockets = Vec::new();
    for _ in 0..ping.connections {
        sockets.push(client::connect(ring, address, ping.run.congestion.as_deref()).await?);
    }
    let begin = ring.driver().now() + ping.run.warmup;
    let end = begin + ping.run.duration;
    let ask = |socket| ring.spawn(ask(ring.clone(), socket, version, begin, end));
    let asking: Vec<_> = sockets.into_iter().map(ask).collect();
    ring.sleep_until(begin).await;
    let before = Snapshot::take(ping.run.broker_pid);
    ring.sleep_until(end).await;
    let cost = Snapshot::take(ping.run.broker_pid).since(&before);
    let mut sum = Sum::default();
    for asked in asking {
        let asked = ring.timeout(PATIENCE, asked).await;
        sum.add(&asked.with_context(|| format!("no answer for {PATIENCE:?}"))??);
    }
    Ok(Pinged {
        seconds: ping.run.duration.as_secs_f64(),
        sum,
        cost,
    })
}

/// One connection: the next request leaves when the last was answered.
async fn ask(
    ring: Ring,
    socket: Socket,
    version: i16,
    begin: Monotonic,
    end: Monotonic,
) -> anyhow::Result<Sum> {
    let message = ApiVersionsRequest {
        client_software_name: "corelane-bench",
        client_software_version: env!("CARGO_PKG_VERSION"),
        ..ApiVersionsRequest::default()
    };
    let mut answers = Frames::new(&ring, &socket, READ_BYTES).await;
    let (mut sum, mut id) = (Sum::default(), 0i32);
    loop {
        let sent = ring.driver().now();
        if sent >= end {
            return Ok(sum);
        }
        id = id.wrapping_add(1) & i32::MAX;
        let bodies = client::no_bodies();
        let request = client::request(&ring, version, id, &message, bodies).await;
        socket.send(request).await.context("sending")?;
        let answer = answers.next().await?;
        let mut body = client::body(answer, ApiKey::ApiVersions, version, id)?;
        let bytes = answer.len() as u64;
        if ApiVersionsResponse::decode(&mut body, version)?.error_code != 0 {
            bail!("ApiVersions is refused");
        }
        let now = ring.driver().now();
        if sent >= begin && now < end {
            sum.requests += 1;
            sum.bytes += bytes;
            // its range grows with what it gets
            let _ = sum.latency.record(now.since(sent).as_nanos() as u64);
        }
    }
}

impl Pinged {
    /// Tells of it.
    pub fn tell(&self, ping: &Ping, output: &Output) -> std::io::Result<()> {
        if output.json {
            return output.object(&self.json(ping));
        }
        output.line(&output.strong(&format!(
            "{:.0} requests/s on {} connections",
            self.sum.requests as f64 / self.seconds,
            ping.connections
        )))?;
        output.line(&report::quantiles_line(&self.sum))?;
        let each = |seconds: f64| seconds * 1e6 / self.sum.requests as f64;
        if let Some((user, system)) = self.cost.machine_cpu_s {
            output.line(&format!(
                "machine without the load: {:.2} us of CPU a request (user {:.2}, system {:.2}); the load: {:.2}",
                each(user + system),
                each(user),
                each(system),
                each(self.cost.load_cpu_s.unwrap_or(0.0))
            ))?;
        }
        if let Some((user, system)) = self.cost.broker_cpu_s {
            output.line(&format!(
                "broker's process: {:.2} us of CPU a request",
                each(user + system)
            ))?;
        }
        Ok(())
    }

    fn json(&self, ping: &Ping) -> Value {
        let mut setup = setup::machine();
        setup["command"] = setup::command();
        setup["bootstrap"] = json!(ping.broker.bootstrap);
        setup["connections"] = json!(ping.connections);
        setup["core"] = json!(ping.run.core);
        json!({
            "kind": "ping",
            "seconds": self.seconds,
            "results": { "answered": report::sum_json(&self.sum, self.seconds, true) },
            "cost": self.cost.json(self.sum.bytes as f64 / 1e9, self.sum.requests),
            "setup": setup,
        })
    }
}
