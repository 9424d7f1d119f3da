//! Memory: how much there is, and what the kernel does with it behind the broker's back.

use crate::cli::serve::shards;
use crate::cli::tune::check::Ground;
use crate::cli::tune::check::item::{Item, sysctl};
use crate::cli::tune::granted::{meminfo, memory};

const THP: &str = "/sys/kernel/mm/transparent_hugepage";

pub fn items(ground: &Ground) -> Vec<Item> {
    vec![
        size(ground),
        commit(ground),
        swap(ground),
        huge_pages(ground),
        sysctl(
            ground.system,
            "vm.zone_reclaim_mode",
            "0",
            |found| found == "0",
            "readers that are behind are served from the page cache: it is thrown away here as soon \
             as one node is full, though others have room",
        ),
    ]
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// What all shards may take together.
fn buffers(ground: &Ground, machine: u64) -> u64 {
    let shards = u16::try_from(ground.shards.len()).unwrap_or(u16::MAX);
    shards::memory(ground.config.memory, machine, shards)
}

fn size(ground: &Ground) -> Item {
    let name = "memory";
    let why = "buffers come from corelane.memory.bytes; the page cache, out of which readers that \
               are behind are served, has the rest, and counts against a container's limit";
    let Some(machine) = memory(ground.system) else {
        return Item::unknown(name, "/proc/meminfo");
    };
    let buffers = buffers(ground, machine);
    let found = format!("{} for buffers of {}", gib(buffers), gib(machine));
    if buffers > machine {
        let todo = "lower corelane.memory.bytes, or raise the limit";
        return Item::must(
            name,
            found,
            "the kernel kills a broker that fills its buffers",
            todo,
        );
    }
    match buffers > machine / 2 {
        true => Item::should(
            name,
            found,
            why,
            "lower corelane.memory.bytes to half of it at most (each shard has 32 MiB at least)",
        ),
        false => Item::ok(name, found, why),
    }
}

fn commit(ground: &Ground) -> Item {
    const NAME: &str = "vm.overcommit_memory";
    let why = "shards map the address space of their buffers at the start; memory is taken when it \
               is first used";
    match ground.system.sysctl(NAME).as_deref() {
        None => Item::unknown(NAME, "/proc/sys/vm/overcommit_memory"),
        Some("2") => {
            let of_machine = |field| meminfo(ground.system, field);
            let free = of_machine("CommitLimit").zip(of_machine("Committed_AS"));
            let free = free.map(|(limit, used)| limit.saturating_sub(used));
            // a quarter more than the buffers is mapped
            let mapped = memory(ground.system).map(|machine| buffers(ground, machine) / 4 * 5);
            match free.zip(mapped) {
                Some((free, mapped)) if mapped <= free => {
                    Item::ok(NAME, format!("2; {} are left to commit", gib(free)), why)
                }
                Some((free, mapped)) => Item::must(
                    NAME,
                    format!(
                        "2; {} are left to commit, {} are mapped",
                        gib(free),
                        gib(mapped)
                    ),
                    "the kernel counts all that is mapped: the broker does not start",
                    "sysctl -w vm.overcommit_memory=0, or lower corelane.memory.bytes",
                ),
                None => Item::unknown(NAME, "CommitLimit of /proc/meminfo"),
            }
        }
        Some(mode) => Item::ok(NAME, mode, why),
    }
}

fn swap(ground: &Ground) -> Item {
    const NAME: &str = "vm.swappiness";
    let Some(swaps) = ground.system.text("/proc/swaps") else {
        return Item::unknown("swap", "/proc/swaps");
    };
    let count = swaps.lines().skip(1).count();
    if count == 0 {
        return Item::ok("swap", "none", "buffers stay in memory");
    }
    let why = "a shard that touches a buffer which was swapped out stands still, with all its \
               partitions, until the page is read: milliseconds in every latency";
    let calm = |found: &str| found.parse::<u32>().is_ok_and(|n| n <= 1);
    let mut item = sysctl(ground.system, NAME, "1", calm, why);
    item.found = format!("{} with {count} in use", item.found);
    item
}

fn huge_pages(ground: &Ground) -> Item {
    let name = "transparent huge pages";
    let setting = |what: &str| ground.system.setting(&format!("{THP}/{what}"));
    let Some(enabled) = setting("enabled") else {
        if !ground.system.exists("/sys/kernel/mm") || ground.system.exists(THP) {
            return Item::unknown(name, &format!("{THP}/enabled"));
        }
        return Item::ok(name, "not in this kernel", "the broker asks for none");
    };
    let defrag = setting("defrag").unwrap_or_default();
    let found = format!("{enabled}, defrag {defrag}");
    if enabled != "always" {
        return Item::ok(
            name,
            found,
            "the broker asks for none: buffers are pages of 4 KiB",
        );
    }
    Item::should(
        name,
        found,
        "the first byte in a buffer of 4 KiB clears 2 MiB on the shard's core, and may wait until \
         the kernel has moved memory together; resident memory grows to whole huge pages",
        format!("echo madvise > {THP}/enabled"),
    )
    .by(format!("{THP}/enabled"), "madvise")
}
