//! Generates Kafka's messages from `src/wire/schema/*.schema`.

use std::path::Path;
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
}
