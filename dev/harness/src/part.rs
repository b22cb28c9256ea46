//! A process of ours that says on one line of JSON when it is ready, and stops when its standard input closes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

/// How long a part may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Part {
    /// Starts it and waits for its line; what it writes to stderr goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let name = PathBuf::from(command.get_program());
        let mut child = command.spawn().with_context(|| format!("starting {}", name.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("its standard output is piped")?;
        let mut line = String::new();
        // It gives up by itself when it does not get ready; then the line is empty.
        BufReader::new(stdout).read_line(&mut line)?;
        let mut part = Self { child, stdin, ready: Value::Null };
        if line.is_empty() {
            part.stop();
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("{} did not get ready: {said}", name.display());
        }
        part.ready = serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", name.display()))?;
        Ok(part)
    }

    pub(crate) fn text(&self, field: &str) -> anyhow::Result<String> {
        let found = self.ready.get(field).and_then(Value::as_str);
        Ok(found.with_context(|| format!("{field}: expected text in {}", self.ready))?.to_owned())
    }

    fn stop(&mut self) {
        drop(self.stdin.take());
        if !ends(&mut self.child, STOP_WITHIN) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a process ends in time.
pub(crate) fn ends(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            _ => return false,
        }
    }
}
