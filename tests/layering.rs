//! Holds the layers of the architecture: imports point down only, and what would make a run
//! depend on more than its seed stays in the layers that own it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// From the top to the bottom. A layer may import itself and what stands after it.
const LAYERS: [&str; 10] = [
    "cli",
    "admin",
    "broker",
    "coordinator",
    "replica",
    "metadata",
    "log",
    "wire",
    "ring",
    "base",
];

/// Paths that only the named layers or files may write, with the reason that a reader is shown.
const RESERVED: [(&[&str], &[&str], &str); 8] = [
    (
        &["Instant", "now"],
        &["ring", "cli"],
        "the ring gives the time",
    ),
    (
        &["SystemTime", "now"],
        &["ring", "cli"],
        "the ring gives the time",
    ),
    (
        &["thread", "sleep"],
        &["ring", "cli"],
        "wait on the ring's timers",
    ),
    (
        &["collections", "HashMap"],
        &["ring", "cli", "base/map.rs"],
        "use base::map::Map: the same seed must give the same run",
    ),
    (
        &["collections", "HashSet"],
        &["ring", "cli", "base/map.rs"],
        "use base::map::Set: the same seed must give the same run",
    ),
    (
        &["hash_map", "RandomState"],
        &["ring", "cli"],
        "use base::map: the same seed must give the same run",
    ),
    (
        &["nix", "libc"],
        &["ring"],
        "system calls belong to the ring's drivers",
    ),
    (
        &["libc"],
        &["ring"],
        "system calls belong to the ring's drivers",
    ),
];

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

/// Splits Rust source into words and marks; comments, strings, characters and lifetimes are left
/// out, so that prose never counts as an import.
fn tokens(source: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = source.chars().collect();
    let mut out = Vec::new();
    let mut line = 1;
    let mut at = 0;
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let c = chars[at];
        if c == '\n' {
            line += 1;
            at += 1;
        } else if c == '/' && peek(at + 1) == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && peek(at + 1) == '*' {
            let mut depth = 0;
            while at < chars.len() {
                if peek(at) == '/' && peek(at + 1) == '*' {
                    depth += 1;
                    at += 2;
                } else if peek(at) == '*' && peek(at + 1) == '/' {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    line += usize::from(chars[at] == '\n');
                    at += 1;
                }
            }
        } else if let Some((hashes, open)) = raw_string(&chars, at) {
            at = open;
            while at < chars.len() {
                let closes = chars[at] == '"' && (1..=hashes).all(|n| peek(at + n) == '#');
                line += usize::from(chars[at] == '\n');
                at += 1;
                if closes {
                    at += hashes;
                    break;
                }
            }
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                line += usize::from(chars[at] == '\n');
                at += if chars[at] == '\\' && peek(at + 1) != '\n' {
                    2
                } else {
                    1
                };
            }
            at += 1;
        } else if c == '\'' {
            // a character ends with a quote, a lifetime does not
            if peek(at + 1) == '\\' {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            } else if peek(at + 2) == '\'' {
                at += 3;
            } else {
                at += 1;
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = at;
            while peek(at).is_alphanumeric() || peek(at) == '_' {
                at += 1;
            }
            out.push((line, Token::Word(chars[start..at].iter().collect())));
        } else if c == ':' && peek(at + 1) == ':' {
            out.push((line, Token::Path));
            at += 2;
        } else {
            if !c.is_whitespace() {
                out.push((line, Token::Mark(c)));
            }
            at += 1;
        }
    }
    out
}

/// The number of hashes and the place after the opening quote of a raw string that begins here.
fn raw_string(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if word_before {
        return None;
    }
    let mut next = at + usize::from(chars[at] == 'b');
    if chars.get(next) != Some(&'r') {
        return None;
    }
    next += 1;
    let hashes = chars[next..].iter().take_while(|c| **c == '#').count();
    (chars.get(next + hashes) == Some(&'"')).then_some((hashes, next + hashes + 1))
}

/// Every path of the source, braces of `use` lists multiplied out: `use a::{b, c::d}` gives
/// `a::b` and `a::c::d`.
fn paths(source: &str) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].1 {
            Token::Word(_) => at = path_from(&tokens, at, &[], &mut out),
            _ => at += 1,
        }
    }
    out
}

/// Reads one path, or one tree of a `use` list, that begins at a word; answers where it ends.
fn path_from(
    tokens: &[(usize, Token)],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens[at].0;
    while let Some((_, Token::Word(word))) = tokens.get(at) {
        path.push(word.clone());
        at += 1;
        if tokens.get(at).map(|t| &t.1) != Some(&Token::Path) {
            break;
        }
        at += 1;
        if tokens.get(at).map(|t| &t.1) == Some(&Token::Mark('{')) {
            at += 1;
            while at < tokens.len() && tokens[at].1 != Token::Mark('}') {
                at = match &tokens[at].1 {
                    Token::Word(_) => path_from(tokens, at, &path, out),
                    _ => at + 1,
                };
            }
            return at + 1;
        }
    }
    out.push((line, path));
    at
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|l| *l == layer)
}

