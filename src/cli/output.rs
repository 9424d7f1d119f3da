//! What people and programs read.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::cli::args::Color;

/// How to write.
pub struct Output {
    pub json: bool,
    colour_out: bool,
    colour_err: bool,
}

impl Output {
    pub fn new(json: bool, color: Color) -> Output {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Output {
            json,
            colour_out: wanted(io::stdout().is_terminal()) && !json,
            colour_err: wanted(io::stderr().is_terminal()),
        }
    }

    /// Says what failed, on one line, and where it came from.
    pub fn error(&self, error: &anyhow::Error) {
        let word = paint("error", "1;31", self.colour_err);
        eprintln!("{word}: {}", chain(error));
    }

    /// A remark that is no data.
    pub fn note(&self, text: &str) {
        eprintln!("{}", paint(text, "2", self.colour_err));
    }

    /// An object on a line of its own.
    pub fn object(&self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{value}")
    }

    /// A line of text.
    pub fn line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// One of many: a line for people, an object for programs.
    pub fn item(
        &self,
        line: &impl Display,
        object: impl FnOnce() -> serde_json::Value,
    ) -> io::Result<()> {
        match self.json {
            true => self.object(&object()),
            false => self.line(&line.to_string()),
        }
    }

    /// A heading on a terminal.
    pub fn strong(&self, text: &str) -> String {
        paint(text, "1", self.colour_out)
    }

    /// Rows under a heading, aligned; the last column is as wide as it likes.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            line.trim_end().to_owned()
        };
        let mut out = io::stdout().lock();
        let heading = line(&mut head.iter().copied());
        writeln!(out, "{}", paint(&heading, "1", self.colour_out))?;
        for row in rows {
            writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// An error and its causes on one line; those that a message before quotes already are left out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// `1 record`, `2 records`.
pub fn counted(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_is_said_once() {
        let io = || io::Error::other("the disk is gone");
        let quoting = Err::<(), _>(anyhow::anyhow!("can't write: {}", io()));
        let plain = Err::<(), _>(io()).context("can't write");
        assert_eq!(chain(&plain.unwrap_err()), "can't write: the disk is gone");
        let quoting = quoting.context("stopped").unwrap_err();
        assert_eq!(chain(&quoting), "stopped: can't write: the disk is gone");
        let twice = anyhow::Error::new(io()).context("failed: the disk is gone");
        assert_eq!(chain(&twice), "failed: the disk is gone");
    }
}
