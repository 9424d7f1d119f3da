//! A pinned thread for each shard.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::base::config::{BrokerConfig, Cores, Size};
use crate::base::ids::ShardId;
use crate::broker::counters::Counters;
use crate::broker::message::Message;
use crate::broker::start::{ShardContext, StartError, Started, StopFlag, arena_bytes, run_shard};
use crate::cli::run::Usage;
use crate::cli::tune::granted;
use crate::cli::tune::system::System;
use crate::ring::affinity;
use crate::ring::driver::{Doorbell, Driver};
use crate::ring::mailbox::{Mailbox, mesh};
use crate::ring::uring::UringDriver;
use crate::ring::{Executor, ExecutorOptions};

/// Messages that may lie in the mailbox of one pair of shards.
const MAILBOX_SLOTS: usize = 1024;
/// Least and most memory of the machine's buffers where the configuration says nothing.
pub const MEMORY_MIN: u64 = 128 << 20;
pub const MEMORY_MAX: u64 = 64 << 30;
/// Least memory of one shard, whatever the configuration: a large request must fit several times.
pub const SHARD_MEMORY_MIN: u64 = 32 << 20;
/// The part of the memory that they take: the page cache does the rest.
pub const MEMORY_SHARE: u64 = 4;

type Bells = Vec<Arc<dyn Doorbell>>;
/// Called once, on shard 0.
pub type OnStarted = Box<dyn FnOnce(&Started) + Send>;

/// The cores that shards run on.
pub fn cores(config: &BrokerConfig) -> anyhow::Result<Vec<usize>> {
    let allowed = affinity::allowed_cores().context("the cores can't be listed")?;
    let possible = granted::cores(&System::here()).unwrap_or_else(|| allowed.clone());
    pick(&config.cores, &allowed, &possible)
}

/// The cores that are asked for: of those that the process was started on, or, where they are named, of
/// those that it can move to.
pub fn pick(wanted: &Cores, allowed: &[usize], possible: &[usize]) -> anyhow::Result<Vec<usize>> {
    let shown = || numbers(allowed);
    match wanted {
        Cores::All => Ok(allowed.to_vec()),
        Cores::Count(n) if *n <= allowed.len() => Ok(allowed[..*n].to_vec()),
        Cores::Count(n) => bail!(Usage(format!(
            "corelane.cores={n}: this process may use only {} ({})",
            allowed.len(),
            shown()
        ))),
        Cores::List(list) => match list.iter().find(|core| !possible.contains(core)) {
            None => Ok(list.clone()),
            Some(core) => bail!(Usage(format!(
                "corelane.cores: core {core} is none that this process may use ({})",
                numbers(possible)
            ))),
        },
    }
}

/// Numbers as short as they can be written: `0-3,8`.
pub fn numbers(list: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for n in list {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => runs.push((*n, *n)),
        }
    }
    let text = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Runs the shards until they have stopped, or one has failed.
pub fn run(
    config: &Arc<BrokerConfig>,
    cores: &[usize],
    stop: &StopFlag,
    on_started: OnStarted,
) -> anyhow::Result<()> {
    let shards = u16::try_from(cores.len()).context("too many cores")?;
    let machine = granted::memory(&System::here()).unwrap_or(0);
    let arena = arena_bytes(memory(config.memory, machine, shards) / u64::from(shards));
    let mut bells = Vec::new();
    let mut go = Vec::new();
    let mut threads = Vec::new();
    let mut on_started = Some(on_started);
    let mailboxes = mesh::<Message>(cores.len(), MAILBOX_SLOTS);
    for (mailbox, core) in mailboxes.into_iter().zip(cores) {
        let (bell_to, bell_from) = channel();
        let (bells_to, bells_from) = channel();
        let shard = Shard {
            core: *core,
            shards,
            arena_bytes: usize::try_from(arena).unwrap_or(usize::MAX),
            config: config.clone(),
            stop: stop.clone(),
            on_started: on_started.take(),
        };
        let thread = thread::Builder::new().name(format!("shard-{core}"));
        threads.push(thread.spawn(move || {
            let ended = shard.run(mailbox, &bell_to, &bells_from);
            (bell_to, ended)
        })?);
        // a shard that can't start says why instead
        bells.push(bell_from.recv().context("a shard did not start")??);
        go.push(bells_to);
    }
    for to in go {
        // one that is gone already tells why when it is joined
        let _ = to.send(bells.clone());
    }
    let mut failed: Option<anyhow::Error> = None;
    for thread in threads {
        let error = match thread.join() {
            Ok((_, Ok(()))) => continue,
            // told by the shard that failed
            Ok((_, Err(StartError::Aborted))) => continue,
            Ok((_, Err(error))) => error.into(),
            Err(_) => anyhow!("a shard panicked"),
        };
        stop.stop();
        failed.get_or_insert(error);
    }
    failed.map_or(Ok(()), Err)
}

