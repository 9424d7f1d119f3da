//! The README's section on configuration is made from the table; this test keeps it true.

use std::fmt::Write;

use super::*;

const BEGIN: &str =
    "<!-- configuration: made from src/base/config/table, see src/base/config/readme.rs -->\n";
const END: &str = "<!-- end of configuration -->\n";

fn row(out: &mut String, p: &Property) {
    let default = match p.default {
        None => "not set".to_owned(),
        Some("9223372036854775807") => "no limit".to_owned(),
        Some("2147483647") => "no limit".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    let name = match p.topic_name() {
        Some(topic) if topic != p.name => format!("`{}`<br>topic: `{topic}`", p.name),
        Some(_) => format!("`{}`<br>topic too", p.name),
        None => format!("`{}`", p.name),
    };
    writeln!(
        out,
        "| {name} | {default} | {} | {} |",
        p.kind.describe(),
        p.doc
    )
    .unwrap();
}

fn table(out: &mut String, rows: impl Iterator<Item = &'static Property>) {
    out.push_str("\n| property | default | values | meaning |\n|---|---|---|---|\n");
    rows.for_each(|p| row(out, p));
}

fn names(rows: impl Iterator<Item = &'static Property>) -> String {
    let names: Vec<String> = rows.map(|p| format!("`{}`", p.name)).collect();
    names.join(", ")
}

fn section() -> String {
    let mut out = String::from(BEGIN);
    out.push_str(
        "\nThe broker reads a `server.properties` as Kafka writes it, then the environment \
         (`CORELANE_` and the name in capitals with `_` for `.`: `CORELANE_LOG_DIRS`, \
         `CORELANE_FLUSH_POLICY`), then `--override key=value`; the later wins. Names of ours begin \
         with `corelane.`, which may be left out. A wrong value is refused with its file, line and \
         what is allowed; an unknown name is reported with the nearest known one.\n\n\
         What Kafka does not have:\n",
    );
    table(&mut out, properties().filter(|p| p.is_ours()));
    out.push_str("\nWhat Kafka has, with its names and meanings:\n");
    let served = |p: &&Property| p.status == Status::Served && !p.is_ours();
    table(&mut out, properties().filter(served));
    let later = properties().filter(|p| p.status == Status::Later && p.scope != Scope::Topic);
    write!(
        out,
        "\nChecked and kept, for what is still to come: {}.\n",
        names(later)
    )
    .unwrap();
    let void = properties().filter(|p| matches!(p.status, Status::Void(_)));
    write!(
        out,
        "\nAccepted without effect, as a start says with the reason: {}.\n\n",
        names(void)
    )
    .unwrap();
    out.push_str(END);
    out
}

#[test]
fn the_readme_lists_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let begin = readme.find(BEGIN).expect("the section's first line");
    let end = readme.find(END).expect("the section's last line") + END.len();
    let wanted = section();
    if readme[begin..end] == wanted {
        return;
    }
    if std::env::var_os("CORELANE_BLESS").is_some() {
        let new = format!("{}{wanted}{}", &readme[..begin], &readme[end..]);
        std::fs::write(path, new).unwrap();
        return;
    }
    panic!("the README's configuration is not the table's: run with CORELANE_BLESS=1");
}
