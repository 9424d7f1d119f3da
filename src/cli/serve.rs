//! `corelane serve`: a thread for each shard, until a signal.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, anyhow};
use nix::sys::signal::{SigSet, Signal};

use crate::base::config::{self, BrokerConfig, Cores, Inputs, Size};
use crate::base::ids::ShardId;
use crate::broker::counters::Counters;
use crate::broker::message::Message;
use crate::broker::start::{ShardContext, StartError, StopFlag, run_shard};
use crate::cli::args::Serve;
use crate::ring::affinity;
use crate::ring::driver::{Doorbell, Driver};
use crate::ring::mailbox::{Mailbox, mesh};
use crate::ring::uring::UringDriver;
use crate::ring::{Executor, ExecutorOptions};

/// Messages that may lie in the mailbox of one pair of shards.
const MAILBOX: usize = 1024;

/// Runs a broker until SIGTERM or SIGINT, or until it fails.
pub fn run(options: Serve) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let file = match options.config {
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let loaded = config::load(&Inputs {
        file,
        environment: std::env::vars().collect(),
        overrides: options.overrides,
        host_name: "localhost".to_owned(),
    })?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    run_broker(loaded.config)
}

fn run_broker(config: BrokerConfig) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // before the first thread: they all inherit it, and only the one below hears of signals
    signals.thread_block().context("cannot block signals")?;
    let cores = cores(&config.cores)?;
    let shards = u16::try_from(cores.len()).context("too many cores")?;
    let stop = StopFlag::default();
    let config = Arc::new(config);
    let mut bells = Vec::new();
    let mut go = Vec::new();
    let mut threads = Vec::new();
    for (mailbox, core) in mesh::<Message>(cores.len(), MAILBOX).into_iter().zip(cores) {
        let (ring_bell, bell) = mpsc::channel();
        let (all_bells, rings) = mpsc::channel();
        let shard = Start {
            core,
            shards,
            config: config.clone(),
            stop: stop.clone(),
        };
        threads.push(
            thread::Builder::new()
                .name(format!("shard-{core}"))
                .spawn(move || shard.run(mailbox, &ring_bell, &rings))?,
        );
        bells.push(
            bell.recv()
                .map_err(|_| anyhow!("a shard did not start"))??,
        );
        go.push(all_bells);
    }
    for one in go {
        // a shard that is gone already tells why when it is joined
        let _ = one.send(bells.clone());
    }
    let for_signals = stop.clone();
    thread::spawn(move || {
        while signals.wait().is_ok() {
            for_signals.stop();
        }
    });
    let mut failed = None;
    for thread in threads {
        let ended = thread.join().map_err(|_| anyhow!("a shard panicked"))?;
        if let Err(error) = ended {
            stop.stop();
            match error {
                StartError::Aborted => {}
                error => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

type Bells = Vec<Arc<dyn Doorbell>>;

struct Start {
    core: usize,
    shards: u16,
    config: Arc<BrokerConfig>,
    stop: StopFlag,
}

impl Start {
    fn run(
        self,
        mailbox: Mailbox<Message>,
        ring_bell: &mpsc::Sender<anyhow::Result<Arc<dyn Doorbell>>>,
        rings: &mpsc::Receiver<Bells>,
    ) -> Result<(), StartError> {
        let driver = match affinity::pin(self.core)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(UringDriver::new()?))
        {
            Ok(driver) => Rc::new(driver),
            Err(error) => {
                let _ = ring_bell.send(Err(error));
                return Err(StartError::Aborted);
            }
        };
        let _ = ring_bell.send(Ok(driver.doorbell()));
        let Ok(bells) = rings.recv() else {
            return Err(StartError::Aborted);
        };
        let options = ExecutorOptions {
            arena_bytes: self.arena_bytes(),
            ..ExecutorOptions::default()
        };
        let shard = mailbox.shard();
        let mut executor = Executor::with_options(driver, shard, options);
        let ring = executor.ring();
        let post = mailbox.open(&ring, bells);
        executor.block_on(run_shard(ShardContext {
            ring,
            shards: self.shards,
            config: self.config,
            post,
            counters: Arc::new(Counters::default()),
            stop: self.stop,
            on_started: (shard == ShardId(0)).then(|| {
                Box::new(|started: &crate::broker::start::Started| {
                    for l in &started.listeners {
                        println!("{} listens on {}", l.name, l.address);
                    }
                }) as Box<dyn FnOnce(&crate::broker::start::Started)>
            }),
        }))
    }

    fn arena_bytes(&self) -> usize {
        let all = match self.config.memory {
            Size::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            Size::Auto => 512 << 20,
        };
        all / usize::from(self.shards)
    }
}

fn cores(configured: &Cores) -> anyhow::Result<Vec<usize>> {
    let allowed = affinity::allowed_cores().context("cannot list the cores")?;
    Ok(match configured {
        Cores::All => allowed,
        Cores::Count(n) => allowed.into_iter().take(*n).collect(),
        Cores::List(list) => list.clone(),
    })
}
