//! The controller's binary, as a user runs it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::janitor::Janitor;
use crate::part::ends;

/// Longer than the controller's own patience with what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// In 10⁶ bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub now: f64,
    /// The most it ever was.
    pub peak: f64,
}

/// A running controller; killed when dropped.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    janitor: Janitor,
    /// Where it writes its log.
    pub log: PathBuf,
}

impl Controller {
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{}", PathBuf::from(command.get_program()).display()))?;
        let janitor = Janitor::killing(child.id())?;
        Ok(Self { child, janitor, log })
    }

    /// SIGKILL: no last words.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.janitor.dismiss();
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        if !ends(&mut self.child, STOP_WITHIN) {
            bail!("the controller did not stop within {STOP_WITHIN:?}");
        }
        self.janitor.dismiss();
        Ok(self.child.wait()?)
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Processor time it has taken so far.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold anything; user and system time are the 14th and 15th field (proc(5)).
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // Linux tells them in hundredths of a second.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Where it serves a port, by the name of its setting.
    fn address(&self, port: &str) -> anyhow::Result<String> {
        let served = self.said().lines().rfind(|line| line.contains(port)).map(str::to_owned);
        let told: Value = serde_json::from_str(&served.with_context(|| format!("it has not said where {port} is"))?)?;
        Ok(told["address"].as_str().context("address: expected text")?.replace("0.0.0.0", "127.0.0.1"))
    }

    /// What the readiness probe says is missing; nothing once it is ready.
    pub fn missing(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/readyz", self.address("HEALTH_PROBE_PORT")?);
        let mut answer = ureq::get(url).config().http_status_as_error(false).build().call()?;
        let is_ready = answer.status().is_success();
        let text = answer.body_mut().read_to_string()?;
        Ok(if is_ready { String::new() } else { text })
    }

    /// What it logged under this message, as JSON.
    pub fn logged(&self, message: &str) -> Option<Value> {
        let said = self.said();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["message"] == message)
    }

    /// Memory that is resident.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("{name} is not in {status}"))
        };
        Ok(Memory { now: kibibytes("VmRSS:")? * 1024.0 / 1e6, peak: kibibytes("VmHWM:")? * 1024.0 / 1e6 })
    }

    /// A sample of `/metrics`, by its whole name: `name` or `name{label="value"}`.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let url = format!("http://{}/metrics", self.address("METRICS_PORT")?);
        let text = ureq::get(url).call()?.body_mut().read_to_string()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("{name} is not served"))
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // First: afterwards the id may be another process's.
        self.janitor.dismiss();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