struct Shard {
    core: usize,
    shards: u16,
    arena_bytes: usize,
    config: Arc<BrokerConfig>,
    stop: StopFlag,
    on_started: Option<OnStarted>,
}

impl Shard {
    fn driver(&self) -> anyhow::Result<UringDriver> {
        affinity::pin(self.core)
            .with_context(|| format!("a thread can't be kept on core {}", self.core))?;
        Ok(UringDriver::new()?)
    }

    fn run(
        self,
        mailbox: Mailbox<Message>,
        bell: &Sender<anyhow::Result<Arc<dyn Doorbell>>>,
        bells: &Receiver<Bells>,
    ) -> Result<(), StartError> {
        let driver = match self.driver() {
            Ok(driver) => Rc::new(driver),
            Err(error) => {
                let _ = bell.send(Err(error));
                return Err(StartError::Aborted);
            }
        };
        let _ = bell.send(Ok(driver.doorbell()));
        let Ok(bells) = bells.recv() else {
            return Err(StartError::Aborted);
        };
        let options = ExecutorOptions {
            arena_bytes: self.arena_bytes,
            poll: Duration::from_micros(self.config.poll_us.into()),
        };
        let shard: ShardId = mailbox.shard();
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
            on_started: self
                .on_started
                .map(|run| -> Box<dyn FnOnce(&Started)> { run }),
        }))
    }
}

/// Bytes of memory for all shards of a machine that has, or grants, so many: what is configured, but
/// 32 MiB for each at least.
pub fn memory(configured: Size, machine_bytes: u64, shards: u16) -> u64 {
    let all = match configured {
        Size::Bytes(bytes) => bytes,
        Size::Auto => (machine_bytes / MEMORY_SHARE).clamp(MEMORY_MIN, MEMORY_MAX),
    };
    all.max(u64::from(shards) * SHARD_MEMORY_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_shards_of_a_small_memory_have_enough_each() {
        assert_eq!(memory(Size::Bytes(32 << 20), 0, 4), 4 * (32 << 20));
        assert_eq!(memory(Size::Bytes(1 << 30), 0, 4), 1 << 30);
        // a machine that tells nothing
        assert_eq!(memory(Size::Auto, 0, 1), 128 << 20);
        assert_eq!(memory(Size::Auto, 1 << 30, 1), 256 << 20);
        assert_eq!(memory(Size::Auto, 1 << 30, 16), 512 << 20);
        assert_eq!(memory(Size::Auto, 1 << 40, 1), 64 << 30);
    }

    #[test]
    fn cores_that_are_named_may_be_outside_of_what_the_shell_has() {
        let pick = |wanted| pick(&wanted, &[0, 1], &[0, 1, 2, 3]);
        assert_eq!(pick(Cores::All).unwrap(), [0, 1]);
        assert_eq!(pick(Cores::Count(1)).unwrap(), [0]);
        assert!(pick(Cores::Count(3)).is_err());
        assert_eq!(pick(Cores::List(vec![2, 3])).unwrap(), [2, 3]);
        let refused = pick(Cores::List(vec![3, 4])).unwrap_err().to_string();
        assert!(
            refused.contains("core 4") && refused.contains("0-3"),
            "{refused}"
        );
    }

    #[test]
    fn runs_of_numbers_are_short() {
        assert_eq!(numbers(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(numbers(&[3]), "3");
        assert_eq!(numbers(&[]), "");
    }
}