/// Judges one file. `file` is relative to `src/`; files directly in `src/` stand above all.
fn violations(file: &Path, source: &str) -> Vec<Violation> {
    let folders: Vec<&str> = file
        .iter()
        .map(|part| part.to_str().expect("source paths are UTF-8"))
        .collect();
    let layer = folders[0];
    let own_rank = rank(layer).unwrap_or(0);
    // how many `super` lead from this file's module to the crate's root
    let depth = folders.len() - usize::from(file.ends_with("mod.rs"));
    let mut out = Vec::new();
    for (line, path) in paths(source) {
        let supers = path.iter().take_while(|p| *p == "super").count();
        let target = match path.first().map(String::as_str) {
            Some("crate" | "corelane") => path.get(1),
            Some("super") if supers >= depth => path.get(supers),
            _ => None,
        };
        let above = target.filter(|t| rank(t).is_some_and(|r| r < own_rank));
        if let Some(target) = above {
            out.push(Violation {
                file: file.to_owned(),
                line,
                what: format!("{layer} imports {target}, which stands above it"),
            });
        }
        for (words, owners, reason) in RESERVED {
            let named = path.windows(words.len()).any(|w| w == words);
            // `libc` counts only as a crate, not as a field or a module of that name
            let named = named && (words.len() > 1 || (path[0] == words[0] && path.len() > 1));
            let owned = owners.iter().any(|o| *o == layer || file == Path::new(o));
            if named && !owned {
                out.push(Violation {
                    file: file.to_owned(),
                    line,
                    what: format!("{} in {layer}: {reason}", words.join("::")),
                });
            }
        }
    }
    out
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn imports_point_down_and_the_ring_alone_touches_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    assert!(files.len() > 10, "found only {} source files", files.len());
    let mut found = Vec::new();
    for file in &files {
        let source = fs::read_to_string(file).expect("a source file can be read");
        let inside = file.strip_prefix(&root).expect("listed under src");
        found.extend(violations(inside, &source));
    }
    let lines: Vec<String> = found.iter().map(|v| format!("src/{v}")).collect();
    assert!(found.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn every_folder_of_the_source_is_a_known_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("UTF-8");
        assert!(
            !path.is_dir() || rank(name).is_some(),
            "src/{name} is not in the list of layers"
        );
    }
}

fn judged(file: &str, source: &str) -> Vec<String> {
    violations(Path::new(file), source)
        .into_iter()
        .map(|v| format!("{}: {}", v.line, v.what))
        .collect()
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    let broker = "log imports broker, which stands above it";
    for source in [
        "use crate::broker::shard::Shard;",
        "use crate::{base::ids, broker::shard};",
        "use crate::{\n    base::{ids, time},\n    broker,\n};",
        "fn f() { crate::broker::start(); }",
        "fn f<'a>(x: &'a crate::broker::Shard) {}",
        "use super::super::broker::Shard;",
        "pub(crate) use crate::broker as b;",
    ] {
        let found = judged("log/segment.rs", source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found[0].ends_with(broker), "{source}: {found:?}");
    }
    assert_eq!(
        judged("log/mod.rs", "//! x\nuse super::broker::Shard;"),
        [format!("2: {broker}")]
    );
    assert_eq!(
        judged("log/a/b.rs", "use super::super::super::broker;").len(),
        1
    );
}

#[test]
fn downward_imports_comments_and_strings_are_left_alone() {
    let source = r###"
        //! Called by `crate::broker::shard`.
        use crate::base::ids::Offset; /* use crate::cli::main; */
        use crate::wire::{batch, frame};
        use super::broker_like::X;
        const S: &str = "crate::broker::Shard";
        const R: &str = r#"use crate::cli::"x";"#;
        const C: char = '"';
        fn f<'a>(x: &'a str) -> char { '\'' }
        use std::collections::BTreeMap;
    "###;
    assert_eq!(judged("log/segment.rs", source), Vec::<String>::new());
}

#[test]
fn clocks_sleeps_random_maps_and_libc_are_found_outside_their_layers() {
    for source in [
        "let t = std::time::Instant::now();",
        "let t = Instant::now();",
        "let t = SystemTime::now();",
        "std::thread::sleep(d);",
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashMap};",
        "use std::{collections::{HashSet, BTreeSet}, io};",
        "unsafe { libc::close(fd) };",
        "use libc::{open, close};",
        "use nix::libc::close;",
    ] {
        assert!(!judged("log/segment.rs", source).is_empty(), "{source}");
        assert!(judged("ring/uring.rs", source).is_empty(), "{source}");
    }
    assert!(!judged("cli/serve.rs", "libc::close(3);").is_empty());
    assert!(judged("cli/serve.rs", "Instant::now();").is_empty());
}
