//! Apache Kafka from its jars: its command-line tools on a broker under test, and its server in
//! the place of ours.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ports;
use super::process::{Output, run, run_ok};

/// The longest run of one tool.
pub const TOOL_LIMIT: Duration = Duration::from_secs(90);

/// Where `tests/run` puts what it downloads.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache")
}

/// The class path of Kafka's jars, or why there is none.
pub fn class_path() -> Result<String> {
    let jars = cache().join("jars");
    ensure!(
        fs::read_dir(&jars).is_ok_and(|mut d| d.next().is_some()),
        "Kafka's jars are not installed (tests/run does it)"
    );
    let java = Command::new("java").arg("-version").output();
    ensure!(
        java.is_ok_and(|o| o.status.success()),
        "java is not installed (tests/run does it)"
    );
    Ok(jars.join("*").display().to_string())
}

/// A JVM with Kafka's jars that is short-lived: little memory, no optimising compiler.
pub fn java() -> Result<Command> {
    let mut command = Command::new("java");
    command
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-cp")
        .arg(class_path()?);
    Ok(command)
}

/// Runs one of Kafka's tools by its class to a good end; answers what it printed.
pub fn tool(class: &str, args: &[&str]) -> Result<String> {
    let output = run_ok(java()?.arg(class).args(args), b"", TOOL_LIMIT)?;
    Ok(output.text())
}

/// Runs one of Kafka's tools to any end.
pub fn tool_output(class: &str, args: &[&str]) -> Result<Output> {
    run(java()?.arg(class).args(args), b"", TOOL_LIMIT)
}

/// The id of every cluster that tests format.
pub const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// The configuration of Apache Kafka as one node that is broker and controller.
pub fn properties(address: &str, controller: &str, data: &str) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={data}\n\
         offsets.topic.replication.factor=1\n"
    )
}

/// The command that runs Apache Kafka as one node with its data under `home`.
pub fn server(home: &Path, address: SocketAddr) -> Result<Command> {
    let file = home.join("server.properties");
    if !file.exists() {
        let controller = format!("127.0.0.1:{}", ports::free(1)?);
        let data = home.join("data").display().to_string();
        fs::write(&file, properties(&address.to_string(), &controller, &data))?;
        let file = file.to_str().context("a temporary path is UTF-8")?;
        tool(
            "kafka.tools.StorageTool",
            &["format", "-t", CLUSTER_ID, "-c", file],
        )?;
    }
    let mut command = Command::new("java");
    command
        .args(["-Xmx768m", "-cp", &class_path()?, "kafka.Kafka"])
        .arg(file);
    Ok(command)
}
