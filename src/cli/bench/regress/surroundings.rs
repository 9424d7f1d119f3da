//! What ratios were measured on, and what of it differs from the baseline's.

use serde_json::{Value, json};

use super::Regress;
use crate::cli::bench::setup;
use crate::cli::disk::Disk;

/// Where they differ, times are the machine's: how long a flush takes says nothing of the build.
const MACHINE: [&str; 5] = ["cpu", "cpus", "kernel", "file_system", "ext4_journal"];
/// Where they differ, other things were measured.
const METHOD: [&str; 5] = ["optimized", "seconds", "pairs", "ring_bytes", "floor"];

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Machine,
    Method,
}

/// One thing that is not as in the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub kind: Kind,
    pub name: &'static str,
    pub baseline: Value,
    pub here: Value,
}

impl Difference {
    pub fn told(&self) -> String {
        format!("{} {} (here {})", self.name, self.baseline, self.here)
    }

    pub fn object(&self) -> Value {
        json!({ "name": self.name, "baseline": self.baseline, "here": self.here })
    }
}

/// The machine, and how it measures.
pub fn here(options: &Regress) -> Value {
    let disk = Disk::of(&options.dir);
    let mut setup = setup::machine();
    setup["file_system"] = json!(disk.file_system);
    setup["ext4_journal"] = json!(disk.ext4_journal());
    setup["optimized"] = json!(!cfg!(debug_assertions));
    setup["seconds"] = json!(options.seconds.as_secs_f64());
    setup["pairs"] = json!(options.pairs);
    setup["ring_bytes"] = json!(options.ring_bytes);
    // its sources: another yardstick gives other ratios
    setup["floor"] = json!(env!("FLOOR_SUM"));
    setup
}

/// What of the baseline's setup is not so here.
pub fn differences(baseline: &Value, here: &Value) -> Vec<Difference> {
    let machine = MACHINE.map(|name| (Kind::Machine, name));
    let method = METHOD.map(|name| (Kind::Method, name));
    machine
        .into_iter()
        .chain(method)
        .filter(|(_, name)| baseline[*name] != here[*name])
        .map(|(kind, name)| Difference {
            kind,
            name,
            baseline: baseline[name].clone(),
            here: here[name].clone(),
        })
        .collect()
}

/// In words.
pub fn told(differences: &[Difference]) -> String {
    let each: Vec<String> = differences.iter().map(Difference::told).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_disk_is_another_machine_and_other_seconds_are_another_method() {
        let kept = json!({ "cpu": "a", "file_system": "xfs", "seconds": 2.0, "version": "1" });
        let here = json!({ "cpu": "a", "file_system": "ext4", "seconds": 3.0, "version": "2" });
        let found = differences(&kept, &here);
        assert_eq!(
            told(&found),
            "file_system \"xfs\" (here \"ext4\"), seconds 2.0 (here 3.0)"
        );
        assert_eq!(
            (found[0].kind, found[1].kind),
            (Kind::Machine, Kind::Method)
        );
        assert!(differences(&kept, &kept).is_empty());
    }
}
