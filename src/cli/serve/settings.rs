//! From files, environment and flags to a configuration.

use std::fs;

use anyhow::{Context, anyhow};

use crate::base::config::{Inputs, Loaded};
use crate::cli::args::Settings;
use crate::cli::run::Usage;

/// Reads everything that configures a broker; flags win.
pub fn load(options: &Settings) -> anyhow::Result<Loaded> {
    let file = match options.config.as_ref().or(options.file.as_ref()) {
        None => None,
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("the configuration {} can't be read", path.display()))?;
            Some((path.display().to_string(), text))
        }
    };
    let inputs = Inputs {
        file,
        environment: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
        overrides: overrides(options)?,
        host_name: host_name(),
    };
    // what is wrong with it is wrong usage, not a failure
    crate::base::config::load(&inputs).map_err(|errors| Usage(errors.to_string()).into())
}

fn overrides(options: &Settings) -> anyhow::Result<Vec<String>> {
    let mut all = options.overrides.clone();
    let mut set = |key: &str, value: &str| all.push(format!("{key}={value}"));
    if !options.listen.is_empty() {
        let listeners: Result<Vec<String>, anyhow::Error> = options
            .listen
            .iter()
            .enumerate()
            .map(|(i, text)| listener(i, text))
            .collect();
        set("listeners", &listeners?.join(","));
    }
    if !options.data.is_empty() {
        let dirs: Vec<String> = options
            .data
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        set("log.dirs", &dirs.join(","));
    }
    if let Some(cores) = &options.cores {
        set("corelane.cores", cores);
    }
    if let Some(node_id) = options.node_id {
        set("node.id", &node_id.to_string());
    }
    if let Some(policy) = &options.flush_policy {
        set("corelane.flush.policy", policy);
    }
    Ok(all)
}

/// `host:port`, `:port`, `port`, or Kafka's `NAME://host:port`. An address that means every one
/// is left open, so that clients are told this machine's name.
fn listener(index: usize, text: &str) -> anyhow::Result<String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let bad = || anyhow!(Usage(format!("--listen {text}: host:port was expected")));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("127.0.0.1", text),
    };
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = match host {
        "0.0.0.0" | "[::]" | "*" => "",
        host => host,
    };
    let name = match index {
        0 => "PLAINTEXT".to_owned(),
        n => format!("PLAINTEXT{}", n + 1),
    };
    match index {
        0 => Ok(format!("{name}://{host}:{port}")),
        _ => Err(anyhow!(Usage(
            "several listeners need names: --override listeners=A://...,B://... and \
             listener.security.protocol.map"
                .into()
        ))),
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Arguments, Command, Settings};
    use clap::Parser;

    fn serve(arguments: &[&str]) -> Settings {
        let all = ["corelane", "serve"].iter().chain(arguments);
        match Arguments::parse_from(all).command {
            Command::Serve(options) => options.settings,
            _ => unreachable!("serve was asked for"),
        }
    }

    #[test]
    fn flags_become_properties_and_win_over_overrides() {
        let options = serve(&[
            "--override",
            "node.id=3",
            "--listen",
            "0.0.0.0:7",
            "--data",
            "a",
            "--data",
            "b",
            "--cores",
            "0,",
            "--node-id",
            "4",
        ]);
        let expected = [
            "node.id=3",
            "listeners=PLAINTEXT://:7",
            "log.dirs=a,b",
            "corelane.cores=0,",
            "node.id=4",
        ];
        assert_eq!(overrides(&options).unwrap(), expected);
    }

    #[test]
    fn addresses_may_be_short() {
        for (given, expected) in [
            ("9093", "PLAINTEXT://127.0.0.1:9093"),
            (":9093", "PLAINTEXT://:9093"),
            ("h:1", "PLAINTEXT://h:1"),
            ("[::1]:1", "PLAINTEXT://[::1]:1"),
            ("A://h:1", "A://h:1"),
        ] {
            assert_eq!(listener(0, given).unwrap(), expected);
        }
        assert!(listener(0, "h:x").is_err());
    }
}
