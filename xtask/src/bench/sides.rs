//! The two processes, each run on one input file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use karpenter_bench::Measured;
use karpenter_harness::scheduling_peer;

use crate::{cargo, shown};

pub(super) struct Sides {
    ours: PathBuf,
    peer: Option<PathBuf>,
}

impl Sides {
    /// Builds both; what they say goes to stderr, so that `--json` is nothing but JSON.
    pub(super) fn ready(root: &Path, with_peer: bool) -> anyhow::Result<Self> {
        eprintln!("building our side");
        shown(cargo().current_dir(root).args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "karpenter-bench",
        ]))?;
        let executable = std::env::current_exe()?;
        let target = executable.ancestors().nth(2).context("this program lies in no target folder")?;
        let peer = with_peer.then(|| scheduling_peer(&|line| eprintln!("{line}"))).transpose()?;
        Ok(Self { ours: target.join("release/karpenter-bench"), peer })
    }

    pub(super) fn ours(&self, input: &Path) -> anyhow::Result<Measured> {
        run(Command::new(&self.ours).arg(input))
    }

    /// Nothing if there is no peer, or if it took too long.
    pub(super) fn peer(&self, input: &Path, limit: Duration, workers: usize) -> anyhow::Result<Option<Measured>> {
        let Some(peer) = &self.peer else {
            return Ok(None);
        };
        let mut command = Command::new(peer);
        command.arg("--input").arg(input).args(["--workers", &workers.to_string()]);
        command.args(["--limit", &format!("{}ms", limit.as_millis())]);
        let measured = run(&mut command)?;
        if measured.timed_out {
            eprintln!("   the peer gave up after {} s (--peer-limit)", limit.as_secs());
        }
        Ok(Some(measured).filter(|measured| !measured.timed_out))
    }
}

fn run(command: &mut Command) -> anyhow::Result<Measured> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).with_context(|| format!("{command:?}: found {said:?}, expected one line of figures"))
}
