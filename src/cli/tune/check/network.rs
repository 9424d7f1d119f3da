//! Sockets and network cards.

use crate::cli::serve::shards;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::{Item, sysctl};

/// One connection at 10 Gbit/s over 3 ms, or 1 Gbit/s over 30.
const BUFFER_MIN: u64 = 4 << 20;
const BUFFER: u64 = 16 << 20;
const BACKLOG: &str = "net.core.somaxconn";

pub fn items(ground: &Ground) -> Vec<Item> {
    let mut items = vec![backlog(ground)];
    items.extend(buffers(ground));
    items.push(congestion(ground));
    items.push(sysctl(
        ground.system,
        "net.ipv4.tcp_slow_start_after_idle",
        "0",
        |found| found == "0",
        "a connection that paused begins anew at ten segments: over 10 ms of round trip the next \
         answer of 1 MiB takes some 60 ms longer",
    ));
    if ground.nics.is_empty() {
        let name = "network cards";
        items.push(match ground.is_local {
            true => Item::ok(name, "listeners on this machine only", "none is in the way"),
            false => Item::unknown(name, "a card in /sys/class/net"),
        });
    }
    for nic in &ground.nics {
        items.push(queues(ground, nic));
        items.push(steering(ground, nic));
        items.push(interrupts(ground, nic));
    }
    if !ground.nics.is_empty() {
        items.push(irqbalance(ground));
    }
    items
}

fn backlog(ground: &Ground) -> Item {
    let asked = ground.config.network.backlog;
    let enough = |found: &str| found.parse::<u32>().is_ok_and(|found| found >= asked);
    let why = "the kernel cuts socket.listen.backlog.size to it without a word: what connects \
               meanwhile, after a restart say, is dropped and tries again a second later";
    let mut item = sysctl(ground.system, BACKLOG, &asked.to_string(), enough, why);
    item.found = format!("{} for a backlog of {asked}", item.found);
    item
}

fn buffers(ground: &Ground) -> Vec<Item> {
    let network = &ground.config.network;
    let both = [
        ("w", "send", network.send_buffer_bytes),
        ("r", "receive", network.receive_buffer_bytes),
    ];
    both.map(|(letter, way, fixed)| match fixed {
        Some(bytes) => {
            let name = format!("net.core.{letter}mem_max");
            let why = format!("the kernel cuts socket.{way}.buffer.bytes to it without a word");
            let enough = |found: &str| found.parse::<u32>().is_ok_and(|found| found >= bytes);
            sysctl(ground.system, &name, &bytes.to_string(), enough, &why)
        }
        None => {
            let name = format!("net.ipv4.tcp_{letter}mem");
            let why = "its last number bounds what one connection has on its way: so much a round trip \
                       is the most that it moves";
            let found = ground.system.sysctl(&name).unwrap_or_default();
            // the first two stay as they are
            let mut to: Vec<String> = found.split(' ').map(str::to_owned).collect();
            if let Some(last) = to.get_mut(2) {
                *last = BUFFER.to_string();
            }
            let enough = |found: &str| {
                let last = found.split(' ').next_back().and_then(|last| last.parse::<u64>().ok());
                last.is_some_and(|last| last >= BUFFER_MIN)
            };
            sysctl(ground.system, &name, &to.join(" "), enough, why)
        }
    })
    .into()
}

fn congestion(ground: &Ground) -> Item {
    let good = |found: &str| matches!(found, "cubic" | "bbr" | "dctcp");
    sysctl(
        ground.system,
        "net.ipv4.tcp_congestion_control",
        "cubic",
        good,
        "it decides how fast a connection comes back after a loss: cubic and dctcp suit a data \
         centre, bbr lossy ways at some CPU for its pacing",
    )
}

fn names(ground: &Ground, nic: &str, kind: &str) -> Vec<String> {
    let names = ground.system.names(&format!("/sys/class/net/{nic}/queues"));
    names
        .into_iter()
        .filter(|name| name.starts_with(kind))
        .collect()
}

fn queues(ground: &Ground, nic: &str) -> Item {
    let name = format!("{nic}: receive queues (RSS)");
    let count = names(ground, nic, "rx-").len();
    let shards = ground.shards.len();
    if count == 0 {
        return Item::unknown(name, &format!("/sys/class/net/{nic}/queues"));
    }
    let why = "packets of a queue are worked off on one core: with fewer queues than shards that core \
               carries the network for others";
    let found = format!("{count} for {shards} shards");
    let steered = || {
        let mask = ground
            .system
            .text(&format!("/sys/class/net/{nic}/queues/rx-0/rps_cpus"));
        mask.is_some_and(|mask| {
            mask.bytes()
                .any(|byte| byte.is_ascii_hexdigit() && byte != b'0')
        })
    };
    match count >= shards {
        true => Item::ok(name, found, why),
        false if count == 1 && steered() => Item::ok(name, format!("{found}, spread by RPS"), why),
        false => Item::should(
            name,
            found,
            why,
            format!("ethtool -L {nic} combined {shards}, if `ethtool -l {nic}` allows as many"),
        ),
    }
}

