//! `corelane tune check`: what of this machine helps a broker, and what is in its way.

mod cpu;
mod item;
mod kernel;
mod limits;
#[cfg(test)]
mod machines;
mod memory;
pub mod network;
mod storage;
#[cfg(test)]
mod tests;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::{Value, json};

use crate::base::config::{BrokerConfig, Cores};
use crate::cli::disk::{Mount, nearest};
use crate::cli::output::{Output, counted};
use crate::cli::serve::{settings, shards};
use crate::cli::tune::TuneCheck;
use crate::cli::tune::check::item::Item;
use crate::cli::tune::granted;
use crate::cli::tune::level::Level;
use crate::cli::tune::system::{System, numbers};
use crate::ring::uring::probe;

/// A directory of the log, and what it lies on.
pub struct Dir {
    pub given: PathBuf,
    pub mount: Option<Mount>,
    pub disks: Vec<String>,
}

/// What all rules look at: the machine, and the broker that is to work there.
pub struct Ground<'a> {
    pub system: &'a System,
    pub config: &'a BrokerConfig,
    /// Cores that the process was started on.
    pub allowed: Option<Vec<usize>>,
    /// Cores that it can move to.
    pub possible: Option<Vec<usize>>,
    /// Cores of the shards; empty where the machine does not tell which these would be.
    pub shards: Vec<usize>,
    /// Why the cores of the configuration can't be had.
    pub cores_refused: Option<String>,
    /// Cores of the machine without a shard.
    pub spare: Vec<usize>,
    /// Whether a ring can be set up; none where that says nothing of the machine that is looked at.
    pub ring: Option<Result<(), String>>,
    pub dirs: Vec<Dir>,
    /// Disks below all of them.
    pub disks: Vec<String>,
    /// No listener is reached from another machine.
    pub is_local: bool,
    /// Network cards that are up; none are looked at where listeners are local.
    pub nics: Vec<String>,
}

impl<'a> Ground<'a> {
    pub fn new(system: &'a System, config: &'a BrokerConfig) -> Ground<'a> {
        let allowed = system
            .status("Cpus_allowed_list")
            .and_then(|list| numbers(&list));
        let online = system.numbers(&format!("{}/online", cpu::CPUS));
        let possible = granted::cores(system);
        let (shards, cores_refused) = match picked(config, allowed.as_deref(), online.as_deref()) {
            Ok(cores) => (cores, None),
            // the rest is looked at all the same
            Err(refused) => (
                allowed.clone().unwrap_or_default(),
                Some(refused.to_string()),
            ),
        };
        let spare = online
            .unwrap_or_default()
            .into_iter()
            .filter(|core| !shards.contains(core))
            .collect();
        let dirs: Vec<Dir> = config
            .log
            .dirs
            .iter()
            .map(|dir| Dir::new(system, dir))
            .collect();
        let mut disks: Vec<String> = dirs.iter().flat_map(|dir| dir.disks.clone()).collect();
        disks.sort();
        disks.dedup();
        let is_local = config
            .listeners
            .iter()
            .all(|listener| is_loopback(&listener.host));
        let nics = match is_local {
            true => Vec::new(),
            false => nics(system),
        };
        Ground {
            system,
            config,
            allowed,
            possible,
            shards,
            cores_refused,
            spare,
            ring: system
                .is_own()
                .then(|| probe().map_err(|refused| refused.to_string())),
            dirs,
            disks,
            is_local,
            nics,
        }
    }

    /// A file of the process's cgroup (v2) and of all above it.
    fn cgroup(&self, what: &str) -> Vec<String> {
        granted::cgroup(self.system, what)
    }

    /// The NUMA node of a device, which a parent may tell; -1 where the firmware does not.
    fn node_of(&self, device: &str) -> Option<usize> {
        let device = fs::canonicalize(self.system.path(device)).ok()?;
        let devices = self.system.path("/sys");
        let node = device
            .ancestors()
            .take_while(|path| path.starts_with(&devices))
            .find_map(|path| fs::read_to_string(path.join("numa_node")).ok())?;
        usize::try_from(node.trim().parse::<i64>().ok()?).ok()
    }

    /// Whether a limit that is in no cgroup is none: where cgroups can't be read it is not known.
    fn knows_groups(&self) -> bool {
        self.system.of_process("cgroup").is_some() && self.system.exists("/sys/fs/cgroup")
    }
}

