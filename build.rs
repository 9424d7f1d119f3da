//! Generates Kafka's messages from `src/wire/schema/*.schema`, and tells measurements what they
//! measure: how this was built, and the sources of the floor programs.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[path = "src/wire/schema/emit.rs"]
mod emit;
#[path = "src/wire/schema/parse.rs"]
mod parse;

fn main() {
    let folder = Path::new("src/wire/schema");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut schema = parse::Schema::default();
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let fail = |name: &str, problem: String| -> ! { panic!("{name}: {problem}") };
    if let Err(problem) = schema.read_apis(&read("apis.schema")) {
        fail("apis.schema", problem);
    }
    for name in ["cluster.schema", "data.schema"] {
        if let Err(problem) = schema.read_messages(&read(name)) {
            fail(name, problem);
        }
    }
    if let Err(problem) = schema.check() {
        fail("schema", problem);
    }
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let write = |name: &str, text: String| {
        fs::write(Path::new(&out).join(name), text).unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    write("apis.rs", emit::apis(&schema));
    write("messages.rs", emit::messages(&schema));
    tell_of_the_build();
    tell_of_the_floor();
}

/// What a run of cargo sees too: no name may begin as the broker's properties do (`CORELANE_`).
/// `BUILT_BY` is the compiler and its version, `BUILT_FOR` what it compiles for, and
/// `BUILT_AS` both with the level of optimization.
fn tell_of_the_build() {
    let var = |name: &str| env::var(name).unwrap_or_default();
    let said = Command::new(var("RUSTC")).arg("--version").output();
    let said = said.unwrap_or_else(|e| panic!("{} --version: {e}", var("RUSTC")));
    let said = String::from_utf8_lossy(&said.stdout);
    let rustc: Vec<&str> = said.split_whitespace().take(2).collect();
    let rustc = rustc.join(" ");
    let target = format!("{} {}", var("TARGET"), var("CARGO_CFG_TARGET_FEATURE"));
    // flags are parted by a byte that is no character
    let flags = var("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    let target = format!("{target} {flags}").trim_end().to_owned();
    let build = format!("{rustc} {target} opt-level {}", var("OPT_LEVEL"));
    println!("cargo::rustc-env=BUILT_BY={rustc}");
    println!("cargo::rustc-env=BUILT_FOR={target}");
    println!("cargo::rustc-env=BUILT_AS={build}");
}

/// `FLOOR_SUM` is a sum of the sources of `benches/floor` (FNV-1a), without the floor that is a peer of
/// comparisons and no yardstick of `bench regress`.
fn tell_of_the_floor() {
    let folder = Path::new("benches/floor");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files = files.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|path| !path.ends_with("kafka.rs")).collect();
    files.sort();
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for byte in bytes {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=FLOOR_SUM={sum:016x}");
}
