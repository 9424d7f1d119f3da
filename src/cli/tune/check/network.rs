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
    let balanced = !ground.nics.is_empty() && runs_irqbalance(ground);
    for nic in &ground.nics {
        items.push(queues(ground, nic));
        items.push(steering(ground, nic));
        items.push(interrupts(ground, nic, balanced));
    }
    if !ground.nics.is_empty() {
        items.push(irqbalance(ground, balanced));
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
        let path = format!("/sys/class/net/{nic}/queues/rx-0/rps_cpus");
        let mask = ground.system.text(&path);
        mask.and_then(|mask| cores_of_mask(&mask))
            .is_some_and(|cores| !cores.is_empty())
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

/// The cores of a mask as the kernel writes it: words of 32 bits, the highest first.
fn cores_of_mask(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for (word, digits) in text.split(',').rev().enumerate() {
        let bits = u32::from_str_radix(digits.trim(), 16).ok()?;
        let set = (0..32).filter(|bit| (bits >> bit) & 1 == 1);
        cores.extend(set.map(|bit| word * 32 + bit as usize));
    }
    Some(cores)
}

fn steering(ground: &Ground, nic: &str) -> Item {
    let name = format!("{nic}: send queues (XPS)");
    let all = names(ground, nic, "tx-");
    let why = "each core sends through a queue of its own, without a lock between them";
    let path = |queue: &str| format!("/sys/class/net/{nic}/queues/{queue}/xps_cpus");
    match all.len() {
        0 => return Item::unknown(name, &format!("/sys/class/net/{nic}/queues")),
        1 => return Item::ok(name, "1 queue", "there is nothing to choose"),
        _ => {}
    }
    let masks = all
        .iter()
        .map(|queue| cores_of_mask(&ground.system.text(&path(queue))?));
    let Some(masks) = masks.collect::<Option<Vec<Vec<usize>>>>() else {
        return Item::unknown(name, &path("tx-*"));
    };
    let shards = &ground.shards;
    let without: Vec<usize> = shards
        .iter()
        .copied()
        .filter(|core| !masks.iter().any(|mask| mask.contains(core)))
        .collect();
    let of_mask = |mask: &Vec<usize>| shards.iter().filter(|core| mask.contains(core)).count();
    let shared = masks.iter().filter(|mask| of_mask(mask) > 1).count();
    let count = all.len();
    let todo = format!("echo a mask of cores into each {}", path("tx-*"));
    if !without.is_empty() {
        let found = format!(
            "none of {count} bound to cores {}",
            shards::numbers(&without)
        );
        Item::should(name, found, why, todo)
    } else if shared > 0 && count >= shards.len() {
        let found = format!("{shared} of {count} are shared by shards");
        Item::should(name, found, why, todo)
    } else {
        Item::ok(name, format!("{count} for {} shards", shards.len()), why)
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

/// Where the interrupts of a card are best.
#[derive(Debug, PartialEq, Eq)]
pub enum Spread {
    /// All on these, which have no shard and are many enough.
    Off(Vec<usize>),
    /// One core each in turn: the shards share the work.
    Over(Vec<usize>),
}

/// Cores without a shard that are near the card take its queues if each of these can have one: fewer
/// would be the bottleneck of all shards.
fn spread(queues: usize, spare_near: Vec<usize>, shards: &[usize]) -> Spread {
    match !spare_near.is_empty() && spare_near.len() >= queues {
        true => Spread::Off(spare_near),
        false => Spread::Over(shards.to_vec()),
    }
}

/// See [`spread`].
pub fn interrupt_cores(ground: &Ground, nic: &str) -> Spread {
    let node = ground.node_of(&format!("/sys/class/net/{nic}/device"));
    let near = node.and_then(|node| {
        let path = format!("/sys/devices/system/node/node{node}/cpulist");
        ground.system.numbers(&path)
    });
    let is_near = |core: &usize| near.as_ref().is_none_or(|near| near.contains(core));
    let spare = ground.spare.iter().copied().filter(is_near).collect();
    let queues = match names(ground, nic, "rx-").len() {
        0 => irqs(ground, nic).len(),
        queues => queues,
    };
    spread(queues, spare, &ground.shards)
}

fn interrupts(ground: &Ground, nic: &str, balanced: bool) -> Item {
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
    if known.is_empty() || ground.shards.is_empty() {
        return Item::unknown(
            name,
            "its interrupts (device/msi_irqs, /proc/irq), or the shards' cores",
        );
    }
    let mut cores: Vec<usize> = known.iter().flat_map(|(_, cores)| cores.clone()).collect();
    cores.sort_unstable();
    cores.dedup();
    let found = format!("{} on cores {}", known.len(), shards::numbers(&cores));
    let (is_good, why, to): (bool, &str, Vec<String>) = match interrupt_cores(ground, nic) {
        Spread::Off(spare) => (
            !cores.iter().any(|core| ground.shards.contains(core)),
            "an interrupt stops the shard on its core; the cores without a shard can take them all",
            vec![shards::numbers(&spare)],
        ),
        Spread::Over(shards) => (
            // a card has interrupts besides those of its queues
            cores.len() * 2 > known.len().min(shards.len()),
            "without a near core to spare for each queue interrupts are best spread over the shards: \
             a core that has them all is the slowest",
            shards.iter().map(usize::to_string).collect(),
        ),
    };
    if is_good {
        return Item::ok(name, found, why);
    }
    let todo = match &to[..] {
        [all] => format!("echo {all} > /proc/irq/N/smp_affinity_list for each of them"),
        _ => "one core each in turn into /proc/irq/N/smp_affinity_list".to_owned(),
    };
    if balanced {
        let todo = format!("see irqbalance first, which would undo it; then {todo}");
        return Item::should(name, found, why, todo);
    }
    let item = Item::should(name, found, why, todo);
    let turn = to.iter().cycle();
    known
        .iter()
        .zip(turn)
        .fold(item, |item, ((irq, _), to)| item.by(path(irq), to))
}

fn runs_irqbalance(ground: &Ground) -> bool {
    let pids = ground.system.names("/proc");
    let mut pids = pids
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let comm = |pid: &String| ground.system.text(&format!("/proc/{pid}/comm"));
    pids.any(|pid| comm(pid).as_deref() == Some("irqbalance"))
}

fn irqbalance(ground: &Ground, runs: bool) -> Item {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_cores_take_interrupts_only_if_they_are_enough() {
        let shards: Vec<usize> = (0..31).collect();
        assert_eq!(spread(31, vec![31], &shards), Spread::Over(shards.clone()));
        assert_eq!(spread(1, vec![31], &shards), Spread::Off(vec![31]));
        assert_eq!(spread(0, vec![], &[4]), Spread::Over(vec![4]));
    }

    #[test]
    fn masks_have_their_lowest_cores_last() {
        assert_eq!(cores_of_mask("5"), Some(vec![0, 2]));
        assert_eq!(cores_of_mask("00000001,80000000"), Some(vec![31, 32]));
        assert_eq!(cores_of_mask("0,00000000"), Some(vec![]));
        assert_eq!(cores_of_mask(""), None);
    }
}