/// The cores of a broker that is started here, or by systemd: that one's cpuset is not this process's,
/// and so named ones only have to be online.
fn picked(
    config: &BrokerConfig,
    allowed: Option<&[usize]>,
    online: Option<&[usize]>,
) -> anyhow::Result<Vec<usize>> {
    match (&config.cores, allowed, online) {
        (Cores::List(list), _, None) => Ok(list.clone()),
        (Cores::List(_), _, Some(online)) => shards::pick(&config.cores, online, online),
        (_, None, _) => Ok(Vec::new()),
        (_, Some(allowed), _) => shards::pick(&config.cores, allowed, allowed),
    }
}

impl Dir {
    fn new(system: &System, given: &Path) -> Dir {
        let real = match system.is_real() {
            true => nearest(given),
            false => Some(given.to_owned()),
        };
        let mount = real.and_then(|path| system.mount(&path));
        Dir {
            given: given.to_owned(),
            disks: mount
                .as_ref()
                .map(|mount| system.disks(mount))
                .unwrap_or_default(),
            mount,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Cards that have a device and are up.
fn nics(system: &System) -> Vec<String> {
    let is_up = |name: &String| {
        let state = system.text(&format!("/sys/class/net/{name}/operstate"));
        system.exists(&format!("/sys/class/net/{name}/device")) && state.as_deref() != Some("down")
    };
    system
        .names("/sys/class/net")
        .into_iter()
        .filter(is_up)
        .collect()
}

/// All that there is to say, by theme.
pub fn look(ground: &Ground) -> Vec<(&'static str, Vec<Item>)> {
    vec![
        ("kernel", kernel::items(ground)),
        ("cores", cpu::items(ground)),
        ("memory", memory::items(ground)),
        ("limits", limits::items(ground)),
        ("storage", storage::items(ground)),
        ("network", network::items(ground)),
    ]
}

pub fn run(options: &TuneCheck, output: &Output) -> anyhow::Result<()> {
    let process = options
        .pid
        .map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let system = System::new(&options.root, &process);
    if system.of_process("status").is_none() && options.pid.is_some() {
        bail!("process {process} can't be looked at: is it running, and is it yours?");
    }
    let config = settings::load(&options.settings)?.config;
    let ground = Ground::new(&system, &config);
    let groups = look(&ground);
    let items = || groups.iter().flat_map(|(_, items)| items);
    let count = |level| items().filter(|item| item.level == level).count() as u64;
    match output.json {
        true => output.object(&object(&ground, &groups))?,
        false => tell(output, &groups, options.all)?,
    }
    match count(Level::Must) {
        0 => Ok(()),
        n => bail!(
            "{} must be changed before a broker is trusted here",
            counted(n, "thing")
        ),
    }
}

fn object(ground: &Ground, groups: &[(&str, Vec<Item>)]) -> Value {
    let one = |group: &str, item: &Item| {
        let settings = item.settings.iter();
        let settings: Vec<Value> = settings
            .map(|setting| json!({ "path": setting.path, "to": setting.to }))
            .collect();
        json!({
            "group": group,
            "name": item.name,
            "level": item.level.name(),
            "found": item.found,
            "why": item.why,
            "todo": item.todo,
            "settings": settings,
        })
    };
    let items: Vec<Value> = groups
        .iter()
        .flat_map(|(group, items)| items.iter().map(|item| one(group, item)))
        .collect();
    json!({ "shards": ground.shards, "disks": ground.disks, "items": items })
}

fn tell(output: &Output, groups: &[(&str, Vec<Item>)], all: bool) -> std::io::Result<()> {
    let items = || groups.iter().flat_map(|(_, items)| items);
    let width = items()
        .map(|item| item.name.chars().count())
        .max()
        .unwrap_or(0);
    for (group, items) in groups {
        output.line(&output.strong(group))?;
        for item in items {
            let level = item.level.shown(output, 7);
            output.line(&format!("  {level} {:<width$}  {}", item.name, item.found))?;
            if item.level >= Level::Should || all {
                for (word, text) in [("why", &item.why), ("do", &item.todo)] {
                    if !text.is_empty() {
                        output.line(&format!("          {word:<4}{text}"))?;
                    }
                }
            }
        }
    }
    let count = |level| items().filter(|item| item.level == level).count();
    let can = items().flat_map(|item| &item.settings).count();
    output.line(&format!(
        "{} ok, {} should, {} must, {} unknown{}",
        count(Level::Ok),
        count(Level::Should),
        count(Level::Must),
        count(Level::Unknown),
        match can {
            0 => String::new(),
            n => format!(
                "; `corelane tune apply` can set {}",
                counted(n as u64, "value")
            ),
        }
    ))
}
