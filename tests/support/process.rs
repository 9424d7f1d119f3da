//! Child processes that end: every one has a deadline and is killed when its owner goes.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::wait;

/// What a finished process left.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Kills and reaps its process when it goes.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // an error means that it has ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the process has ended.
pub fn reap(child: &mut Child, limit: Duration, what: &str) -> Result<ExitStatus> {
    wait::until(limit, &format!("{what} to end"), || Ok(child.try_wait()?))
}

/// Runs a command to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let name = format!("{:?}", command.get_program());
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut child = Guard(child);
    let mut stdin = child.0.stdin.take().context("stdin is piped")?;
    let mut stdout = child.0.stdout.take().context("stdout is piped")?;
    let mut stderr = child.0.stderr.take().context("stderr is piped")?;
    thread::scope(|scope| {
        scope.spawn(move || {
            // a process may end without having read all
            let _ = stdin.write_all(input);
        });
        let out = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let err = scope.spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let ended = reap(&mut child.0, limit, &name);
        drop(child); // closes the pipes, so that the readers end too
        let stdout = out.join().expect("a reader does not panic")?;
        let stderr = err.join().expect("a reader does not panic")?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        match ended {
            Ok(status) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            Err(e) => bail!(
                "{e}; it wrote: {}{stderr}",
                String::from_utf8_lossy(&stdout)
            ),
        }
    })
}

/// Runs a command that must succeed.
pub fn run_ok(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let output = run(command, input, limit)?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            output.status,
            output.text(),
            output.stderr
        );
    }
    Ok(output)
}