fn steering(ground: &Ground, nic: &str) -> Item {
    let name = format!("{nic}: send queues (XPS)");
    let all = names(ground, nic, "tx-");
    let why = "each core sends through a queue of its own, without a lock between them";
    if all.len() < 2 {
        return Item::ok(
            name,
            format!("{} queue", all.len()),
            "there is nothing to choose",
        );
    }
    let is_set = |queue: &String| {
        let path = format!("/sys/class/net/{nic}/queues/{queue}/xps_cpus");
        let mask = ground.system.text(&path).unwrap_or_default();
        mask.bytes()
            .any(|byte| byte.is_ascii_hexdigit() && byte != b'0')
    };
    let set = all.iter().filter(|queue| is_set(queue)).count();
    let found = format!("{set} of {} bound to cores", all.len());
    match set == all.len() {
        true => Item::ok(name, found, why),
        false => Item::should(
            name,
            found,
            why,
            format!("echo a mask of cores into each /sys/class/net/{nic}/queues/tx-*/xps_cpus"),
        ),
    }
}

/// The interrupts of a card: those of its PCI device, which a virtio device stands below.
fn irqs(ground: &Ground, nic: &str) -> Vec<String> {
    let device = format!("/sys/class/net/{nic}/device");
    let paths = [
        format!("{device}/msi_irqs"),
        format!("{device}/../msi_irqs"),
    ];
    let names = paths.iter().map(|path| ground.system.names(path));
    names
        .into_iter()
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

fn interrupts(ground: &Ground, nic: &str) -> Item {
    let name = format!("{nic}: interrupts");
    let path = |irq: &String| format!("/proc/irq/{irq}/smp_affinity_list");
    let mut known: Vec<(String, Vec<usize>)> = Vec::new();
    for irq in irqs(ground, nic) {
        let effective = format!("/proc/irq/{irq}/effective_affinity_list");
        let cores = ground
            .system
            .numbers(&effective)
            .filter(|cores| !cores.is_empty());
        if let Some(cores) = cores.or_else(|| ground.system.numbers(&path(&irq))) {
            known.push((irq, cores));
        }
    }
    if known.is_empty() {
        return Item::unknown(name, "its interrupts (device/msi_irqs, /proc/irq)");
    }
    let mut cores: Vec<usize> = known.iter().flat_map(|(_, cores)| cores.clone()).collect();
    cores.sort_unstable();
    cores.dedup();
    let found = format!("{} on cores {}", known.len(), shards::numbers(&cores));
    let on_shards = cores.iter().any(|core| ground.shards.contains(core));
    if !ground.spare.is_empty() {
        let why =
            "an interrupt stops the shard on its core; cores without a shard can take them all";
        if !on_shards {
            return Item::ok(name, found, why);
        }
        let spare = shards::numbers(&ground.spare);
        let todo = format!("echo {spare} > /proc/irq/N/smp_affinity_list for each of them");
        let item = Item::should(name, found, why, todo);
        return known
            .iter()
            .fold(item, |item, (irq, _)| item.by(path(irq), spare.clone()));
    }
    let why = "with a shard on every core interrupts are best spread evenly: the core that has them \
               all is the slowest shard";
    match cores.len() > 1 || ground.shards.len() < 2 || known.len() < 2 {
        true => Item::ok(name, found, why),
        false => {
            let todo = "spread them: one core each into /proc/irq/N/smp_affinity_list";
            let item = Item::should(name, found, why, todo);
            let turn = ground.shards.iter().cycle();
            known.iter().zip(turn).fold(item, |item, ((irq, _), core)| {
                item.by(path(irq), core.to_string())
            })
        }
    }
}

fn irqbalance(ground: &Ground) -> Item {
    let pids = ground.system.names("/proc");
    let pids = pids
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let comm = |pid: &String| ground.system.text(&format!("/proc/{pid}/comm"));
    let runs = pids.filter_map(comm).any(|name| name == "irqbalance");
    let why = "it moves interrupts again and again, onto shards too";
    match runs && !ground.spare.is_empty() {
        true => Item::should(
            "irqbalance",
            "runs",
            why,
            format!(
                "IRQBALANCE_BANNED_CPULIST={} in /etc/default/irqbalance, or stop it",
                shards::numbers(&ground.shards)
            ),
        ),
        false if runs => Item::ok(
            "irqbalance",
            "runs",
            "it spreads interrupts over the shards' cores",
        ),
        false => Item::ok("irqbalance", "does not run", why),
    }
}
